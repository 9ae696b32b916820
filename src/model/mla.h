// Multi-head latent attention: DESIGN.md's table of nine ops, as views and op calls.
#pragma once

#include "checkpoint/config.h"
#include "checkpoint/weights.h"
#include "model/activations.h"
#include "model/batch.h"
#include "model/options.h"
#include "ops/context.h"

namespace mxmla {

// One forward pass's rows, as the ops read them. Views of planned buffers.
struct BatchViews {
  View<const int32_t, 1> tokens;        // (rows)
  View<const int32_t, 1> row_sequence;  // (rows), index into block_table's rows
  View<const int32_t, 1> row_length;    // (rows), tokens that the row sees
  View<const int64_t, 1> slots;         // (rows), cache row of the token: page * page_size + offset
  View<const int32_t, 2> block_table;   // (sequences, max_pages)
  View<const float, 2> cos, sin;        // (rows, qk_rope_head_dim / 2)
};

// The parts of kv_b_proj that absorbed attention multiplies by; views of the checkpoint unless --absorb-dtype asks for
// re-quantised ones.
struct AbsorbedWeights {
  HeadWeight w_kc;  // (qk_nope_head_dim, kv_lora_rank) a head, or transposed when output_major
  HeadWeight w_vc;  // (v_head_dim, kv_lora_rank) a head
  bool w_kc_output_major = false;
};

// What stays the same from layer to layer of one forward pass.
struct AttentionPass {
  const ModelConfig& config;
  const ModelOptions& options;
  const Activations& buffers;
  const BatchPlan& plan;
  const BatchViews& batch;
  float softmax_scale;
};

// The layer's attention of the rows in `buffers.residual` (+= `buffers.delta` unless it is the first layer); the result
// is left in `buffers.delta`.
void AttentionLayer(const ExecContext& context, const AttentionPass& pass, const LayerWeights& layer,
                    const AbsorbedWeights& absorbed, const FloatOutput<3>& kv_pages, bool first_layer);

// Whether a product with `weight` takes quantised activations.
inline bool TakesQuantized(const ModelOptions& options, const LinearWeight& weight) {
  return options.activations != ActivationFormat::kPlain && IsQuantized(weight);
}

}  // namespace mxmla
