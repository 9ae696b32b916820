// Products of MXFP4 weights with many rows of bf16 activations in whole numbers of 16 bits: `vpdpwssd` multiplies two
// pairs a lane and adds them, 32 products an instruction where a float32 multiply-add has 16.
//
// An activation x of a block of 32 becomes q = x / 2^(e - 15), where 2^e is just above the block's largest magnitude:
// exact for bf16 of at least 2^-7 of it. What q leaves of smaller ones is kept beside it as float32, exactly. Weights
// become 2 * E2M1. With sixteen weight rows in the lanes, an output is one running sum:
//   for each stretch of 512 elements, for each of its blocks: sum = fma(float(exact sum) * 2^(e - 15), scale / 2, sum)
//   then for each of its elements with a rest r, rising:      sum = fma(r, 2 * E2M1 * scale / 2, sum)
// The exact sum is below 2^24, so float32 holds it. The order depends on k alone. A block of activations that holds NaN
// or infinity makes every output that reads it NaN.
#pragma once

#include "cpu/fixed_point.h"

#if defined(__AVX512VNNI__) && !defined(__AMX_BF16__)
#define MXMLA_FIXED_PROMPTS 1

#include "cpu/prompt_panels.h"
#include "cpu/transpose.h"
#include "cpu/with_count.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

inline constexpr int64_t kPromptBlocks = kGroupBlocks;  // of a stretch
inline constexpr int kPromptRows = 6;                   // activation rows side by side
static_assert(kPromptStretch == kPromptBlocks * kBlock && kPromptX % kPromptRows == 0);

// A stretch of one row of activations. Of each eight elements, element a and element a + 4 make pair a: what a shift of
// the codes by 4 * a bits gives.
struct alignas(64) PromptStretch {
  int16_t q[kPromptStretch];
  float rest[kPromptStretch];       // in its elements' order; valid where `inexact` says
  float scale[kPromptBlocks];       // 2^(e - 15)
  uint32_t inexact[kPromptBlocks];  // a bit for each element that has a rest
};

static inline void PackPromptBlock(const bf16* from /* (32) */, int64_t b, PromptStretch* to) {
  const F32x16 x[2] = {Load(from), Load(from + 16)};
  const uint32_t magnitude = std::bit_cast<uint32_t>(ReduceMax(Max(Abs(x[0]), Abs(x[1]))));
  const I32x16 infinite =
      (AsSigned(BitsOf(Abs(x[0]))) >= Splat(0x7f800000)) | (AsSigned(BitsOf(Abs(x[1]))) >= Splat(0x7f800000));
  if (Any(infinite)) {
    std::memset(to->q + b * kBlock, 0, kBlock * sizeof(int16_t));
    to->scale[b] = std::numeric_limits<float>::quiet_NaN();
    to->inexact[b] = 0;
    return;
  }
  const uint32_t exponent = std::max((magnitude >> 23) + 1, 27u);  // e + 127
  const float scale = std::bit_cast<float>((exponent - 15) << 23);
  const F32x16 inverse = Splat(std::bit_cast<float>((269 - exponent) << 23));
  uint32_t mask = 0;
  __m256i narrow[2];
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const I32x16 q = Round(x[half] * inverse);
    narrow[half] = _mm512_cvtepi32_epi16((__m512i)q.part[0]);
    const F32x16 rest = Fma(-ToFloat(q), Splat(scale), x[half]);
    Store(to->rest + b * kBlock + 16 * half, rest);
    mask |= static_cast<uint32_t>(_mm512_cmp_ps_mask((__m512)rest.part[0], _mm512_setzero_ps(), _CMP_NEQ_OQ))
            << (16 * half);
  }
  alignas(64) static constexpr uint16_t kPairs[32] = {0,  4,  1,  5,  2,  6,  3,  7,  8,  12, 9,  13, 10, 14, 11, 15,
                                                      16, 20, 17, 21, 18, 22, 19, 23, 24, 28, 25, 29, 26, 30, 27, 31};
  const __m512i all = _mm512_inserti64x4(_mm512_castsi256_si512(narrow[0]), narrow[1], 1);
  _mm512_store_si512(to->q + b * kBlock, _mm512_permutexvar_epi16(_mm512_load_si512(kPairs), all));
  to->scale[b] = scale;
  to->inexact[b] = mask;
}

// k is a multiple of 32; what a last stretch has beyond it is not read.
template <class Row>
static void PackPromptRow(const bf16* row /* (k) */, int64_t k, PromptStretch* to /* (PromptStretches(k)) */) {
  for (int64_t b = 0; b < k / kBlock; ++b) {
    PackPromptBlock(row + b * kBlock, b % kPromptBlocks, to + b / kPromptBlocks);
  }
}

// A stretch of kPromptPanel weight rows, a lane a row.
struct alignas(64) PromptPanel {
  int32_t pairs[kPromptBlocks][kBlock / 2][kPromptPanel];  // 2 * E2M1 of a pair's elements
  float scales[kPromptBlocks][kPromptPanel];               // half the block's
};

alignas(64) static constexpr int16_t kTwiceE2m1[32] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12,
                                                       0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Sixteen rows of `blocks` blocks from `first` on as lanes 16 * part .. of the panel; rows past `count` repeat the
// last.
static inline void DecodePanelPart(const Mxfp4<const e2m1x2, 2>& weight, int64_t w_begin, int64_t count, int64_t first,
                                   int64_t blocks, int part, PromptPanel* panel) {
  const __m512i table = _mm512_load_si512(kTwiceE2m1);
  const char* codes[16];
  __m512i scales[16];
#pragma GCC unroll 16
  for (int64_t r = 0; r < 16; ++r) {
    const Mxfp4Row row = RowOf(weight, w_begin + std::min(r, count - 1));
    codes[r] = reinterpret_cast<const char*>(row.values) + first * (kBlock / 2);
    alignas(64) float of_row[kGroupBlocks];
    LoadScales(row, first, blocks, of_row);
    scales[r] = (__m512i)(Load(of_row) * Splat(0.5f)).part[0];
  }
  Transpose(scales);
#pragma GCC unroll 16
  for (int64_t b = 0; b < kPromptBlocks; ++b) _mm512_store_si512(panel->scales[b] + 16 * part, scales[b]);
  for (int64_t b = 0; b < blocks; b += 4) {
    const int64_t bytes = std::min<int64_t>(4, blocks - b) * (kBlock / 2);
    const __mmask64 mask = bytes == 64 ? ~__mmask64{0} : (__mmask64{1} << bytes) - 1;
    __m512i words[16];  // 8 codes a row each
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) words[r] = _mm512_maskz_loadu_epi8(mask, codes[r] + b * (kBlock / 2));
    Transpose(words);
#pragma GCC unroll 16
    for (int w = 0; w < 16; ++w) {
      if (w >= bytes / 4) break;
      int32_t(*to)[kPromptPanel] = panel->pairs[b + w / 4] + w % 4 * 4;
#pragma GCC unroll 4
      for (int a = 0; a < 4; ++a) {
        _mm512_store_si512(to[a] + 16 * part,
                           _mm512_permutexvar_epi16(_mm512_srli_epi16(words[w], static_cast<unsigned>(4 * a)), table));
      }
    }
  }
}

// out (R, kTileW) += the panel by R rows.
template <int R>
[[gnu::noinline]] static void PromptTile(const PromptPanel& panel, int64_t blocks, const PromptStretch* const* x,
                                         float* out) {
  const PromptStretch* xs[R];
  __m512 sum[R][2];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    xs[r] = x[r];
    sum[r][0] = _mm512_load_ps(out + r * kTileW);
    sum[r][1] = _mm512_load_ps(out + r * kTileW + 16);
  }
  for (int64_t b = 0; b < blocks; ++b) {
    __m512i exact[R][2];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) exact[r][0] = exact[r][1] = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int64_t p = 0; p < kBlock / 2; ++p) {
      const __m512i w0 = _mm512_load_si512(panel.pairs[b][p]), w1 = _mm512_load_si512(panel.pairs[b][p] + 16);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        int32_t pair;
        std::memcpy(&pair, xs[r]->q + b * kBlock + 2 * p, sizeof(pair));
        __m512i factor = _mm512_set1_epi32(pair);
        asm("" : "+v"(factor));  // one broadcast from memory for both products
        exact[r][0] = _mm512_dpwssd_epi32(exact[r][0], w0, factor);
        exact[r][1] = _mm512_dpwssd_epi32(exact[r][1], w1, factor);
      }
    }
    const __m512 scale0 = _mm512_load_ps(panel.scales[b]), scale1 = _mm512_load_ps(panel.scales[b] + 16);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512 of_row = _mm512_set1_ps(xs[r]->scale[b]);
      sum[r][0] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(exact[r][0]), of_row), scale0, sum[r][0]);
      sum[r][1] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(exact[r][1]), of_row), scale1, sum[r][1]);
    }
  }
  // The rests: a few elements of a hundred.
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    for (int64_t b = 0; b < blocks; ++b) {
      for (uint32_t left = xs[r]->inexact[b]; left != 0; left &= left - 1) {
        const int i = std::countr_zero(left);
        const __m512i which = _mm512_set1_epi32(i % 8 < 4 ? 1 : 1 << 16);
        const int32_t* pairs = panel.pairs[b][i / 8 * 4 + i % 4];
        const __m512 rest = _mm512_set1_ps(xs[r]->rest[b * kBlock + i]);
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          const __m512 code = _mm512_cvtepi32_ps(_mm512_madd_epi16(_mm512_load_si512(pairs + 16 * half), which));
          const __m512 value = _mm512_mul_ps(code, _mm512_load_ps(panel.scales[b] + 16 * half));
          sum[r][half] = _mm512_fmadd_ps(rest, value, sum[r][half]);
        }
      }
    }
    _mm512_store_ps(out + r * kTileW, sum[r][0]);
    _mm512_store_ps(out + r * kTileW + 16, sum[r][1]);
  }
}

// out[c, j] = x[c] . weight[w_begin + j] for c < x_count <= kPromptX and j < w_count <= kTileW; x rows are packed. The
// other elements of `out` (x_count, kTileW), which is 64-byte aligned, are left with anything.
static inline void PromptProductTile(const PromptStretch* const* x /* (x_count) */, int64_t x_count,
                                     const Mxfp4<const e2m1x2, 2>& weight, int64_t w_begin, int64_t w_count, int64_t k,
                                     float* out) {
  PromptPanel panel;
  std::memset(out, 0, static_cast<size_t>(x_count * kTileW) * sizeof(float));
  for (int64_t stretch = 0; stretch < PromptStretches(k); ++stretch) {
    const int64_t first = stretch * kPromptBlocks;
    const int64_t blocks = std::min(kPromptBlocks, k / kBlock - first);
    for (int64_t w = 0; w < w_count; w += kPromptPanel) {
      for (int part = 0; part < 2; ++part) {
        const int64_t begin = std::min(w + 16 * part, w_count - 1);
        DecodePanelPart(weight, w_begin + begin, std::min<int64_t>(16, w_count - begin), first, blocks, part, &panel);
      }
      for (int64_t c = 0; c < x_count; c += kPromptRows) {
        const PromptStretch* rows[kPromptRows];
        const int64_t count = std::min<int64_t>(kPromptRows, x_count - c);
        for (int64_t r = 0; r < count; ++r) rows[r] = x[c + r] + stretch;
        WithCount<kPromptRows>(count, [&]<int R>(std::integral_constant<int, R>) {
          PromptTile<R>(panel, blocks, rows, out + c * kTileW + w);
        });
      }
    }
  }
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA

#endif
