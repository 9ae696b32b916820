// Products of e4m3 weights as fp16: one instruction converts two of them, exactly, NaN included.
//
// Activations are bf16, whose range fp16 does not have. Those that meet in one sum are multiplied by the power of two
// that brings their largest magnitude to 2^15, and the sum by its inverse: what they were, unless one of them is below
// 2^-32 of the largest, of which it is then off by 2^-40 at most. NaN and infinity stay what they are.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace mxmla::cuda {

// Four e4m3 values to the pairs (0, 1), (2, 3).
__device__ __forceinline__ void HalvesOfE4m3(uint32_t values, uint32_t out[2]) {
  asm("{.reg .b16 low, high;\n"
      "mov.b32 {low, high}, %2;\n"
      "cvt.rn.f16x2.e4m3x2 %0, low;\n"
      "cvt.rn.f16x2.e4m3x2 %1, high;}"
      : "=r"(out[0]), "=r"(out[1])
      : "r"(values));
}

__device__ __forceinline__ void MmaHalves(float d[4], const uint32_t a0[2], const uint32_t a1[2], const uint32_t b[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0[0]), "r"(a1[0]), "r"(a0[1]), "r"(a1[1]), "r"(b[0]), "r"(b[1]));
}

// The larger magnitudes of two pairs of bf16; NaN counts only where both are.
__device__ __forceinline__ uint32_t LargerMagnitudes(uint32_t a, uint32_t b) {
  const __nv_bfloat162 larger = __hmax2(__habs2(*reinterpret_cast<const __nv_bfloat162*>(&a)),
                                        __habs2(*reinterpret_cast<const __nv_bfloat162*>(&b)));
  return *reinterpret_cast<const uint32_t*>(&larger);
}

__device__ __forceinline__ uint32_t LargerMagnitudes(const uint4& v) {
  return LargerMagnitudes(LargerMagnitudes(v.x, v.y), LargerMagnitudes(v.z, v.w));
}
// Of what all lanes have; the whole warp calls.
__device__ __forceinline__ uint32_t LargerMagnitudesOfWarp(uint32_t magnitudes) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    magnitudes = LargerMagnitudes(magnitudes, __shfl_xor_sync(~0u, magnitudes, lanes));
  }
  return magnitudes;
}

// What a group of activations is multiplied by, and the inverse.
struct HalfScale {
  float factor, inverse;

  // `magnitudes`: two magnitudes in bf16, of which the larger is the group's.
  __device__ __forceinline__ explicit HalfScale(uint32_t magnitudes) {
    const uint32_t largest = max(magnitudes & 0xffffu, magnitudes >> 16);
    const uint32_t power = min(269 - (largest >> 7), 253u);  // the inverse, too, is a normal number
    factor = __uint_as_float(power << 23);
    inverse = __uint_as_float((254 - power) << 23);
  }
  // A pair of bf16.
  __device__ __forceinline__ uint32_t Scaled(uint32_t pair) const {
    const __half2 halves =
        __floats2half2_rn(__uint_as_float(pair << 16) * factor, __uint_as_float(pair & 0xffff0000u) * factor);
    return *reinterpret_cast<const uint32_t*>(&halves);
  }
  __device__ __forceinline__ uint4 Scaled(const uint4& v) const {
    return make_uint4(Scaled(v.x), Scaled(v.y), Scaled(v.z), Scaled(v.w));
  }
};

}  // namespace mxmla::cuda
