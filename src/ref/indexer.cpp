#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/check.h"
#include "ref/kernels.h"
#include "ref/product.h"
#include "ref/values.h"

namespace mxmla::ref {

void IndexKey(const ExecContext& context, const IndexKeyArgs& args) {
  const int64_t n = Extent(args.x, 1);
  const int64_t half = args.cos.shape[1];
  const auto body = [&](int64_t r, int) {
    const auto x = [&](int64_t i) {
      float value = 0;
      LoadRow(args.x, r, i, 1, &value);
      return static_cast<double>(value);
    };
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; ++i) sum += x(i);
    const double mean = sum / static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) squares += (x(i) - mean) * (x(i) - mean);
    const double factor = 1.0 / std::sqrt(squares / static_cast<double>(n) + static_cast<double>(args.eps));
    const auto normed = [&](int64_t i) {
      return static_cast<double>(args.weight(i)) * (x(i) - mean) * factor + static_cast<double>(args.bias(i));
    };
    const auto store = [&](int64_t i, double value) {
      const auto rounded = static_cast<float>(value);
      StoreRow(args.out, args.out_index(r), i, 1, &rounded);
    };
    for (int64_t i = 0; i < half; ++i) {
      const int64_t first = args.interleaved ? 2 * i : i;
      const int64_t second = args.interleaved ? 2 * i + 1 : i + half;
      const double a = normed(first), b = normed(second);
      const double cos = static_cast<double>(args.cos(r, i)), sin = static_cast<double>(args.sin(r, i));
      store(first, a * cos - b * sin);
      store(second, b * cos + a * sin);
    }
    for (int64_t i = 2 * half; i < n; ++i) store(i, normed(i));
  };
  ParallelFor(context, Extent(args.x, 0), body);
}

namespace {

size_t ContextOf(const IndexTopKArgs& args) {
  return static_cast<size_t>(args.block_table.shape[1] * Extent(args.key_pages, 1));
}

constexpr size_t AlignUp(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

WorkspaceSize IndexTopKWorkspace(const IndexTopKArgs& args, int) {
  const auto heads = static_cast<size_t>(Extent(args.query, 1)), n = static_cast<size_t>(Extent(args.query, 2));
  return {0, AlignUp(ContextOf(args) * sizeof(double)) + AlignUp(ContextOf(args) * sizeof(int32_t)) +
                 AlignUp((heads + 1) * n * sizeof(float))};
}

// One row a task: every score, then a sort.
void IndexTopK(const ExecContext& context, const IndexTopKArgs& args) {
  const int64_t heads = Extent(args.query, 1);
  const int64_t n = Extent(args.query, 2);
  const int64_t k = args.chosen.shape[1];
  const int64_t page_size = Extent(args.key_pages, 1);
  if (context.profiler) {
    context.profiler->AddBytes(TokensRead(args.row_sequence, args.row_length) * n *
                               internal::ElementSize(args.key_pages));
  }
  const auto body = [&](int64_t r, int worker) {
    const int64_t length = args.row_length(r);
    if (length <= k) return;
    auto* scores = context.Scratch<double>(worker, 0, static_cast<size_t>(length));
    size_t used = AlignUp(ContextOf(args) * sizeof(double));
    auto* order = context.Scratch<int32_t>(worker, used, static_cast<size_t>(length));
    used += AlignUp(ContextOf(args) * sizeof(int32_t));
    auto* query = context.Scratch<float>(worker, used, static_cast<size_t>((heads + 1) * n));  // (heads, n)
    float* key = query + heads * n;                                                            // (n)
    for (int64_t h = 0; h < heads; ++h) LoadRow(args.query, r, h, 0, n, query + h * n);
    for (int64_t t = 0; t < length; ++t) {
      LoadRow(args.key_pages, args.block_table(args.row_sequence(r), t / page_size), t % page_size, 0, n, key);
      double score = 0;
      for (int64_t h = 0; h < heads; ++h) {
        score += static_cast<double>(args.weights(r, h)) * std::max(Dot(query + h * n, key, n), 0.0);
      }
      scores[t] = std::isnan(score) ? std::numeric_limits<double>::infinity() : score;  // the order stays one
      order[t] = static_cast<int32_t>(t);
    }
    std::partial_sort(order, order + k, order + length,
                      [&](int32_t a, int32_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; });
    std::sort(order, order + k);
    for (int64_t i = 0; i < k; ++i) args.chosen(r, i) = order[i];
  };
  ParallelFor(context, Extent(args.query, 0), body);
}

}  // namespace mxmla::ref
