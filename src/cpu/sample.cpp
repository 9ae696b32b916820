// Choosing tokens from logits, a row a task. What the truncations keep is a prefix of the tokens in falling order of
// logit, rising id on a tie; so it is a Cut, the last token kept. Cuts are found by histograms of the logits, not by
// sorting them, and the draw walks the tokens in order of ids.
#include <algorithm>
#include <cmath>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd_math.h"
#include "ops/kernel_set.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kMost = std::numeric_limits<float>::max();
constexpr int64_t kSampleBlock = 1024;
constexpr int64_t kSampleBuckets = 1024;
constexpr int64_t kScanned = 64;  // up to so many largest tokens are found by insertion

// The logits are read in whole vectors up to `whole`, and in one partial vector.
struct Row {
  const float* logits;  // (vocab)
  int64_t vocab;
  float* weights;      // (blocks * kSampleBlock)
  int32_t* ids;        // (vocab), candidates
  double* sums;        // (blocks), of the weights kept
  double* histograms;  // (4, kSampleBuckets)
  float largest = -kInfinity;
  float smallest = kInfinity;  // of those above -inf
};

// 16 logits from `t`, -inf past the vocabulary.
MXMLA_INLINE F32x16 Logits(const Row& row, int64_t t) {
  if (t + 16 <= row.vocab) return Load(row.logits + t);
  alignas(64) float lanes[16];
  for (int64_t i = 0; i < 16; ++i) lanes[i] = t + i < row.vocab ? row.logits[t + i] : -kInfinity;
  return Load(lanes);
}

// Tokens kept: logits above `logit`, and those equal to it up to `id`.
struct Cut {
  float logit = -kInfinity;
  int32_t id = std::numeric_limits<int32_t>::max();
};

Cut Tighter(Cut a, Cut b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id) ? a : b; }

MXMLA_INLINE I32x16 Kept(const Cut& cut, F32x16 x, int64_t t) {
  const I32x16 up_to = LaneNumbers() + Splat(static_cast<int32_t>(t)) <= Splat(cut.id);
  return (x > Splat(cut.logit)) | ((x == Splat(cut.logit)) & up_to);
}

// The logits after mask, bias and penalties.
void Adjust(const SampleArgs& args, int64_t r, const float* from /* (vocab) */, float* to /* (vocab) */) {
  const int64_t vocab = args.logits.shape[1];
  std::copy_n(from, vocab, to);
  const int32_t mask = args.allowed_index.empty() ? -1 : args.allowed_index(r);
  if (mask >= 0) {
    const int32_t* words = args.allowed.data + mask * args.allowed.stride[0];
    for (int64_t begin = 0; begin < vocab; begin += 32) {
      const auto word = static_cast<uint32_t>(words[begin / 32]);
      if (word == ~0u) continue;
      const int64_t count = std::min<int64_t>(32, vocab - begin);
      for (int64_t i = 0; i < count; ++i) to[begin + i] = word >> i & 1 ? to[begin + i] : -kInfinity;
    }
  }
  if (!args.bias_begin.empty()) {
    for (int64_t i = args.bias_begin(r); i < args.bias_begin(r + 1); ++i) {
      float& logit = to[args.bias_tokens(i)];
      logit = static_cast<float>(static_cast<double>(logit) + static_cast<double>(args.bias_values(i)));
    }
  }
  if (args.penalty_begin.empty()) return;
  const SamplingOptions& options = args.options(r);
  for (int64_t i = args.penalty_begin(r); i < args.penalty_begin(r + 1); ++i) {
    float& logit = to[args.penalty_tokens(i)];
    const int32_t count = args.penalty_counts(i);
    const double repetition = options.repetition_penalty;
    double x = logit;
    x = x > 0 ? x / repetition : x * repetition;
    x -= static_cast<double>(options.frequency_penalty) * count;
    if (count > 0) x -= static_cast<double>(options.presence_penalty);
    logit = static_cast<float>(x);
  }
}

// Finds the row's largest and smallest logit; false when it holds NaN.
bool FindRange(Row* row) {
  F32x16 most = Splat(-kInfinity);
  F32x16 least = Splat(kInfinity);
  I32x16 nan = Splat(int32_t{0});
  for (int64_t t = 0; t < row->vocab; t += 16) {
    const F32x16 x = Logits(*row, t);
    most = Max(x, most);
    least = Min(least, Select(x > Splat(-kInfinity), x, Splat(kInfinity)));
    nan = nan | IsNan(x);
  }
  row->largest = ReduceMax(most);
  row->smallest = -ReduceMax(-least);
  return !Any(nan);
}

int32_t ArgMax(const Row& row) {
  int64_t t = 0;
  while (!Any(Logits(row, t) == Splat(row.largest))) t += 16;
  while (row.logits[t] != row.largest) ++t;
  return static_cast<int32_t>(t);
}

// Fills `ids` with the `count` largest tokens in falling order, and returns how many are above -inf.
int64_t Largest(const Row& row, int64_t count, int32_t* ids /* (count) */) {
  int64_t found = 0;
  float last = -kInfinity;
  for (int64_t t = 0; t < row.vocab; t += 16) {
    if (!Any(Logits(row, t) > Splat(last))) continue;
    const int64_t end = std::min(t + 16, row.vocab);
    for (int64_t i = t; i < end; ++i) {
      const float x = row.logits[i];
      if (!(x > last)) continue;
      int64_t at = found < count ? found++ : count - 1;
      for (; at > 0 && x > row.logits[ids[at - 1]]; --at) ids[at] = ids[at - 1];
      ids[at] = static_cast<int32_t>(i);
      if (found == count) last = row.logits[ids[count - 1]];
    }
  }
  return found;
}

// Sums of exp(logit - largest), of blocks in float32 lanes, of the row in double.
double SoftmaxSum(const Row& row) {
  double sum = 0;
  for (int64_t begin = 0; begin < row.vocab; begin += kSampleBlock) {
    const int64_t end = std::min(begin + kSampleBlock, row.vocab);
    F32x16 lanes = Zero();
    for (int64_t t = begin; t < end; t += 16) lanes = lanes + Exp(Logits(row, t) - Splat(row.largest));
    sum += static_cast<double>(ReduceAdd(lanes));
  }
  return sum;
}

struct Sums {
  double weights = 0;
  double softmax = 0;  // as SoftmaxSum
};

// Writes exp((logit - largest) / temperature), 0 for what `cut` drops, and the blocks' sums.
template <bool kSoftmax>
Sums FindWeights(const Row& row, float temperature, const Cut& cut) {
  // Finite, so that the largest weight is exp(0) whatever the temperature.
  const float scale = std::min(1.0f / temperature, kMost);
  Sums total;
  for (int64_t begin = 0; begin < row.vocab; begin += kSampleBlock) {
    const int64_t end = std::min(begin + kSampleBlock, row.vocab);
    F32x16 lanes = Zero();
    F32x16 softmax = Zero();
    for (int64_t t = begin; t < end; t += 16) {
      const F32x16 x = Logits(row, t);
      const F32x16 below = x - Splat(row.largest);
      const I32x16 kept = (x > Splat(-kInfinity)) & Kept(cut, x, t);
      const F32x16 weight = Select(kept, Exp(below * Splat(scale)), Zero());
      Store(row.weights + t, weight);
      lanes = lanes + weight;
      if constexpr (kSoftmax) softmax = softmax + Exp(below);
    }
    row.sums[begin / kSampleBlock] = static_cast<double>(ReduceAdd(lanes));
    total.weights += row.sums[begin / kSampleBlock];
    if constexpr (kSoftmax) total.softmax += static_cast<double>(ReduceAdd(softmax));
  }
  return total;
}

// Drops the weights outside `cut`; returns the sum of the others.
double DropWeights(const Row& row, const Cut& cut) {
  double total = 0;
  for (int64_t begin = 0; begin < row.vocab; begin += kSampleBlock) {
    const int64_t end = std::min(begin + kSampleBlock, row.vocab);
    F32x16 lanes = Zero();
    for (int64_t t = begin; t < end; t += 16) {
      const F32x16 weight = Select(Kept(cut, Logits(row, t), t), Load(row.weights + t), Zero());
      Store(row.weights + t, weight);
      lanes = lanes + weight;
    }
    row.sums[begin / kSampleBlock] = static_cast<double>(ReduceAdd(lanes));
    total += row.sums[begin / kSampleBlock];
  }
  return total;
}

// Buckets of falling logits: of equal width over `range` below the largest; the last one takes what is below.
struct Buckets {
  Buckets(float most, float range)
      : largest(most), scale(static_cast<float>(kSampleBuckets) / std::clamp(range, 1e-30f, kMost)) {}

  static constexpr int32_t kLast = kSampleBuckets - 1;

  float largest;
  float scale;
};

MXMLA_INLINE I32x16 BucketOf(const Buckets& buckets, F32x16 x) {
  return ToInt(Min(Splat(static_cast<float>(Buckets::kLast)), (Splat(buckets.largest) - x) * Splat(buckets.scale)));
}

// Sums weights (1 of each token, if not kWeighted) by bucket, the last bucket's apart: it is left out. Four histograms
// in turn, so that an addition seldom waits for the one before it.
template <bool kWeighted>
void FillHistogram(const Row& row, const Buckets& buckets) {
  std::fill_n(row.histograms, 4 * kSampleBuckets, 0.0);
  for (int64_t t = 0; t < row.vocab; t += 16) {
    const I32x16 bucket = BucketOf(buckets, Logits(row, t));
    if (!Any(bucket < Splat(Buckets::kLast))) continue;
    alignas(64) int32_t lanes[16];
    StoreWords(lanes, BitsOf(bucket));
    for (int64_t i = 0; i < 16; ++i) {
      double& sum = row.histograms[i % 4 * kSampleBuckets + lanes[i]];
      if constexpr (kWeighted) {
        sum += static_cast<double>(row.weights[t + i]);
      } else {
        sum += 1;
      }
    }
  }
}

// The bucket in which the running sum reaches `need`, which is reduced by the buckets before it.
int32_t BoundaryBucket(const Row& row, double* need) {
  const double* h = row.histograms;
  for (int32_t b = 0; b < Buckets::kLast; ++b) {
    const double sum = (h[b] + h[b + kSampleBuckets]) + (h[b + 2 * kSampleBuckets] + h[b + 3 * kSampleBuckets]);
    if (sum >= *need && sum > 0) return b;
    *need -= sum;
  }
  return Buckets::kLast;
}

// The tokens of a bucket and above -inf, to row.ids; their count.
int64_t CollectBucket(const Row& row, const Buckets& buckets, int32_t bucket) {
  int64_t count = 0;
  for (int64_t t = 0; t < row.vocab; t += 16) {
    const F32x16 x = Logits(row, t);
    const I32x16 inside = (BucketOf(buckets, x) == Splat(bucket)) & (x > Splat(-kInfinity));
    if (!Any(inside)) continue;
    alignas(64) int32_t lanes[16];
    StoreWords(lanes, BitsOf(inside));
    for (int64_t i = 0; i < 16; ++i) {
      if (lanes[i] != 0) row.ids[count++] = static_cast<int32_t>(t + i);
    }
  }
  return count;
}

// The token at which the sum of weight(id), over row.ids[0 .. count) in falling order, reaches `need`; the last one if
// it does not.
template <class Weight>
Cut FindCut(const Row& row, int64_t count, double need, const Weight& weight) {
  const auto before = [logits = row.logits](int32_t a, int32_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  };
  int32_t* first = row.ids;
  int32_t* last = row.ids + count;
  while (last - first > 32) {
    int32_t* middle = first + (last - first) / 2;
    std::nth_element(first, middle, last, before);
    double sum = 0;
    for (const int32_t* id = first; id != middle; ++id) sum += weight(*id);
    if (sum >= need) {
      last = middle;
    } else {
      need -= sum;
      first = middle;
    }
  }
  std::sort(first, last, before);
  const int32_t* id = first;
  for (; id != last - 1; ++id) {
    need -= weight(*id);
    if (need <= 0) break;
  }
  return {row.logits[*id], *id};
}

Cut MinPCut(const Row& row, const SamplingOptions& options) {
  if (!(options.min_p > 0)) return {};
  const double floor =
      static_cast<double>(row.largest) +
      static_cast<double>(options.temperature) * std::log(std::min(1.0, static_cast<double>(options.min_p)));
  auto logit = static_cast<float>(floor);
  if (static_cast<double>(logit) < floor) logit = std::nextafter(logit, kInfinity);
  Cut cut;
  cut.logit = std::min(logit, row.largest);
  return cut;
}

Cut TopKCut(const Row& row, int64_t top_k) {
  if (top_k <= 0 || top_k >= row.vocab) return {};
  if (top_k <= kScanned) {
    int32_t ids[kScanned];
    if (Largest(row, top_k, ids) < top_k) return {};
    return {row.logits[ids[top_k - 1]], ids[top_k - 1]};
  }
  const Buckets buckets(row.largest, row.largest - row.smallest);
  FillHistogram<false>(row, buckets);
  auto need = static_cast<double>(top_k);
  const int32_t bucket = BoundaryBucket(row, &need);
  const int64_t count = CollectBucket(row, buckets, bucket);
  if (count == 0) return {};  // fewer than top_k are above -inf
  return FindCut(row, count, need, [](int32_t) { return 1.0; });
}

// Of the weights, which add up to `total`.
Cut TopPCut(const Row& row, const SamplingOptions& options, double total) {
  double need = static_cast<double>(options.top_p) * total;
  // A weight 20 temperatures below the largest hardly ever decides.
  const Buckets buckets(row.largest, std::min(row.largest - row.smallest, 20 * options.temperature));
  FillHistogram<true>(row, buckets);
  const int32_t bucket = BoundaryBucket(row, &need);
  const int64_t count = CollectBucket(row, buckets, bucket);
  if (count == 0) return {};  // rounding alone kept the sum below `need`
  const float* weights = row.weights;
  return FindCut(row, count, need, [weights](int32_t id) { return static_cast<double>(weights[id]); });
}

// The first token at which the sum of the weights exceeds `target`.
int32_t Walk(const Row& row, double target, int32_t otherwise) {
  const int64_t blocks = (row.vocab + kSampleBlock - 1) / kSampleBlock;
  // The last block with any weight takes a target that rounding puts past the end.
  int64_t last = blocks - 1;
  while (last > 0 && row.sums[last] == 0) --last;
  int64_t block = 0;
  while (block < last && !(row.sums[block] > target)) target -= row.sums[block++];
  int32_t token = otherwise;
  const int64_t end = std::min((block + 1) * kSampleBlock, row.vocab);
  for (int64_t t = block * kSampleBlock; t < end; ++t) {
    if (row.weights[t] == 0) continue;
    token = static_cast<int32_t>(t);
    target -= static_cast<double>(row.weights[t]);
    if (target < 0) break;
  }
  return token;
}

void WriteTop(const SampleArgs& args, int64_t r, const Row& row, double log_sum) {
  if (args.top_tokens.empty()) return;
  const int64_t wanted = std::min<int64_t>(args.options(r).top_logprobs, args.top_tokens.shape[1]);
  int32_t ids[kMaxTopLogprobs];
  const int64_t found = wanted > 0 && row.largest > -kInfinity ? Largest(row, wanted, ids) : 0;
  for (int64_t i = 0; i < args.top_tokens.shape[1]; ++i) {
    args.top_tokens(r, i) = i < found ? ids[i] : -1;
    args.top_logprobs(r, i) =
        i < found ? static_cast<float>(static_cast<double>(row.logits[ids[i]]) - row.largest - log_sum) : -kInfinity;
  }
}

// One row's: the vocabulary in whole blocks, as adjusted logits, weights and ids; the sum of each block; histograms.
int64_t RowBytes(int64_t vocab) {
  const int64_t blocks = (vocab + kSampleBlock - 1) / kSampleBlock;
  return 12 * blocks * kSampleBlock + 8 * blocks + 32 * kSampleBuckets;
}

void SampleRow(const SampleArgs& args, int64_t r, float* workspace /* RowBytes */) {
  const int64_t vocab = args.logits.shape[1];
  const SamplingOptions& options = args.options(r);
  const int64_t blocks = (vocab + kSampleBlock - 1) / kSampleBlock;
  const int64_t padded = blocks * kSampleBlock;
  Row row{args.logits.data + r * args.logits.stride[0],
          vocab,
          workspace + padded,
          reinterpret_cast<int32_t*>(workspace + 2 * padded),
          reinterpret_cast<double*>(workspace + 3 * padded),
          reinterpret_cast<double*>(workspace + 3 * padded) + blocks};
  const auto has = [r](const View<const int64_t, 1>& begin) { return !begin.empty() && begin(r) < begin(r + 1); };
  if ((!args.allowed_index.empty() && args.allowed_index(r) >= 0) || has(args.bias_begin) || has(args.penalty_begin)) {
    Adjust(args, r, row.logits, workspace);
    row.logits = workspace;
  }
  const bool numbers = FindRange(&row);
  if (!numbers || row.largest == -kInfinity) {
    args.tokens(r) = numbers ? kNothingAllowed : kNanLogits;
    if (!args.logprobs.empty()) args.logprobs(r) = std::numeric_limits<float>::quiet_NaN();
    row.largest = -kInfinity;
    WriteTop(args, r, row, 0);
    return;
  }
  if (row.largest == kInfinity) {  // the infinite ones share all probability: the same with 0 and -inf
    for (int64_t t = 0; t < vocab; ++t) workspace[t] = row.logits[t] == kInfinity ? 0.0f : -kInfinity;
    row.logits = workspace;
    row.largest = row.smallest = 0;
  }

  const bool logprobs = !args.logprobs.empty() || (!args.top_tokens.empty() && options.top_logprobs > 0);
  double softmax = 1;
  int32_t token = ArgMax(row);
  if (options.temperature > 0) {
    Cut cut = Tighter(MinPCut(row, options), TopKCut(row, options.top_k));
    Sums sums;
    if (logprobs && options.temperature != 1) {
      sums = FindWeights<true>(row, options.temperature, cut);
    } else {
      sums = FindWeights<false>(row, options.temperature, cut);
      // At temperature 1 the weights are the softmax's own, if none was dropped.
      sums.softmax = !logprobs || cut.logit == -kInfinity ? sums.weights : SoftmaxSum(row);
    }
    softmax = sums.softmax;
    double total = sums.weights;
    if (options.top_p < 1) total = DropWeights(row, TopPCut(row, options, total));
    token = Walk(row, static_cast<double>(args.uniform(r)) * total, token);
  } else if (logprobs) {
    softmax = SoftmaxSum(row);
  }
  args.tokens(r) = token;
  const double log_sum = logprobs ? std::log(softmax) : 0;
  if (!args.logprobs.empty()) {
    args.logprobs(r) = static_cast<float>(static_cast<double>(row.logits[token]) - row.largest - log_sum);
  }
  WriteTop(args, r, row, log_sum);
}

void Run(const ExecContext& context, const SampleArgs& args) {
  const int64_t rows = args.logits.shape[0];
  const auto floats = static_cast<size_t>(RowBytes(args.logits.shape[1])) / sizeof(float);
  RunTasks(context, rows,
           [&](int64_t r, int worker) { SampleRow(args, r, context.Scratch<float>(worker, 0, floats)); });
}

WorkspaceSize WorkspaceFor(const SampleArgs& args, int) {
  return {0, static_cast<size_t>(RowBytes(args.logits.shape[1]))};
}

}  // namespace

KernelTable<SampleArgs> MakeSampleKernels() {
  return {{kKernelName,
           {{.operand = "logits", .inner_stride_one = true}, {.operand = "allowed", .inner_stride_one = true}},
           &Run,
           &WorkspaceFor}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
