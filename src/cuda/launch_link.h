// A launch as a link of a chain of programmatic dependent launches.
#pragma once

#include <cuda_runtime.h>

namespace mxmla::cuda {

// Launches `kernel` as `config` says, which has no attributes; with `programmatic` it may begin while the kernel before
// it in the stream still runs.
template <class Kernel, class... Args>
cudaError_t LaunchLink(Kernel* kernel, cudaLaunchConfig_t config, bool programmatic, const Args&... args) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &attribute;
  config.numAttrs = programmatic ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, args...);
}

}  // namespace mxmla::cuda
