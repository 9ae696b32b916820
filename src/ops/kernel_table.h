// The table of kernels: for each op, a backend's kernels with the layouts each honours. A call picks the first kernel
// whose requirements the offered views meet; when none does, the error prints what is required against what is offered.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "core/kv_format.h"
#include "ops/context.h"

namespace mxmla {

// One plane of one operand, as offered.
struct Operand {
  std::string_view name;
  DType dtype = DType::kF32;
  int rank = 0;
  std::array<int64_t, 4> shape{};
  std::array<int64_t, 4> stride{};
  const void* data = nullptr;
  bool free_strides = false;  // FP8 scales: their format leaves every stride free, whatever the kernel asks of values
};

// The operands of one call; a fixed capacity, because a call must not allocate.
class OperandList {
 public:
  template <class T, int Rank>
  void Add(std::string_view name, const View<T, Rank>& view, bool free_strides = false) {
    static_assert(Rank <= 4);
    Operand operand{name, DTypeOf<std::remove_const_t<T>>::value, Rank, {}, {}, view.data, free_strides};
    for (int d = 0; d < Rank; ++d) {
      operand.shape[d] = view.shape[d];
      operand.stride[d] = view.stride[d];
    }
    Push(operand);
  }
  template <class V, int Rank>
  void Add(std::string_view name, const Mxfp4<V, Rank>& scaled) {
    Add(name, scaled.values);
    Add(name, scaled.scales);
  }
  template <class V, int Rank>
  void Add(std::string_view name, const Fp8Group<V, Rank>& scaled) {
    Add(name, scaled.values);
    Add(name, scaled.scales, /*free_strides=*/true);
  }
  template <class V, int Rank>
  void Add(std::string_view name, const Fp8Kv<V, Rank>& kv) {
    Add(name, kv.latent);
    Add(name, kv.key);
  }
  void Add(std::string_view name, const Fp8Block& scaled) {
    Add(name, scaled.values);
    Add(name, scaled.scales, /*free_strides=*/true);
  }
  void Add(std::string_view name, const Mxfp8& scaled) {
    Add(name, scaled.values);
    Add(name, scaled.scales);
  }
  void Add(std::string_view name, const Int4Group& scaled) {
    Add(name, scaled.values);
    Add(name, scaled.scales);
  }
  void Add(std::string_view name, const Nvfp4& scaled) {
    Add(name, scaled.values);
    Add(name, scaled.scales);
  }
  template <class Block>
  void Add(std::string_view name, const GgmlMatrix<Block>& blocks) {
    Add(name, blocks.values);
  }
  void Add(std::string_view name, const HeadWeight& weight) { Add(name, weight.tensor); }
  template <class... Alternatives>
  void Add(std::string_view name, const std::variant<Alternatives...>& any) {
    std::visit([&](const auto& view) { Add(name, view); }, any);
  }

  const Operand* begin() const { return operands_.data(); }
  const Operand* end() const { return operands_.data() + count_; }

 private:
  void Push(const Operand& operand);

  static constexpr int kCapacity = 32;
  std::array<Operand, kCapacity> operands_;
  int count_ = 0;
};

// What a kernel asks of every plane of the operand of that name (an absent operand meets any requirement; a dimension
// of extent 0 or 1 may have any stride, and so may every dimension of FP8 scales).
struct Requirement {
  std::string_view operand;
  bool inner_stride_one = false;  // the last dimension is contiguous
  int64_t alignment = 1;          // bytes; of the first element and of every stride but the last
  uint32_t dtypes = ~0u;          // a bit for each DType that the kernel takes: DTypeBit(...) | ...
};

constexpr uint32_t DTypeBit(DType dtype) { return 1u << static_cast<int>(dtype); }

// What else a kernel asks of a call's extents and options, for kernels made for some sizes: a head size, a page size, a
// bound on the rows. It reads no element of any view: those may lie on a device.
template <class Args>
struct Condition {
  std::string_view says;  // "at most 4 rows"
  bool (*holds)(const Args&) = nullptr;
};

template <class Args>
struct Kernel {
  using Run = void (*)(const ExecContext&, const Args&);
  using WorkspaceOf = WorkspaceSize (*)(const Args&, int workers);

  // NOLINTNEXTLINE(google-explicit-constructor): tables are lists of these
  Kernel(std::string_view kernel_name, std::vector<Requirement> layouts, Run function, WorkspaceOf asks = nullptr,
         std::vector<Condition<Args>> only_if = std::vector<Condition<Args>>())
      : name(kernel_name),
        requirements(std::move(layouts)),
        run(function),
        workspace(asks),
        conditions(std::move(only_if)) {}

  std::string_view name;  // backend and variant: "ref", "cpu/avx512"
  std::vector<Requirement> requirements;
  Run run;
  WorkspaceOf workspace;  // enough for calls with these extents and for any with smaller ones; null: none
  std::vector<Condition<Args>> conditions;
};

namespace internal {
bool Meets(const std::vector<Requirement>& requirements, const OperandList& operands);
// Appends one line of "kernel requires ..." to `report`.
void Explain(std::string_view kernel, const std::vector<Requirement>& requirements, const OperandList& operands,
             std::string* report);
void ExplainCondition(std::string_view says, std::string* report);
[[noreturn]] void FailLayout(std::string_view op, const std::string& required, const OperandList& operands);
}  // namespace internal

template <class Args>
using KernelTable = std::vector<Kernel<Args>>;

template <class Args>
bool Holds(const Kernel<Args>& kernel, const Args& args) {
  for (const Condition<Args>& condition : kernel.conditions) {
    if (!condition.holds(args)) return false;
  }
  return true;
}

// Runs the first kernel of `table` that honours the operands and whose conditions hold, timed under the op's name.
template <class Args>
void Dispatch(const ExecContext& context, const KernelTable<Args>& table, std::string_view op, const Args& args,
              const OperandList& operands, int64_t bytes) {
  if (context.counted) {
    *context.counted += bytes;
    return;
  }
  bool planned = false;
  for (const Kernel<Args>& kernel : table) {
    if (!internal::Meets(kernel.requirements, operands)) continue;
    if (context.planned) {
      // Another kernel of the op may take the calls with smaller extents.
      if (kernel.workspace) context.planned->Include(kernel.workspace(args, context.pool->threads()));
      planned = planned || Holds(kernel, args);
      continue;
    }
    if (!Holds(kernel, args)) continue;
    const Profiler::Scope scope(context.profiler, op, bytes);
    kernel.run(context, args);
    return;
  }
  if (planned) return;
  std::string required;
  for (const Kernel<Args>& kernel : table) {
    internal::Explain(kernel.name, kernel.requirements, operands, &required);
    for (const Condition<Args>& condition : kernel.conditions) {
      if (!condition.holds(args)) internal::ExplainCondition(condition.says, &required);
    }
  }
  internal::FailLayout(op, required, operands);
}

// Throws an Error (kLayout) naming the op and the operand when `found` is not `expected`.
void CheckExtent(std::string_view op, std::string_view what, int64_t expected, int64_t found);

}  // namespace mxmla
