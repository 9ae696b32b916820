// The weights that the op behind a product reads: nothing but time depends on them.
#pragma once

#include <span>

#include "core/scaled.h"

namespace mxmla {

// One matrix, or the experts of a grouped product, or the heads' matrices of an absorbed one.
struct NextWeights {
  NextWeights() = default;
  explicit NextWeights(const LinearWeight& weight) : weights(&weight, 1) {}
  explicit NextWeights(const HeadWeight& weight) : heads(&weight) {}
  NextWeights(std::span<const LinearWeight> experts, View<const int32_t, 1> begin)
      : weights(experts), expert_begin(begin) {}

  std::span<const LinearWeight> weights;
  View<const int32_t, 1> expert_begin;  // (experts + 1), set before the product that precedes theirs runs
  const HeadWeight* heads = nullptr;
};

}  // namespace mxmla
