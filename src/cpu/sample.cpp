// Choosing tokens from logits. Candidates are sorted only as far as the draw needs.
#include <algorithm>
#include <cmath>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd_math.h"
#include "ops/kernel_set.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

// The token of the largest logit, the lowest on a tie; -1 when the row holds NaN.
int32_t ArgMax(const float* logits /* (vocab) */, int64_t vocab) {
  const int64_t whole = vocab / 16 * 16;
  F32x16 most = Splat(-std::numeric_limits<float>::infinity());
  I32x16 nan = Splat(int32_t{0});
  for (int64_t t = 0; t < whole; t += 16) {
    const F32x16 x = Load(logits + t);
    most = Max(x, most);
    nan = nan | IsNan(x);
  }
  float largest = ReduceMax(most);
  bool poisoned = Any(nan);
  for (int64_t t = whole; t < vocab; ++t) {
    largest = std::max(largest, logits[t]);
    poisoned |= std::isnan(logits[t]);
  }
  if (poisoned || vocab == 0) return -1;
  int64_t token = 0;
  while (logits[token] != largest) ++token;
  return static_cast<int32_t>(token);
}

// The vocabulary in falling order of logit (rising id on a tie), sorted on demand.
class FallingOrder {
 public:
  FallingOrder(const float* logits /* (vocab) */, int32_t* order /* (vocab) */, int64_t vocab)
      : logits_(logits), order_(order), vocab_(vocab) {
    for (int64_t t = 0; t < vocab; ++t) order[t] = static_cast<int32_t>(t);
  }

  // The i-th candidate; i rises by at most one from call to call.
  int32_t operator[](int64_t i) {
    if (i >= sorted_) Extend(i + 1);
    return order_[i];
  }

 private:
  void Extend(int64_t least) {
    const int64_t end = std::min(vocab_, std::max({least, int64_t{64}, 8 * sorted_}));
    const auto before = [this](int32_t a, int32_t b) {
      return logits_[a] != logits_[b] ? logits_[a] > logits_[b] : a < b;
    };
    std::nth_element(order_ + sorted_, order_ + end - 1, order_ + vocab_, before);
    std::sort(order_ + sorted_, order_ + end, before);
    sorted_ = end;
  }

  const float* logits_;
  int32_t* order_;
  int64_t vocab_;
  int64_t sorted_ = 0;
};

// exp((logit - largest) / temperature); 1 for the largest itself, an infinite one too.
double Weight(float logit, float largest, float temperature) {
  if (logit == largest) return 1.0;
  return std::exp((static_cast<double>(logit) - largest) / temperature);
}

int32_t Draw(const float* logits /* (vocab) */, int64_t vocab, const SamplingOptions& options, double uniform,
             int32_t* scratch /* (vocab) */) {
  const int32_t best = ArgMax(logits, vocab);
  if (best < 0) return -1;
  const float largest = logits[best];
  FallingOrder order(logits, scratch, vocab);
  int64_t candidates = options.top_k > 0 ? std::min(options.top_k, vocab) : vocab;
  double total = 0;
  if (candidates == vocab) {
    for (int64_t t = 0; t < vocab; ++t) total += Weight(logits[t], largest, options.temperature);
  } else {
    for (int64_t i = 0; i < candidates; ++i) total += Weight(logits[order[i]], largest, options.temperature);
  }
  if (options.top_p < 1.0f) {
    const double enough = options.top_p * total;
    double sum = 0;
    for (int64_t i = 0; i < candidates; ++i) {
      sum += Weight(logits[order[i]], largest, options.temperature);
      if (sum >= enough) {
        candidates = i + 1;
        total = sum;
      }
    }
  }
  const double target = uniform * total;
  double sum = 0;
  int32_t token = best;
  for (int64_t i = 0; i < candidates; ++i) {
    const double weight = Weight(logits[order[i]], largest, options.temperature);
    if (weight == 0) break;
    token = order[i];
    sum += weight;
    if (sum > target) break;
  }
  return token;
}

void Run(const ExecContext& context, const SampleArgs& args) {
  const int64_t rows = args.logits.shape[0];
  const int64_t vocab = args.logits.shape[1];
  // Rows that sort share `order`, so they take turns; greedy rows need none.
  RunTasks(context, rows, [&](int64_t r, int) {
    if (args.options(r).temperature > 0) return;
    args.tokens(r) = ArgMax(args.logits.data + r * args.logits.stride[0], vocab);
  });
  for (int64_t r = 0; r < rows; ++r) {
    const SamplingOptions& options = args.options(r);
    if (!(options.temperature > 0)) continue;
    args.tokens(r) =
        Draw(args.logits.data + r * args.logits.stride[0], vocab, options, args.uniform(r), args.order.data);
  }
}

}  // namespace

KernelTable<SampleArgs> MakeSampleKernels() {
  return {{kKernelName,
           {{.operand = "logits", .inner_stride_one = true}, {.operand = "order", .inner_stride_one = true}},
           &Run}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
