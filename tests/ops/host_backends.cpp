// The backends whose kernels run on the host.
#include <new>

#if defined(MXMLA_TEST_CPU)
#include "cpu/backend.h"
#endif
#include "harness.h"

namespace mxmla::test {

void* AllocateOperand(size_t bytes) { return ::operator new (bytes, std::align_val_t{64}); }
void FreeOperand(void* data) { ::operator delete (data, std::align_val_t{64}); }

std::vector<Backend> Backends() {
  std::vector<Backend> backends{RefBackend()};
#if defined(MXMLA_TEST_CPU)
  for (CpuIsa isa :
       {CpuIsa::kPortable, CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAvx512Vnni, CpuIsa::kAvx512Bf16, CpuIsa::kAmx}) {
    if (!CpuIsaAvailable(isa)) continue;
    const KernelSet& kernels = CpuKernels(isa);
    backends.push_back({std::string(kernels.backend) + "_" + std::string(kernels.isa), &kernels});
  }
#endif
  return backends;
}

}  // namespace mxmla::test
