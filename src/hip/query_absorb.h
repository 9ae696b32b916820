// The query's move into the latent space on the matrix units, from kv_b_proj's rows as the checkpoint holds them: BF16,
// FP8 blocks, or MXFP4, whose blocks lie along the output axis. All are exact in bf16 (FP8 but for its scales, which
// multiply sums of 32 rows), so nothing is re-quantised.
#pragma once

#include "ops/kernel_set.h"

namespace mxmla::hip {

// Queries in bf16, or in FP8 groups or MXFP4 as the weights; qk_nope_head_dim a multiple of 32 (128 and 192 too),
// kv_lora_rank of 128; not output-major. FP8: heads begin at multiples of 32 rows of the tensor that owns the scales.
bool HonoursQueryAbsorb(const QueryAbsorbArgs& args);
void QueryAbsorb(const ExecContext& context, const QueryAbsorbArgs& args);

// As mxmla::LatentQuery, with the bits of its parts. Beside what QueryAbsorb takes: everything in bf16 (the cache too;
// queries are quantised on their way), a latent and rotated columns in eights, rotated in neighbours.
bool HonoursLatentQuery(const LatentQueryArgs& args);
void LatentQuery(const ExecContext& context, const LatentQueryArgs& args);

}  // namespace mxmla::hip
