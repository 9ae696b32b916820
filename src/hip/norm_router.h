// A mixture's input, normed for the router and quantised for the experts, in two launches.
#pragma once

#include "ops/kernel_set.h"

namespace mxmla::hip {

// As mxmla::NormRouter, with the bits of its parts, where the norm writes quantised rows beside those that
// gpu::NormRouter takes.
bool HonoursQuantizedNormRouter(const NormRouterArgs& args);
void QuantizedNormRouter(const ExecContext& context, const NormRouterArgs& args);

}  // namespace mxmla::hip
