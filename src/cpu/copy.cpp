// Copies between views of any strides.
#include <cstring>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "ops/kernel_set.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

template <class T>
void CopyRows(const ExecContext& context, const View<const T, 3>& x, const View<T, 3>& out) {
  const int64_t heads = x.shape[1];
  const int64_t n = x.shape[2];
  if (heads == 0 || n == 0) return;
  const bool contiguous = (x.stride[2] == 1 && out.stride[2] == 1) || n == 1;
  RunRanges(context, x.shape[0] * heads, 32768 / n + 1, [&](int64_t first, int64_t last, int) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t r = i / heads;
      const int64_t h = i % heads;
      const T* from = x.data + r * x.stride[0] + h * x.stride[1];  // (n)
      T* to = out.data + r * out.stride[0] + h * out.stride[1];    // (n)
      if (contiguous) {
        std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
      } else {
        for (int64_t k = 0; k < n; ++k) to[k * out.stride[2]] = from[k * x.stride[2]];
      }
    }
  });
}

void Run(const ExecContext& context, const CopyArgs& args) {
  std::visit(
      [&](const auto& x, const auto& out) {
        using X = std::remove_const_t<typename std::decay_t<decltype(x)>::Element>;
        using Out = typename std::decay_t<decltype(out)>::Element;
        if constexpr (std::is_same_v<X, Out>) {
          CopyRows<X>(context, x, out);
        } else {
          Fail(ErrorCode::kLayout, "copy: out", DTypeName(DTypeOf<X>::value), DTypeName(DTypeOf<Out>::value),
               "a copy keeps the element type");
        }
      },
      args.x, args.out);
}

}  // namespace

KernelTable<CopyArgs> MakeCopyKernels() { return {{kKernelName, {}, &Run}}; }

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
