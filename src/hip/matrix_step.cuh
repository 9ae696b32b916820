// 128 of the contracted elements at once, for 16 output features and 16 rows of activations, on the matrix units.
//
// Weights are the first operand and activations the second, so that a lane's four results are neighbouring features of
// one row: lane (g, i) = (lane / 16, lane % 16) holds, of row i of both operands, elements 32 g to 32 g + 31 of the
// step, and gets features 4 g to 4 g + 3 of activation row i. For MXFP4 these 32 elements are one block, and the order
// is the one that v_mfma_scale_f32_16x16x128_f8f6f4 asks for: row-major packed rows are read as they are. Where there
// are no block scales, any order of k is right as long as both operands agree.
#pragma once

#include <hip/hip_runtime.h>

#include "core/scaled.h"

namespace mxmla::hip {

enum class Format { kBf16, kFp8, kMxfp4 };  // FP8: blocks of weights, groups of activations

inline constexpr int kTile = 16;   // features, and rows, of a matrix instruction
inline constexpr int kStep = 128;  // contracted elements of a step
inline constexpr int kOfLane = 32;
inline constexpr int kWave = 64;

// (rows, heads, k), contiguous in k. Strides in elements of the planes; values lie on 16-byte boundaries.
struct Plane {
  const uint8_t* values = nullptr;
  const void* scales = nullptr;
  int64_t row = 0, head = 0;  // bytes
  int64_t scale_row = 0, scale_head = 0, scale_column = 0;
  int64_t first_row = 0;  // FP8 weights: of the tensor that owns the scales
};

typedef int Int4 __attribute__((ext_vector_type(4)));
typedef int Int8 __attribute__((ext_vector_type(8)));
typedef float Float4 __attribute__((ext_vector_type(4)));
typedef __bf16 Halves2 __attribute__((ext_vector_type(2)));
typedef __bf16 Halves8 __attribute__((ext_vector_type(8)));

// 32 elements of a lane as they lie in memory.
template <Format kFormat>
struct Fragment {
  static constexpr int kWords = kFormat == Format::kBf16 ? 16 : kFormat == Format::kFp8 ? 8 : 4;
  Int4 word[kWords / 4];
  uint32_t scale;  // MXFP4: the block's E8M0

  // Elements k .. k + 31 of a row of `values`, as far as they are below `last`; the others are 0. `last` is a multiple
  // of as many elements as 16 bytes hold.
  __device__ __forceinline__ void Load(const uint8_t* values, const uint8_t* scales, int k, int last) {
    constexpr int kOfPiece = kOfLane * 4 / kWords;
#pragma unroll
    for (int piece = 0; piece < kWords / 4; ++piece) {
      const int at = k + piece * kOfPiece;
      word[piece] = at < last ? reinterpret_cast<const Int4*>(values)[at / kOfPiece] : Int4{};
    }
    if constexpr (kFormat == Format::kMxfp4) scale = k < last ? scales[k / static_cast<int>(kMxBlock)] : 127u;
  }

  // Elements 8 s to 8 s + 7 as bf16: exactly, but for FP8 without its scale.
  __device__ __forceinline__ Halves8 Decode(int s) const {
    if constexpr (kFormat == Format::kBf16) {
      return __builtin_bit_cast(Halves8, word[s]);
    } else if constexpr (kFormat == Format::kFp8) {
      Int4 halves;
      const int two[2] = {word[s / 2][s % 2 * 2], word[s / 2][s % 2 * 2 + 1]};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        halves[2 * i] = __builtin_bit_cast(int, __builtin_amdgcn_cvt_scalef32_pk_bf16_fp8(two[i], 1.0f, false));
        halves[2 * i + 1] = __builtin_bit_cast(int, __builtin_amdgcn_cvt_scalef32_pk_bf16_fp8(two[i], 1.0f, true));
      }
      return __builtin_bit_cast(Halves8, halves);
    } else {
      const auto codes = static_cast<uint32_t>(word[0][s]);
      const float factor = __uint_as_float(scale << 23);  // the exponent alone counts; 0 there is 2^-127
      Int4 halves;
      halves[0] = __builtin_bit_cast(int, __builtin_amdgcn_cvt_scalef32_pk_bf16_fp4(codes, factor, 0));
      halves[1] = __builtin_bit_cast(int, __builtin_amdgcn_cvt_scalef32_pk_bf16_fp4(codes, factor, 1));
      halves[2] = __builtin_bit_cast(int, __builtin_amdgcn_cvt_scalef32_pk_bf16_fp4(codes, factor, 2));
      halves[3] = __builtin_bit_cast(int, __builtin_amdgcn_cvt_scalef32_pk_bf16_fp4(codes, factor, 3));
      constexpr int kNans = 0x7fc07fc0;
      if (scale == e8m0::kNan) halves = Int4{kNans, kNans, kNans, kNans};
      return __builtin_bit_cast(Halves8, halves);
    }
  }

  // For the instructions of 128 elements.
  __device__ __forceinline__ Int8 Words() const {
    if constexpr (kFormat == Format::kMxfp4) {
      return Int8{word[0][0], word[0][1], word[0][2], word[0][3], 0, 0, 0, 0};
    } else {
      static_assert(kFormat == Format::kFp8);
      return Int8{word[0][0], word[0][1], word[0][2], word[0][3], word[1][0], word[1][1], word[1][2], word[1][3]};
    }
  }
};

// Which formats are multiplied, bf16 activations by weights of any format, or both of one.
constexpr bool Multiplies(Format x, Format w) { return x == Format::kBf16 || x == w; }

// The step's sum is added to `sum`, where a step has one scale for each feature and row: FP8. Else the products are.
// scale_w: of the lane's four features; scale_x: of its row. Both are read for FP8 alone.
template <Format kX, Format kW>
__device__ __forceinline__ Float4 MultiplyStep(const Fragment<kX>& x, const Fragment<kW>& w, Float4 sum,
                                               const Float4& scale_w, float scale_x) {
  static_assert(Multiplies(kX, kW));
  if constexpr (kX == Format::kMxfp4) {
    return __builtin_amdgcn_mfma_scale_f32_16x16x128_f8f6f4(w.Words(), x.Words(), sum, 4, 4, 0,
                                                            static_cast<int>(w.scale), 0, static_cast<int>(x.scale));
  } else {
    constexpr bool kScaledSteps = kW == Format::kFp8;
    Float4 part = kScaledSteps ? Float4{} : sum;
    if constexpr (kX == Format::kFp8) {
      part = __builtin_amdgcn_mfma_scale_f32_16x16x128_f8f6f4(w.Words(), x.Words(), part, 0, 0, 0, 0, 0, 0);
    } else {
#pragma unroll
      for (int s = 0; s < 4; ++s) {
        part = __builtin_amdgcn_mfma_f32_16x16x32_bf16(w.Decode(s), x.Decode(s), part, 0, 0, 0);
      }
    }
    if constexpr (!kScaledSteps) return part;
    Float4 factor = scale_w;
    if constexpr (kX == Format::kFp8) factor *= scale_x;
#pragma unroll
    for (int r = 0; r < 4; ++r) sum[r] = __builtin_fmaf(part[r], factor[r], sum[r]);
    return sum;
  }
}

// Row `row` of head `head` of a plane, and of its scales.
struct RowOf {
  const uint8_t* values;
  const uint8_t* scales;

  __device__ __forceinline__ RowOf(const Plane& plane, int64_t row, int64_t head)
      : values(plane.values + row * plane.row + head * plane.head),
        scales(static_cast<const uint8_t*>(plane.scales) + row * plane.scale_row + head * plane.scale_head) {}
};

// Steps first, first + stride, ... of k elements of one tile of weights by kTiles tiles of rows. `weight_row` is the
// tensor's row of feature 0 of the tile, of which `features` count; row_at(j) is the row of x, of head `head`, that is
// the j-th of the tiles' rows.
template <Format kX, Format kW, int kTiles, class RowAt>
__device__ __forceinline__ void MultiplySteps(const Plane& x, const Plane& w, int64_t weight_row, int features,
                                              const RowAt& row_at, int head, int k, int first, int stride,
                                              Float4 (&sum)[kTiles]) {
  const int lane = static_cast<int>(__lane_id()), i = lane % kTile, g = lane / kTile;
  const RowOf weights(w, weight_row + min(i, features - 1), 0);
  int64_t row_of[kTiles];
#pragma unroll
  for (int t = 0; t < kTiles; ++t) row_of[t] = row_at(t * kTile + i);
  const auto* weight_scales = static_cast<const float*>(w.scales);
  for (int k0 = first * kStep; k0 < k; k0 += stride * kStep) {
    Fragment<kW> of_w;
    of_w.Load(weights.values, weights.scales, k0 + g * kOfLane, k);
    Float4 scale_w{};
    if constexpr (kW == Format::kFp8) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int64_t block = (w.first_row + weight_row + min(4 * g + r, features - 1)) / kFp8Block;
        scale_w[r] = weight_scales[block * w.scale_row + k0 / kStep * w.scale_column];
      }
    }
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      const int64_t row = row_of[t];
      const RowOf activations(x, row, head);
      Fragment<kX> of_x;
      of_x.Load(activations.values, activations.scales, k0 + g * kOfLane, k);
      float scale_x = 1;
      if constexpr (kX == Format::kFp8) {
        scale_x =
            static_cast<const float*>(x.scales)[row * x.scale_row + head * x.scale_head + k0 / kStep * x.scale_column];
      }
      sum[t] = MultiplyStep<kX, kW>(of_x, of_w, sum[t], scale_w, scale_x);
    }
  }
}

}  // namespace mxmla::hip
