// RMSNorm of a row by blocks of any number of waves, and a rotation: what kernels that do more than RMSNorm and RoPE
// share with those that do just that, so that their bits agree.
#pragma once

#include "gpu/row_io.cuh"

namespace mxmla::gpu {

inline constexpr int kMostNormThreads = 1024;

// The threads among which a row of n is dealt, in pieces; which of them are there, and which do the work of several,
// changes no sum.
__host__ __device__ inline int NormThreads(int64_t n) {
  const int64_t threads = (n + kPiece * kWave - 1) / (kPiece * kWave) * kWave;
  return static_cast<int>(threads < kMostNormThreads ? threads : kMostNormThreads);
}

// The sums of squares of the waves among which a row is dealt. `load(begin, count, v)` gives 8 elements of the row, or
// the `count` that there are and zeros. All threads of the block call; a barrier stands before NormTotal.
template <class Load>
__device__ __forceinline__ void NormWaves(int64_t n, float* waves /* shared, (NormThreads / kWave) */,
                                          const Load& load) {
  const int threads = NormThreads(n), lane = static_cast<int>(threadIdx.x) % kWave;
  for (int wave = static_cast<int>(threadIdx.x) / kWave; wave < threads / kWave;
       wave += static_cast<int>(blockDim.x) / kWave) {
    float squares = 0;
    for (int64_t begin = int64_t{wave * kWave + lane} * kPiece; begin < n; begin += int64_t{threads} * kPiece) {
      float v[kPiece];
      load(begin, static_cast<int>(min(n - begin, int64_t{kPiece})), v);
#pragma unroll
      for (int i = 0; i < kPiece; ++i) squares = fmaf(v[i], v[i], squares);
    }
    squares = WaveSum(squares);
    if (lane == 0) waves[wave] = squares;
  }
}
// Whole waves call.
__device__ __forceinline__ float NormTotal(int64_t n, const float* waves) {
  const int lane = static_cast<int>(threadIdx.x) % kWave;
  return WaveSum(lane < NormThreads(n) / kWave ? waves[lane] : 0.0f);
}
__device__ __forceinline__ float NormFactor(float total, int64_t n, float eps, float scale) {
  return scale / sqrtf(total / static_cast<float>(n) + eps);
}

// A pair of elements by an angle.
__device__ __forceinline__ void Turn(float* a, float* b, float cosine, float sine) {
  const float first = fmaf(*a, cosine, -(*b * sine));
  *b = fmaf(*b, cosine, *a * sine);
  *a = first;
}
// Four pairs of neighbours; cosines and sines begin at those of the first.
__device__ __forceinline__ void TurnPiece(float v[kPiece], const float* cosines, const float* sines) {
  const float4 cosine = *reinterpret_cast<const float4*>(cosines), sine = *reinterpret_cast<const float4*>(sines);
  Turn(&v[0], &v[1], cosine.x, sine.x);
  Turn(&v[2], &v[3], cosine.y, sine.y);
  Turn(&v[4], &v[5], cosine.z, sine.z);
  Turn(&v[6], &v[7], cosine.w, sine.w);
}

}  // namespace mxmla::gpu
