// kv_b_proj's halves in another precision than the checkpoint's, for comparison with engines that re-quantise them.
#pragma once

#include <vector>

#include "checkpoint/config.h"
#include "core/thread_pool.h"
#include "model/mla.h"

namespace mxmla {

// Owns re-quantised planes; the views in `weights` point into them (or, for kCheckpoint, into the checkpoint).
struct AbsorbedLayer {
  AbsorbedWeights weights;
  std::vector<bf16> values;  // kBf16: kv_b_proj, rounded
  std::vector<e2m1x2> codes_kc, codes_vc;
  std::vector<e8m0> scales_kc, scales_vc;
};

// kBf16: kv_b_proj dequantised and rounded to bf16 (nothing to do when it is BF16). kMxfp4: w_kc transposed to
// (kv_lora_rank, qk_nope_head_dim) and w_vc, each quantised along the contracted axis (scale mode even) from bf16.
// Refused (kQuantization) when a contracted axis is no multiple of 32.
AbsorbedLayer AbsorbLayer(const ModelConfig& config, const LayerWeights& layer, AbsorbDType dtype, ThreadPool& pool);

}  // namespace mxmla
