// Products of MXFP4 weights in whole numbers: weights as bytes 2 * E2M1 + 12, activations as 24-bit fixed point.
//
// An activation x of a block of 32 becomes q = x / 2^(e - 23), rounded to nearest, where 2^e is just above the block's
// largest magnitude, and q three signed bytes. Bytes are multiplied and added exactly; what 12 in every weight adds is
// known beforehand and taken off. So of each four bytes of codes (8 products) the sum is exact, but for q's rounding:
// at most 2^-23 * 256/255 of the block's largest magnitude for one activation, and none where the activations are bf16
// of at least 2^-15 of it. Then it is one float32, scaled by both blocks' powers of two:
//   sum = fma(float(exact sum), 2^(e - 23) * weight scale / 2, sum)
// in sixteen running sums, one for each four bytes of a chunk's 64, added at the end in ReduceAdd's order. The product
// of the scales counts as 0 below 2^-149, and as 2^127 above that. A block of activations that holds NaN or infinity
// makes every output that reads it NaN. Blocks below 2^-100 are fixed points relative to 2^-99. The order of the sums
// depends on k alone, and instruction sets agree to the bit.
#pragma once

#include "cpu/simd.h"

#if defined(__AVX512VNNI__) || (defined(__AVX2__) && !defined(__AVX512F__))
#define MXMLA_FIXED_POINT 1

#include <bit>
#include <limits>

#include "cpu/product.h"
#include "cpu/weight_stream.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

inline constexpr int64_t kFixedBlocks = 4;  // of a chunk, whose codes are 64 bytes
inline constexpr int64_t kFixedChunk = kFixedBlocks * kBlock;
inline constexpr int kFixedRows = kParts == 1 ? 4 : 2;  // weight rows side by side
inline constexpr int kFixedX = kParts == 1 ? 4 : 2;     // activation rows side by side

struct alignas(64) FixedChunk {
  int8_t digit[3][2][64];  // the highest first; of the even elements, then of the odd ones
  int32_t correction[16];  // -12 times the sum of the q that 4 bytes of codes meet
  // 2^(e - 23) of the blocks of this chunk and of the three after it; only in each fourth chunk of a row.
  float scales[kGroupBlocks];
};
inline constexpr int64_t kGroupChunks = kGroupBlocks / kFixedBlocks;

inline constexpr int64_t FixedChunks(int64_t k) { return (k + kFixedChunk - 1) / kFixedChunk; }

// Rounds to nearest.
MXMLA_INLINE I32x16 Round(F32x16 x) {
#if defined(__AVX512F__)
  return {{(I32Native)_mm512_cvtps_epi32((__m512)x.part[0])}};
#else
  return MXMLA_MAP(I32Native, _mm256_cvtps_epi32((__m256)x.part[p]));
#endif
}

// The low 8 bits of each lane.
MXMLA_INLINE void StoreBytes(int8_t* to /* (16) */, I32x16 a) {
#if defined(__AVX512F__)
  _mm_store_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8((__m512i)a.part[0]));
#else
  const __m256i low = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12, -1, -1,
                                       -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
#pragma GCC unroll 2
  for (int p = 0; p < kParts; ++p) {
    const __m256i bytes = _mm256_shuffle_epi8((__m256i)a.part[p], low);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 8 * p),
                     _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)));
  }
#endif
}

// Block b of a chunk; its scale goes to *scale.
static inline void PackFixedBlock(const Block& block, int64_t b, FixedChunk* to, float* scale) {
  const F32x16 magnitude = Max(Abs(block.even), Abs(block.odd));
  const I32x16 infinite = (AsSigned(BitsOf(Abs(block.even))) >= Splat(0x7f800000)) |
                          (AsSigned(BitsOf(Abs(block.odd))) >= Splat(0x7f800000));
  if (Any(infinite)) {
    for (auto& digit : to->digit) {
      for (auto& half : digit) std::memset(half + 16 * b, 0, 16);
    }
    for (int i = 0; i < 4; ++i) to->correction[4 * b + i] = 0;
    *scale = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  // The three bytes hold up to 0x7f7f7f: from 0x7f7f7f.8 on (with its leading bit, 0xfefeff) the next power is taken.
  const uint32_t largest = std::bit_cast<uint32_t>(ReduceMax(magnitude)) + 0x10101u;
  const uint32_t exponent = std::max(largest >> 23, 27u);  // e + 126
  *scale = std::bit_cast<float>((exponent - 22) << 23);
  const F32x16 inverse = Splat(std::bit_cast<float>((276 - exponent) << 23));
  I32x16 q[2] = {Round(block.even * inverse), Round(block.odd * inverse)};
  alignas(64) int32_t sum[16];
  StoreWords(sum, BitsOf(q[0] + q[1]));
  for (int half = 0; half < 2; ++half) {
    for (int d = 2; d > 0; --d) {
      const I32x16 digit = AsSigned(BitsOf(q[half]) << 24) >> 24;
      StoreBytes(to->digit[d][half] + 16 * b, digit);
      q[half] = (q[half] - digit) >> 8;
    }
    StoreBytes(to->digit[0][half] + 16 * b, q[half]);
  }
  for (int i = 0; i < 4; ++i) {
    to->correction[4 * b + i] = -12 * (sum[4 * i] + sum[4 * i + 1] + sum[4 * i + 2] + sum[4 * i + 3]);
  }
}

// k is a multiple of 32, as MXFP4 asks; what a last chunk, and the last scales, have beyond it is 0.
static inline void PackFixedRow(const AnyRow& any_row, int64_t k, FixedChunk* to /* (FixedChunks(k)) */) {
  if (k % kFixedChunk != 0) std::memset(to + k / kFixedChunk, 0, sizeof(FixedChunk));
  std::memset(to[(FixedChunks(k) - 1) / kGroupChunks * kGroupChunks].scales, 0, sizeof(to->scales));
  std::visit(
      [&](const auto& row) {
        ForEachBlock(row, {0, k / kBlock, 0}, [&](int64_t i, const Block& block) {
          PackFixedBlock(block, i % kFixedBlocks, to + i / kFixedBlocks,
                         to[i / kGroupBlocks * kGroupChunks].scales + i % kGroupBlocks);
        });
      },
      any_row);
}

// Of 64 bytes of codes, 2 * E2M1 + 12 of the low nibbles and of the high ones.
struct CodeBytes {
  U32x16 even;
  U32x16 odd;
};
alignas(64) static constexpr uint8_t kCodeBytes[64] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0,
                                                       12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0,
                                                       12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0,
                                                       12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

MXMLA_INLINE CodeBytes DecodeBytes(const void* from /* 64 bytes */) {
  const U32x16 codes = LoadWords(from);
#if defined(__AVX512F__)
  // The permutation looks at six bits of each byte: the table repeats, so that the upper two do not matter.
  const __m512i table = _mm512_load_si512(kCodeBytes);
  const auto v = (__m512i)codes.part[0];
  return {{{(U32Native)_mm512_permutexvar_epi8(v, table)}},
          {{(U32Native)_mm512_permutexvar_epi8(_mm512_srli_epi16(v, 4), table)}}};
#else
  const __m256i table = _mm256_load_si256(reinterpret_cast<const __m256i*>(kCodeBytes));
  const __m256i low = _mm256_set1_epi8(15);
  return {MXMLA_MAP(U32Native, _mm256_shuffle_epi8(table, _mm256_and_si256((__m256i)codes.part[p], low))),
          MXMLA_MAP(U32Native,
                    _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16((__m256i)codes.part[p], 4), low)))};
#endif
}

#if !defined(__AVX512F__)
// Half p of FixedSums. Pairs of products are at most 2 * 24 * 128, and two pairs together far from 2^15.
MXMLA_INLINE I32Native HalfSums(__m256i even, __m256i odd, const FixedChunk& x, int p) {
  const __m256i one = _mm256_set1_epi16(1);
  const auto pairs = [&](int d) __attribute__((always_inline)) {
    const auto* of_even = reinterpret_cast<const __m256i*>(x.digit[d][0] + 32 * p);
    const auto* of_odd = reinterpret_cast<const __m256i*>(x.digit[d][1] + 32 * p);
    return _mm256_add_epi16(_mm256_maddubs_epi16(even, _mm256_load_si256(of_even)),
                            _mm256_maddubs_epi16(odd, _mm256_load_si256(of_odd)));
  };
  __m256i sum = _mm256_add_epi32(_mm256_madd_epi16(pairs(0), _mm256_set1_epi16(256)), _mm256_madd_epi16(pairs(1), one));
  sum = _mm256_add_epi32(_mm256_slli_epi32(sum, 8), _mm256_madd_epi16(pairs(2), one));
  return (I32Native)_mm256_add_epi32(sum, _mm256_load_si256(reinterpret_cast<const __m256i*>(x.correction + 8 * p)));
}
#endif

// The exact sums of a chunk, each of 4 bytes of codes. A digit's sums, at most 8 * 24 * 128, fit 16 bits, so that one
// instruction shifts the middle one's and adds them. The three are summed apart: a chain of all of them takes twice as
// long as the processor looks ahead.
MXMLA_INLINE I32x16 FixedSums(const CodeBytes& w, const FixedChunk& x) {
#if defined(__AVX512F__)
  const auto even = (__m512i)w.even.part[0], odd = (__m512i)w.odd.part[0];
  const auto digit = [&](int d, __m512i sum) __attribute__((always_inline)) {
    sum = _mm512_dpbusd_epi32(sum, even, _mm512_load_si512(x.digit[d][0]));
    return _mm512_dpbusd_epi32(sum, odd, _mm512_load_si512(x.digit[d][1]));
  };
  const __m512i high = _mm512_slli_epi32(digit(0, _mm512_setzero_si512()), 16);
  const __m512i middle = digit(1, _mm512_setzero_si512());
  const __m512i low = digit(2, _mm512_load_si512(x.correction));
  return {{(I32Native)_mm512_add_epi32(_mm512_dpwssd_epi32(low, middle, _mm512_set1_epi32(256)), high)}};
#else
  return MXMLA_MAP(I32Native, HalfSums((__m256i)w.even.part[p], (__m256i)w.odd.part[p], x, p));
#endif
}

// The scale of each lane's block, for blocks 4 * i .. 4 * i + 3 of those prepared.
MXMLA_INLINE F32x16 LaneScales(const float* scales /* (16), 64-byte aligned */, int64_t i) {
#if defined(__AVX512F__)
  const __m512i lane = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  return {{(F32Native)_mm512_permutexvar_ps(_mm512_add_epi32(lane, _mm512_set1_epi32(static_cast<int>(4 * i))),
                                            _mm512_load_ps(scales))}};
#else
  return MXMLA_MAP(F32Native, _mm256_blend_ps(_mm256_broadcast_ss(scales + 4 * i + 2 * p),
                                              _mm256_broadcast_ss(scales + 4 * i + 2 * p + 1), 0xf0));
#endif
}

// Infinity as 2^127, so that a block of zeros stays 0 under any scale; NaN stays.
MXMLA_INLINE F32x16 Bounded(F32x16 scales) {
#if defined(__AVX512F__)
  return {{(F32Native)_mm512_min_ps(_mm512_set1_ps(0x1p127f), (__m512)scales.part[0])}};
#else
  return MXMLA_MAP(F32Native, _mm256_min_ps(_mm256_set1_ps(0x1p127f), (__m256)scales.part[p]));
#endif
}

// What is asked for ahead of a tile, in the order of addresses, in which the hardware asks for more by itself: into the
// second-level cache first, then the tile behind this one into the first. The end of a stretch asks for the first of
// the next one.
inline constexpr int64_t kFixedAhead = 12288;  // bytes of codes

// sums (R, C, 16) of R weight rows `step` apart over all of k.
template <int R, int C>
[[gnu::noinline]] static void FixedTile(const Mxfp4Row* rows /* (R) */, RowStep step, int64_t k,
                                        const FixedChunk* const* x /* (C) */, const StreamEnd& stream_end,
                                        float* sums) {
  F32x16 sum[R][C];
  Mxfp4Row row[R];
  const FixedChunk* xs[C];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    row[r] = rows[r];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) sum[r][c] = Zero();
  }
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) xs[c] = x[c];
  const int64_t blocks = k / kBlock;
  const int64_t values_left = stream_end.ValuesFrom(row[0].values);
  int64_t scales_ahead = R * step.scales;
  if (scales_ahead >= stream_end.ScalesFrom(row[0].scales)) scales_ahead += stream_end.scales_jump;
  for (int64_t begin = 0; begin < blocks; begin += kGroupBlocks) {
    const int64_t count = std::min(blocks - begin, kGroupBlocks);
    const char* line = reinterpret_cast<const char*>(row[0].values) + begin / kFixedBlocks * R * 64;
    const int64_t left = values_left - begin / kFixedBlocks * R * 64;
    const int64_t ahead = kFixedAhead >= left ? kFixedAhead + stream_end.values_jump : kFixedAhead;
    const int64_t near = R * step.values >= left ? R * step.values + stream_end.values_jump : R * step.values;
    alignas(64) float scales[R][C][kGroupBlocks];  // products of both sides' scales
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      alignas(64) float of_row[kGroupBlocks];
      LoadScales(row[r], begin, count, of_row);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        const F32x16 of_x = Load(xs[c][begin / kFixedBlocks].scales);
        Store(scales[r][c], Bounded(Load(of_row) * Splat(0.5f) * of_x));
      }
      __builtin_prefetch(row[r].scales + begin + scales_ahead, 0, 3);
    }
    const auto chunk = [&](int64_t i, int r, const void* codes) __attribute__((always_inline)) {
      const CodeBytes w = DecodeBytes(codes);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        const FixedChunk& xc = xs[c][begin / kFixedBlocks + i];
        sum[r][c] = Fma(ToFloat(FixedSums(w, xc)), LaneScales(scales[r][c], i), sum[r][c]);
      }
    };
    int64_t i = 0;
    for (; i < count / kFixedBlocks; ++i) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        __builtin_prefetch(line + (i * R + r) * 64 + ahead, 0, 2);
        __builtin_prefetch(line + (i * R + r) * 64 + near, 0, 3);
        chunk(i, r, row[r].values + (begin / kFixedBlocks + i) * 64);
      }
    }
    if (count % kFixedBlocks != 0) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        alignas(64) e2m1x2 codes[64] = {};
        std::memcpy(codes, row[r].values + (begin / kFixedBlocks + i) * 64,
                    static_cast<size_t>(count % kFixedBlocks * (kBlock / 2)));
        chunk(i, r, codes);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) Store(sums + (r * C + c) * 16, sum[r][c]);
  }
}

template <int C>
static void FixedProduct(const FixedChunk* const* x /* (C) */, const Mxfp4<const e2m1x2, 2>& weight, int64_t w_begin,
                         int64_t w_count, int64_t k, const StreamEnd& end, float* out /* (C, kTileW) */) {
  alignas(64) float sums[kFixedRows * C * 16];
  PrefetchRows(weight, w_begin, std::min(w_count, kPrefetchRows), 0, BlockCount(k));
  const RowStep step = StepBetween(RowOf(weight, 0), RowOf(weight, 1));
  for (int64_t w = 0; w < w_count;) {
    const auto run = [&]<int R>(std::integral_constant<int, R>) {
      Mxfp4Row rows[R];
      for (int r = 0; r < R; ++r) rows[r] = RowOf(weight, w_begin + w + r);
      FixedTile<R, C>(rows, step, k, x, end, sums);
      for (int r = 0; r < R; ++r) {
        for (int c = 0; c < C; ++c) out[c * kTileW + w + r] = ReduceAdd(Load(sums + (r * C + c) * 16));
      }
      w += R;
    };
    if (w + kFixedRows <= w_count) {
      run(std::integral_constant<int, kFixedRows>{});
    } else {
      run(std::integral_constant<int, 1>{});
    }
  }
}

// out[c, j] = x[c] . weight[w_begin + j] for j < w_count <= kTileW.
static inline void FixedProductTile(const FixedChunk* const* x /* (x_count) */, int64_t x_count,
                                    const Mxfp4<const e2m1x2, 2>& weight, int64_t w_begin, int64_t w_count, int64_t k,
                                    const StreamEnd& end, float* out /* (x_count, kTileW) */) {
  for (int64_t c = 0; c < x_count;) {
    const int64_t count = std::min<int64_t>(kFixedX, x_count - c);
    float* to = out + c * kTileW;
    if (count == 1) FixedProduct<1>(x + c, weight, w_begin, w_count, k, end, to);
    if (count == 2) FixedProduct<2>(x + c, weight, w_begin, w_count, k, end, to);
    if constexpr (kFixedX == 4) {
      if (count == 3) FixedProduct<3>(x + c, weight, w_begin, w_count, k, end, to);
      if (count == 4) FixedProduct<4>(x + c, weight, w_begin, w_count, k, end, to);
    }
    c += count;
  }
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA

#endif
