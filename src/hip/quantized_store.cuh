// Storing a product's results quantised from the registers that the matrix instructions leave them in: lane (g, i) has,
// of row i, features 16 t + 4 g + r of tile t, register r. The bits are those of gpu/quantized_rows.cuh.
#pragma once

#include "gpu/quantized_rows.cuh"
#include "hip/matrix_step.cuh"

namespace mxmla::hip {

// The largest magnitude, as bits, of a row's features of all tiles: four lanes have them. Whole waves call.
template <int kTiles>
__device__ __forceinline__ uint32_t LargestOfRow(const Float4 (&value)[kTiles]) {
  uint32_t largest = 0;
#pragma unroll
  for (const Float4& four : value) {
#pragma unroll
    for (int r = 0; r < 4; ++r) largest = max(largest, gpu::MagnitudeBits(four[r]));
  }
  largest = max(largest, gpu::ShuffleXor(largest, kTile));
  return max(largest, gpu::ShuffleXor(largest, 2 * kTile));
}

// A block of 32 features of `row` that begins at column j, if the row is `there`. Whole waves call.
__device__ __forceinline__ void StoreMxfp4(const gpu::QuantizedPlane& out, int64_t row, bool there, int64_t j,
                                           const Float4 (&value)[2]) {
  const int g = static_cast<int>(__lane_id()) / kTile;
  const uint32_t largest = LargestOfRow(value);
  const uint32_t scale = gpu::Mxfp4ScaleBits(largest, out.mode);
  if (!there) return;
  const float inverse = gpu::Mxfp4Inverse(scale);
  const bool coded = largest != 0 && scale != e8m0::kNan;
  uint8_t* const codes = out.codes + row * out.row + j / 2;
#pragma unroll
  for (int t = 0; t < 2; ++t) {
    uint32_t packed = 0;
#pragma unroll
    for (int r = 0; r < 4; ++r) packed |= (coded ? gpu::E2m1Code(value[t][r] * inverse) : 0u) << (4 * r);
    uint8_t* const to = codes + t * kTile / 2 + g * 2;
    to[0] = static_cast<uint8_t>(packed);
    to[1] = static_cast<uint8_t>(packed >> 8);
  }
  if (g == 0) {
    static_cast<uint8_t*>(out.scales)[row * out.scale_row + j / kMxBlock * out.scale_step] =
        static_cast<uint8_t>(scale);
  }
}

// Of a group of 128 features with that largest magnitude, those of `value`, which begin at column j; `scales`: and the
// group's scale.
template <int kTiles>
__device__ __forceinline__ void StoreFp8(const gpu::QuantizedPlane& out, int64_t row, int64_t j, uint32_t largest,
                                         bool scales, const Float4 (&value)[kTiles]) {
  const int g = static_cast<int>(__lane_id()) / kTile;
  const bool poisoned = largest >= 0x7f800000u;
  const float scale = poisoned ? 1.0f : gpu::Fp8GroupScale(largest, out.mode);
  uint8_t* const codes = out.codes + row * out.row + j;
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      codes[t * kTile + 4 * g + r] = e4m3::FromFloat(poisoned ? value[t][r] : value[t][r] / scale).bits;
    }
  }
  if (scales && g == 0) {
    static_cast<float*>(out.scales)[row * out.scale_row + j / kFp8Group * out.scale_step] =
        poisoned ? __uint_as_float(0x7fc00000u) : scale;
  }
}

}  // namespace mxmla::hip
