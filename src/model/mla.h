// Multi-head latent attention: DESIGN.md's table of nine ops, as views and op calls.
#pragma once

#include "model/placed_weights.h"
#include "model/step.h"
#include "ops/context.h"

namespace mxmla {

// The attention of layer `index` over the rows in `buffers.residual` (+= `buffers.delta` unless it is the first layer);
// the result is left in `buffers.delta`.
void AttentionLayer(const ExecContext& context, const Step& step, const LayerWeights& layer,
                    const AbsorbedWeights& absorbed, const JoinedWeights& joined, int64_t index);

}  // namespace mxmla
