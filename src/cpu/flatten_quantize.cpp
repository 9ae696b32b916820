// Flatten and quantise in one pass. A group of the flat row may straddle heads.
#include <cstring>

#include "cpu/group_store.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

// Elements begin .. begin + count of the concatenation of row r's heads, contiguous.
template <class X>
const X* Gather(const View<const X, 3>& x, int64_t r, int64_t begin, int64_t count, X* buffer /* (128) */) {
  const int64_t n = x.shape[2];
  int64_t h = begin / n;
  int64_t k = begin % n;
  const X* row = x.data + r * x.stride[0];  // (heads, n)
  if (k + count <= n) return row + h * x.stride[1] + k;
  for (int64_t done = 0; done < count; ++h, k = 0) {
    const int64_t piece = std::min(n - k, count - done);
    std::memcpy(buffer + done, row + h * x.stride[1] + k, static_cast<size_t>(piece) * sizeof(X));
    done += piece;
  }
  return buffer;
}

void Run(const ExecContext& context, const FlattenQuantizeArgs& args) {
  std::visit(
      [&](const auto& x, const auto& out) {
        using X = std::remove_const_t<typename std::decay_t<decltype(x)>::Element>;
        const int64_t n = x.shape[1] * x.shape[2];
        const int64_t groups = (n + kGroup - 1) / kGroup;
        if (n == 0) return;
        RunRanges(context, x.shape[0] * groups, 64, [&](int64_t first, int64_t last, int) {
          for (int64_t i = first; i < last; ++i) {
            const int64_t r = i / groups;
            const int64_t begin = i % groups * kGroup;
            const int64_t count = std::min(kGroup, n - begin);
            X buffer[kGroup];
            alignas(64) float group[kGroup];
            LoadGroup(Gather<X>(x, r, begin, count, buffer), count, group);
            StoreGroup(group, begin, count, OutputRow(out, args.scale_mode, r));
          }
        });
      },
      args.x, args.out);
}

}  // namespace

KernelTable<FlattenQuantizeArgs> MakeFlattenQuantizeKernels() {
  return {
      {kKernelName, {{.operand = "x", .inner_stride_one = true}, {.operand = "out", .inner_stride_one = true}}, &Run}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
