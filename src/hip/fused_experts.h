// The experts' products together with what stands behind each: gating, and the weighted sum.
#pragma once

#include "hip/grouped_linear.h"
#include "ops/fused.h"

namespace mxmla::hip {

// As mxmla::GatedExperts, with the bits of its parts: gate and up in bf16, of one number of rows; gating.out in bf16,
// or in the format of product.x (FP8 in whole groups).
bool HonoursGatedExperts(const GatedExpertsArgs& args);
void GatedExperts(const ExecContext& context, const GatedExpertsArgs& args);

// As mxmla::CombinedExperts, with the bits of its parts, for at most 128 pairs, products in float32.
bool HonoursCombinedExperts(const CombinedExpertsArgs& args);
void CombinedExperts(const ExecContext& context, const CombinedExpertsArgs& args);

}  // namespace mxmla::hip
