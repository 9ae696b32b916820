// The arithmetic of ops/quantize_block.h on the device: the same bits.
#pragma once

#include "core/dtype.h"
#include "gpu/launch.h"

namespace mxmla::gpu {

__device__ __forceinline__ uint32_t MagnitudeBits(float value) { return __float_as_uint(value) & 0x7fffffffu; }

// The largest of the 32 lanes' magnitudes, as bits: they order as the magnitudes do, NaN above all.
__device__ __forceinline__ uint32_t LargestOfLanes(uint32_t bits) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) {
    bits = max(bits, __float_as_uint(ShuffleXor(__uint_as_float(bits), apart)));
  }
  return bits;
}

// The E8M0 scale of a block of that largest magnitude, and what its values are multiplied with; 255 for NaN or Inf.
__device__ __forceinline__ uint32_t Mxfp4ScaleBits(uint32_t amax, ScaleMode mode) {
  if (amax >= 0x7f800000u) return 255;
  if (amax == 0) return 0;
  const uint32_t rounded = mode == ScaleMode::kEven ? amax + 0x200000u : amax;
  int exponent = static_cast<int>(rounded >> 23) - 2;
  if (mode == ScaleMode::kCeil && (amax & 0x7fffffu) > 0x400000u) ++exponent;
  return static_cast<uint32_t>(min(max(exponent, 0), 254));
}
__device__ __forceinline__ float Mxfp4Inverse(uint32_t scale) {
  return scale == 254 ? 0x1p-127f : scale == 0 ? 0x1p127f : __uint_as_float((254u - scale) << 23);
}

// The scale of an FP8 group of that largest magnitude, which is a number's.
__device__ __forceinline__ float Fp8GroupScale(uint32_t amax, ScaleMode mode) {
  const float scale = fmaxf(__uint_as_float(amax), 1e-10f) / e4m3::kMax;
  return mode == ScaleMode::kCeil ? __uint_as_float((__float_as_uint(scale) + 0x7fffffu) & 0x7f800000u) : scale;
}

}  // namespace mxmla::gpu
