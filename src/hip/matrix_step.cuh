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
typedef float Float16 __attribute__((ext_vector_type(16)));
typedef __bf16 Halves2 __attribute__((ext_vector_type(2)));
typedef __bf16 Halves8 __attribute__((ext_vector_type(8)));

// 32 elements of a lane as they lie in memory.
template <Format kFormat>
struct Fragment {
  static constexpr int kWords = kFormat == Format::kBf16 ? 16 : kFormat == Format::kFp8 ? 8 : 4;
  Int4 word[kWords / 4];
  uint32_t scale;  // MXFP4: the block's E8M0

  // Elements k .. k + 31 of a row of `values`, as far as they are below `last`; the others are 0. `last` is a multiple
  // of as many elements as 16 bytes hold. kWhole: all of them are.
  template <bool kWhole = false>
  __device__ __forceinline__ void Load(const uint8_t* values, const uint8_t* scales, int k, int last) {
    constexpr int kOfPiece = kOfLane * 4 / kWords;
#pragma unroll
    for (int piece = 0; piece < kWords / 4; ++piece) {
      const int at = k + piece * kOfPiece;
      word[piece] = kWhole || at < last ? reinterpret_cast<const Int4*>(values)[at / kOfPiece] : Int4{};
    }
    if constexpr (kFormat == Format::kMxfp4) {
      scale = kWhole || k < last ? scales[k / static_cast<int>(kMxBlock)] : 127u;
    }
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

// The rows of activations that a lane multiplies, one a tile: row_at(j) is the row of `plane`, of head `head`, that is
// the j-th of the tiles' rows.
template <Format kX, int kTiles>
struct PlaneRows {
  const Plane& plane;
  int head;
  int64_t row[kTiles];

  template <class RowAt>
  __device__ __forceinline__ PlaneRows(const Plane& of_rows, const RowAt& row_at, int of_head)
      : plane(of_rows), head(of_head) {
    const int i = static_cast<int>(__lane_id()) % kTile;
#pragma unroll
    for (int t = 0; t < kTiles; ++t) row[t] = row_at(t * kTile + i);
  }
  template <bool kWhole>
  __device__ __forceinline__ void Load(int t, int k, int last, Fragment<kX>* to) const {
    const RowOf of_tile(plane, row[t], head);
    to->template Load<kWhole>(of_tile.values, of_tile.scales, k, last);
  }
  // Of a step of 128, FP8 alone.
  __device__ __forceinline__ float Scale(int t, int step) const {
    return static_cast<const float*>(
        plane.scales)[row[t] * plane.scale_row + head * plane.scale_head + step * plane.scale_column];
  }
};

// What a lane has of a step of one tile of weights; kWhole: all of its elements are below k.
template <Format kW>
struct StepWeights {
  Fragment<kW> fragment;
  Float4 scale;  // FP8: of the lane's four features

  template <bool kWhole>
  __device__ __forceinline__ void Load(const Plane& weights, const RowOf& row, int64_t weight_row, int features, int k0,
                                       int k) {
    const int g = static_cast<int>(__lane_id()) / kTile;
    fragment.template Load<kWhole>(row.values, row.scales, k0 + g * kOfLane, k);
    if constexpr (kW == Format::kFp8) {
      const auto* scales = static_cast<const float*>(weights.scales);
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int64_t block = (weights.first_row + weight_row + min(4 * g + r, features - 1)) / kFp8Block;
        scale[r] = scales[block * weights.scale_row + k0 / kStep * weights.scale_column];
      }
    }
  }
};

// And of one tile of rows.
template <Format kX>
struct StepRow {
  Fragment<kX> fragment;
  float scale = 1;  // FP8

  template <bool kWhole, class Rows>
  __device__ __forceinline__ void Load(const Rows& rows, int t, int k0, int k) {
    const int g = static_cast<int>(__lane_id()) / kTile;
    rows.template Load<kWhole>(t, k0 + g * kOfLane, k, &fragment);
    if constexpr (kX == Format::kFp8) scale = rows.Scale(t, k0 / kStep);
  }
};

// Steps first, first + stride, ... of k elements of one tile of weights by kTiles tiles of rows. `weight_row` is the
// tensor's row of feature 0 of the tile, of which `features` count. Of a single tile of rows, the loads of a few steps
// fly together: as many as about 40 registers hold.
template <Format kX, Format kW, int kTiles, class Rows>
__device__ __forceinline__ void MultiplyRows(const Rows& rows, const Plane& w, int64_t weight_row, int features, int k,
                                             int first, int stride, Float4 (&sum)[kTiles]) {
  constexpr int kWords = Fragment<kW>::kWords + Fragment<kX>::kWords;
  constexpr int kAhead = kTiles > 1 ? 1 : kWords <= 8 ? 4 : kWords <= 20 ? 2 : 1;
  const RowOf row(w, weight_row + min(static_cast<int>(__lane_id()) % kTile, features - 1), 0);
  const int apart = stride * kStep;
  int k0 = first * kStep;
  if constexpr (kAhead > 1) {
    for (; k0 + (kAhead - 1) * apart + kStep <= k; k0 += kAhead * apart) {
      StepWeights<kW> weights[kAhead];
      StepRow<kX> x[kAhead];
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        weights[a].template Load<true>(w, row, weight_row, features, k0 + a * apart, k);
        x[a].template Load<true>(rows, 0, k0 + a * apart, k);
      }
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        sum[0] = MultiplyStep<kX, kW>(x[a].fragment, weights[a].fragment, sum[0], weights[a].scale, x[a].scale);
      }
    }
  }
  for (; k0 < k; k0 += apart) {
    StepWeights<kW> weights;
    weights.template Load<false>(w, row, weight_row, features, k0, k);
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      StepRow<kX> x;
      x.template Load<false>(rows, t, k0, k);
      sum[t] = MultiplyStep<kX, kW>(x.fragment, weights.fragment, sum[t], weights.scale, x.scale);
    }
  }
}

// Of rows of a plane.
template <Format kX, Format kW, int kTiles, class RowAt>
__device__ __forceinline__ void MultiplySteps(const Plane& x, const Plane& w, int64_t weight_row, int features,
                                              const RowAt& row_at, int head, int k, int first, int stride,
                                              Float4 (&sum)[kTiles]) {
  const PlaneRows<kX, kTiles> rows(x, row_at, head);
  MultiplyRows<kX, kW, kTiles>(rows, w, weight_row, features, k, first, stride, sum);
}

}  // namespace mxmla::hip
