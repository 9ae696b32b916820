// Products of rows of activations with rows of weights, a warp a few of each: for every format and alignment, at the
// speed of ordinary arithmetic. Lane l of a warp takes the pieces of 8 elements l, l + 32, .. of k; then the lanes'
// sums meet, always in the same order. A sum's order therefore follows from k alone.
#pragma once

#include "gpu/pieces.cuh"

namespace mxmla::gpu {

constexpr int kWarps = 8;  // of a block
constexpr int kThreads = 32 * kWarps;

// Sums of x[r] . w[c]; lane l returns sum l / (32 / (kRows * kColumns)), which is r * kColumns + c.
template <Format kX, Format kW, int kRows, int kColumns>
__device__ __forceinline__ float RowProducts(const Row (&x)[kRows], const Row (&w)[kColumns], int k, bool x_whole,
                                             bool w_whole, int64_t x_scale_column, int64_t w_scale_column, int lane) {
  float sum[kRows * kColumns] = {};
  for (int at = lane * kPiece; at < k; at += 32 * kPiece) {
    const int count = min(kPiece, k - at);
    Piece<kW> pieces[kColumns];
    Piece<kX> x_pieces[kRows];
    if (x_whole && w_whole && count == kPiece) {  // one branch, so that all loads are on their way together
#pragma unroll
      for (int c = 0; c < kColumns; ++c) pieces[c].Load(w[c], at, kPiece, true, w_scale_column);
#pragma unroll
      for (int r = 0; r < kRows; ++r) x_pieces[r].Load(x[r], at, kPiece, true, x_scale_column);
    } else {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) pieces[c].Load(w[c], at, count, w_whole, w_scale_column);
#pragma unroll
      for (int r = 0; r < kRows; ++r) x_pieces[r].Load(x[r], at, count, x_whole, x_scale_column);
    }
    float weights[kColumns][kPiece];
#pragma unroll
    for (int c = 0; c < kColumns; ++c) pieces[c].Decode(weights[c]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float values[kPiece];
      x_pieces[r].Decode(values);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
#pragma unroll
        for (int i = 0; i < kPiece; ++i) sum[r * kColumns + c] = fmaf(values[i], weights[c][i], sum[r * kColumns + c]);
      }
    }
  }
  return SumOverLanes(sum, lane);
}

}  // namespace mxmla::gpu
