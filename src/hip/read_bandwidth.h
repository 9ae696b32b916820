// The rate at which a kernel reads the device's memory.
#pragma once

#include <hip/hip_api.h>

namespace mxmla::hip {

// Bytes a second, the best of three readings of memory that the caches cannot hold.
double ReadBandwidth(hipStream_t stream);

}  // namespace mxmla::hip
