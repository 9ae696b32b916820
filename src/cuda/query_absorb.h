// The query's move into the latent space on the GPU (sm_90a): q_nope[r, h, :] x w_kc[h], as the checkpoint holds it.
#pragma once

#include "cuda/launch_options.h"
#include "ops/fused.h"
#include "ops/head_product.h"

namespace mxmla::cuda {

// Whether QueryAbsorb takes the call: q_nope bf16 in 16-byte aligned rows; w_kc MXFP4, BF16 or FP8 block-128 over rows
// aligned to 8 elements, not output-major; qk_nope_head_dim 64, 128, 192 or 256; kv_lora_rank a multiple of 64; heads
// that begin at multiples of 32 rows (FP8, of the tensor that owns the scales); `out` in 16-byte aligned rows.
bool HonoursQueryAbsorb(const QueryAbsorbArgs& args);

// As mxmla::QueryAbsorb, over views of device memory; what is not honoured is an Error (kLayout). A result depends on
// its own row and weights alone: the order of its sum is the same for every batch.
void QueryAbsorb(const QueryAbsorbArgs& args, const LaunchOptions& options);

// As mxmla::LatentQuery, with the bits of its parts. Beside what QueryAbsorb takes: everything in bf16 (the cache too),
// a latent and rotated columns in eights, rotated in neighbours.
bool HonoursLatentQuery(const LatentQueryArgs& args);
void LatentQuery(const LatentQueryArgs& args, const LaunchOptions& options);

}  // namespace mxmla::cuda
