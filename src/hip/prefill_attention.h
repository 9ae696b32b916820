// Causal attention with expanded heads, in the latent space on the matrix units: the query moves there, meets the cache
// as it lies, and the result is projected.
#pragma once

#include "ops/kernel_set.h"

namespace mxmla::hip {

// bf16 queries; w_kc and w_vc as QueryAbsorb and ValueProject take them, the cache as DecodeAttention does.
bool HonoursPrefillAttention(const PrefillAttentionArgs& args);
WorkspaceSize PrefillAttentionWorkspace(const PrefillAttentionArgs& args, int workers);
void PrefillAttention(const ExecContext& context, const PrefillAttentionArgs& args);

}  // namespace mxmla::hip
