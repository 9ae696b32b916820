// The kernel of products a head, weights read along the contracted axis: V projection, and the query's move into the
// latent space where its weights are held output-major. Instantiated a format of activations a source file.
#pragma once

#include "gpu/quantize.cuh"
#include "gpu/row_products.cuh"

namespace mxmla::gpu {

enum class OutKind { kF32, kBf16, kFp8, kMxfp4 };
constexpr int kBlockColumns = 32;  // of the flat result a block; for FP8 a group
constexpr int kMostColumns = static_cast<int>(kFp8Group);

struct HeadProductParams {
  Operand x;  // (rows, heads, k)
  Operand w;  // the tensor's rows
  int64_t head_stride, head_offset;
  int heads, head_rows;  // the flat result has heads * head_rows columns
  int rows, k;
  OutKind kind;
  void* out;  // F32, BF16: element (r, h, c) at r * out_row + h * out_head + c; else (rows, flat)
  int64_t out_row, out_head;
  void* scales;
  int64_t scale_row, scale_column;
  ScaleMode mode;
  // Not null: only rows between limits[0] and limits[limits_last], row_base being the number of row 0, are written.
  const int32_t* limits;
  int64_t limits_last;
  int row_base;
};

// Writes columns j0 .. j0 + columns of a row, which `values` holds.
__device__ __forceinline__ void StoreColumns(const HeadProductParams& p, int row, int j0, int columns,
                                             const float* values, int lane) {
  if (p.kind == OutKind::kF32 || p.kind == OutKind::kBf16) {
    for (int c = lane; c < columns; c += 32) {
      const int head = (j0 + c) / p.head_rows;
      const int64_t at = row * p.out_row + head * p.out_head + (j0 + c - head * p.head_rows);
      StoreFloat(p.out, at, values[c], p.kind == OutKind::kF32);
    }
    return;
  }
  // Rounded to the type of plain activations before it is quantised.
  const auto rounded = [&](int c) { return bf16::FromFloat(values[c]).ToFloat(); };
  auto* const out = static_cast<uint8_t*>(p.out) + row * p.out_row;
  if (p.kind == OutKind::kMxfp4) {
    for (int b = 0; b < columns; b += static_cast<int>(kMxBlock)) {
      const float value = rounded(b + lane);
      const uint32_t scale = Mxfp4ScaleBits(LargestOfLanes(MagnitudeBits(value)), p.mode);
      uint32_t code = 0;
      if (scale != 255) code = E2m1FromFloat(value * Mxfp4Inverse(scale));
      const bool all_zero = LargestOfLanes(MagnitudeBits(value)) == 0;
      if (all_zero) code = 0;
      const uint32_t odd = __float_as_uint(ShuffleXor(__uint_as_float(code), 1));
      if (lane % 2 == 0) out[(j0 + b + lane) / 2] = static_cast<uint8_t>(code | odd << 4);
      if (lane == 0) {
        static_cast<uint8_t*>(p.scales)[row * p.scale_row + (j0 + b) / kMxBlock] = static_cast<uint8_t>(scale);
      }
    }
    return;
  }
  uint32_t amax = 0;
  for (int c = lane; c < columns; c += 32) amax = max(amax, MagnitudeBits(rounded(c)));
  amax = LargestOfLanes(amax);
  const bool bad = amax >= 0x7f800000u;
  const float scale = bad ? 1.0f : Fp8GroupScale(amax, p.mode);
  for (int c = lane; c < columns; c += 32) {
    out[j0 + c] = e4m3::FromFloat(bad ? rounded(c) : rounded(c) / scale).bits;
  }
  if (lane == 0) {
    static_cast<float*>(p.scales)[row * p.scale_row + j0 / kFp8Group * p.scale_column] =
        bad ? __uint_as_float(0x7fc00000u) : scale;
  }
}

// A block takes kRows rows and `columns` columns of the flat result, a warp kColumns of one head at a time.
template <Format kX, Format kW, int kRows, int kColumns>
__global__ void __launch_bounds__(kThreads) HeadProductKernel(const HeadProductParams p) {
  __shared__ float results[kRows][kMostColumns];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int block_columns = p.kind == OutKind::kFp8 ? kMostColumns : kBlockColumns;
  const int j0 = static_cast<int>(blockIdx.x) * block_columns;
  const int columns = min(block_columns, p.heads * p.head_rows - j0);
  const int row0 = static_cast<int>(blockIdx.y) * kRows, rows = min(kRows, p.rows - row0);
  int first = 0, last = rows;
  if (p.limits) {
    first = max(p.limits[0] - p.row_base - row0, 0);
    last = min(p.limits[p.limits_last] - p.row_base - row0, rows);
    if (first >= last) return;
  }
  for (int c0 = warp * kColumns; c0 < columns; c0 += kWarps * kColumns) {
    const int head = (j0 + c0) / p.head_rows;
    const int64_t weight_row = head * p.head_stride + p.head_offset + (j0 + c0 - head * p.head_rows);
    Row x[kRows], w[kColumns];
#pragma unroll
    for (int r = 0; r < kRows; ++r) x[r] = RowAt<kX>(p.x, row0 + min(r, rows - 1), head);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) w[c] = RowAt<kW>(p.w, weight_row + c, 0);
    const float sum = RowProducts<kX, kW, kRows, kColumns>(x, w, p.k, p.x.whole_pieces, p.w.whole_pieces,
                                                           p.x.scale_column, p.w.scale_column, lane);
    constexpr int kLanesOfSum = 32 / (kRows * kColumns);
    const int id = lane / kLanesOfSum;
    if (lane % kLanesOfSum == 0) results[id / kColumns][c0 + id % kColumns] = sum;
  }
  __syncthreads();
  for (int r = warp; r < kRows; r += kWarps) {
    if (r >= first && r < last) StoreColumns(p, row0 + r, j0, columns, results[r], lane);
  }
}

template <Format kX>
void LaunchHeadProduct(const HeadProductParams& p, Stream stream) {
  const int columns = p.kind == OutKind::kFp8 ? kMostColumns : kBlockColumns;
  const auto blocks = [&](int rows) {
    return dim3(static_cast<unsigned>((p.heads * p.head_rows + columns - 1) / columns),
                static_cast<unsigned>((p.rows + rows - 1) / rows));
  };
  ForWeightFormat<kX>(p.w.format, [&](auto w) {
    if (p.head_rows % 4 != 0) {
      HeadProductKernel<kX, w(), 8, 1><<<blocks(8), kThreads, 0, stream>>>(p);
    } else if (p.rows == 1) {
      HeadProductKernel<kX, w(), 1, 4><<<blocks(1), kThreads, 0, stream>>>(p);
    } else {
      HeadProductKernel<kX, w(), 8, 4><<<blocks(8), kThreads, 0, stream>>>(p);
    }
  });
  CheckLaunch("gpu head product");
}

// One source file a format of x.
void LaunchHeadProductF32(const HeadProductParams& p, Stream stream);
void LaunchHeadProductBf16(const HeadProductParams& p, Stream stream);
void LaunchHeadProductFp8(const HeadProductParams& p, Stream stream);
void LaunchHeadProductMxfp4(const HeadProductParams& p, Stream stream);
void LaunchHeadProductAny(const HeadProductParams& p, Stream stream);

inline void LaunchHeadProduct(const HeadProductParams& p, Stream stream) {
  switch (KernelFormat(p.x.format, p.w.format)) {
    case Format::kF32:
      return LaunchHeadProductF32(p, stream);
    case Format::kBf16:
      return LaunchHeadProductBf16(p, stream);
    case Format::kFp8:
      return LaunchHeadProductFp8(p, stream);
    case Format::kMxfp4:
      return LaunchHeadProductMxfp4(p, stream);
    default:
      return LaunchHeadProductAny(p, stream);
  }
}

}  // namespace mxmla::gpu
