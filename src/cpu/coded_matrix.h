// Weights of the formats that have no row of their own in cpu/blocks.h: a stretch of a row is decoded to memory by a
// function of its format before it is multiplied, so that products are compiled for all of these once.
#pragma once

#include "cpu/blocks.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

// Blocks of `stretch` of one row, block i at `to + i * step`: its even, then its odd elements.
using DecodeStretch = void (*)(const void* weight, int64_t row, const Stretch& stretch, float* to, int64_t step);

// A matrix (n, k) that lives at `weight`.
struct CodedMatrix {
  const void* weight = nullptr;
  DecodeStretch decode = nullptr;
};
struct CodedRow {
  CodedMatrix matrix;
  int64_t row = 0;
};

CodedMatrix Coded(const View<const f16, 2>& weight);
CodedMatrix Coded(const Mxfp8& weight);
CodedMatrix Coded(const Nvfp4& weight);
CodedMatrix Coded(const GgmlMatrix<q8_0>& weight);
CodedMatrix Coded(const GgmlMatrix<q4_k>& weight);
CodedMatrix Coded(const GgmlMatrix<q6_k>& weight);
CodedMatrix Coded(const GgmlMatrix<ggml_mxfp4>& weight);

template <class Weight>
inline constexpr bool kIsCoded = requires(const Weight& weight) {
  Coded(weight);
};

MXMLA_INLINE CodedRow RowOf(const CodedMatrix& matrix, int64_t row) { return {matrix, row}; }
template <class Weight>
MXMLA_INLINE CodedRow RowOf(const Weight& weight, int64_t row) requires kIsCoded<Weight> {
  return {Coded(weight), row};
}
MXMLA_INLINE RowStep StepBetween(const CodedRow&, const CodedRow&) { return {}; }
MXMLA_INLINE void PrefetchBlocks(const CodedRow&, int64_t, int64_t) {}

static inline void Pack(const CodedRow& row, const Stretch& stretch, float* to, int64_t step, RowStep = {}) {
  row.matrix.decode(row.matrix.weight, row.row, stretch, to, step);
}

// Calls use(matrix) with the weight itself where it has rows of its own, else with a CodedMatrix.
template <class Use>
static void VisitWeight(const LinearWeight& weight, const Use& use) {
  CodedMatrix coded;
  std::visit(
      [&](const auto& w) {
        if constexpr (kIsCoded<std::decay_t<decltype(w)>>) {
          coded = Coded(w);
        } else {
          use(w);
        }
      },
      weight);
  if (coded.decode) use(coded);
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
