// Steps as CUDA graphs.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "ops/backend.h"

namespace mxmla::cuda {

std::unique_ptr<Recorder> MakeGraphRecorder(cudaStream_t stream);

}  // namespace mxmla::cuda
