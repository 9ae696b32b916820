// A product's activations, brought once a call into the form that its weights' products read, for all workers: fixed
// point (fixed_point.h), or bf16 in the order of the weights' chunks (bf16_dot.h). Which form that is follows from the
// weights' format and the instruction set: PackedForm says so. MXMLA_PACKED_PRODUCTS says that some format has one.
#pragma once

#include "cpu/amx_tiles.h"
#include "cpu/bf16_dot.h"
#include "cpu/bf16_prompts.h"
#include "cpu/fixed_point.h"
#include "cpu/fixed_prompts.h"
#include "cpu/parallel.h"
#include "cpu/weight_stream.h"

#if defined(__AVX512BF16__) || defined(MXMLA_FIXED_POINT)
#define MXMLA_PACKED_PRODUCTS 1
#if defined(__AMX_BF16__)
#define MXMLA_TILED_PROMPTS 1
#endif

namespace mxmla::cpu::MXMLA_CPU_ISA {

// ---- Forms ----

// Of weights whose products decode activations for themselves.
struct NoForm {
  static constexpr bool kPacked = false;
};

#if defined(MXMLA_FIXED_POINT)
struct FixedForm {  // of MXFP4 weights
  static constexpr bool kPacked = true;
  using Element = FixedChunk;

  // Elements of a row.
  static constexpr int64_t Stride(int64_t k) { return FixedChunks(k); }
  template <int Rank>
  static bool Takes(const Activation<Rank>&) {
    return true;
  }
  static void Pack(const AnyRow& row, int64_t k, FixedChunk* to /* (Stride(k)) */) { PackFixedRow(row, k, to); }
  // As FixedProductTile.
  static void Product(const FixedChunk* const* x, int64_t x_count, const Mxfp4<const e2m1x2, 2>& weight,
                      int64_t w_begin, int64_t w_count, int64_t k, const StreamEnd& end, float* out) {
    FixedProductTile(x, x_count, weight, w_begin, w_count, k, end, out);
  }
};
#endif

#if defined(__AVX512BF16__)
template <class Weight>
struct DotForm {
  static constexpr bool kPacked = true;
  using Element = bf16;

  static constexpr int64_t Stride(int64_t k) { return DotStride(k); }
  // Others than bf16 are not all exact in bf16.
  template <int Rank>
  static bool Takes(const Activation<Rank>& x) {
    return std::holds_alternative<View<const bf16, Rank>>(x);
  }
  static void Pack(const AnyRow& row, int64_t k, bf16* to /* (Stride(k)) */) {
    PackRow<decltype(RowOf(std::declval<Weight>(), 0))>(std::get_if<Bf16Row>(&row)->values, k, to);
  }
  // As DotProductTile.
  static void Product(const bf16* const* x, int64_t x_count, const Weight& weight, int64_t w_begin, int64_t w_count,
                      int64_t k, const StreamEnd& end, float* out) {
    DotProductTile(x, x_count, weight, w_begin, w_count, k, end, out);
  }
};
#endif

// The form for products with such weights. Intel's processors multiply MXFP4 faster in fixed point, with AMX or
// without; AMD's by bf16, so that `avx512bf16` is compiled without AVX512-VNNI (CMakeLists.txt).
template <class Weight>
struct PackedForm : NoForm {};
#if defined(MXMLA_FIXED_POINT)
template <>
struct PackedForm<Mxfp4<const e2m1x2, 2>> : FixedForm {};
#else
template <>
struct PackedForm<Mxfp4<const e2m1x2, 2>> : DotForm<Mxfp4<const e2m1x2, 2>> {};
#endif
#if defined(__AVX512BF16__)
template <>
struct PackedForm<Fp8Block> : DotForm<Fp8Block> {};
template <>
struct PackedForm<View<const bf16, 2>> : DotForm<View<const bf16, 2>> {};
#endif

template <class Weight>
inline constexpr bool kPackedWeight = PackedForm<Weight>::kPacked;

template <int Rank>
static bool HasPackedProduct(const Activation<Rank>& x, const LinearWeight& weight) {
  return std::visit(
      [&](const auto& w) {
        using Form = PackedForm<std::decay_t<decltype(w)>>;
        if constexpr (Form::kPacked) return Form::Takes(x);
        return false;
      },
      weight);
}

// ---- Rows ----

// Rows of at most this many elements in all are packed by the calling thread: another parallel loop costs more.
inline constexpr int64_t kPackAlone = 16384;

template <class Weight>
static size_t PackedBytes(const Weight&, int64_t rows, int64_t k) {
  using Form = PackedForm<Weight>;
  if constexpr (Form::kPacked) return static_cast<size_t>(rows * Form::Stride(k)) * sizeof(typename Form::Element);
  return 0;
}
static inline size_t PackedBytes(const LinearWeight& weight, int64_t rows, int64_t k) {
  return std::visit([&](const auto& w) { return PackedBytes(w, rows, k); }, weight);
}

// Packs the first `rows` rows of x for products with weights like `weight`.
template <class Weight>
static void PackRows(const ExecContext& context, const Activation<2>& x, const Weight& weight, int64_t rows,
                     typename PackedForm<Weight>::Element* to /* (rows, Stride(k)) */) {
  using Form = PackedForm<Weight>;
  const int64_t k = Extent(x, 1);
  const auto pack = [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) Form::Pack(RowOf(x, r), k, to + r * Form::Stride(k));
  };
  if (context.profiler) context.profiler->AddRepacked(static_cast<int64_t>(PackedBytes(weight, rows, k)));
  if (rows * k <= kPackAlone) return pack(0, rows);
  RunRanges(context, rows, 1, [&](int64_t begin, int64_t end, int) { pack(begin, end); });
}

// Rows of prompts are multiplied by panels of weights (fixed_prompts.h, bf16_prompts.h), tiles (amx_tiles.h), or
// floats.
#if defined(MXMLA_FIXED_PROMPTS) || defined(MXMLA_BF16_PROMPTS)
#define MXMLA_PANEL_PROMPTS 1
// Of `rows` rows of k elements, packed as decoded or as prompts: the latter take no less.
inline size_t PromptBytes(int64_t rows, int64_t k) {
  using Form = PackedForm<Mxfp4<const e2m1x2, 2>>;  // the largest
  static_assert(sizeof(PromptStretch) >= sizeof(Form::Element) * static_cast<size_t>(Form::Stride(kPromptStretch)));
  return static_cast<size_t>(rows * PromptStretches(k)) * sizeof(PromptStretch);
}

// Packs rows first .. of x for products with weights like `weight`.
template <class Weight>
static void PackPrompts(const ExecContext& context, const View<const bf16, 2>& x, const Weight&, int64_t first,
                        PromptStretch* to /* (rows - first, PromptStretches(k)) */) {
  const int64_t k = x.shape[1], rows = x.shape[0] - first;
  if (context.profiler) context.profiler->AddRepacked(static_cast<int64_t>(PromptBytes(rows, k)));
  RunRanges(context, rows, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      PackPromptRow<decltype(RowOf(std::declval<Weight>(), 0))>(x.data + (first + r) * x.stride[0], k,
                                                                to + r * PromptStretches(k));
    }
  });
}
#endif

#if defined(MXMLA_TILED_PROMPTS)
// Up to 16 rows as tiles for weights whose rows are Row; `to` has room for 16 * DotStride(k) elements.
template <class Row>
static void PackTileGroup(const bf16* const* rows /* (count), each (k) */, int64_t count, int64_t k, bf16* to) {
  constexpr int64_t kStretch = 16 * kChunk;
  alignas(64) bf16 ordered[kTileSide * kStretch];
  for (int64_t begin = 0; begin < k; begin += kStretch) {
    const int64_t elements = std::min(kStretch, k - begin);
    const bf16* packed[kTileSide];
    for (int64_t r = 0; r < count; ++r) {
      PackRow<Row>(rows[r] + begin, elements, ordered + r * kStretch);
      packed[r] = ordered + r * kStretch;
    }
    PackTiles(packed, count, DotStride(elements), to + begin * kTileSide);
  }
}

static_assert(sizeof(FixedChunk) >= kChunk * sizeof(bf16), "rows take no more as tiles than packed in any form");
// Elements of the tiles of `rows` rows in `groups` groups, each of which ends with a tile that is not full, and of the
// group that AmxProductTile may read behind the last.
inline constexpr int64_t TileElements(int64_t rows, int64_t groups, int64_t k) {
  return (rows + (groups + 1) * kTileSide) * DotStride(k);
}
#endif

}  // namespace mxmla::cpu::MXMLA_CPU_ISA

#endif
