// A residual add, an RMSNorm and the linear layer behind them in one launch, for few rows.
#pragma once

#include "ops/kernel_set.h"

namespace mxmla::hip {

// As mxmla::NormLinear, with the bits of its parts. At most 4 rows of at most 16384 columns, none of a prompt, normed
// to bf16, FP8 groups or MXFP4 for the product alone; norm.x and norm.residual float32, or norm.x bf16 alone;
// residual_out where there is a residual.
bool HonoursNormLinear(const NormLinearArgs& args);
void NormLinear(const ExecContext& context, const NormLinearArgs& args);

}  // namespace mxmla::hip
