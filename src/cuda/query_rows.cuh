// What the launch that moves queries into the latent space does beside it, row by row: the normed latent and the
// rotated key go to the cache, the query's rotated columns to their place.
#pragma once

#include "gpu/norm_row.cuh"

namespace mxmla::cuda {

struct QueryRows {
  int ctas = 0;  // 0: nothing of this
  int rows = 0, heads = 0;
  int64_t latents = 0, rotated = 0;
  gpu::FloatPlane<const void> latent;       // (rows, latents)
  gpu::FloatPlane<void> latent_out;         // (slots, latents)
  gpu::FloatPlane<const void> weight;       // (latents)
  gpu::Strided<const int64_t> latent_slot;  // (rows) or absent
  float eps = 0;
  gpu::FloatPlane<const void> key;       // (rows, 1, rotated)
  gpu::FloatPlane<void> key_out;         // (slots, 1, rotated)
  gpu::Strided<const int64_t> key_slot;  // (rows) or absent
  gpu::FloatPlane<const void> query;     // (rows, heads, rotated)
  gpu::FloatPlane<void> query_out;       // (rows, heads, rotated)
  gpu::FloatPlane<const void> cos, sin;  // (rows, rotated / 2)
};

__device__ __forceinline__ void RotatePiece(const QueryRows& q, const gpu::FloatPlane<const void>& x,
                                            const gpu::FloatPlane<void>& out, int64_t r, int64_t to, int64_t h,
                                            int64_t begin) {
  float v[gpu::kPiece];
  gpu::LoadPiece<gpu::Access::kHalf>(x, r, h, begin, gpu::kPiece, v);
  gpu::TurnPiece(v, static_cast<const float*>(q.cos.data) + r * q.cos.row + begin / 2,
                 static_cast<const float*>(q.sin.data) + r * q.sin.row + begin / 2);
  gpu::StorePiece<gpu::Access::kHalf>(out, to, h, begin, gpu::kPiece, v);
}

// CTA `cta` of q.ctas: the first q.rows have a row of the cache each, the others pieces of the queries.
__device__ __forceinline__ void DoQueryRows(const QueryRows& q, int cta) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int rotated_pieces = static_cast<int>(q.rotated) / gpu::kPiece;
  if (cta >= q.rows) {
    const int64_t index = int64_t{cta - q.rows} * threads + thread;
    const int64_t vector = index / rotated_pieces, r = vector / q.heads;
    if (r >= q.rows) return;
    const int64_t begin = (index - vector * rotated_pieces) * gpu::kPiece;
    RotatePiece(q, q.query, q.query_out, r, r, vector - r * q.heads, begin);
    return;
  }
  __shared__ float waves[gpu::kMostNormThreads / gpu::kWave];
  const int64_t r = cta;
  const auto load = [&](int64_t begin, int, float v[gpu::kPiece]) {
    gpu::LoadPiece<gpu::Access::kHalf>(q.latent, r, 0, begin, gpu::kPiece, v);
  };
  gpu::NormWaves(q.latents, waves, load);
  if (thread < rotated_pieces) {
    RotatePiece(q, q.key, q.key_out, r, q.key_slot ? q.key_slot(r) : r, 0, int64_t{thread} * gpu::kPiece);
  }
  __syncthreads();
  const float factor = gpu::NormFactor(gpu::NormTotal(q.latents, waves), q.latents, q.eps, 1.0f);
  const int64_t to = q.latent_slot ? q.latent_slot(r) : r;
  for (int64_t begin = int64_t{thread} * gpu::kPiece; begin < q.latents; begin += int64_t{threads} * gpu::kPiece) {
    float v[gpu::kPiece], gain[gpu::kPiece];
    load(begin, gpu::kPiece, v);
    gpu::LoadPiece<gpu::Access::kFull>(q.weight, 0, 0, begin, gpu::kPiece, gain);
#pragma unroll
    for (int i = 0; i < gpu::kPiece; ++i) v[i] = gain[i] * (v[i] * factor);
    gpu::StorePiece<gpu::Access::kHalf>(q.latent_out, to, 0, begin, gpu::kPiece, v);
  }
}

}  // namespace mxmla::cuda
