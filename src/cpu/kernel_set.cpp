// Which instruction sets this build and this machine have, and the kernels of each.
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "cpu/backend.h"

namespace mxmla {

namespace cpu {
namespace portable {
KernelSet MakeKernelSet();
}
#if defined(MXMLA_CPU_X86)
namespace avx2 {
KernelSet MakeKernelSet();
}
namespace avx512 {
KernelSet MakeKernelSet();
}
#endif
}  // namespace cpu

namespace {

std::string_view IsaName(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kPortable:
      return "portable";
    case CpuIsa::kAvx2:
      return "avx2";
    case CpuIsa::kAvx512:
      return "avx512";
  }
  return "?";
}

constexpr CpuIsa kBestFirst[] = {CpuIsa::kAvx512, CpuIsa::kAvx2, CpuIsa::kPortable};

std::string AvailableNames() {
  std::string names;
  for (const CpuIsa isa : kBestFirst) {
    if (!CpuIsaAvailable(isa)) continue;
    if (!names.empty()) names += ", ";
    names += IsaName(isa);
  }
  return names;
}

}  // namespace

bool CpuIsaAvailable(CpuIsa isa) {
  if (isa == CpuIsa::kPortable) return true;
#if defined(MXMLA_CPU_X86)
  // These ask the operating system too: whether it saves the wide registers.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == CpuIsa::kAvx2) return avx2;
  return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#else
  return false;
#endif
}

CpuIsa DetectCpuIsa() {
  const char* chosen = std::getenv("MXMLA_ISA");
  if (chosen != nullptr && *chosen != '\0') {
    for (const CpuIsa isa : kBestFirst) {
      if (chosen == IsaName(isa) && CpuIsaAvailable(isa)) return isa;
    }
    Fail(ErrorCode::kUsage, "environment variable MXMLA_ISA", "one of this machine's: " + AvailableNames(), chosen,
         "unset it to let mxmla choose");
  }
  for (const CpuIsa isa : kBestFirst) {
    if (CpuIsaAvailable(isa)) return isa;
  }
  return CpuIsa::kPortable;
}

const KernelSet& CpuKernels(CpuIsa isa) {
  if (!CpuIsaAvailable(isa)) {
    Fail(ErrorCode::kUsage, "CPU instruction set", "one of this machine's: " + AvailableNames(), IsaName(isa));
  }
#if defined(MXMLA_CPU_X86)
  if (isa == CpuIsa::kAvx512) {
    static const KernelSet set = cpu::avx512::MakeKernelSet();
    return set;
  }
  if (isa == CpuIsa::kAvx2) {
    static const KernelSet set = cpu::avx2::MakeKernelSet();
    return set;
  }
#endif
  static const KernelSet set = cpu::portable::MakeKernelSet();
  return set;
}

}  // namespace mxmla
