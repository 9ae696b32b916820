// Quantisation of activations, each (row, head) vector by itself.
#include "cpu/group_store.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

void Run(const ExecContext& context, const QuantizeArgs& args) {
  std::visit(
      [&](const auto& x, const auto& out) {
        const int64_t heads = x.shape[1];
        const int64_t n = x.shape[2];
        if (n == 0) return;
        RunRanges(context, x.shape[0] * heads, 8192 / n + 1, [&](int64_t first, int64_t last, int) {
          for (int64_t i = first; i < last; ++i) {
            const int64_t r = i / heads;
            const int64_t h = i % heads;
            const auto* from = x.data + r * x.stride[0] + h * x.stride[1];  // (n)
            const auto row = OutputRow(out, args.scale_mode, r, h);
            for (int64_t begin = 0; begin < n; begin += kGroup) {
              const int64_t count = std::min(kGroup, n - begin);
              alignas(64) float group[kGroup];
              LoadGroup(from + begin, count, group);
              StoreGroup(group, begin, count, row);
            }
          }
        });
      },
      args.x, args.out);
}

}  // namespace

KernelTable<QuantizeArgs> MakeQuantizeKernels() {
  return {
      {kKernelName, {{.operand = "x", .inner_stride_one = true}, {.operand = "out", .inner_stride_one = true}}, &Run}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
