// Attention in the latent space on the matrix units, over a paged cache in bf16 or FP8.
#pragma once

#include "ops/kernel_set.h"

namespace mxmla::hip {

// bf16 queries, kv_lora_rank 512 and 64 rotated columns, 16-byte aligned rows.
bool HonoursDecodeAttention(const DecodeAttentionArgs& args);
WorkspaceSize DecodeAttentionWorkspace(const DecodeAttentionArgs& args, int workers);
void DecodeAttention(const ExecContext& context, const DecodeAttentionArgs& args);

// What the above ask of queries and of the cache: 16-byte aligned rows, the cache's of 512 latents and 64 rotated
// columns.
bool HonoursQuery(const View<const bf16, 3>& query);
bool HonoursCache(const KvInput<3>& kv_pages);
// For many rows: each row's context in one piece. args.query holds latents alone, `rotated` (rows, heads, 64) the rest.
void AttendWhole(const ExecContext& context, const DecodeAttentionArgs& args, View<const bf16, 3> rotated);

// As mxmla::AttendProject, with the bits of its parts: attention without the merging of its splits, which the V
// projection does itself. Both as its parts take them, for contexts of more than one split.
bool HonoursAttendProject(const AttendProjectArgs& args);
void AttendProject(const ExecContext& context, const AttendProjectArgs& args);

}  // namespace mxmla::hip
