// The HIP backend's kernels in the op tests, on the emulator's HIP library (MXMLA_HIP_LIB) or on a GPU. Operands lie in
// pinned host memory, whose addresses hold on both sides, each in an allocation of its own: what reaches beyond an
// operand is seen. Every kernel is waited for.
#include <cstdlib>
#include <new>

#include "harness.h"
#include "hip/backend.h"
#include "hip/library.h"
#include "waiting_kernels.h"

namespace mxmla::test {
namespace {

bool HasDevice() {
  static const bool has = hip::WhyUnusable(0).empty();
  return has;
}

void WaitForDevice(std::string_view kernel) {
  hip::Check(hip::Hip().stream_synchronize(nullptr), std::string(kernel), "kernels that run");
}

const KernelSet& HipKernels() {
  static const KernelSet kernels = Waiting<WaitForDevice>(hip::Kernels());
  return kernels;
}

}  // namespace

void* AllocateOperand(size_t bytes) {
  if (!HasDevice()) return ::operator new (bytes, std::align_val_t{64});
  void* data = nullptr;
  if (hip::Hip().host_malloc(&data, bytes, hipHostMallocDefault) != hipSuccess) throw std::bad_alloc();
  return data;
}
void FreeOperand(void* data) {
  if (!HasDevice()) return ::operator delete (data, std::align_val_t{64});
  static_cast<void>(hip::Hip().host_free(data));
}

std::vector<Backend> Backends() {
  return {{"hip", &HipKernels(), /*partial=*/true, HasDevice() ? "" : hip::WhyUnusable(0)}};
}

}  // namespace mxmla::test
