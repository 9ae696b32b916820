// The rate at which a kernel reads the device's memory.
#pragma once

#include <cuda_runtime_api.h>

namespace mxmla::cuda {

// Bytes a second, the best of eight readings of memory that the L2 cannot hold.
double ReadBandwidth(cudaStream_t stream);

}  // namespace mxmla::cuda
