// How a kernel of this backend is launched.
#pragma once

#include <cuda_runtime_api.h>

namespace mxmla::cuda {

struct LaunchOptions {
  cudaStream_t stream = nullptr;
  // Launches as a link of a chain of programmatic dependent launches: the weights are read while the kernel before it
  // in the stream still runs. That kernel must not write them.
  bool programmatic = false;
  // Device memory, 16-byte aligned, of as many bytes as the op's function says.
  void* workspace = nullptr;
};

}  // namespace mxmla::cuda
