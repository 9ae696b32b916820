// Which instruction sets this build and this machine have, and the kernels of each.
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

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
// Products alone.
namespace avx512vnni {
void ReplaceProducts(KernelSet* set);
}
namespace avx512bf16 {
void ReplaceProducts(KernelSet* set);
}
namespace amx {
void ReplaceProducts(KernelSet* set);
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
    case CpuIsa::kAvx512Vnni:
      return "avx512vnni";
    case CpuIsa::kAvx512Bf16:
      return "avx512bf16";
    case CpuIsa::kAmx:
      return "amx";
  }
  return "?";
}

// On a core of AMD's `vdpbf16ps` is as fast as `vpdpbusd`, and MXFP4 weights take 4 of the one or 6 of the other; on
// Intel's it takes almost twice the time (docs/performance.md).
std::vector<CpuIsa> BestFirst() {
  std::vector<CpuIsa> order = {CpuIsa::kAmx,    CpuIsa::kAvx512Vnni, CpuIsa::kAvx512Bf16,
                               CpuIsa::kAvx512, CpuIsa::kAvx2,       CpuIsa::kPortable};
#if defined(MXMLA_CPU_X86)
  if (__builtin_cpu_is("amd")) std::swap(order[1], order[2]);
#endif
  return order;
}

std::string AvailableNames() {
  std::string names;
  for (const CpuIsa isa : BestFirst()) {
    if (!CpuIsaAvailable(isa)) continue;
    if (!names.empty()) names += ", ";
    names += IsaName(isa);
  }
  return names;
}

#if defined(MXMLA_CPU_X86)
// The kernel saves the tiles' large state only for processes that asked for it.
bool TilesPermitted() {
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;
  static const bool permitted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return permitted;
}
#endif

}  // namespace

bool CpuIsaAvailable(CpuIsa isa) {
  if (isa == CpuIsa::kPortable) return true;
#if defined(MXMLA_CPU_X86)
  // These ask the operating system too: whether it saves the wide registers.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == CpuIsa::kAvx2) return avx2;
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (isa == CpuIsa::kAvx512) return avx512;
  const bool vbmi = avx512 && __builtin_cpu_supports("avx512vbmi");
  const bool vnni = vbmi && __builtin_cpu_supports("avx512vnni");
  if (isa == CpuIsa::kAvx512Vnni) return vnni;
  const bool bf16 = vbmi && __builtin_cpu_supports("avx512bf16");
  if (isa == CpuIsa::kAvx512Bf16) return bf16;
  return bf16 && vnni && __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") && TilesPermitted();
#else
  return false;
#endif
}

CpuIsa DetectCpuIsa() {
  const char* chosen = std::getenv("MXMLA_ISA");
  if (chosen != nullptr && *chosen != '\0') {
    for (const CpuIsa isa : BestFirst()) {
      if (chosen == IsaName(isa) && CpuIsaAvailable(isa)) return isa;
    }
    Fail(ErrorCode::kUsage, "environment variable MXMLA_ISA", "one of this machine's: " + AvailableNames(), chosen,
         "unset it to let mxmla choose");
  }
  for (const CpuIsa isa : BestFirst()) {
    if (CpuIsaAvailable(isa)) return isa;
  }
  return CpuIsa::kPortable;
}

const KernelSet& CpuKernels(CpuIsa isa) {
  if (!CpuIsaAvailable(isa)) {
    Fail(ErrorCode::kUsage, "CPU instruction set", "one of this machine's: " + AvailableNames(), IsaName(isa));
  }
#if defined(MXMLA_CPU_X86)
  const auto with_products = [](void (*replace)(KernelSet*)) {
    KernelSet kernels = cpu::avx512::MakeKernelSet();
    replace(&kernels);
    return kernels;
  };
  if (isa == CpuIsa::kAmx) {
    static const KernelSet set = with_products(&cpu::amx::ReplaceProducts);
    return set;
  }
  if (isa == CpuIsa::kAvx512Bf16) {
    static const KernelSet set = with_products(&cpu::avx512bf16::ReplaceProducts);
    return set;
  }
  if (isa == CpuIsa::kAvx512Vnni) {
    static const KernelSet set = with_products(&cpu::avx512vnni::ReplaceProducts);
    return set;
  }
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
