// What launching the kernels of products takes beside platform.h.
#pragma once

#if !defined(__HIP__)
#include <cuda_runtime.h>
#endif

#include <string>
#include <string_view>

#include "gpu/platform.h"

namespace mxmla::gpu {

inline Stream StreamOf(const ExecContext& context) { return static_cast<Stream>(context.stream); }

#if defined(__HIP__)
// After a launch.
inline void CheckLaunch(std::string_view kernel) {
  const hipError_t status = hipGetLastError();
  if (status != hipSuccess) Fail(ErrorCode::kDevice, std::string(kernel), "a launch", hipGetErrorString(status));
}
#else
// After a launch.
inline void CheckLaunch(std::string_view kernel) {
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) Fail(ErrorCode::kDevice, std::string(kernel), "a launch", cudaGetErrorString(status));
}
#endif

}  // namespace mxmla::gpu
