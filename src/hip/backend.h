// The HIP backend: one AMD gfx950 GPU, its memory and one stream.
#pragma once

#include <memory>
#include <string>

#include "ops/backend.h"

namespace mxmla::hip {

// Why device `index` cannot be used: no HIP library, no GPU. Empty when it can.
std::string WhyUnusable(int index);

// Errors: kDevice with WhyUnusable's reason. `threads` are the host's, for loading weights.
std::unique_ptr<Backend> OpenBackend(int index, int threads);

// Made once in a process, of the kernels in src/gpu and src/hip.
const KernelSet& Kernels();

}  // namespace mxmla::hip
