// The query's move into the latent space, over w_kc as the checkpoint holds it: the sum runs across the weights' rows.
#pragma once

#include "gpu/row_products.cuh"

namespace mxmla::gpu {

constexpr int kAbsorbRows = 4;               // rows of the query a block
constexpr int kAbsorbColumns = 32 * kPiece;  // latents a block: a piece a lane

struct QueryAbsorbParams {
  Operand x;  // (rows, heads, nope)
  Operand w;  // the tensor's rows
  int64_t head_stride, head_offset;
  int rows, nope, latents;
  void* out;
  int64_t out_row, out_head;
  bool out_float;
};

// Warp i sums over rows i, i + 8, .. of w_kc[h]; the warps' sums meet in their order.
template <Format kX, Format kW>
__global__ void __launch_bounds__(kThreads) QueryAbsorbKernel(const QueryAbsorbParams p) {
  extern __shared__ float shared[];
  const int pieces = (p.nope + kPiece - 1) / kPiece;
  float* const query = shared;                                    // (kAbsorbRows, pieces * 8)
  float* const partial = shared + kAbsorbRows * pieces * kPiece;  // (kWarps, kAbsorbRows, kAbsorbColumns)
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t head = static_cast<int>(blockIdx.y);
  const int row0 = static_cast<int>(blockIdx.z) * kAbsorbRows, rows = min(kAbsorbRows, p.rows - row0);
  for (int id = static_cast<int>(threadIdx.x); id < kAbsorbRows * pieces; id += kThreads) {
    const int r = id / pieces, at = id % pieces * kPiece;
    Piece<kX> piece;
    piece.Load(RowAt<kX>(p.x, row0 + min(r, rows - 1), head), at, min(kPiece, p.nope - at), p.x.whole_pieces,
               p.x.scale_column);
    float values[kPiece];
    piece.Decode(values);
#pragma unroll
    for (int i = 0; i < kPiece; ++i) query[r * pieces * kPiece + at + i] = values[i];
  }
  __syncthreads();

  const int column0 = static_cast<int>(blockIdx.x) * kAbsorbColumns + lane * kPiece;
  const int count = min(kPiece, p.latents - column0);
  float sum[kAbsorbRows][kPiece] = {};
  if (count > 0) {
    const int64_t first = head * p.head_stride + p.head_offset;
#pragma unroll 4
    for (int n = warp; n < p.nope; n += kWarps) {
      Piece<kW> piece;
      piece.Load(RowAt<kW>(p.w, first + n, 0), column0, count, p.w.whole_pieces, p.w.scale_column);
      float weights[kPiece];
      piece.Decode(weights);
#pragma unroll
      for (int r = 0; r < kAbsorbRows; ++r) {
        const float factor = query[r * pieces * kPiece + n];
#pragma unroll
        for (int i = 0; i < kPiece; ++i) sum[r][i] = fmaf(factor, weights[i], sum[r][i]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kAbsorbRows; ++r) {
#pragma unroll
    for (int i = 0; i < kPiece; ++i) partial[((warp * kAbsorbRows + r) * kPiece + i) * 32 + lane] = sum[r][i];
  }
  __syncthreads();
  for (int id = static_cast<int>(threadIdx.x); id < rows * kAbsorbColumns; id += kThreads) {
    const int r = id / kAbsorbColumns, c = id % kAbsorbColumns;
    const int column = static_cast<int>(blockIdx.x) * kAbsorbColumns + c;
    if (column >= p.latents) continue;
    float total = 0;
    for (int w = 0; w < kWarps; ++w) {
      total += partial[((w * kAbsorbRows + r) * kPiece + c % kPiece) * 32 + c / kPiece];
    }
    StoreFloat(p.out, (row0 + r) * p.out_row + head * p.out_head + column, total, p.out_float);
  }
}

void LaunchQueryAbsorb(const QueryAbsorbParams& p, int64_t heads, Stream stream);

}  // namespace mxmla::gpu
