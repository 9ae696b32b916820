// The HIP backend's kernels in the op tests, on the emulator's HIP library (MXMLA_HIP_LIB) or on a GPU. Operands lie in
// pinned host memory, whose addresses hold on both sides, each in an allocation of its own: what reaches beyond an
// operand is seen. Every kernel is waited for.
#include <array>
#include <cstdlib>
#include <new>
#include <utility>

#include "harness.h"
#include "hip/backend.h"
#include "hip/library.h"

namespace mxmla::test {
namespace {

bool HasDevice() {
  static const bool has = hip::WhyUnusable(0).empty();
  return has;
}

// The kernels of Args' op as they were, and as they are run: followed by a wait.
template <class Args>
KernelTable<Args> originals;

template <class Args, size_t kIndex>
void RunAndWait(const ExecContext& context, const Args& args) {
  originals<Args>[kIndex].run(context, args);
  hip::Check(hip::Hip().stream_synchronize(nullptr), originals<Args>[kIndex].name, "kernels that run");
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

const KernelSet& HipKernels() {
  static const KernelSet kernels = [] {
    KernelSet set = hip::Kernels();
    MakeAllWait(set.rms_norm, set.linear, set.grouped_linear, set.query_absorb, set.value_project, set.quantize,
                set.flatten_quantize, set.copy, set.rope, set.rope_angles, set.decode_attention, set.prefill_attention,
                set.router, set.group_experts, set.silu_mul, set.combine_experts, set.embedding, set.sample);
    return set;
  }();
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
