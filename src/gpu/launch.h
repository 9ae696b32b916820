// What launching the kernels of products takes beside platform.h.
#pragma once

#include <cuda_runtime.h>

#include <string>
#include <string_view>

#include "gpu/platform.h"

namespace mxmla::gpu {

inline Stream StreamOf(const ExecContext& context) { return static_cast<Stream>(context.stream); }

// After a launch.
inline void CheckLaunch(std::string_view kernel) {
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) Fail(ErrorCode::kDevice, std::string(kernel), "a launch", cudaGetErrorString(status));
}

}  // namespace mxmla::gpu
