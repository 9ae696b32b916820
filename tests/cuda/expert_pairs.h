// Experts with random weights and rows that have chosen some of them.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "ops/linear.h"
#include "random_weights.h"

namespace mxmla::testing {

// Experts, rows, and which expert each pair has chosen (-1: none).
struct ExpertPairs {
  ExpertPairs(std::mt19937_64& rng, Format format, int64_t experts, int64_t n, int64_t k, int64_t rows, int64_t top_k,
              bool crowded)
      : x(rng, rows, k),
        begin_memory(static_cast<size_t>(experts + 1) * 4),
        pairs_memory(static_cast<size_t>(rows * top_k) * 4) {
    for (int64_t e = 0; e < experts; ++e) {
      owned.push_back(std::make_unique<RandomWeight>(rng, format, n, k));
      weights.push_back(owned.back()->weight);
    }
    std::vector<std::vector<int32_t>> chosen(static_cast<size_t>(experts));
    for (int32_t r = 0; r < rows; ++r) {
      std::vector<int32_t> order(static_cast<size_t>(experts));
      for (int32_t e = 0; e < experts; ++e) order[static_cast<size_t>(e)] = e;
      std::shuffle(order.begin() + (crowded ? 1 : 0), order.end(), rng);
      if (r % 5 == 4) continue;  // a padding row
      for (int32_t s = 0; s < top_k; ++s) {
        chosen[static_cast<size_t>(order[static_cast<size_t>(s)])].push_back(r * static_cast<int32_t>(top_k) + s);
      }
    }
    int32_t at = 0;
    for (int64_t e = 0; e <= experts; ++e) {
      begin_memory.As<int32_t>()[e] = at;
      if (e == experts) break;
      for (int32_t pair : chosen[static_cast<size_t>(e)]) pairs_memory.As<int32_t>()[at++] = pair;
    }
    args.x = View<const bf16, 2>(x.view);
    args.pairs_per_row = top_k;
    args.weights = weights;
    args.expert_begin = View<const int32_t, 1>::Contiguous(begin_memory.As<const int32_t>(), {experts + 1});
    args.pairs = View<const int32_t, 1>::Contiguous(pairs_memory.As<const int32_t>(), {rows * top_k});
  }

  RandomRows x;
  MappedMemory begin_memory, pairs_memory;
  std::vector<std::unique_ptr<RandomWeight>> owned;
  std::vector<LinearWeight> weights;
  GroupedLinearArgs args;
};

}  // namespace mxmla::testing
