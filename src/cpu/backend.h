// Vectorised, threaded kernels with bf16 activations, for several instruction sets.
#pragma once

#include "ops/kernel_set.h"

namespace mxmla {

enum class CpuIsa { kPortable, kAvx2, kAvx512 };

// The best instruction set of this machine that this build has kernels for; the environment variable MXMLA_ISA
// (portable, avx2, avx512) chooses a lesser one.
CpuIsa DetectCpuIsa();
bool CpuIsaAvailable(CpuIsa isa);
const KernelSet& CpuKernels(CpuIsa isa);

}  // namespace mxmla
