// Linear layers on the matrix units: BF16 or MXFP4 activations by MXFP4 weights, BF16 by BF16, and BF16 or FP8 groups
// by FP8 blocks. MXFP4 x MXFP4 multiplies as it lies in memory; BF16 x MXFP4 decodes weights to bf16, which is exact,
// and quantises nothing. Rows of prompts (LinearArgs::prompt_begin) in MXFP4 x MXFP4 are multiplied 32 by 32 features,
// the others 16 by 16, which sums in another order.
#pragma once

#include "ops/kernel_set.h"

namespace mxmla::hip {

bool HonoursLinear(const LinearArgs& args);
void Linear(const ExecContext& context, const LinearArgs& args);

}  // namespace mxmla::hip
