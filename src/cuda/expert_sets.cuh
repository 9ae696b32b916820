// What the kernels of the experts' products share: whose pairs a CTA multiplies.
#pragma once

#include "cuda/grouped_linear.h"
#include "cuda/stream_plan.cuh"

namespace mxmla::cuda {

// Where an expert's weights lie.
struct Expert {
  const uint8_t* values;
  const void* scales;
  int64_t first_row;
};

struct GroupedParams {
  const Expert* table;
  WeightKind kind;
  WeightPlanes weight;  // the strides
  int n, k, experts;
  StreamSplit split;
  const uint8_t* x;
  int64_t x_row_bytes;
  const float* inverses;  // of PreparedRows, which x then is
  int pairs_per_row;
  int pair_count;  // where a kernel asks for it
  const int32_t* expert_begin;
  const int32_t* pairs;
  StreamOutput out;

  __device__ WeightPlanes PlanesOf(const Expert& expert) const {
    WeightPlanes planes = weight;
    planes.values = expert.values;
    planes.scales = expert.scales;
    planes.first_row = expert.first_row;
    return planes;
  }
};

// As views of device memory; what is not honoured is an Error (kLayout).
GroupedParams ParamsOf(const GroupedLinearArgs& args, const ExpertTable& table);

// How the products of experts of (n, k) are divided, however many are chosen. One rank where it costs little: then a
// CTA has whole sums.
inline StreamSplit DivideExperts(int64_t n, int64_t k) {
  constexpr int64_t kTypicallyChosen = 8;
  double cost = 0, whole_cost = 0;
  const StreamSplit split = Divide(n * kTypicallyChosen, k, 8, &cost);
  const StreamSplit whole = Divide(n * kTypicallyChosen, k, 1, &whole_cost);
  return whole_cost <= 1.03 * cost ? whole : split;
}
constexpr int kHalfOfShared = 112 * 1024;

__device__ __forceinline__ float RoundToBf16(float v) { return __bfloat162float(__float2bfloat16_rn(v)); }

// Both are rounded as they would be in memory.
__device__ __forceinline__ float Gated(float gate, float up) {
  gate = RoundToBf16(gate);
  return RoundToBf16(up) * (gate / (1.0f + expf(-gate)));
}

// The expert of the i-th of all experts' sets of `rows` pairs, and which of its sets that is; no expert: -1. The whole
// warp calls.
__device__ __forceinline__ int2 ExpertOfSet(const int32_t* expert_begin, int experts, int i, int rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int of_lane = (experts + 31) / 32;
  const int first = min(lane * of_lane, experts), last = min(first + of_lane, experts);
  const auto sets_of = [&](int e) { return (expert_begin[e + 1] - expert_begin[e] + rows - 1) / rows; };
  int sets = 0;
  for (int e = first; e < last; ++e) sets += sets_of(e);
  const int behind = SumUpToLane(sets);  // sets of this lane's experts and of those before
  int2 found = make_int2(-1, i - (behind - sets));
  const bool here = i >= behind - sets && i < behind;
  if (here) {
    found.x = first;
    while (found.y >= sets_of(found.x)) found.y -= sets_of(found.x++);
  }
  const uint32_t who = __ballot_sync(~0u, here);
  if (who == 0) return make_int2(-1, 0);
  const int from = __ffs(static_cast<int>(who)) - 1;
  return make_int2(__shfl_sync(~0u, found.x, from), __shfl_sync(~0u, found.y, from));
}

// The sets of `rows` pairs of all experts before each, and in set_begin[experts] of all; a warp calls.
__device__ __forceinline__ void CountSets(const int32_t* expert_begin, int experts, int rows,
                                          int* set_begin /* shared, (experts + 1) */) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int before = 0;
  for (int first = 0; first < experts; first += 32) {
    const int e = first + lane;
    const int sets = e < experts ? (expert_begin[e + 1] - expert_begin[e] + rows - 1) / rows : 0;
    const int behind = SumUpToLane(sets);
    if (e < experts) set_begin[e] = before + behind - sets;
    before += __shfl_sync(~0u, behind, 31);
  }
  if (lane == 0) set_begin[experts] = before;
}

// For a kernel whose few pairs are known only when the one before has ended: everything that it must know of them, in
// shared memory after one wait for memory.
struct Choices {
  Expert* table;           // (experts)
  int32_t *begin, *pairs;  // (experts + 1), (pairs)

  static int64_t Bytes(int64_t experts, int64_t pairs) {
    return CeilDiv(experts * static_cast<int64_t>(sizeof(Expert)) + (experts + 1 + pairs) * 4, 16) * 16;
  }
  __device__ Choices(uint8_t* shared, int experts)
      : table(reinterpret_cast<Expert*>(shared)),
        begin(reinterpret_cast<int32_t*>(table + experts)),
        pairs(begin + experts + 1) {}
  // All threads call; a barrier follows. What a thread loads is on its way together.
  __device__ void Load(const GroupedParams& p, int pair_count) const {
    static_assert(sizeof(Expert) % 4 == 0);
    const int table_words = p.experts * static_cast<int>(sizeof(Expert) / 4);
    const int begins = table_words + p.experts + 1, all = begins + pair_count;
    const auto* from = reinterpret_cast<const int32_t*>(p.table);
    auto* const to = reinterpret_cast<int32_t*>(table);  // the three lie one behind the other
    const int threads = static_cast<int>(blockDim.x);
    constexpr int kTogether = 4;
#pragma unroll 1
    for (int first = static_cast<int>(threadIdx.x); first < all; first += kTogether * threads) {
      int32_t word[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int at = first + i * threads;
        const int32_t* const source = at < table_words ? from + at
                                      : at < begins    ? p.expert_begin + (at - table_words)
                                                       : p.pairs + (at - begins);
        if (at < all) word[i] = *source;
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        if (first + i * threads < all) to[first + i * threads] = word[i];
      }
    }
  }
};

}  // namespace mxmla::cuda
