// What a model's kernels read beside the checkpoint's own tensors; made once a model, shared by its sessions.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "checkpoint/config.h"
#include "checkpoint/weights.h"
#include "model/options.h"
#include "ops/backend.h"

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

// Matrices that multiply the same rows and lie one behind the other, so that one product stands for two. A device's are
// laid so where their formats and shapes allow it; the checkpoint's are where they are. Empty: not so.
struct JoinedWeights {
  std::optional<LinearWeight> down;          // q_a_proj (or q_proj), then kv_a_proj_with_mqa
  std::optional<LinearWeight> gate_up;       // of the dense or the shared MLP: gate_proj, then up_proj
  std::vector<LinearWeight> expert_gate_up;  // likewise of each expert, of all of them or none
};

// What Backend::PlaceExperts made of a layer's experts; nothing for dense layers.
struct PlacedExperts {
  std::shared_ptr<const void> gate_up, gate_proj, up_proj, down_proj;
};

struct PlacedWeights {
  ModelWeights weights;                 // the checkpoint's tensors where kernels read them; `norm` times logits_scale
  std::vector<AbsorbedLayer> absorbed;  // a layer each
  std::vector<JoinedWeights> joined;    // a layer each
  // So many parts of each layer's shared experts, as wide as a routed one, stand behind the routed ones in its
  // `experts` instead of in `shared_experts`: every row chooses them, with weight 1.
  int64_t shared_parts = 0;
  std::vector<PlacedExperts> experts;        // a layer each
  View<const float, 1> inverse_frequencies;  // (qk_rope_head_dim / 2)
  float rope_factor = 1;                     // of cos and sin
  float softmax_scale = 1;
  // The residual stream is held divided by residual_scale, so that nothing but the embedding has to be scaled: a norm
  // of the stream is the same but for its epsilon.
  float embedding_scale = 1;
  float norm_eps = 0;                   // of the norms of the stream
  std::shared_ptr<const void> storage;  // of what is neither the checkpoint's nor in `absorbed`
};

// Views of the host's memory, however the backend's kernels read: UploadWeights is what follows where they do not.
// kBf16: kv_b_proj dequantised and rounded to bf16 (nothing to do when it is BF16). kMxfp4: w_kc transposed to
// (kv_lora_rank, qk_nope_head_dim) and w_vc, each quantised along the contracted axis (scale mode even) from bf16.
// Refused (kQuantization) when a contracted axis is no multiple of 32.
PlacedWeights PlaceWeights(const ModelConfig& config, const ModelWeights& weights, AbsorbDType dtype, ThreadPool& pool);

// Bytes of all that `placed` views; what is viewed twice counts once.
size_t PlacedBytes(const PlacedWeights& placed);

// Copies all that `placed` views to memory of `backend`, once, and views it there, joined where possible: the shared
// experts with the routed ones, too. `progress`
// hears at times how many of PlacedBytes are done.
void UploadWeights(Backend& backend, const std::function<void(size_t done)>& progress, PlacedWeights* placed);

// Has the backend make what its kernels read beside the experts' weights, which are where kernels read them.
void PlaceExperts(Backend& backend, PlacedWeights* placed);

}  // namespace mxmla
