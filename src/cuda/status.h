// What calls of the CUDA runtime answer, as errors of one line.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "core/error.h"

namespace mxmla::cuda {

inline void Check(cudaError_t status, std::string_view what, std::string_view expected) {
  if (status != cudaSuccess) Fail(ErrorCode::kDevice, what, expected, cudaGetErrorString(status));
}

}  // namespace mxmla::cuda
