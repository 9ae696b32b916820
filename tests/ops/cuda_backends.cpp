// The CUDA backend's kernels, those for some shapes and those for all, in the op tests. Operands lie in pinned host
// memory, whose addresses hold on both sides, and every kernel is waited for.
#include <cuda_runtime_api.h>

#include <array>
#include <mutex>
#include <utility>

#include "cuda/backend.h"
#include "harness.h"
#include "waiting_kernels.h"

namespace mxmla::test {
namespace {

bool HasDevice() {
  static const bool has = [] {
    int devices = 0;
    return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
  }();
  return has;
}

// Blocks by powers of two, cut from chunks that are pinned once: pinning takes longer than most tests.
class Arena {
 public:
  void* Allocate(size_t bytes) {
    int log2 = kSmallest;
    while ((size_t{1} << log2) < bytes + kHeader) ++log2;
    const std::lock_guard lock(mutex_);
    std::vector<std::byte*>& free = free_[static_cast<size_t>(log2)];
    if (free.empty()) {
      const size_t size = size_t{1} << log2;
      std::byte* chunk = Pin(std::max(size, kChunk));
      for (size_t at = 0; at < std::max(size, kChunk); at += size) free.push_back(chunk + at);
    }
    std::byte* block = free.back();
    free.pop_back();
    std::memcpy(block, &log2, sizeof(log2));
    return block + kHeader;
  }
  void Free(void* data) {
    std::byte* block = static_cast<std::byte*>(data) - kHeader;
    int log2 = 0;
    std::memcpy(&log2, block, sizeof(log2));
    const std::lock_guard lock(mutex_);
    free_[static_cast<size_t>(log2)].push_back(block);
  }

 private:
  static std::byte* Pin(size_t bytes) {
    if (!HasDevice()) return static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kHeader}));
    void* data = nullptr;
    if (cudaHostAlloc(&data, bytes, cudaHostAllocMapped) != cudaSuccess) throw std::bad_alloc();
    return static_cast<std::byte*>(data);
  }

  static constexpr int kSmallest = 7;
  static constexpr size_t kHeader = 64;
  static constexpr size_t kChunk = size_t{1} << 22;
  std::mutex mutex_;
  std::array<std::vector<std::byte*>, 48> free_;  // by the logarithm of the size
};

Arena& Memories() {
  static auto* arena = new Arena;  // outlives every static vector
  return *arena;
}

void WaitForDevice(std::string_view kernel) {
  const cudaError_t status = cudaDeviceSynchronize();
  if (status != cudaSuccess) {
    Fail(ErrorCode::kDevice, std::string(kernel), "kernels that run", cudaGetErrorString(status));
  }
}

const KernelSet& GpuKernels() {
  static const KernelSet kernels = Waiting<WaitForDevice>(cuda::Kernels(false));
  return kernels;
}

}  // namespace

void* AllocateOperand(size_t bytes) { return Memories().Allocate(bytes); }
void FreeOperand(void* data) { Memories().Free(data); }

std::vector<Backend> Backends() {
  return {{"cuda", &GpuKernels(), /*partial=*/true, HasDevice() ? "" : "no CUDA device"}};
}

}  // namespace mxmla::test
