// The feed-forward half of a layer: a dense SwiGLU, or a mixture of experts with shared ones.
#pragma once

#include "model/placed_weights.h"
#include "model/step.h"
#include "ops/context.h"

namespace mxmla {

// Adds `buffers.delta` to the residual stream, norms it, and leaves the layer's feed-forward result in `buffers.delta`.
// `next` is read behind it.
void MlpLayer(const ExecContext& context, const Step& step, const LayerWeights& layer, const JoinedWeights& joined,
              const PlacedExperts& experts, const LinearWeight& next);

}  // namespace mxmla
