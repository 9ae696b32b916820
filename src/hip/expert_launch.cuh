// Choosing the kernels of the experts' products.
#pragma once

#include <algorithm>

#include "hip/expert_sets.cuh"
#include "hip/grouped_linear.h"
#include "hip/product_launch.cuh"

namespace mxmla::hip {

// Of arguments that HonoursGroupedLinear accepts.
ExpertPairs ExpertPairsOf(const GroupedLinearArgs& args);

// Calls body(x format, w format, tiles of rows, most sets that all experts' pairs make) with as many tiles as the
// average of the experts that can have pairs asks for, at most kMostTiles.
template <int kMostTiles = 4, class Body>
void ForExperts(const GroupedLinearArgs& args, const Body& body) {
  const int64_t pairs = args.pairs.shape[0];
  const int64_t most_chosen = std::min<int64_t>(pairs, static_cast<int64_t>(args.weights.size()));
  const LinearWeight& weight = args.weights.front();
  ForProduct(*FormatsOf(args.InputOf(weight), weight), pairs / most_chosen, [&](auto x, auto w, auto tiles) {
    constexpr int kTiles = std::min(tiles(), kMostTiles);
    body(x, w, std::integral_constant<int, kTiles>{}, pairs / (kTile * kTiles) + most_chosen);
  });
}

}  // namespace mxmla::hip
