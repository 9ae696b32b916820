// The experts' products of a decode step together with what stands behind each: gating, and the weighted sum.
#pragma once

#include "cuda/grouped_linear.h"
#include "ops/fused.h"

namespace mxmla::cuda {

// As mxmla::GatedExperts, with the bits of its parts, for at most 8 pairs an expert: gate and up of one number of rows,
// a multiple of 16; gating.out bf16. `table` was made of product.weights.
bool HonoursGatedExperts(const GatedExpertsArgs& args, const ExpertTable& table);
void GatedExperts(const GatedExpertsArgs& args, const ExpertTable& table, const LaunchOptions& options);

// As mxmla::CombinedExperts, with the bits of its parts, for few pairs; without shared experts beside them.
bool HonoursCombinedExperts(const CombinedExpertsArgs& args, const ExpertTable& table);
void CombinedExperts(const CombinedExpertsArgs& args, const ExpertTable& table, const LaunchOptions& options);

}  // namespace mxmla::cuda
