// The CUDA backend: one Hopper GPU, its memory and one stream on which steps are replayed as graphs.
#pragma once

#include <memory>
#include <string>

#include "ops/backend.h"

namespace mxmla::cuda {

// Why device `index` cannot be used: no GPU or driver, too old a driver, another architecture than sm_90. Empty when it
// can.
std::string WhyUnusable(int index);

// Errors: kDevice with WhyUnusable's reason. `threads` are the host's, for loading weights.
std::unique_ptr<Backend> OpenBackend(int index, int threads);

// Made once in a process, of the kernels in src/gpu and src/cuda.
const KernelSet& Kernels();

}  // namespace mxmla::cuda
