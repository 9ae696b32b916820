// Products of weights with many rows of bf16 activations on `vdpbf16ps`, sixteen weight rows in the lanes: an
// activation pair is broadcast from memory, so that a row of them is read for 32 weight rows at a time and nothing is
// left to add across lanes at the end.
//
// Weights become bf16 without rounding, block scales left out, as in bf16_dot.h. An output is one running sum:
//   for each block that shares a scale (MXFP4 32 elements, FP8 128), its pairs in their order: t += pair of products
//                                                                                              sum += t * scale
// and of BF16 weights, which have no scales, all pairs in their order. Which elements make a pair is what decoding
// gives most cheaply (PackPromptRow). The order depends on k alone. As in bf16_dot.h, subnormal numbers count as 0, and
// so do such sums of pairs.
#pragma once

#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
#define MXMLA_BF16_PROMPTS 1

#include "cpu/bf16_dot.h"
#include "cpu/prompt_panels.h"
#include "cpu/transpose.h"
#include "cpu/with_count.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

inline constexpr int kPromptRows = 8;  // activation rows side by side
static_assert(kPromptStretch % kChunk == 0);

// A stretch of one row of activations, in pairs' order; 0 past the row's end.
struct alignas(64) PromptStretch {
  bf16 x[kPromptStretch];
};

template <class Row>
static void PackPromptRow(const bf16* row /* (k) */, int64_t k, PromptStretch* to /* (PromptStretches(k)) */) {
  // Of each eight elements, element a and element a + 4 make pair a: what a shift of the codes by 4 * a bits gives.
  alignas(64) static constexpr uint16_t kNibblePairs[32] = {0,  4,  1,  5,  2,  6,  3,  7,  8,  12, 9,
                                                            13, 10, 14, 11, 15, 16, 20, 17, 21, 18, 22,
                                                            19, 23, 24, 28, 25, 29, 26, 30, 27, 31};
  char* out = reinterpret_cast<char*>(to);
  for (int64_t begin = 0; begin < PromptStretches(k) * kPromptStretch; begin += 32, out += 64) {
    __m512i v =
        _mm512_maskz_loadu_epi16(static_cast<__mmask32>(FirstLanes(std::min<int64_t>(k - begin, 32))), row + begin);
    if constexpr (std::is_same_v<Row, Mxfp4Row>) v = _mm512_permutexvar_epi16(_mm512_load_si512(kNibblePairs), v);
    _mm512_store_si512(out, v);
  }
}

// Elements that share a scale, and their number in a stretch.
template <class Row>
inline constexpr int64_t kScaleElements = std::is_same_v<Row, Mxfp4Row> ? kBlock
                                          : std::is_same_v<Row, Fp8Row> ? kChunk
                                                                        : kPromptStretch;

// A stretch of kPromptPanel weight rows, a lane a row.
template <class Row>
struct alignas(64) PromptPanel {
  uint32_t pairs[kPromptStretch / 2][kPromptPanel];
  float scales[kPromptStretch / kScaleElements<Row>][kPromptPanel];
};

// Words of sixteen rows, a lane a row, as pairs of bf16: each makes kWordPairs.
template <class Row>
inline constexpr int kWordPairs = std::is_same_v<Row, Mxfp4Row> ? 4
                                  : std::is_same_v<Row, Fp8Row> ? 2
                                                                : 1;
MXMLA_INLINE void ExpandWord(const Mxfp4Row*, __m512i word, __m512i (&pairs)[4]) {
  const __m512i table = _mm512_load_si512(kDotTables.e2m1);
#pragma GCC unroll 4
  for (int a = 0; a < 4; ++a) {
    pairs[a] = _mm512_permutexvar_epi16(_mm512_srli_epi16(word, static_cast<unsigned>(4 * a)), table);
  }
}
MXMLA_INLINE void ExpandWord(const Fp8Row*, __m512i word, __m512i (&pairs)[2]) {
  const __m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(kDotTables.e4m3_low), word,
                                               _mm512_load_si512(kDotTables.e4m3_low + 64));
  __m512i high = _mm512_permutex2var_epi8(_mm512_load_si512(kDotTables.e4m3_high), word,
                                          _mm512_load_si512(kDotTables.e4m3_high + 64));
  high = _mm512_ternarylogic_epi32(high, word, _mm512_set1_epi8(-0x80), 0xf8);  // a | b & c
  // Bytes 0 and 1 of each word of both, in turn, then bytes 2 and 3.
  const __m512i first = _mm512_unpacklo_epi8(low, high), last = _mm512_unpackhi_epi8(low, high);
  pairs[0] = _mm512_castps_si512(
      _mm512_shuffle_ps(_mm512_castsi512_ps(first), _mm512_castsi512_ps(last), _MM_SHUFFLE(2, 0, 2, 0)));
  pairs[1] = _mm512_castps_si512(
      _mm512_shuffle_ps(_mm512_castsi512_ps(first), _mm512_castsi512_ps(last), _MM_SHUFFLE(3, 1, 3, 1)));
}
MXMLA_INLINE void ExpandWord(const Bf16Row*, __m512i word, __m512i (&pairs)[1]) { pairs[0] = word; }

// Sixteen rows of `elements` elements from `first` on as lanes 16 * part .. of the panel; rows past `count` repeat the
// last, and elements up to a whole scale's block are 0. Asks for what lies `ahead` bytes behind what is read.
template <class Row, class Weight>
static void DecodePanelPart(const Weight& weight, int64_t w_begin, int64_t count, int64_t first, int64_t elements,
                            int part, int64_t ahead, PromptPanel<Row>* panel) {
  const char* values[16];
  __m512i scales[16];
#pragma GCC unroll 16
  for (int64_t r = 0; r < 16; ++r) {
    const Row row = RowOf(weight, w_begin + std::min(r, count - 1));
    values[r] = reinterpret_cast<const char*>(row.values) + first * kBlockBytes<Row> / kBlock;
    if constexpr (std::is_same_v<Row, Mxfp4Row>) {
      alignas(64) float of_row[kGroupBlocks];
      LoadScales(row, first / kBlock, elements / kBlock, of_row);
      scales[r] = _mm512_castps_si512(_mm512_load_ps(of_row));
    } else if constexpr (std::is_same_v<Row, Fp8Row>) {
      for (int64_t s = 0; s < ChunkCount(elements); ++s) {
        panel->scales[s][16 * part + r] = row.scales[(first / kChunk + s) * row.scale_stride];
      }
    }
  }
  if constexpr (std::is_same_v<Row, Mxfp4Row>) {
    static_assert(kPromptStretch / kBlock == kGroupBlocks);
    Transpose(scales);
#pragma GCC unroll 16
    for (int64_t b = 0; b < kGroupBlocks; ++b) _mm512_store_si512(panel->scales[b] + 16 * part, scales[b]);
  }
  const int64_t bytes = elements * kBlockBytes<Row> / kBlock;
  uint32_t(*to)[kPromptPanel] = panel->pairs;
  for (int64_t begin = 0; begin < bytes; begin += 64, to += 16 * kWordPairs<Row>) {
    const __mmask64 mask = FirstLanes(bytes - begin);
    __m512i words[16];
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) {
      words[r] = _mm512_maskz_loadu_epi8(mask, values[r] + begin);
      __builtin_prefetch(values[r] + begin + ahead, 0, 2);
    }
    Transpose(words);
#pragma GCC unroll 16
    for (int w = 0; w < 16; ++w) {
      __m512i pairs[kWordPairs<Row>];
      ExpandWord(static_cast<const Row*>(nullptr), words[w], pairs);
#pragma GCC unroll 4
      for (int a = 0; a < kWordPairs<Row>; ++a) {
        _mm512_store_si512(to[w * kWordPairs<Row> + a] + 16 * part, pairs[a]);
      }
    }
  }
}

// out (R, kTileW) += the panel by R rows.
template <class Row, int R>
[[gnu::noinline]] static void PromptTile(const PromptPanel<Row>& panel, int64_t elements, const PromptStretch* const* x,
                                         float* out) {
  constexpr int64_t kBlockPairs = kScaleElements<Row> / 2;
  const bf16* xs[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) xs[r] = x[r]->x;
  const int64_t pairs = (elements + 1) / 2;
  for (int64_t begin = 0, block = 0; begin < pairs; begin += kBlockPairs, ++block) {
    __m512 t[R][2];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        t[r][i] = kHasScale<Row> ? _mm512_setzero_ps() : _mm512_load_ps(out + r * kTileW + 16 * i);
      }
    }
    const int64_t end = std::min(begin + kBlockPairs, pairs);
#pragma GCC unroll 2
    for (int64_t p = begin; p < end; ++p) {
      const __m512i w0 = _mm512_load_si512(panel.pairs[p]), w1 = _mm512_load_si512(panel.pairs[p] + 16);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        int32_t pair;
        std::memcpy(&pair, xs[r] + 2 * p, sizeof(pair));
        __m512i factor = _mm512_set1_epi32(pair);
        asm("" : "+v"(factor));  // one broadcast from memory for both products
        t[r][0] = _mm512_dpbf16_ps(t[r][0], (__m512bh)w0, (__m512bh)factor);
        t[r][1] = _mm512_dpbf16_ps(t[r][1], (__m512bh)w1, (__m512bh)factor);
      }
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      __m512 scale = _mm512_setzero_ps();
      if constexpr (kHasScale<Row>) scale = _mm512_load_ps(panel.scales[block] + 16 * i);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        float* sum = out + r * kTileW + 16 * i;
        _mm512_store_ps(sum, kHasScale<Row> ? _mm512_fmadd_ps(t[r][i], scale, _mm512_load_ps(sum)) : t[r][i]);
      }
    }
  }
}

// out[c, j] = x[c] . weight[w_begin + j] for c < x_count <= kPromptX and j < w_count <= kTileW; x rows are packed. The
// other elements of `out` (x_count, kTileW), which is 64-byte aligned, are left with anything.
template <class Weight>
static void PromptProductTile(const PromptStretch* const* x /* (x_count) */, int64_t x_count, const Weight& weight,
                              int64_t w_begin, int64_t w_count, int64_t k, float* out) {
  using Row = decltype(RowOf(weight, 0));
  PromptPanel<Row> panel;
  std::memset(out, 0, static_cast<size_t>(x_count * kTileW) * sizeof(float));
  const int64_t tiles = (x_count + kPromptRows - 1) / kPromptRows;
  const int64_t step = StepBetween(RowOf(weight, 0), RowOf(weight, 1)).values;
  for (int64_t stretch = 0; stretch < PromptStretches(k); ++stretch) {
    const int64_t first = stretch * kPromptStretch;
    const int64_t elements = std::min(kPromptStretch, k - first);
    const auto bytes = [](int64_t count) { return count * kBlockBytes<Row> / kBlock; };
    // The next stretch of these rows, or the first of those that come next.
    const int64_t ahead = first + elements < k ? bytes(kPromptStretch) : kTileW * step - bytes(first);
    for (int64_t w = 0; w < w_count; w += kPromptPanel) {
      for (int part = 0; part < 2; ++part) {
        const int64_t begin = std::min(w + 16 * part, w_count - 1);
        DecodePanelPart(weight, w_begin + begin, std::min<int64_t>(16, w_count - begin), first, elements, part, ahead,
                        &panel);
      }
      // Tiles of nearly equal size: one of few rows would wait for its own sums.
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t c = x_count * tile / tiles, count = x_count * (tile + 1) / tiles - c;
        const PromptStretch* rows[kPromptRows];
        for (int64_t r = 0; r < count; ++r) rows[r] = x[c + r] + stretch;
        WithCount<kPromptRows>(count, [&]<int R>(std::integral_constant<int, R>) {
          PromptTile<Row, R>(panel, elements, rows, out + c * kTileW + w);
        });
      }
    }
  }
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA

#endif
