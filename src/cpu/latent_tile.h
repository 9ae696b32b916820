// The register tiles of decode attention: products of queries with a tile of cache rows, and weighted sums of the rows.
// Every result is one running sum of fixed order, whatever the tile, so that neither the number of heads nor of rows
// changes it: a block of 32 adds its even elements, then its odd ones, in sixteen sums that are added at the end.
//
// Queries and results are split rows of float32. Cache rows are bf16 where they lie, made float32 in registers, or
// split rows of float32. As many heads share a row's registers as they hold sums for: on AVX-512 48 multiply-adds of
// scores take 6 conversions and 22 loads, and 16 of values 2 and 10, so that multiply-adds bind. Where `vdpbf16ps` is,
// scores of bf16 queries and rows are its sums, which counts subnormal numbers as 0.
#pragma once

#include "cpu/attention_tile.h"
#include "cpu/simd_math.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

inline constexpr int64_t kScoreHeads = 16;  // heads that share the softmax's vectors, one a lane
inline constexpr int kTileHeads = kParts == 1 ? 8 : 4;
inline constexpr int kTileTokens = 3;

// Rows of a tile: bf16 in their order, or split float32; whole blocks of kSplitBlock.
template <class T>
struct LatentRows {
  const T* row[kTokenTile];
};

// Part p of the even and of the odd elements of a block.
MXMLA_INLINE F32Native EvenPart(const bf16* block, int p) {
  return (F32Native)(*reinterpret_cast<const U32NativeAt*>(block + 2 * p * kNativeLanes) << 16);
}
MXMLA_INLINE F32Native OddPart(const bf16* block, int p) {
  return (F32Native)(*reinterpret_cast<const U32NativeAt*>(block + 2 * p * kNativeLanes) & 0xffff0000u);
}
MXMLA_INLINE F32Native NativeAt(const float* from) { return *reinterpret_cast<const F32NativeAt*>(from); }
MXMLA_INLINE F32Native EvenPart(const float* block, int p) { return NativeAt(block + p * kNativeLanes); }
MXMLA_INLINE F32Native OddPart(const float* block, int p) { return NativeAt(block + 16 + p * kNativeLanes); }

#if defined(__AVX512F__)
// The sums of the lanes of eight vectors, each in ReduceAdd's order.
MXMLA_INLINE __m256 ReduceEight(const F32Native* sum, int step) {
  __m512 eight[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const auto a = (__m512)sum[2 * i * step], b = (__m512)sum[(2 * i + 1) * step];
    eight[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  }
  __m512 four[2];
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    four[i] = _mm512_add_ps(_mm512_shuffle_f32x4(eight[2 * i], eight[2 * i + 1], 0x88),
                            _mm512_shuffle_f32x4(eight[2 * i], eight[2 * i + 1], 0xdd));
  }
  const __m512 two =
      _mm512_add_ps(_mm512_shuffle_ps(four[0], four[1], 0x44), _mm512_shuffle_ps(four[0], four[1], 0xee));
  const __m512 one = _mm512_add_ps(two, _mm512_permute_ps(two, 0xb1));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
  return _mm512_castps512_ps256(_mm512_permutexvar_ps(order, one));
}
#endif

// scores[t, h] = query_h . row_t for H queries, `query_stride` apart, and T rows of `blocks` blocks.
template <int H, int T, class Element>
[[gnu::noinline]] static void ScoreTile(const float* query, int64_t query_stride, const Element* const* rows,
                                        int64_t blocks, float* scores /* (T, kScoreHeads) */) {
  const Element* row[T];
#pragma GCC unroll 4
  for (int t = 0; t < T; ++t) row[t] = rows[t];
  F32Native sum[kParts][H * T];
#pragma GCC unroll 4
  for (int p = 0; p < kParts; ++p) {  // part by part, because the lanes are independent and the registers few
    F32Native part[H * T] = {};
    for (int64_t k = 0; k < blocks * kSplitBlock; k += kSplitBlock) {
#pragma GCC unroll 2
      for (int odd = 0; odd < 2; ++odd) {
        F32Native of_row[T];
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) of_row[t] = odd ? OddPart(row[t] + k, p) : EvenPart(row[t] + k, p);
#pragma GCC unroll 8
        for (int h = 0; h < H; ++h) {
          F32Native q = NativeAt(query + h * query_stride + k + 16 * odd + p * kNativeLanes);
          KeepInRegister(q);
#pragma GCC unroll 4
          for (int t = 0; t < T; ++t) part[h * T + t] = FmaNative(q, of_row[t], part[h * T + t]);
        }
      }
    }
#pragma GCC unroll 32
    for (int i = 0; i < H * T; ++i) sum[p][i] = part[i];
  }
#pragma GCC unroll 4
  for (int t = 0; t < T; ++t) {
#if defined(__AVX512F__)
    if constexpr (H == 8) {
      _mm256_storeu_ps(scores + t * kScoreHeads, ReduceEight(sum[0] + t, T));
      continue;
    }
#endif
    for (int h = 0; h < H; ++h) {
      scores[t * kScoreHeads + h] =
          ReduceAdd(Map<F32Native>([&](int p) __attribute__((always_inline)) { return sum[p][h * T + t]; }));
    }
  }
}

#if defined(__AVX512BF16__)
// The same of bf16 queries in their order: half the instructions.
template <int H, int T>
[[gnu::noinline]] static void ScoreTile(const bf16* query, int64_t query_stride, const bf16* const* rows,
                                        int64_t blocks, float* scores /* (T, kScoreHeads) */) {
  const bf16* row[T];
#pragma GCC unroll 4
  for (int t = 0; t < T; ++t) row[t] = rows[t];
  F32Native sum[H * T] = {};
  for (int64_t k = 0; k < blocks * kSplitBlock; k += kSplitBlock) {
    __m512i of_row[T];
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) of_row[t] = _mm512_loadu_si512(row[t] + k);
#pragma GCC unroll 8
    for (int h = 0; h < H; ++h) {
      __m512i q = _mm512_loadu_si512(query + h * query_stride + k);
      asm("" : "+v"(q));  // one load for all rows
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        sum[h * T + t] = (F32Native)_mm512_dpbf16_ps((__m512)sum[h * T + t], (__m512bh)q, (__m512bh)of_row[t]);
      }
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < T; ++t) {
    if constexpr (H == 8) {
      _mm256_storeu_ps(scores + t * kScoreHeads, ReduceEight(sum + t, T));
    } else {
      for (int h = 0; h < H; ++h) scores[t * kScoreHeads + h] = ReduceAdd(F32x16{{sum[h * T + t]}});
    }
  }
}
#endif

// Turns `tokens` rows of raw scores, a lane a head, into weights exp(scale * score - largest so far), and gives the
// factors by which what was summed before shrinks. `largest` starts at -infinity, `sum` at 0.
static inline void SoftmaxHeads(float* scores /* (tokens, kScoreHeads) */, int64_t tokens, float scale,
                                float* largest /* (kScoreHeads) */, float* sum, float* factors) {
  const F32x16 before = Load(largest);
  F32x16 most = before;
  for (int64_t t = 0; t < tokens; ++t) {
    const F32x16 s = Load(scores + t * kScoreHeads) * Splat(scale);
    Store(scores + t * kScoreHeads, s);
    most = Max(s, most);
  }
  const F32x16 factor = Exp(before - most);
  Store(factors, factor);
  Store(largest, most);
  F32x16 total[2] = {Zero(), Zero()};
  for (int64_t t = 0; t < tokens; ++t) {
    const F32x16 weight = Exp(Load(scores + t * kScoreHeads) - most);
    Store(scores + t * kScoreHeads, weight);
    total[t % 2] = total[t % 2] + weight;
  }
  Store(sum, Load(sum) * factor + (total[0] + total[1]));
}

// Rows that come next, of which parts are asked for while others are multiplied.
struct RowsAhead {
  const char* row[kTokenTile];
  int64_t bytes;  // of a row
};

// Block `block` of values_h = values_h * factor_h + sum over t of weights[t, h] * row_t, for H heads. Where kAhead,
// asks for lines line_begin .. line_end of the next rows, one row at a time: of many asked for at once processors drop
// some (Zen 5) or stall (Xeon).
template <int H, bool kAhead, class Element>
[[gnu::noinline]] static void WeighTile(const float* weights /* (tokens, kScoreHeads) */,
                                        const float* factors /* (H) */, const Element* const* rows, int64_t block,
                                        int64_t tokens, float* values, int64_t value_stride,
                                        const char* const* ahead /* (tokens) */, int64_t line_begin, int64_t line_end) {
  values += block * kSplitBlock;
#pragma GCC unroll 4
  for (int p = 0; p < kParts; ++p) {
    F32Native even[H], odd[H];
    float* to = values + p * kNativeLanes;
#pragma GCC unroll 8
    for (int h = 0; h < H; ++h) {
      const F32Native factor = SplatNative(factors[h]);
      even[h] = NativeAt(to + h * value_stride) * factor;
      odd[h] = NativeAt(to + h * value_stride + 16) * factor;
    }
    const float* of_token = weights;
    for (int64_t t = 0; t < tokens; ++t, of_token += kScoreHeads) {
      if (kAhead && p == 0) {
        for (int64_t line = line_begin; line < line_end; ++line) __builtin_prefetch(ahead[t] + 64 * line, 0, 2);
      }
      const Element* at = rows[t] + block * kSplitBlock;
      const F32Native row_even = EvenPart(at, p), row_odd = OddPart(at, p);
#pragma GCC unroll 8
      for (int h = 0; h < H; ++h) {
        F32Native weight = SplatNative(of_token[h]);
        KeepInRegister(weight);
        even[h] = FmaNative(weight, row_even, even[h]);
        odd[h] = FmaNative(weight, row_odd, odd[h]);
      }
    }
#pragma GCC unroll 8
    for (int h = 0; h < H; ++h) {
      *reinterpret_cast<F32NativeAt*>(to + h * value_stride) = even[h];
      *reinterpret_cast<F32NativeAt*>(to + h * value_stride + 16) = odd[h];
    }
  }
}

// Calls run(h, H) for tiles of H heads from h on; `heads` is a multiple of 4.
template <class Run>
MXMLA_INLINE void ForEachHeadTile(int64_t heads, const Run& run) {
  int64_t h = 0;
  for (; h + kTileHeads <= heads; h += kTileHeads) run(h, std::integral_constant<int, kTileHeads>{});
  if constexpr (kTileHeads > 4) {
    for (; h < heads; h += 4) run(h, std::integral_constant<int, 4>{});
  }
}

// A tile of `tokens` rows for `heads` queries, a multiple of 4 up to kScoreHeads. A tile's queries stay in the
// first-level cache while the rows pass by.
template <class Query, class Element>
static void ScoreRows(const Query* query, int64_t query_stride, int64_t heads, const LatentRows<Element>& rows,
                      int64_t tokens, int64_t blocks, float* scores /* (tokens, kScoreHeads) */) {
  ForEachHeadTile(heads, [&]<int H>(int64_t h, std::integral_constant<int, H>) {
    const Query* q = query + h * query_stride;
    int64_t t = 0;
    for (; t + kTileTokens <= tokens; t += kTileTokens) {
      ScoreTile<H, kTileTokens>(q, query_stride, rows.row + t, blocks, scores + t * kScoreHeads + h);
    }
    for (; t < tokens; ++t) ScoreTile<H, 1>(q, query_stride, rows.row + t, blocks, scores + t * kScoreHeads + h);
  });
}

// values (heads, blocks, kSplitBlock) as WeighTile.
template <class Element>
static void WeighRows(const float* weights, const float* factors, int64_t heads, const LatentRows<Element>& rows,
                      int64_t tokens, int64_t blocks, float* values, const RowsAhead& ahead) {
  const int64_t stride = blocks * kSplitBlock;
  const int64_t lines = (ahead.bytes + 63) / 64;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t begin = lines * block / blocks, end = lines * (block + 1) / blocks;
    ForEachHeadTile(heads, [&]<int H>(int64_t h, std::integral_constant<int, H>) {
      const auto run = [&]<bool kAhead>(std::bool_constant<kAhead>) {
        WeighTile<H, kAhead>(weights + h, factors + h, rows.row, block, tokens, values + h * stride, stride, ahead.row,
                             begin, end);
      };
      h == 0 && begin < end ? run(std::true_type{}) : run(std::false_type{});
    });
  }
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
