// Head products over a part of a call's rows, for the kernels that are made of them.
#pragma once

#include "gpu/launch.h"
#include "ops/head_product.h"

namespace mxmla::gpu {

// Only rows between limits[0] and limits[last] are written; row_base is the number of the call's row 0.
struct RowLimits {
  const int32_t* limits = nullptr;
  int64_t last = 0;
  int64_t row_base = 0;
};

void RunQueryAbsorb(const QueryAbsorbArgs& args, Stream stream);
void RunValueProject(const ValueProjectArgs& args, const RowLimits& limits, Stream stream);

}  // namespace mxmla::gpu
