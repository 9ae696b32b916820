// silu(gate) * up, 128 elements at a time.
#include "cpu/group_store.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd_math.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

template <class Gate, class Up>
void SiluMulGroup(const Gate* gate /* (count) */, const Up* up /* (count) */, int64_t count, float* group /* (128) */) {
  alignas(64) float factor[kGroup];
  LoadGroup(gate, count, group);
  LoadGroup(up, count, factor);
  for (int64_t i = 0; i < kGroup; i += 16) Store(group + i, Silu(Load(group + i)) * Load(factor + i));
}

void Run(const ExecContext& context, const SiluMulArgs& args) {
  std::visit(
      [&](const auto& gate, const auto& up, const auto& out) {
        const int64_t n = gate.shape[1];
        const int64_t groups = (n + kGroup - 1) / kGroup;
        if (n == 0) return;
        RunRanges(context, gate.shape[0] * groups, 32, [&](int64_t first, int64_t last, int) {
          for (int64_t i = first; i < last; ++i) {
            const int64_t r = i / groups;
            const int64_t begin = i % groups * kGroup;
            const int64_t count = std::min(kGroup, n - begin);
            alignas(64) float group[kGroup];
            SiluMulGroup(gate.data + r * gate.stride[0] + begin, up.data + r * up.stride[0] + begin, count, group);
            const auto row = OutputRow(out, args.scale_mode, r);
            if constexpr (!kIsPlain<std::decay_t<decltype(row)>>) RoundGroup(group);
            StoreGroup(group, begin, count, row);
          }
        });
      },
      args.gate, args.up, args.out);
}

}  // namespace

KernelTable<SiluMulArgs> MakeSiluMulKernels() {
  return {{kKernelName,
           {{.operand = "gate", .inner_stride_one = true},
            {.operand = "up", .inner_stride_one = true},
            {.operand = "out", .inner_stride_one = true}},
           &Run}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
