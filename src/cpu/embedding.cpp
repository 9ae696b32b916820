// Token embedding: a row of the table for each token.
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

template <class T, class Out>
void CopyRow(const T* from /* (n) */, int64_t n, float scale, Out* to /* (n) */) {
  if constexpr (std::is_same_v<T, Out>) {
    if (scale == 1.0f) {
      std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
      return;
    }
  }
  int64_t k = 0;
  for (; k + 16 <= n; k += 16) Store(to + k, Load(from + k) * Splat(scale));
  if (k < n) StorePartial(to + k, LoadPartial(from + k, n - k) * Splat(scale), n - k);
}

void Run(const ExecContext& context, const EmbeddingArgs& args) {
  std::visit(
      [&](const auto& table, const auto& out) {
        if constexpr (requires { table.shape; }) {
          const int64_t n = table.shape[1];
          if (n == 0) return;
          RunRanges(context, args.tokens.shape[0], 16384 / n + 1, [&](int64_t first, int64_t last, int) {
            for (int64_t r = first; r < last; ++r) {
              const int32_t token = args.tokens(r) < 0 ? args.previous(-1 - args.tokens(r)) : args.tokens(r);
              auto* to = out.data + r * out.stride[0];
              if (token >= 0) {
                CopyRow(table.data + token * table.stride[0], n, args.scale, to);
              } else {
                std::fill(to, to + n, typename std::decay_t<decltype(out)>::Element{});
              }
            }
          });
        } else {
          Fail(ErrorCode::kLayout, "embedding: table", "f32 or bf16", FormatName(args.table));
        }
      },
      args.table, args.out);
}

}  // namespace

KernelTable<EmbeddingArgs> MakeEmbeddingKernels() {
  return {{kKernelName,
           {{.operand = "table", .inner_stride_one = true, .dtypes = DTypeBit(DType::kF32) | DTypeBit(DType::kBf16)},
            {.operand = "out", .inner_stride_one = true}},
           &Run}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
