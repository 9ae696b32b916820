// Attention in the latent space on the matrix units, over a paged cache in bf16 or FP8.
#pragma once

#include "ops/kernel_set.h"

namespace mxmla::hip {

// bf16 queries, kv_lora_rank 512 and 64 rotated columns, 16-byte aligned rows.
bool HonoursDecodeAttention(const DecodeAttentionArgs& args);
WorkspaceSize DecodeAttentionWorkspace(const DecodeAttentionArgs& args, int workers);
void DecodeAttention(const ExecContext& context, const DecodeAttentionArgs& args);

}  // namespace mxmla::hip
