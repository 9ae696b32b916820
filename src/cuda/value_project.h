// The V projection of decode on the GPU (sm_90a): attn[b, h, :] x w_vc[h]^T written straight into o_proj's input.
#pragma once

#include "cuda/decode_attention.h"
#include "cuda/launch_options.h"
#include "ops/head_product.h"

namespace mxmla::cuda {

// As mxmla::ValueProject, over views of device memory. Honoured: attn bf16 with kv_lora_rank 512; weights MXFP4, BF16
// or FP8 block-128; the last dimension of every plane but FP8 scales has stride 1; 16-byte aligned rows of attn and
// weights. `out` is bf16 (rows, heads, v) with free strides of rows and heads or (rows, heads * v), or (rows, heads *
// v) in MXFP4 or FP8. v_head_dim is a multiple of 32 (of 128 for FP8 outputs). Anything else is an Error (kLayout). A
// result depends on its own row and weights alone: the order of its sum is the same for every batch.
void ValueProject(const ValueProjectArgs& args, const LaunchOptions& options);
// The same of attention's result that its parts will give, with the bits of attention that joins them itself; args.attn
// is not read. At most kMostRowsInParts rows.
void ValueProject(const ValueProjectArgs& args, const AttentionParts& parts, const LaunchOptions& options);

}  // namespace mxmla::cuda
