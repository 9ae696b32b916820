// The tile of a product x w^T: up to kTileX activation rows by up to kTileW weight rows over all of k.
//
// Every output is sixteen running sums, one a lane; each block of 32 k adds its even elements, then its odd ones; at
// the end the lanes are added in ReduceAdd's order. The order is the same on every path below, so that a result depends
// neither on the other rows of its tile, nor on the tiling, nor on the threads.
#pragma once

#include <algorithm>

#include "cpu/coded_matrix.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

inline constexpr int64_t kTileW = 64;
inline constexpr int64_t kTileX = 72;

// A few activation rows: weights go from their codes straight into the sums, kFusedRows of them side by side.
inline constexpr int64_t kFusedMaxX = 12;
inline constexpr int64_t kFusedStretch = 128;  // blocks of x (4096 elements) that are decoded at a time
template <int C>
inline constexpr int kFusedRows = kParts == 1 ? 4 : (kParts == 2 && C == 1 ? 2 : 1);

// Many: both sides are decoded first, a stretch of k at a time, into strips of kPanelW and kPanelX rows.
inline constexpr int kPanelW = 4;
inline constexpr int kPanelX = kParts == 1 ? 6 : 3;
inline constexpr int64_t kPanelStretch = 16;  // blocks
static_assert(kTileW % kPanelW == 0 && kTileX % kPanelX == 0);
static_assert(kFusedStretch % kGroupBlocks == 0 && kPanelStretch % kGroupBlocks == 0);

// The part of k = 0 .. elements that begins at block `first`, at most `most` blocks long.
MXMLA_INLINE Stretch StretchAt(int64_t elements, int64_t first, int64_t most) {
  const int64_t whole = elements / kBlock;
  const int64_t blocks = std::min(whole - first, most);
  return {first, blocks, blocks < most ? elements % kBlock : 0};
}
MXMLA_INLINE int64_t BlockCount(int64_t elements) { return (elements + kBlock - 1) / kBlock; }

// sums (R, C, 16) += R weight rows over a stretch by C packed activation rows.
template <class Row, int R, int C>
[[gnu::noinline]] static void FusedTile(const Row* rows /* (R) */, RowStep ahead, const Stretch& stretch,
                                        const float* x /* (blocks, C, 32) */, float* sums /* (R, C, 16) */) {
  F32x16 sum[R][C];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) sum[r][c] = Load(sums + (r * C + c) * 16);
  }
  Row row[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) row[r] = rows[r];
  for (int64_t begin = 0; begin < stretch.blocks; begin += kGroupBlocks) {
    const int64_t count = std::min(stretch.blocks - begin, kGroupBlocks);
    alignas(64) float scales[R][kGroupBlocks];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      LoadScales(row[r], stretch.first_block + begin, count, scales[r]);
      if constexpr (kPaired<Row>) {
        __builtin_prefetch(reinterpret_cast<const char*>(row[r].scales + stretch.first_block + begin) + ahead.scales);
      }
    }
    for (int64_t i = 0; i < count; ++i, x += C * kBlock) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) PrefetchValues(row[r], stretch.first_block + begin + i, ahead.values);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const Block w = Decode(row[r], stretch.first_block + begin + i, scales[r], i);
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) sum[r][c] = Fma(w.even, Load(x + c * kBlock), sum[r][c]);
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) sum[r][c] = Fma(w.odd, Load(x + c * kBlock + 16), sum[r][c]);
      }
    }
  }
  if (stretch.tail > 0) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Block w = DecodeTail(row[r], stretch.first_block + stretch.blocks, stretch.tail);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        sum[r][c] = Fma(w.even, Load(x + c * kBlock), sum[r][c]);
        sum[r][c] = Fma(w.odd, Load(x + c * kBlock + 16), sum[r][c]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) Store(sums + (r * C + c) * 16, sum[r][c]);
  }
}

template <int C, class Weight>
static void FusedProduct(const AnyRow* x /* (C) */, const Weight& weight, int64_t w_begin, int64_t w_count, int64_t k,
                         float* out /* (C, kTileW) */) {
  using Row = decltype(RowOf(weight, 0));
  constexpr int R = kFusedRows<C>;
  alignas(64) float packed[kFusedStretch * C * kBlock];
  alignas(64) float sums[kTileW * C * 16] = {};
  for (int64_t first = 0; first < BlockCount(k); first += kFusedStretch) {
    const Stretch stretch = StretchAt(k, first, kFusedStretch);
    PrefetchRows(weight, w_begin, std::min<int64_t>(w_count, 2 * R), first, stretch.padded_blocks());
    for (int c = 0; c < C; ++c) Pack(x[c], stretch, packed + c * kBlock, C * kBlock);
    int64_t w = 0;
    for (; w + R <= w_count; w += R) {
      Row rows[R];
      for (int r = 0; r < R; ++r) rows[r] = RowOf(weight, w_begin + w + r);
      FusedTile<Row, R, C>(rows, StepBetween(rows[0], RowOf(weight, w_begin + w + 2 * R)), stretch, packed,
                           sums + w * C * 16);
    }
    for (; w < w_count; ++w) {
      const Row row = RowOf(weight, w_begin + w);
      FusedTile<Row, 1, C>(&row, RowStep{}, stretch, packed, sums + w * C * 16);
    }
  }
  for (int64_t w = 0; w < w_count; ++w) {
    for (int c = 0; c < C; ++c) out[c * kTileW + w] = ReduceAdd(Load(sums + (w * C + c) * 16));
  }
}

// sums (kPanelW, C, 16) += packed weight rows by C packed activation rows. Native vector by native vector, because the
// lanes are independent and the registers few.
template <int C>
[[gnu::noinline]] static void PanelTile(const float* w /* (blocks, kPanelW, 32) */,
                                        const float* x /* (blocks, C, 32) */, int64_t blocks, float* sums) {
  for (int lane = 0; lane < 16; lane += kNativeLanes) {
    const auto at = [](const float* from) __attribute__((always_inline)) {
      return *reinterpret_cast<const F32NativeAt*>(from);
    };
    F32Native sum[kPanelW][C];
#pragma GCC unroll 8
    for (int r = 0; r < kPanelW; ++r) {
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum[r][c] = at(sums + (r * C + c) * 16 + lane);
    }
    const float* wb = w + lane;
    const float* xb = x + lane;
    for (int64_t b = 0; b < blocks; ++b, wb += kPanelW * kBlock, xb += C * kBlock) {
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        F32Native values[C];
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) values[c] = at(xb + c * kBlock + half * 16);
#pragma GCC unroll 8
        for (int r = 0; r < kPanelW; ++r) {
          const F32Native weight = at(wb + r * kBlock + half * 16);
#pragma GCC unroll 8
          for (int c = 0; c < C; ++c) sum[r][c] = FmaNative(weight, values[c], sum[r][c]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kPanelW; ++r) {
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) *reinterpret_cast<F32NativeAt*>(sums + (r * C + c) * 16 + lane) = sum[r][c];
    }
  }
}

static inline void AnyPanelTile(int64_t c, const float* w, const float* x, int64_t blocks, float* sums) {
  switch (c) {
    case 1:
      return PanelTile<1>(w, x, blocks, sums);
    case 2:
      return PanelTile<2>(w, x, blocks, sums);
    case 3:
      return PanelTile<3>(w, x, blocks, sums);
#if defined(__AVX512F__)
    case 4:
      return PanelTile<4>(w, x, blocks, sums);
    case 5:
      return PanelTile<5>(w, x, blocks, sums);
    case 6:
      return PanelTile<6>(w, x, blocks, sums);
#endif
    default:
      break;
  }
}

// to[r] = the sum of the lanes of sums row r of kPanelW, `step` floats apart, each added in ReduceAdd's order.
MXMLA_INLINE void ReduceStrip(const float* sums, int64_t step, float* to /* (kPanelW) */) {
  static_assert(kPanelW == 4);
#if defined(__AVX512F__)
  const __m512 a = _mm512_load_ps(sums);
  const __m512 b = _mm512_load_ps(sums + step);
  const __m512 c = _mm512_load_ps(sums + 2 * step);
  const __m512 d = _mm512_load_ps(sums + 3 * step);
  // Eight sums of each, two rows in a vector; then four of each, four rows in a vector.
  const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
  const __m512 four = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  const __m512 two = _mm512_add_ps(four, _mm512_permute_ps(four, 0x0e));
  const __m512 one = _mm512_add_ps(two, _mm512_permute_ps(two, 0x01));
  const __m512i lanes = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  _mm_storeu_ps(to, _mm512_castps512_ps128(_mm512_permutexvar_ps(lanes, one)));
#else
  for (int r = 0; r < kPanelW; ++r) to[r] = ReduceAdd(Load(sums + r * step));
#endif
}

template <class Weight>
static void PanelProduct(const AnyRow* x /* (x_count) */, int64_t x_count, const Weight& weight, int64_t w_begin,
                         int64_t w_count, int64_t k, float* out /* (x_count, kTileW) */) {
  alignas(64) float packed_w[kPanelW * kPanelStretch * kBlock];  // one strip: (blocks, kPanelW, 32)
  alignas(64) float packed_x[kTileX * kPanelStretch * kBlock];   // (strips, blocks, rows of the strip, 32)
  alignas(64) float sums[kTileX * kTileW * 16];                  // (x strips, w strips, kPanelW, rows, 16)
  std::memset(sums, 0, sizeof(float) * static_cast<size_t>(x_count * kTileW * 16));
  for (int64_t first = 0; first < BlockCount(k); first += kPanelStretch) {
    const Stretch stretch = StretchAt(k, first, kPanelStretch);
    const int64_t blocks = stretch.padded_blocks();
    for (int64_t c = 0; c < x_count; c += kPanelX) {
      const int64_t count = std::min<int64_t>(kPanelX, x_count - c);
      float* strip = packed_x + c * blocks * kBlock;
      for (int64_t i = 0; i < count; ++i) Pack(x[c + i], stretch, strip + i * kBlock, count * kBlock);
    }
    for (int64_t w = 0; w < w_count; w += kPanelW) {
      for (int64_t i = 0; i < kPanelW; ++i) {
        float* to = packed_w + i * kBlock;
        if (w + i < w_count) {
          const auto row = RowOf(weight, w_begin + w + i);
          Pack(row, stretch, to, kPanelW * kBlock, StepBetween(row, RowOf(weight, w_begin + w + i + kPanelW)));
        } else {  // a row that only fills the strip
          for (int64_t b = 0; b < blocks; ++b) std::memset(to + b * kPanelW * kBlock, 0, kBlock * sizeof(float));
        }
      }
      for (int64_t c = 0; c < x_count; c += kPanelX) {
        const int64_t count = std::min<int64_t>(kPanelX, x_count - c);
        AnyPanelTile(count, packed_w, packed_x + c * blocks * kBlock, blocks, sums + (c * kTileW + w * count) * 16);
      }
    }
  }
  for (int64_t c = 0; c < x_count; c += kPanelX) {
    const int64_t count = std::min<int64_t>(kPanelX, x_count - c);
    for (int64_t w = 0; w < w_count; w += kPanelW) {
      const float* from = sums + (c * kTileW + w * count) * 16;
      for (int64_t i = 0; i < count; ++i) ReduceStrip(from + i * 16, count * 16, out + (c + i) * kTileW + w);
    }
  }
}

// out[c, j] = x[c] . weight[w_begin + j] for c < x_count <= kTileX and j < w_count <= kTileW. The other elements of
// `out` (x_count, kTileW) are left with anything.
template <class Weight>
static void ProductTile(const AnyRow* x /* (x_count) */, int64_t x_count, const Weight& weight, int64_t w_begin,
                        int64_t w_count, int64_t k, float* out /* (x_count, kTileW) */) {
  if (x_count > kFusedMaxX) return PanelProduct(x, x_count, weight, w_begin, w_count, k, out);
  const int64_t passes = (x_count + 3) / 4;
  for (int64_t pass = 0; pass < passes; ++pass) {
    const int64_t begin = x_count * pass / passes;
    float* to = out + begin * kTileW;
    switch (x_count * (pass + 1) / passes - begin) {
      case 1:
        FusedProduct<1>(x + begin, weight, w_begin, w_count, k, to);
        break;
      case 2:
        FusedProduct<2>(x + begin, weight, w_begin, w_count, k, to);
        break;
      case 3:
        FusedProduct<3>(x + begin, weight, w_begin, w_count, k, to);
        break;
      case 4:
        FusedProduct<4>(x + begin, weight, w_begin, w_count, k, to);
        break;
      default:
        break;
    }
  }
}

static inline void ProductTile(const AnyRow* x /* (x_count) */, int64_t x_count, const CodedMatrix& weight,
                               int64_t w_begin, int64_t w_count, int64_t k, float* out /* (x_count, kTileW) */) {
  PanelProduct(x, x_count, weight, w_begin, w_count, k, out);
}

// Activation rows are cut into tiles of nearly equal size, in whole strips: tile t is rows TileBeginX(rows, t) ..
// TileBeginX(rows, t + 1).
MXMLA_INLINE int64_t TileCountX(int64_t rows) { return (rows + kTileX - 1) / kTileX; }
MXMLA_INLINE int64_t TileBeginX(int64_t rows, int64_t tile) {
  const int64_t tiles = TileCountX(rows);
  const int64_t strips = ((rows + tiles - 1) / tiles + kPanelX - 1) / kPanelX;
  return std::min(rows, tile * strips * kPanelX);
}

// Weight rows of a task: fewer when they are read for few activation rows, so that every thread has some and they stay
// in the cache for the next pass.
MXMLA_INLINE int64_t TileW(int64_t x_rows) { return x_rows > kFusedMaxX ? kTileW : kTileW / 2; }

// Bytes of activations that a product writes once more: each of `tiles` tiles of weight rows decodes, for itself, the
// `rows` rows of k elements that it multiplies.
MXMLA_INLINE int64_t RepackedBytes(int64_t tiles, int64_t rows, int64_t k) {
  return tiles * rows * BlockCount(k) * kBlock * static_cast<int64_t>(sizeof(float));
}

// Rounds `count` results to the output's type, in place.
template <class T>
MXMLA_INLINE void StoreResults(T* to /* (count) */, const float* from /* (count) */, int64_t count) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) Store(to + i, Load(from + i));
  if (i < count) StorePartial(to + i, LoadPartial(from + i, count - i), count - i);
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
