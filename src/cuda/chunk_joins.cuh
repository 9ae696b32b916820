// How the partial results of a row's chunks of context become its result: in order, each joined to what lies before it.
#pragma once

#include <cstdint>

namespace mxmla::cuda {

__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// One more chunk (m, l) onto (maximum, sum): afterwards values = values * keep + chunk's values * add.
struct Join {
  float maximum, keep, add, sum;
};
__device__ __forceinline__ Join JoinChunk(float maximum, float sum, float m, float l) {
  Join join;
  join.maximum = fmaxf(maximum, m);
  join.keep = Exp2(maximum - join.maximum);
  join.add = Exp2(m - join.maximum);
  join.sum = __fmaf_rn(sum, join.keep, __fmul_rn(l, join.add));
  return join;
}
__device__ __forceinline__ float JoinValue(float value, float keep, float chunk, float add) {
  return __fmaf_rn(value, keep, __fmul_rn(chunk, add));
}

// Of a chunk, when all of a row's are joined together.
struct ChunkFactors {
  float keep, add, sum;  // of what was joined before, of the chunk; the chunk's sum, scaled by the latter
  float unused;
};

// The factors of `count` chunks, sums(s) being chunk s's largest score and sum of exponentials. A whole warp calls.
template <class Sums>
__device__ __forceinline__ void FindFactors(int count, const Sums& sums, ChunkFactors* factors /* shared, (count) */) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float before = __int_as_float(0xff800000);  // the largest of earlier chunks
  for (int base = 0; base < count; base += 32) {
    const int s = base + lane;
    float2 ml = make_float2(__int_as_float(0xff800000), 0.0f);
    if (s < count) ml = sums(s);
    float most = ml.x;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const float other = __shfl_up_sync(~0u, most, step);
      if (lane >= step) most = fmaxf(most, other);
    }
    most = fmaxf(most, before);
    float earlier = __shfl_up_sync(~0u, most, 1);
    if (lane == 0) earlier = before;
    const float add = Exp2(ml.x - most);
    if (s == 0) {
      factors[0] = {0, 1, ml.y, 0};
    } else if (s < count) {
      factors[s] = {Exp2(earlier - most), add, __fmul_rn(ml.y, add), 0};
    }
    before = __shfl_sync(~0u, most, 31);
  }
}

}  // namespace mxmla::cuda
