// Weights from global memory to bf16 fragments of mma.m16n8k16's left operand, in registers.
// A warp owns 16 rows and one chunk of 128 latents. Which of them a lane holds is free as long as the right operand
// agrees, so a lane takes 16 bytes at a time: kPiece(i, t) names the piece of 8 latents that lane t of a quad holds
// i-th.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace mxmla::cuda {

enum class WeightKind { kMxfp4, kBf16, kFp8 };

// Strides in bytes; scales: bytes (MXFP4) or floats (FP8, in elements).
struct WeightPlanes {
  const uint8_t* values;
  int64_t row_bytes;
  const void* scales;
  int64_t scale_row_stride;
  int64_t scale_column_stride;
  int64_t first_row;
};

// volatile: these loads must stay before griddepcontrol.wait.
__device__ __forceinline__ uint4 LoadWeights16(const void* from) {
  uint4 v;
  asm volatile("ld.global.nc.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
  return v;
}
__device__ __forceinline__ uint32_t LoadWeights4(const void* from) {
  uint32_t v;
  asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(v) : "l"(from));
  return v;
}

__device__ __forceinline__ uint32_t Times(uint32_t a, uint32_t b) {
  const __nv_bfloat162 product =
      __hmul2(*reinterpret_cast<const __nv_bfloat162*>(&a), *reinterpret_cast<const __nv_bfloat162*>(&b));
  return *reinterpret_cast<const uint32_t*>(&product);
}

__device__ __forceinline__ uint32_t Permute(uint32_t a, uint32_t b, uint32_t select) {
  uint32_t v;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(v) : "r"(a), "r"(b), "r"(select));
  return v;
}

// Two copies of 2^(scale - 127) in bf16; NaN for 255.
__device__ __forceinline__ uint32_t E8m0Pair(uint32_t scale) {
  uint32_t bits = scale << 7;
  if (scale == 0) bits = 0x40;
  if (scale == 255) bits = 0x7fc0;
  return bits | bits << 16;
}

// Eight E2M1 codes to four pairs of bf16, times `scale`: exact. The codes are the selectors of the byte permutation
// that looks up the upper and the lower bytes of the magnitudes; bit 3 of a selector replicates the looked-up byte's
// sign, which turns 0x80 into 0xff and so gives the sign in bit 0.
__device__ __forceinline__ void DecodeE2m1(uint32_t codes, uint32_t scale, uint32_t out[4]) {
  const uint32_t magnitudes = codes & 0x77777777u;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint32_t select = half ? magnitudes >> 16 : magnitudes;
    const uint32_t low = Permute(0xc0800000u, 0xc0804000u, select);
    const uint32_t sign = Permute(0x80808080u, 0x80808080u, half ? codes >> 16 : codes) << 7;
    const uint32_t high = Permute(0x3f3f3f00u, 0x40404040u, select) | (sign & 0x80808080u);
    out[2 * half] = Times(Permute(low, high, 0x5140), scale);
    out[2 * half + 1] = Times(Permute(low, high, 0x7362), scale);
  }
}

// Four e4m3 values to two pairs of bf16: exact. NaN codes are the caller's business.
__device__ __forceinline__ void DecodeE4m3(uint32_t values, uint32_t out[2]) {
  const uint32_t power = 0x7b807b80u;  // 2^120, what the two biases differ by
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint32_t wide = Permute(values, 0, half ? 0x3424 : 0x1404);
    out[half] = Times((wide & 0x80008000u) | ((wide >> 4) & 0x07f007f0u), power);
  }
}
// Nonzero when one of four e4m3 values is NaN.
__device__ __forceinline__ uint32_t AnyNanE4m3(uint32_t values) {
  return ((values & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u;
}

// One row's share of a lane: 32 latents of the chunk, as raw bytes and as 16 bf16 pairs (piece i in words 4i..4i+3).
template <WeightKind kKind>
struct RowShare;

template <>
struct RowShare<WeightKind::kMxfp4> {
  static constexpr int kPiece(int i, int t) { return 4 * t + i; }
  uint4 codes;
  uint32_t scale_word;

  __device__ void Load(const WeightPlanes& w, int64_t row, int chunk, int t) {
    codes = LoadWeights16(w.values + row * w.row_bytes + chunk * 64 + t * 16);
    scale_word = LoadWeights4(static_cast<const uint8_t*>(w.scales) + row * w.scale_row_stride + chunk * 4);
  }
  __device__ void Decode(int t, uint32_t out[16]) const {
    const uint32_t scale = E8m0Pair((scale_word >> (8 * t)) & 0xffu);
    DecodeE2m1(codes.x, scale, out);
    DecodeE2m1(codes.y, scale, out + 4);
    DecodeE2m1(codes.z, scale, out + 8);
    DecodeE2m1(codes.w, scale, out + 12);
  }
  __device__ float Scale() const { return 1.0f; }
};

template <>
struct RowShare<WeightKind::kBf16> {
  static constexpr int kPiece(int i, int t) { return 4 * i + t; }
  uint4 values[4];

  __device__ void Load(const WeightPlanes& w, int64_t row, int chunk, int t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      values[i] = LoadWeights16(w.values + row * w.row_bytes + chunk * 256 + kPiece(i, t) * 16);
    }
  }
  __device__ void Decode(int, uint32_t out[16]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      out[4 * i] = values[i].x;
      out[4 * i + 1] = values[i].y;
      out[4 * i + 2] = values[i].z;
      out[4 * i + 3] = values[i].w;
    }
  }
  __device__ float Scale() const { return 1.0f; }
};

template <>
struct RowShare<WeightKind::kFp8> {
  static constexpr int kPiece(int i, int t) { return 8 * (i / 2) + 2 * t + i % 2; }
  uint4 values[2];
  uint32_t scale_bits;

  __device__ void Load(const WeightPlanes& w, int64_t row, int chunk, int t) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      values[i] = LoadWeights16(w.values + row * w.row_bytes + chunk * 128 + i * 64 + t * 16);
    }
    scale_bits = LoadWeights4(static_cast<const float*>(w.scales) + (w.first_row + row) / 128 * w.scale_row_stride +
                              chunk * w.scale_column_stride);
  }
  __device__ void Decode(int, uint32_t out[16]) {
    uint32_t nan = 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t words[4] = {values[i].x, values[i].y, values[i].z, values[i].w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        DecodeE4m3(words[j], out + 8 * i + 2 * j);
        nan |= AnyNanE4m3(words[j]);
      }
    }
    // The quad shares the row, and the row's chunk shares the scale.
    nan |= __shfl_xor_sync(~0u, nan, 1);
    nan |= __shfl_xor_sync(~0u, nan, 2);
    if (nan) scale_bits = 0x7fc00000u;
  }
  __device__ float Scale() const { return __uint_as_float(scale_bits); }
};

}  // namespace mxmla::cuda
