// What a model's kernels read beside the checkpoint's own tensors; made once a model, shared by its sessions.
#pragma once

#include <vector>

#include "checkpoint/config.h"
#include "checkpoint/weights.h"
#include "core/thread_pool.h"
#include "model/options.h"

namespace mxmla {

// The parts of kv_b_proj that absorbed attention multiplies by; views of the checkpoint unless --absorb-dtype asks for
// re-quantised ones.
struct AbsorbedWeights {
  HeadWeight w_kc;  // (qk_nope_head_dim, kv_lora_rank) a head, or transposed when output_major
  HeadWeight w_vc;  // (v_head_dim, kv_lora_rank) a head
  bool w_kc_output_major = false;
};

// Owns re-quantised planes; the views in `weights` point into them (or, for kCheckpoint, into the checkpoint).
struct AbsorbedLayer {
  AbsorbedWeights weights;
  std::vector<bf16> values;  // kBf16: kv_b_proj, rounded
  std::vector<e2m1x2> codes_kc, codes_vc;
  std::vector<e8m0> scales_kc, scales_vc;
};

struct PlacedWeights {
  std::vector<AbsorbedLayer> absorbed;     // a layer each
  std::vector<float> inverse_frequencies;  // (qk_rope_head_dim / 2)
  float rope_factor = 1;                   // of cos and sin
  float softmax_scale = 1;

  // The residual stream is held divided by residual_scale, so that nothing but the embedding has to be scaled: a norm
  // of the stream is the same but for its epsilon.
  float embedding_scale = 1;
  float norm_eps = 0;              // of the norms of the stream
  std::vector<float> scaled_norm;  // the last norm's weights times logits_scale, where that is not 1
  View<const float, 1> norm;       // (hidden): those, or the checkpoint's
};

// `weights` must outlive the result. kBf16: kv_b_proj dequantised and rounded to bf16 (nothing to do when it is BF16).
// kMxfp4: w_kc transposed to (kv_lora_rank, qk_nope_head_dim) and w_vc, each quantised along the contracted axis (scale
// mode even) from bf16. Refused (kQuantization) when a contracted axis is no multiple of 32.
PlacedWeights PlaceWeights(const ModelConfig& config, const ModelWeights& weights, AbsorbDType dtype, ThreadPool& pool);

}  // namespace mxmla
