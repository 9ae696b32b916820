// What the launch that moves queries into the latent space does beside it, row by row: the normed latent and the
// rotated key go to the cache, the query's rotated columns to their place.
#pragma once

#include "gpu/norm_row.cuh"
#include "gpu/quantized_rows.cuh"
#include "ops/fused.h"

namespace mxmla::gpu {

struct QueryRows {
  int ctas = 0;  // 0: nothing of this
  int rows = 0, heads = 0;
  int64_t latents = 0, rotated = 0;
  FloatPlane<const void> latent;       // (rows, latents)
  FloatPlane<void> latent_out;         // (slots, latents), or absent
  QuantizedPlane latent_codes;         // (slots, latents), or absent
  FloatPlane<const void> weight;       // (latents)
  Strided<const int64_t> latent_slot;  // (rows) or absent
  float eps = 0;
  FloatPlane<const void> key;       // (rows, 1, rotated)
  FloatPlane<void> key_out;         // (slots, 1, rotated)
  Strided<const int64_t> key_slot;  // (rows) or absent
  FloatPlane<const void> query;     // (rows, heads, rotated)
  FloatPlane<void> query_out;       // (rows, heads, rotated)
  FloatPlane<const void> cos, sin;  // (rows, rotated / 2)
};

__device__ __forceinline__ void RotatePiece(const QueryRows& q, const FloatPlane<const void>& x,
                                            const FloatPlane<void>& out, int64_t r, int64_t to, int64_t h,
                                            int64_t begin) {
  float v[kPiece];
  LoadPiece<Access::kHalf>(x, r, h, begin, kPiece, v);
  TurnPiece(v, static_cast<const float*>(q.cos.data) + r * q.cos.row + begin / 2,
            static_cast<const float*>(q.sin.data) + r * q.sin.row + begin / 2);
  StorePiece<Access::kHalf>(out, to, h, begin, kPiece, v);
}

// CTA `cta` of q.ctas: the first q.rows have a row of the cache each, the others pieces of the queries.
__device__ __forceinline__ void DoQueryRows(const QueryRows& q, int cta) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int rotated_pieces = static_cast<int>(q.rotated) / kPiece;
  if (cta >= q.rows) {
    const int64_t index = int64_t{cta - q.rows} * threads + thread;
    const int64_t vector = index / rotated_pieces, r = vector / q.heads;
    if (r >= q.rows) return;
    const int64_t begin = (index - vector * rotated_pieces) * kPiece;
    RotatePiece(q, q.query, q.query_out, r, r, vector - r * q.heads, begin);
    return;
  }
  __shared__ float waves[kMostNormThreads / kWave];
  const int64_t r = cta;
  const auto load = [&](int64_t begin, int, float v[kPiece]) {
    LoadPiece<Access::kHalf>(q.latent, r, 0, begin, kPiece, v);
  };
  NormWaves(q.latents, waves, load);
  if (thread < rotated_pieces) {
    RotatePiece(q, q.key, q.key_out, r, q.key_slot ? q.key_slot(r) : r, 0, int64_t{thread} * kPiece);
  }
  __syncthreads();
  const float factor = NormFactor(NormTotal(q.latents, waves), q.latents, q.eps, 1.0f);
  const int64_t to = q.latent_slot ? q.latent_slot(r) : r;
  for (int64_t base = 0; base < q.latents; base += int64_t{threads} * kPiece) {  // whole waves: they quantise together
    const int64_t begin = base + int64_t{thread} * kPiece;
    const int count = begin < q.latents ? kPiece : 0;
    float v[kPiece] = {}, gain[kPiece];
    if (count > 0) {
      load(begin, kPiece, v);
      LoadPiece<Access::kFull>(q.weight, 0, 0, begin, kPiece, gain);
#pragma unroll
      for (int i = 0; i < kPiece; ++i) v[i] = gain[i] * (v[i] * factor);
      if (q.latent_out.data != nullptr) StorePiece<Access::kHalf>(q.latent_out, to, 0, begin, kPiece, v);
    }
    if (q.latent_codes.codes != nullptr) {
#pragma unroll
      for (int i = 0; i < kPiece; ++i) v[i] = RoundToHalf(v[i]);
      StoreQuantized(q.latent_codes, to, 0, begin, count, v);
    }
  }
}

inline QueryRows QueryRowsOf(const LatentQueryArgs& args) {
  QueryRows q;
  q.rows = static_cast<int>(Extent(args.latent.x, 0));
  q.heads = static_cast<int>(Extent(args.query.x, 1));
  q.latents = Extent(args.latent.x, 1);
  q.rotated = Extent(args.query.x, 2);
  q.latent = FloatPlaneOf(args.latent.x);
  if (args.latent.out) q.latent_out = FloatPlaneOf(*args.latent.out);
  if (args.latent.quantized) q.latent_codes = QuantizedPlaneOf(*args.latent.quantized, args.latent.scale_mode);
  q.weight = FloatPlaneOf(args.latent.weight);
  q.latent_slot = StridedOf(args.latent.out_index);
  q.eps = args.latent.eps;
  q.key = FloatPlaneOf(args.key.x);
  q.key_out = FloatPlaneOf(args.key.out);
  q.key_slot = StridedOf(args.key.out_index);
  q.query = FloatPlaneOf(args.query.x);
  q.query_out = FloatPlaneOf(args.query.out);
  q.cos = FloatPlaneOf(args.query.cos);
  q.sin = FloatPlaneOf(args.query.sin);
  return q;
}

// CTAs of `threads` threads that DoQueryRows takes.
inline int QueryRowCtas(const QueryRows& q, int64_t threads) {
  return q.rows + static_cast<int>(DivideUp(int64_t{q.rows} * q.heads * (q.rotated / kPiece), threads));
}

// Everything in bf16 but perhaps the latents in the cache, in eights, rotated in neighbours; the rows are absorb.out's.
inline bool HonoursQueryRows(const LatentQueryArgs& args) {
  const QueryRows q = QueryRowsOf(args);
  const RmsNormArgs& norm = args.latent;
  const RopeArgs &key = args.key, &query = args.query;
  const bool plain = norm.out.has_value() != norm.quantized.has_value() && !norm.residual && !norm.row_index &&
                     !norm.row_scale && key.interleaved && query.interleaved && !query.out_index;
  const bool agree = Extent(key.x, 0) == q.rows && Extent(key.x, 1) == 1 && Extent(key.x, 2) == q.rotated &&
                     Extent(query.x, 0) == q.rows && key.cos.data == query.cos.data && key.sin.data == query.sin.data &&
                     key.cos.stride == query.cos.stride && key.sin.stride == query.sin.stride;
  const int64_t pairs = q.rotated / 2;
  return plain && agree && q.rows > 0 && q.rotated > 0 && q.rotated <= 32 * kPiece &&
         Extent(args.absorb.out, 0) == q.rows && Has(q.latent, Access::kHalf, q.latents) &&
         (!norm.out || Has(q.latent_out, Access::kHalf, q.latents)) && Has(q.weight, Access::kFull, q.latents) &&
         Has(q.key, Access::kHalf, q.rotated) && Has(q.key_out, Access::kHalf, q.rotated) &&
         Has(q.query, Access::kHalf, q.rotated) && Has(q.query_out, Access::kHalf, q.rotated) && pairs % 4 == 0 &&
         Has(q.cos, Access::kFull, pairs) && Has(q.sin, Access::kFull, pairs);
}

}  // namespace mxmla::gpu
