#pragma once

#include "ops/kernel_set.h"

namespace mxmla {

// Plain float32 loops over the same bytes: the truth for tests. Honours every stride of float views.
const KernelSet& RefKernels();

}  // namespace mxmla
