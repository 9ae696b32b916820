// Pairs of rows and experts, as GroupedLinear takes them: half of them two experts', the last few padding.
#pragma once

#include "hip/grouped_linear.h"
#include "tensors.h"

namespace mxmla {

struct ExpertCase {
  int64_t experts, pairs, pairs_per_row, padding;
  Tensor x, all;
  std::vector<LinearWeight> weights;
  Bytes begin, order;
  std::unique_ptr<hip::PlacedExperts> placed;

  ExpertCase(Rng& rng, Pair pair, int64_t of_experts, int64_t n, int64_t k, int64_t rows, int64_t of_row,
             bool whole_rows = false)
      : experts(of_experts),
        pairs(rows * of_row),
        pairs_per_row(of_row),
        padding(pairs <= 4   ? 0
                : whole_rows ? of_row
                             : 3),
        x(rng, pair.x, rows, k),
        all(rng, pair.w, experts * n, k),
        begin(sizeof(int32_t) * static_cast<size_t>(experts + 1)),
        order(sizeof(int32_t) * static_cast<size_t>(pairs)) {
    for (int64_t e = 0; e < experts; ++e) weights.push_back(Rows(all.Weights(), e * n, n));
    std::vector<std::vector<int32_t>> of_expert(static_cast<size_t>(experts));
    for (int64_t p = 0; p < pairs - padding; ++p) {
      const uint64_t expert = rng() % 2 ? (rng() % 2 ? 5 : static_cast<uint64_t>(experts - 1)) : rng() % experts;
      of_expert[expert].push_back(static_cast<int32_t>(p));
    }
    auto* const begins = reinterpret_cast<int32_t*>(begin.data());
    auto* const numbers = reinterpret_cast<int32_t*>(order.data());
    int32_t next = 0;
    for (int64_t e = 0; e < experts; ++e) {
      begins[e] = next;
      for (const int32_t p : of_expert[static_cast<size_t>(e)]) numbers[next++] = p;
    }
    begins[experts] = next;
    for (int64_t p = pairs - padding; p < pairs; ++p) numbers[next++] = static_cast<int32_t>(p);
    placed = std::make_unique<hip::PlacedExperts>(weights);
  }

  GroupedLinearArgs Args(const FloatOutput<2>& out) const {
    GroupedLinearArgs args{
        x.Input(),
        pairs_per_row,
        weights,
        View<const int32_t, 1>::Contiguous(reinterpret_cast<const int32_t*>(begin.data()), {experts + 1}),
        View<const int32_t, 1>::Contiguous(reinterpret_cast<const int32_t*>(order.data()), {pairs}),
        out};
    args.placed = placed.get();
    return args;
  }
};

}  // namespace mxmla
