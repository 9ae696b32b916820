// cuBLAS, found when it is asked for: the program runs where it is not installed.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "ops/vendor_products.h"

namespace mxmla::cuda {

// Products on `stream`. Null where there is no library of this toolkit's version; `why` then says what was missing.
std::unique_ptr<VendorProducts> OpenCublas(cudaStream_t stream, std::string* why);

}  // namespace mxmla::cuda
