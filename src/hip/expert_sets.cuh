// Which expert a block or wave works for, and where that expert's weights lie.
#pragma once

#include "hip/matrix_step.cuh"

namespace mxmla::hip {

// What differs between experts: bytes from the first one's planes. A pointer that is itself loaded would be one to any
// memory, LDS too, for the compiler.
struct Expert {
  int64_t values;
  int64_t scales;
  int64_t first_row;
};

// The experts' pairs and weights, as GroupedLinearArgs has them.
struct ExpertPairs {
  Plane w;  // the first expert's, with the strides that all share
  const Expert* experts;
  const int32_t* expert_begin;  // (expert_count + 1)
  int64_t expert_begin_step;
  const int32_t* pairs;
  int64_t pairs_step;
  int expert_count, pairs_per_row;

  __device__ __forceinline__ int BeginOf(int expert) const {
    return expert_begin[min(expert, expert_count) * expert_begin_step];
  }
  __device__ __forceinline__ int64_t PairAt(int place) const { return pairs[place * pairs_step]; }
  __device__ __forceinline__ Plane WeightsOf(int expert) const {
    Plane of_expert = w;
    of_expert.values += experts[expert].values;
    of_expert.scales = static_cast<const uint8_t*>(w.scales) + experts[expert].scales;
    of_expert.first_row = experts[expert].first_row;
    return of_expert;
  }
};

// A set of one expert's pairs, at most `kRows` of them, and their places among all.
struct ChosenPairs {
  int expert, begin, count;
};

// The wanted one of all experts' sets of kRows pairs; an expert beyond the last when there are fewer sets. Whole waves
// call: a wave looks at 64 experts at a time.
template <int kRows>
__device__ ChosenPairs ChooseSet(const ExpertPairs& p, int wanted) {
  const int lane = static_cast<int>(__lane_id());
  for (int first = 0; first < p.expert_count; first += kWave) {
    const int begin = p.BeginOf(first + lane), end = p.BeginOf(first + lane + 1);
    const int sets = (end - begin + kRows - 1) / kRows;
    int behind = sets;  // sets up to this lane's expert
#pragma unroll
    for (int lanes = 1; lanes < kWave; lanes *= 2) {
      const int other = __shfl_up(behind, static_cast<unsigned>(lanes));
      if (lane >= lanes) behind += other;
    }
    const uint64_t found = __ballot(wanted < behind);
    if (found != 0) {
      const int owner = __ffsll(static_cast<long long>(found)) - 1;
      const int set = wanted - __shfl(behind - sets, owner);
      const int from = __shfl(begin, owner) + set * kRows;
      return {first + owner, from, min(kRows, __shfl(end, owner) - from)};
    }
    wanted -= __shfl(behind, kWave - 1);
  }
  return {p.expert_count, 0, 0};
}

}  // namespace mxmla::hip
