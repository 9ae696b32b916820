// The two batched products of absorbed attention, over the heads of kv_b_proj as the checkpoint holds it, and the three
// layouts of the V projection's result.
#pragma once

#include "core/scaled.h"
#include "ops/context.h"
#include "ops/next_weights.h"

namespace mxmla {

// out[r, h, l] = sum over n of q_nope[r, h, n] * w_kc[h][n, l]: the query moves into the latent space.
// w_kc[h] is (qk_nope_head_dim, kv_lora_rank), rows of kv_b_proj, so the sum runs across its rows and an MXFP4 scale
// (32 latents of one row) is applied inside the sum. With `output_major`, w_kc[h] is instead (kv_lora_rank,
// qk_nope_head_dim), what an engine that re-quantises along the contracted axis holds (--absorb-dtype mxfp4).
struct QueryAbsorbArgs {
  Activation<3> q_nope;  // (rows, heads, qk_nope_head_dim); quantised along the last dimension
  HeadWeight w_kc;
  bool output_major = false;
  FloatOutput<3> out;  // (rows, heads, kv_lora_rank); strides of rows and heads free
};
void QueryAbsorb(const ExecContext& context, const QueryAbsorbArgs& args);

// attn[r, h, :] (kv_lora_rank) x w_vc[h]^T, w_vc[h] = (v_head_dim, kv_lora_rank).
// `out` is one of
//   - (rows, heads, v_head_dim) of float32 or bf16 with free strides of rows and heads: head-major for the layout
//   `copy`
//     (a permuted view), token-major for `strided`;
//   - for the layout `fused`, o_proj's input itself: (rows, heads * v_head_dim) of float32, bf16, MXFP4 or FP8
//   group-128,
//     written from the epilogue. It rounds to the backend's activation type before it quantises, so that all layouts
//     agree bit for bit.
struct ValueProjectArgs {
  Activation<3> attn;  // (rows, heads, kv_lora_rank)
  HeadWeight w_vc;
  std::variant<FloatOutput<3>, ActivationOutput<2>> out;
  ScaleMode scale_mode = ScaleMode::kEven;
  const NextWeights* next = nullptr;  // read behind these
};
void ValueProject(const ExecContext& context, const ValueProjectArgs& args);

}  // namespace mxmla
