// Choosing and starting a product's kernel, and what its epilogues share.
#pragma once

#include <string_view>
#include <type_traits>

#include "core/error.h"
#include "gpu/kernel_params.h"
#include "hip/operand_planes.h"

namespace mxmla::hip {

// After a launch.
inline void CheckStarted(std::string_view kernel) {
  const hipError_t status = hipGetLastError();
  if (status != hipSuccess) Fail(ErrorCode::kDevice, std::string(kernel), "a launch", hipGetErrorString(status));
}

using gpu::SetHeadsOut;
using gpu::SetRowsOut;

// Calls body(x format, w format, tiles of rows) with constants. Weights are read once for up to 64 rows.
template <class Body>
void ForProduct(ProductFormats formats, int64_t rows, const Body& body) {
  const auto with_tiles = [&](auto x, auto w) {
    if (rows <= kTile) return body(x, w, std::integral_constant<int, 1>{});
    if (rows <= 2 * kTile) return body(x, w, std::integral_constant<int, 2>{});
    return body(x, w, std::integral_constant<int, 4>{});
  };
  using Bf16 = std::integral_constant<Format, Format::kBf16>;
  using Fp8 = std::integral_constant<Format, Format::kFp8>;
  using Mx = std::integral_constant<Format, Format::kMxfp4>;
  if (formats.x == Format::kMxfp4) return with_tiles(Mx{}, Mx{});
  if (formats.x == Format::kFp8) return with_tiles(Fp8{}, Fp8{});
  if (formats.w == Format::kMxfp4) return with_tiles(Bf16{}, Mx{});
  if (formats.w == Format::kFp8) return with_tiles(Bf16{}, Fp8{});
  with_tiles(Bf16{}, Bf16{});
}

// Calls body(w format) with a constant.
template <class Body>
void ForWeights(Format w, const Body& body) {
  if (w == Format::kMxfp4) return body(std::integral_constant<Format, Format::kMxfp4>{});
  if (w == Format::kFp8) return body(std::integral_constant<Format, Format::kFp8>{});
  body(std::integral_constant<Format, Format::kBf16>{});
}

inline constexpr int kWaves = 4;  // of a block

// A kernel of such blocks; registers for four waves a SIMD.
#define MXMLA_PRODUCT_KERNEL __global__ void __launch_bounds__(kWaves* kWave) __attribute__((amdgpu_waves_per_eu(4)))

// What a block's waves have of tile t, added in the waves' order.
template <int kTiles>
__device__ __forceinline__ Float4 SumOfWaves(const Float4 (&sums)[kWaves][kTiles][kWave], int t, int lane) {
  Float4 all = sums[0][t][lane];
#pragma unroll
  for (int from = 1; from < kWaves; ++from) all += sums[from][t][lane];
  return all;
}

// Adds the sums of a block's waves in the waves' order, and gives each of them to store(row of the tiles, first of four
// features, sums) in one lane.
template <int kTiles, class Store>
__device__ __forceinline__ void AddWaves(Float4 (&sums)[kWaves][kTiles][kWave], const Float4 (&of_wave)[kTiles],
                                         const Store& store) {
  const int wave = static_cast<int>(threadIdx.x) / kWave, lane = static_cast<int>(threadIdx.x) % kWave;
#pragma unroll
  for (int t = 0; t < kTiles; ++t) sums[wave][t][lane] = of_wave[t];
  __syncthreads();
  for (int t = wave; t < kTiles; t += kWaves) {
    store(t * kTile + lane % kTile, lane / kTile * 4, SumOfWaves(sums, t, lane));
  }
}

// The first `count` of four neighbouring elements, in one store where they and the address allow.
__device__ __forceinline__ void StoreFour(void* out, int64_t at, const Float4& value, int count, bool is_float) {
  if (is_float) {
    float* to = static_cast<float*>(out) + at;
    if (count >= 4 && reinterpret_cast<uintptr_t>(to) % 16 == 0) {
      *reinterpret_cast<Float4*>(to) = value;
      return;
    }
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      if (r < count) to[r] = value[r];
    }
    return;
  }
  uint16_t* to = static_cast<uint16_t*>(out) + at;
  uint16_t half[4];
#pragma unroll
  for (int r = 0; r < 4; ++r) half[r] = bf16::FromFloat(value[r]).bits;
  if (count >= 4 && reinterpret_cast<uintptr_t>(to) % 8 == 0) {
    *reinterpret_cast<uint2*>(to) = make_uint2(half[0] | uint32_t{half[1]} << 16, half[2] | uint32_t{half[3]} << 16);
    return;
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    if (r < count) to[r] = half[r];
  }
}

}  // namespace mxmla::hip
