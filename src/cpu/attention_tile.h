// The register tile of products of float32 rows with cache rows where they lie. Every result is one running sum of
// fixed order, whatever the tile, so that neither the number of heads nor of rows changes it.
#pragma once

#include <algorithm>

#include "cpu/split_rows.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

inline constexpr int64_t kTokenTile = 64;  // tokens between two updates of the running softmax

// Rows of the cache (or copies of their last, short blocks) that a tile reads; rows past the last valid one repeat it.
template <class T>
struct TileRows {
  const T* row[kTokenTile];                // (width)
  T short_block[kTokenTile][kSplitBlock];  // elements 32 * full_blocks .. of each row, then zeros

  // Copies the elements begin .. begin + count < 32 of `tokens` rows into short_block.
  void CopyShortBlock(int64_t begin, int64_t count, int64_t tokens) {
    for (int64_t t = 0; t < tokens; ++t) {
      std::fill_n(short_block[t], kSplitBlock, T{});
      std::memcpy(short_block[t], row[t] + begin, static_cast<size_t>(count) * sizeof(T));
    }
  }
};

#if defined(__AVX512F__)
// Lane 4 * i + j of the result is the sum of the lanes of sum[i][j].
MXMLA_INLINE __m512 ReduceTile(const F32x16 (&sum)[4][4]) {
  __m512 quarter[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512 a = (__m512)sum[i][0].part[0];
    const __m512 b = (__m512)sum[i][1].part[0];
    const __m512 c = (__m512)sum[i][2].part[0];
    const __m512 d = (__m512)sum[i][3].part[0];
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    quarter[i] = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
  }
  const __m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(quarter[0], quarter[1], 0x88),
                                   _mm512_shuffle_f32x4(quarter[0], quarter[1], 0xdd));
  const __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(quarter[2], quarter[3], 0x88),
                                    _mm512_shuffle_f32x4(quarter[2], quarter[3], 0xdd));
  return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
}
#endif

// out[4 * i + j] = a_i . row[first + j] for 4 split rows a_i (a_stride apart) and 4 rows of the tile: `full_blocks` of
// 32 from each row's element 0, then `short_block` where there is one.
template <class T>
void DotTile(const float* a, int64_t a_stride, const TileRows<T>& rows, int64_t first, int64_t full_blocks,
             bool short_block, float* out /* (16) */) {
  // As many sums at a time as the registers hold.
  constexpr int kSide = kParts == 1 ? 4 : kParts == 2 ? 2 : 1;
  for (int i0 = 0; i0 < 4; i0 += kSide) {
    for (int j0 = 0; j0 < 4; j0 += kSide) {
      F32x16 sum[kSide][kSide];
#pragma GCC unroll 4
      for (int i = 0; i < kSide; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < kSide; ++j) sum[i][j] = Zero();
      }
      const float* a_row = a + i0 * a_stride;
      const T* b_row[kSide];
#pragma GCC unroll 4
      for (int j = 0; j < kSide; ++j) b_row[j] = rows.row[first + j0 + j];
      const auto block = [&](int64_t k, int64_t b_at) __attribute__((always_inline)) {
        Block b[kSide];
#pragma GCC unroll 4
        for (int j = 0; j < kSide; ++j) b[j] = LoadSplit(b_row[j] + b_at);
#pragma GCC unroll 4
        for (int i = 0; i < kSide; ++i) {
          const F32x16 a_even = Load(a_row + i * a_stride + k);
          const F32x16 a_odd = Load(a_row + i * a_stride + k + 16);
#pragma GCC unroll 4
          for (int j = 0; j < kSide; ++j) sum[i][j] = Fma(a_odd, b[j].odd, Fma(a_even, b[j].even, sum[i][j]));
        }
      };
      for (int64_t k = 0; k < full_blocks * kSplitBlock; k += kSplitBlock) block(k, k);
      if (short_block) {
#pragma GCC unroll 4
        for (int j = 0; j < kSide; ++j) b_row[j] = rows.short_block[first + j0 + j];
        block(full_blocks * kSplitBlock, 0);
      }
#if defined(__AVX512F__)
      _mm512_storeu_ps(out, ReduceTile(sum));
#else
#pragma GCC unroll 4
      for (int i = 0; i < kSide; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < kSide; ++j) out[4 * (i0 + i) + j0 + j] = ReduceAdd(sum[i][j]);
      }
#endif
    }
  }
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
