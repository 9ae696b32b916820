// The query's move into the latent space on the matrix units, from kv_b_proj's rows as the checkpoint holds them: BF16,
// or MXFP4, whose blocks lie along the output axis. Both are exact in bf16, so nothing is re-quantised.
#pragma once

#include "ops/kernel_set.h"

namespace mxmla::hip {

// bf16 queries; qk_nope_head_dim a multiple of 32 (128 and 192 too), kv_lora_rank of 128; not output-major.
bool HonoursQueryAbsorb(const QueryAbsorbArgs& args);
void QueryAbsorb(const ExecContext& context, const QueryAbsorbArgs& args);

}  // namespace mxmla::hip
