// Token embedding: a row of the table for each token.
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/product.h"

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

// A quantised row of n elements, decoded a stretch at a time.
template <class Weight, class Out>
void DecodeRow(const Weight& table, int64_t row, int64_t n, float scale, Out* to /* (n) */) {
  constexpr int64_t kBlocks = 16;
  alignas(64) float values[kBlocks * kBlock];
  for (int64_t first = 0; first < BlockCount(n); first += kBlocks) {
    const Stretch stretch = StretchAt(n, first, kBlocks);
    Pack(RowOf(table, row), stretch, values, kBlock);
    for (int64_t b = 0; b < stretch.padded_blocks(); ++b) {
      float* at = values + b * kBlock;
      const Block block{Load(at), Load(at + 16)};
      Store(at, FirstHalf(block));
      Store(at + 16, LastHalf(block));
    }
    CopyRow(values, stretch.blocks * kBlock + stretch.tail, scale, to + first * kBlock);
  }
}

template <class Weight, class T>
void EmbedRows(const ExecContext& context, const EmbeddingArgs& args, const Weight& table, const View<T, 2>& out) {
  const int64_t n = ColumnCount(args.table);
  if (n == 0) return;
  RunRanges(context, args.tokens.shape[0], 16384 / n + 1, [&](int64_t first, int64_t last, int) {
    for (int64_t r = first; r < last; ++r) {
      const int32_t token = args.tokens(r) < 0 ? args.previous(-1 - args.tokens(r)) : args.tokens(r);
      T* to = out.data + r * out.stride[0];
      if (token < 0) {
        std::fill(to, to + n, T{});
      } else if constexpr (requires { table.shape; }) {
        CopyRow(table.data + token * table.stride[0], n, args.scale, to);
      } else {
        DecodeRow(table, token, n, args.scale, to);
      }
    }
  });
}

void Run(const ExecContext& context, const EmbeddingArgs& args) {
  VisitWeight(args.table, [&](const auto& table) {
    std::visit([&](const auto& out) { EmbedRows(context, args, table, out); }, args.out);
  });
}

}  // namespace

KernelTable<EmbeddingArgs> MakeEmbeddingKernels() {
  return {{kKernelName,
           {{.operand = "table", .inner_stride_one = true}, {.operand = "out", .inner_stride_one = true}},
           &Run}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
