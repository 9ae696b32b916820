// What stays the same from layer to layer of one step.
#pragma once

#include "checkpoint/config.h"
#include "model/activations.h"
#include "model/options.h"
#include "model/step_plan.h"

namespace mxmla {

struct Step {
  const ModelConfig& config;
  const ModelOptions& options;
  const Activations& buffers;
  StepShape shape;
  StepViews views;
  View<const float, 2> cos, sin;  // (rows, qk_rope_head_dim / 2)
  float softmax_scale;
  float norm_eps;        // of the norms of the residual stream
  int64_t shared_parts;  // PlacedWeights::shared_parts
};

}  // namespace mxmla
