// Vectorised, threaded kernels with bf16 activations, for several instruction sets.
#pragma once

#include "ops/kernel_set.h"

namespace mxmla {

// kAvx512 is F, BW, VL and DQ; kAvx512Vnni adds VNNI and VBMI (Ice Lake, Zen 4 and later), kAvx512Bf16 adds BF16 and
// VBMI (Zen 4, Sapphire Rapids and later), and kAmx adds AMX's tiles of bf16 to those, for prompts.
enum class CpuIsa { kPortable, kAvx2, kAvx512, kAvx512Vnni, kAvx512Bf16, kAmx };

// The best instruction set of this machine that this build has kernels for; the environment variable MXMLA_ISA
// (portable, avx2, avx512, avx512vnni, avx512bf16, amx) chooses another.
CpuIsa DetectCpuIsa();
bool CpuIsaAvailable(CpuIsa isa);
const KernelSet& CpuKernels(CpuIsa isa);

}  // namespace mxmla
