// The CUDA backend's kernels, those for some shapes and those for all, in the op tests. Operands lie in pinned host
// memory, whose addresses hold on both sides, and every kernel is waited for.
#include <cuda_runtime_api.h>

#include <array>
#include <mutex>
#include <utility>

#include "cuda/backend.h"
#include "harness.h"

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

// The kernels of Args' op as they were, and as they are run: followed by a wait.
template <class Args>
KernelTable<Args> originals;

template <class Args, size_t kIndex>
void RunAndWait(const ExecContext& context, const Args& args) {
  originals<Args>[kIndex].run(context, args);
  const cudaError_t status = cudaDeviceSynchronize();
  if (status != cudaSuccess) {
    Fail(ErrorCode::kDevice, originals<Args>[kIndex].name, "kernels that run", cudaGetErrorString(status));
  }
}

template <class Args, size_t... kIndex>
void MakeWait(KernelTable<Args>* table, std::index_sequence<kIndex...>) {
  constexpr typename Kernel<Args>::Run kRuns[] = {RunAndWait<Args, kIndex>...};
  originals<Args> = *table;
  for (size_t i = 0; i < table->size(); ++i) {
    if (i == std::size(kRuns)) Fail(ErrorCode::kInternal, "kernels of one op", std::to_string(i), "more");
    (*table)[i].run = kRuns[i];
  }
}

template <class... Tables>
void MakeAllWait(Tables&... tables) {
  constexpr auto kMostKernels = std::make_index_sequence<8>{};
  (MakeWait(&tables, kMostKernels), ...);
}

const KernelSet& GpuKernels() {
  static const KernelSet kernels = [] {
    KernelSet set = cuda::Kernels(false);
    MakeAllWait(set.rms_norm, set.linear, set.grouped_linear, set.query_absorb, set.value_project, set.quantize,
                set.flatten_quantize, set.copy, set.rope, set.rope_angles, set.decode_attention, set.prefill_attention,
                set.router, set.group_experts, set.silu_mul, set.combine_experts, set.embedding, set.sample,
                set.norm_linear, set.latent_query, set.norm_router, set.gated_experts, set.combined_experts);
    return set;
  }();
  return kernels;
}

}  // namespace

void* AllocateOperand(size_t bytes) { return Memories().Allocate(bytes); }
void FreeOperand(void* data) { Memories().Free(data); }

std::vector<Backend> Backends() {
  return {{"cuda", &GpuKernels(), /*partial=*/true, HasDevice() ? "" : "no CUDA device"}};
}

}  // namespace mxmla::test
