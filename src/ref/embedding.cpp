#include <cmath>

#include "ref/kernels.h"
#include "ref/values.h"

namespace mxmla::ref {
namespace {

int32_t SampleRow(const View<const float, 1>& logits, const SamplingOptions& options, float uniform,
                  const View<int32_t, 1>& order) {
  const int64_t vocab = logits.shape[0];
  int64_t best = 0;
  for (int64_t v = 0; v < vocab; ++v) {
    if (std::isnan(logits(v))) return -1;
    if (logits(v) > logits(best)) best = v;
  }
  if (options.temperature <= 0) return static_cast<int32_t>(best);

  // The vocabulary in order of falling logits; a tie goes to the lower id.
  for (int64_t v = 0; v < vocab; ++v) order.data[v] = static_cast<int32_t>(v);
  std::sort(order.data, order.data + vocab,
            [&](int32_t a, int32_t b) { return logits(a) > logits(b) || (logits(a) == logits(b) && a < b); });
  const int64_t kept = options.top_k > 0 ? std::min(options.top_k, vocab) : vocab;
  const auto mass = [&](int64_t i) {
    const float logit = logits(order.data[i]);
    if (logit == logits(best)) return 1.0;  // an infinite logit too
    return std::exp((static_cast<double>(logit) - static_cast<double>(logits(best))) / options.temperature);
  };
  double total = 0;
  for (int64_t i = 0; i < kept; ++i) total += mass(i);
  double nucleus = 0;
  int64_t count = 0;
  while (count < kept && (count == 0 || nucleus < static_cast<double>(options.top_p) * total)) nucleus += mass(count++);

  const double threshold = static_cast<double>(uniform) * nucleus;
  double passed = 0;
  for (int64_t i = 0; i < count; ++i) {
    passed += mass(i);
    if (threshold < passed) return order.data[i];
  }
  return order.data[count - 1];
}

}  // namespace

void Embedding(const ExecContext& context, const EmbeddingArgs& args) {
  const int64_t hidden = Extent(args.out, 1);
  const auto body = [&](int64_t r, int) {
    float values[kFp8Group] = {};
    const int32_t token = args.tokens(r) < 0 ? args.previous(-1 - args.tokens(r)) : args.tokens(r);
    for (int64_t begin = 0; begin < hidden; begin += kFp8Group) {
      const int64_t count = std::min(kFp8Group, hidden - begin);
      if (token >= 0) LoadWeight(args.table, token, begin, count, values);
      StoreRow(args.out, r, begin, count, values);
    }
  };
  ParallelFor(context, args.tokens.shape[0], body);
}

// One row after the other: they share `order`.
void Sample(const ExecContext&, const SampleArgs& args) {
  for (int64_t r = 0; r < args.logits.shape[0]; ++r) {
    args.tokens(r) = SampleRow(args.logits.Select(0, r), args.options(r), args.uniform(r), args.order);
  }
}

}  // namespace mxmla::ref
