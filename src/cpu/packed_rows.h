// A product's activations, brought once a call into the form that this instruction set's products read, for all
// workers: bf16 in the order of the weights' chunks (bf16_dot.h), or fixed point (fixed_point.h). MXMLA_PACKED_PRODUCTS
// says that there is one.
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

namespace mxmla::cpu::MXMLA_CPU_ISA {

#if defined(__AVX512BF16__)
using PackedElement = bf16;
#if defined(__AMX_BF16__)
#define MXMLA_TILED_PROMPTS 1
#endif

template <class Weight>
inline constexpr bool kPackedWeight = std::is_same_v<Weight, View<const bf16, 2>> || std::is_same_v<Weight, Fp8Block> ||
                                      std::is_same_v<Weight, Mxfp4<const e2m1x2, 2>>;
// Other activations than bf16 are not all exact in bf16.
template <int Rank>
static bool HasPackedProduct(const Activation<Rank>& x, const LinearWeight& weight) {
  return std::holds_alternative<View<const bf16, Rank>>(x) &&
         std::visit([](const auto& w) { return kPackedWeight<std::decay_t<decltype(w)>>; }, weight);
}

inline constexpr int64_t PackedStride(int64_t k) { return ChunkCount(k) * kChunk; }
template <class Weight>
static void PackRowFor(const Weight&, const AnyRow& row, int64_t k, bf16* to) {
  PackRow<decltype(RowOf(std::declval<Weight>(), 0))>(std::get_if<Bf16Row>(&row)->values, k, to);
}
template <class Weight>
static void PackedProductTile(const bf16* const* x, int64_t x_count, const Weight& weight, int64_t w_begin,
                              int64_t w_count, int64_t k, const StreamEnd& end, float* out) {
  DotProductTile(x, x_count, weight, w_begin, w_count, k, end, out);
}
#else
using PackedElement = FixedChunk;

template <class Weight>
inline constexpr bool kPackedWeight = std::is_same_v<Weight, Mxfp4<const e2m1x2, 2>>;
template <int Rank>
static bool HasPackedProduct(const Activation<Rank>&, const LinearWeight& weight) {
  return std::holds_alternative<Mxfp4<const e2m1x2, 2>>(weight);
}

inline constexpr int64_t PackedStride(int64_t k) { return FixedChunks(k); }
template <class Weight>
static void PackRowFor(const Weight&, const AnyRow& row, int64_t k, FixedChunk* to) {
  PackFixedRow(row, k, to);
}
template <class Weight>
static void PackedProductTile(const FixedChunk* const* x, int64_t x_count, const Weight& weight, int64_t w_begin,
                              int64_t w_count, int64_t k, const StreamEnd&, float* out) {
  FixedProductTile(x, x_count, weight, w_begin, w_count, k, out);
}
#endif

// Rows of at most this many elements in all are packed by the calling thread: another parallel loop costs more.
inline constexpr int64_t kPackAlone = 16384;

inline size_t PackedBytes(int64_t rows, int64_t k) {
  return static_cast<size_t>(rows * PackedStride(k)) * sizeof(PackedElement);
}

// Packs the first `rows` rows of x for products with weights like `weight`.
template <class Weight>
static void PackRows(const ExecContext& context, const Activation<2>& x, const Weight& weight, int64_t rows,
                     PackedElement* to /* (rows, PackedStride(k)) */) {
  const int64_t k = Extent(x, 1);
  const auto pack = [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) PackRowFor(weight, RowOf(x, r), k, to + r * PackedStride(k));
  };
  if (context.profiler) context.profiler->AddRepacked(static_cast<int64_t>(PackedBytes(rows, k)));
  if (rows * k <= kPackAlone) return pack(0, rows);
  RunRanges(context, rows, 1, [&](int64_t begin, int64_t end, int) { pack(begin, end); });
}

// Rows of prompts are multiplied by panels of weights (fixed_prompts.h, bf16_prompts.h), tiles (amx_tiles.h), or
// floats.
#if defined(MXMLA_FIXED_PROMPTS) || defined(MXMLA_BF16_PROMPTS)
#define MXMLA_PANEL_PROMPTS 1
// Of `rows` rows of k elements, packed as decoded or as prompts: the latter take no less.
inline size_t PromptBytes(int64_t rows, int64_t k) {
  static_assert(sizeof(PromptStretch) >= sizeof(PackedElement) * static_cast<size_t>(PackedStride(kPromptStretch)));
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
// Up to 16 rows as tiles for weights whose rows are Row; `to` has room for 16 * PackedStride(k) elements.
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
    PackTiles(packed, count, PackedStride(elements), to + begin * kTileSide);
  }
}

// Elements of the tiles of `rows` rows in `groups` groups, each of which ends with a tile that is not full, and of the
// group that AmxProductTile may read behind the last.
inline constexpr int64_t TileElements(int64_t rows, int64_t groups, int64_t k) {
  return (rows + (groups + 1) * kTileSide) * PackedStride(k);
}
#endif

}  // namespace mxmla::cpu::MXMLA_CPU_ISA

#endif
