// Causal attention with expanded heads on the GPU (sm_90a).
#pragma once

#include <cuda_runtime_api.h>

#include "ops/attention.h"

namespace mxmla::cuda {

// Whether PrefillAttention takes the call: query and out bf16; kv_pages bf16 or FP8; w_kc and w_vc both MXFP4, BF16 or
// FP8 block-128; qk_nope_head_dim and v_head_dim of at most 128, qk_rope_head_dim of at most 64, all in eights; pages
// of a power of two; 16-byte aligned rows of everything but FP4 and FP8 scales and out, whose rows are aligned to 4.
bool HonoursPrefillAttention(const PrefillAttentionArgs& args);

// Bytes of device memory that the call needs, and any with smaller extents: 16 MiB, and up to 256 MiB for expanded
// contexts; for an FP8 cache up to as much again for its latents in bf16.
size_t PrefillAttentionWorkspaceBytes(const PrefillAttentionArgs& args);

struct PrefillAttentionOptions {
  cudaStream_t stream = nullptr;
  void* workspace = nullptr;  // of PrefillAttentionWorkspaceBytes, used by one call at a time
  // Whether contexts are expanded as a whole where they find room; the bits are the same.
  bool expand_first = true;
};

// As mxmla::PrefillAttention, over views of device memory; what is not honoured is an Error (kLayout). Expanded keys
// and values, the probabilities and an FP8 cache's latents times their scales are rounded to bf16. No length is read on
// the host: a call may be captured in a graph and replayed with other segments. A row's bits depend on its segment
// alone.
void PrefillAttention(const PrefillAttentionArgs& args, const PrefillAttentionOptions& options);

}  // namespace mxmla::cuda
