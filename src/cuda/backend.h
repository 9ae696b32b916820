// The CUDA backend: one Hopper GPU, its memory and one stream on which steps are replayed as graphs.
#pragma once

#include <memory>
#include <string>

#include "ops/backend.h"

namespace mxmla::cuda {

// Why device `index` cannot be used: no GPU or driver, too old a driver, another architecture than sm_90. Empty when it
// can.
std::string WhyUnusable(int index);

// Errors: kDevice with WhyUnusable's reason. `threads` are the host's, for loading weights; `batch_invariant` as below.
std::unique_ptr<Backend> OpenBackend(int index, int threads, bool batch_invariant);

// Made once in a process, of the kernels in src/gpu and src/cuda. Unless `batch_invariant`, the order of a row's sums
// also depends on whether it is among many: linear layers then multiply in another way, which is faster.
const KernelSet& Kernels(bool batch_invariant);

}  // namespace mxmla::cuda
