// Steps as HIP graphs.
#pragma once

#include <hip/hip_api.h>

#include <memory>

#include "ops/backend.h"

namespace mxmla::hip {

std::unique_ptr<Recorder> MakeGraphRecorder(hipStream_t stream);

}  // namespace mxmla::hip
