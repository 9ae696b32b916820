// The indexer's keys: a layer norm, a rotation and a store, a row of a hundred or so elements at a time.
#include <cmath>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

// `normed` holds the row in float32.
template <class X, class Out>
void Row(const IndexKeyArgs& args, const View<const X, 2>& x, const View<Out, 2>& out, int64_t r, float* normed) {
  const int64_t n = x.shape[1];
  const X* from = x.data + r * x.stride[0];  // (n)
  F32x16 sum = Zero();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const F32x16 v = Load(from + i);
    Store(normed + i, v);
    sum = sum + v;
  }
  float rest = 0;
  for (; i < n; ++i) rest += normed[i] = mxmla::ToFloat(from[i]);
  const float mean = (ReduceAdd(sum) + rest) / static_cast<float>(n);
  F32x16 squares = Zero();
  for (i = 0; i + 16 <= n; i += 16) {
    const F32x16 v = Load(normed + i) - Splat(mean);
    Store(normed + i, v);
    squares = Fma(v, v, squares);
  }
  rest = 0;
  for (; i < n; ++i) {
    normed[i] -= mean;
    rest += normed[i] * normed[i];
  }
  const float factor = 1.0f / std::sqrt((ReduceAdd(squares) + rest) / static_cast<float>(n) + args.eps);
  for (i = 0; i < n; ++i) normed[i] = args.weight(i) * (normed[i] * factor) + args.bias(i);

  const int64_t half = args.cos.shape[1];
  for (i = 0; i < half; ++i) {
    float& a = normed[args.interleaved ? 2 * i : i];
    float& b = normed[args.interleaved ? 2 * i + 1 : i + half];
    const float cosine = args.cos(r, i), sine = args.sin(r, i);
    const float turned = a * cosine - b * sine;
    b = b * cosine + a * sine;
    a = turned;
  }
  Out* to = out.data + args.out_index(r) * out.stride[0];  // (n)
  for (i = 0; i + 16 <= n; i += 16) Store(to + i, Load(normed + i));
  for (; i < n; ++i) to[i] = FromFloat<Out>(normed[i]);
}

void Run(const ExecContext& context, const IndexKeyArgs& args) {
  std::visit(
      [&](const auto& x, const auto& out) {
        const int64_t n = x.shape[1];
        RunRanges(context, x.shape[0], 8192 / n + 1, [&](int64_t first, int64_t last, int worker) {
          auto* normed = context.Scratch<float>(worker, 0, static_cast<size_t>(n));
          for (int64_t r = first; r < last; ++r) Row(args, x, out, r, normed);
        });
      },
      args.x, args.out);
}

WorkspaceSize WorkspaceFor(const IndexKeyArgs& args, int) {
  return {0, static_cast<size_t>(Extent(args.x, 1)) * sizeof(float)};
}

}  // namespace

KernelTable<IndexKeyArgs> MakeIndexKeyKernels() {
  return {{kKernelName,
           {{.operand = "x", .inner_stride_one = true}, {.operand = "out", .inner_stride_one = true}},
           &Run,
           &WorkspaceFor}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
