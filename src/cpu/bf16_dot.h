// Products of bf16 activations on `vdpbf16ps`: 32 exact products of bf16 pairs, added in float32.
//
// Weights become bf16 without rounding (E2M1 codes and e4m3 codes do; block scales are left out), a chunk of 128
// elements at a time: four vectors of 32. Each of an output's sixteen running sums, one a lane, takes a chunk as
//   t = sum over the chunk's vectors, in their order;  sum += t * scale of the lane's block (MXFP4) or chunk (FP8)
// and the lanes are added at the end in ReduceAdd's order. The order is the same on every path below, so a result
// depends neither on the other rows of its tile, nor on the tiling, nor on the threads. It is that of float32 but for
// two things that the instruction fixes: subnormal numbers (below 2^-126) count as 0, and so do such sums.
//
// Which element stands where in a chunk is what decoding gives most cheaply (PackRow); activations are brought into
// that order once a call.
#pragma once

#if defined(__AVX512BF16__)

#include "cpu/product.h"
#include "cpu/weight_stream.h"
#include "cpu/with_count.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

inline constexpr int64_t kChunk = 128;      // elements
inline constexpr int kChunkVectors = 4;     // of 32 bf16
inline constexpr int64_t kChunkBlocks = 4;  // MXFP4 blocks, and blocks of kBlock elements
inline constexpr int kDotRows = 4;          // weight rows whose sums are added up together
inline constexpr int64_t kDotX = 6;         // activation rows side by side
static_assert(kDotRows == kPanelW);

inline constexpr int64_t ChunkCount(int64_t elements) { return (elements + kChunk - 1) / kChunk; }
// Elements of a packed row.
inline constexpr int64_t DotStride(int64_t k) { return ChunkCount(k) * kChunk; }

// ---- Activations ----

// x in the order of chunks of Row's format, with zeros up to whole chunks; `to` is 64-byte aligned.
template <class Row>
static void PackRow(const bf16* x /* (k) */, int64_t k, bf16* to /* (DotStride(k)) */) {
  alignas(64) uint16_t padded[kChunk];
  for (int64_t begin = 0; begin < k; begin += kChunk, to += kChunk) {
    const auto* from = reinterpret_cast<const uint16_t*>(x + begin);
    if (k - begin < kChunk) {
      std::memset(padded, 0, sizeof(padded));
      std::memcpy(padded, from, static_cast<size_t>(k - begin) * sizeof(uint16_t));
      from = padded;
    }
    __m512i v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) v[i] = _mm512_loadu_si512(from + 32 * i);
    if constexpr (std::is_same_v<Row, Mxfp4Row>) {
      // Vector a holds elements 4 * i + a: nibble a of each 16 bits of codes.
      alignas(64) uint16_t index[32];
#pragma GCC unroll 4
      for (int a = 0; a < 4; ++a) {
        for (int i = 0; i < 32; ++i) index[i] = static_cast<uint16_t>(4 * (i % 16) + a);
        const __m512i pick = _mm512_load_si512(index);
        const __m512i low = _mm512_permutex2var_epi16(v[0], pick, v[1]);
        const __m512i high = _mm512_permutex2var_epi16(v[2], pick, v[3]);
        _mm512_store_si512(to + 32 * a, _mm512_inserti64x4(low, _mm512_castsi512_si256(high), 1));
      }
    } else if constexpr (std::is_same_v<Row, Fp8Row>) {
      // Of each 64 elements, the first eight of every sixteen, then the last eight.
      const __m512i first = _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13);
      const __m512i last = _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15);
#pragma GCC unroll 2
      for (int i = 0; i < 4; i += 2) {
        _mm512_store_si512(to + 32 * i, _mm512_permutex2var_epi64(v[i], first, v[i + 1]));
        _mm512_store_si512(to + 32 * i + 32, _mm512_permutex2var_epi64(v[i], last, v[i + 1]));
      }
    } else {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) _mm512_store_si512(to + 32 * i, v[i]);
    }
  }
}

// ---- Weights ----

// bf16 bits of each code, without its sign for e4m3.
struct DotTables {
  alignas(64) uint16_t e2m1[32];  // the 16 codes, twice: the permutation looks at five bits
  alignas(64) uint8_t e4m3_low[128];
  alignas(64) uint8_t e4m3_high[128];
};
static constexpr DotTables MakeDotTables() {
  DotTables tables{};
  constexpr uint16_t kE2m1[8] = {0x0000, 0x3f00, 0x3f80, 0x3fc0, 0x4000, 0x4040, 0x4080, 0x40c0};
  for (int i = 0; i < 32; ++i) tables.e2m1[i] = static_cast<uint16_t>(kE2m1[i % 8] | (i % 16 / 8 << 15));
  for (int i = 0; i < 128; ++i) {
    int bits = (i << 4) + (120 << 7);  // a normal number
    if (i == 127) bits = 0x7fc0;
    if (i < 8) {  // m * 2^-9
      int exponent = 127 - 9, m = i;
      for (; m >= 2; m /= 2) ++exponent;
      const int fraction = i == 0 ? 0 : (i << 7 >> (exponent - (127 - 9))) & 0x7f;
      bits = i == 0 ? 0 : exponent << 7 | fraction;
    }
    tables.e4m3_low[i] = static_cast<uint8_t>(bits & 0xff);
    tables.e4m3_high[i] = static_cast<uint8_t>(bits >> 8);
  }
  return tables;
}
alignas(64) static constexpr DotTables kDotTables = MakeDotTables();

// A mask of the first `count` of 64 or 32 lanes.
MXMLA_INLINE __mmask64 FirstLanes(int64_t count) {
  return count >= 64 ? ~__mmask64{0} : count <= 0 ? 0 : (__mmask64{1} << count) - 1;
}

// Half `half` of the vectors of chunk `chunk` of a row as bf16; of the chunk's elements only the first `count` where
// !kWhole, then zeros.
template <bool kWhole>
MXMLA_INLINE void LoadHalf(const Mxfp4Row& row, int64_t chunk, int64_t count, int half, __m512i (&w)[2]) {
  const void* from = row.values + chunk * (kChunk / 2);
  __m512i codes = kWhole ? _mm512_loadu_si512(from) : _mm512_maskz_loadu_epi8(FirstLanes(count / 2), from);
  asm("" : "+v"(codes));  // one load for all uses: each would wait for the same line
  const __m512i table = _mm512_load_si512(kDotTables.e2m1);
  w[0] = _mm512_permutexvar_epi16(half ? _mm512_srli_epi16(codes, 8) : codes, table);
  w[1] = _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, half ? 12 : 4), table);
}
template <bool kWhole>
MXMLA_INLINE void LoadHalf(const Fp8Row& row, int64_t chunk, int64_t count, int half, __m512i (&w)[2]) {
  const __m512i low0 = _mm512_load_si512(kDotTables.e4m3_low), low1 = _mm512_load_si512(kDotTables.e4m3_low + 64);
  const __m512i high0 = _mm512_load_si512(kDotTables.e4m3_high), high1 = _mm512_load_si512(kDotTables.e4m3_high + 64);
  const e4m3* from = row.values + chunk * kChunk + 64 * half;
  __m512i codes = kWhole ? _mm512_loadu_si512(from) : _mm512_maskz_loadu_epi8(FirstLanes(count - 64 * half), from);
  asm("" : "+v"(codes));
  const __m512i low = _mm512_permutex2var_epi8(low0, codes, low1);
  __m512i high = _mm512_permutex2var_epi8(high0, codes, high1);
  high = _mm512_ternarylogic_epi32(high, codes, _mm512_set1_epi8(-0x80), 0xf8);  // a | b & c
  w[0] = _mm512_unpacklo_epi8(low, high);
  w[1] = _mm512_unpackhi_epi8(low, high);
}
template <bool kWhole>
MXMLA_INLINE void LoadHalf(const Bf16Row& row, int64_t chunk, int64_t count, int half, __m512i (&w)[2]) {
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const int64_t begin = 64 * half + 32 * i;
    const bf16* from = row.values + chunk * kChunk + begin;
    w[i] = kWhole ? _mm512_loadu_si512(from)
                  : _mm512_maskz_loadu_epi16(static_cast<__mmask32>(FirstLanes(std::min<int64_t>(count - begin, 32))),
                                             from);
  }
}
template <bool kWhole, class Row>
MXMLA_INLINE void LoadChunk(const Row& row, int64_t chunk, int64_t count, __m512i (&w)[kChunkVectors]) {
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    __m512i part[2];
    LoadHalf<kWhole>(row, chunk, count, half, part);
    w[2 * half] = part[0];
    w[2 * half + 1] = part[1];
  }
}

template <class Row>
inline constexpr bool kHasScale = !std::is_same_v<Row, Bf16Row>;

// The scales of up to four chunks of a row, of which chunk i's come as a vector.
template <class Row>
struct ChunkScales;
template <>
struct ChunkScales<Bf16Row> {
  [[gnu::always_inline]] void Read(const Bf16Row&, int64_t, int64_t) {}
  [[gnu::always_inline]] __m512 Of(int64_t) const { return _mm512_setzero_ps(); }
};
template <>
struct ChunkScales<Fp8Row> {
  const float* scales;
  int64_t stride;
  [[gnu::always_inline]] void Read(const Fp8Row& row, int64_t chunk, int64_t) {
    scales = row.scales + chunk * row.scale_stride;
    stride = row.scale_stride;
  }
  [[gnu::always_inline]] __m512 Of(int64_t i) const { return _mm512_set1_ps(scales[i * stride]); }
};
template <>
struct ChunkScales<Mxfp4Row> {
  __m512 scales;
  [[gnu::always_inline]] void Read(const Mxfp4Row& row, int64_t chunk, int64_t blocks) {
    const auto mask = static_cast<__mmask16>((1u << blocks) - 1);
    const __m512i codes = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, row.scales + chunk * kChunkBlocks));
    // Code 0 is 2^-127, a subnormal, and 255 is NaN: one more bit for both. Blocks past the row have scale 0.
    const __mmask16 odd = _mm512_mask_cmplt_epu32_mask(
        mask, _mm512_and_si512(_mm512_add_epi32(codes, _mm512_set1_epi32(1)), _mm512_set1_epi32(0xff)),
        _mm512_set1_epi32(2));
    const __m512i bits = _mm512_slli_epi32(codes, 23);
    scales = _mm512_castsi512_ps(_mm512_mask_or_epi32(bits, odd, bits, _mm512_set1_epi32(0x00400000)));
  }
  [[gnu::always_inline]] __m512 Of(int64_t i) const {
    const __m512i lane = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return _mm512_permutexvar_ps(_mm512_add_epi32(lane, _mm512_set1_epi32(static_cast<int>(4 * i))), scales);
  }
};

// Asks for the row's chunk `bytes` further on, into the second-level cache: the first level cannot wait for as many
// lines as memory needs under way.
template <class Row>
MXMLA_INLINE void PrefetchChunk(const Row& row, int64_t chunk, int64_t bytes) {
  constexpr int64_t kBytes = kBlockBytes<Row> * kChunkBlocks;
  const char* at = reinterpret_cast<const char*>(row.values) + chunk * kBytes + bytes;
#pragma GCC unroll 4
  for (int64_t line = 0; line < kBytes; line += 64) __builtin_prefetch(at + line, 0, 2);
}

// ---- Tiles ----

// Asks for what lies behind the rows of a tile in the order of addresses, in which the hardware asks for more by
// itself: into the second-level cache what memory gives in the meantime, and where rows are side by side, and so no
// stream, into the first the tile behind this one. Many lines are never asked for at once, not of a task's first rows
// either: processors drop some (Zen 5) or stall (Xeon). The end of a stretch asks for the first of the next one.
inline constexpr int64_t kDotAhead = 8192;  // bytes
template <bool kNear, class Row>
MXMLA_INLINE void PrefetchStream(const Row& first_row, int64_t chunk /* of all rows' */, int64_t ahead, int64_t near) {
  constexpr int64_t kBytes = kBlockBytes<Row> * kChunkBlocks;
  const char* at = reinterpret_cast<const char*>(first_row.values) + chunk * kBytes;
#pragma GCC unroll 4
  for (int64_t line = 0; line < kBytes; line += 64) {
    __builtin_prefetch(at + line + ahead, 0, 2);
    if (kNear) __builtin_prefetch(at + line + near, 0, 3);
  }
}

// Chunk `chunk` of R weight rows and C activation rows: see above. Vectors of x are loaded once for all weight rows,
// and one after the other, so that sums are many and none waits for itself.
template <bool kWhole, class Row, int R, int C>
MXMLA_INLINE void AddChunk(const Row* rows, ChunkScales<Row>* scales, int64_t group, int64_t i, int64_t count,
                           const bf16* const* x, __m512 (&sum)[R][C]) {
  __m512 t[R][C];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) t[r][c] = kHasScale<Row> ? _mm512_setzero_ps() : sum[r][c];
  }
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    __m512i w[R][2];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) LoadHalf<kWhole>(rows[r], group + i, count, half, w[r]);
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        __m512i of_x = _mm512_load_si512(x[c] + (group + i) * kChunk + 64 * half + 32 * v);
        if constexpr (R > 1) asm("" : "+v"(of_x));  // one load for all rows
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) t[r][c] = _mm512_dpbf16_ps(t[r][c], (__m512bh)w[r][v], (__m512bh)of_x);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const __m512 scale = scales[r].Of(i);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) sum[r][c] = kHasScale<Row> ? _mm512_fmadd_ps(t[r][c], scale, sum[r][c]) : t[r][c];
  }
}

// sums (C, 16) of R weight rows `step` apart, C * 16 floats a row, over all of k. Where kNear, asks for the tile behind
// this one into the first-level cache.
template <class Row, int R, int C, bool kNear>
[[gnu::noinline]] static void DotTile(const Row* rows /* (R) */, RowStep step, int64_t k,
                                      const bf16* const* x /* (C), each (k) */, const StreamEnd& stream_end,
                                      float* sums /* (R, C, 16) */) {
  __m512 sum[R][C];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) sum[r][c] = _mm512_setzero_ps();
  }
  Row row[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) row[r] = rows[r];
  const bf16* xs[C];
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) xs[c] = x[c];
  const int64_t whole = k / kChunk;
  const int64_t chunks = ChunkCount(k);
  constexpr int64_t kChunkBytes = kBlockBytes<Row> * kChunkBlocks;
  const int64_t values_left = stream_end.ValuesFrom(row[0].values);
  int64_t scales_ahead = 0;
  if constexpr (std::is_same_v<Row, Mxfp4Row>) {
    scales_ahead = 2 * R * step.scales;
    if (scales_ahead >= stream_end.ScalesFrom(row[0].scales)) scales_ahead += stream_end.scales_jump;
  }
  for (int64_t group = 0; group < chunks; group += 4) {
    int64_t ahead = kDotAhead, near = R * step.values;
    if (group * R * kChunkBytes + ahead >= values_left) ahead += stream_end.values_jump;
    if (group * R * kChunkBytes + near >= values_left) near += stream_end.values_jump;
    ChunkScales<Row> scales[R];
    const int64_t blocks = std::min<int64_t>(4 * kChunkBlocks, BlockCount(k) - group * kChunkBlocks);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      scales[r].Read(row[r], group, blocks);
      if constexpr (std::is_same_v<Row, Mxfp4Row>) {
        __builtin_prefetch(row[r].scales + group * kChunkBlocks + scales_ahead, 0, 2);
      }
    }
    const int64_t end = std::min<int64_t>(whole - group, 4);
    const auto add_chunk = [&](int64_t i) __attribute__((always_inline)) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) PrefetchStream<kNear>(row[0], (group + i) * R + r, ahead, near);
      AddChunk<true>(row, scales, group, i, kChunk, xs, sum);
    };
    int64_t i = 0;
    if (C == 1 && end == 4) {  // unrolled, so that the scales' permutations are constants
#pragma GCC unroll 4
      for (; i < 4; ++i) add_chunk(i);
    } else {
      for (; i < end; ++i) add_chunk(i);
    }
    if (i < 4 && group + i < chunks) AddChunk<false>(row, scales, group, i, k - whole * kChunk, xs, sum);
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) _mm512_store_ps(sums + (r * C + c) * 16, sum[r][c]);
  }
}

// Calls run(R, kNear) as constants, for R weight rows side by side: as many as share loads of activations while their
// sums have registers, if two tiles of them leave the first-level cache room. FP8 takes so long to decode that one row
// after the other is faster from memory while the products are few (docs/performance.md).
template <class Row, int C, class Run>
MXMLA_INLINE void SideBySide(int64_t row_bytes, const Run& run) {
  constexpr int R = C <= 2 ? kDotRows : kDotRows / 2;
  const bool near = R * row_bytes <= 16384;
  if (C <= 2 && (!near || std::is_same_v<Row, Fp8Row>)) {
    run(std::integral_constant<int, 1>{}, std::false_type{});
  } else if (near) {
    run(std::integral_constant<int, R>{}, std::true_type{});
  } else {
    run(std::integral_constant<int, R>{}, std::false_type{});
  }
}

template <int C, class Weight>
static void DotProduct(const bf16* const* x /* (C) */, const Weight& weight, int64_t w_begin, int64_t w_count,
                       int64_t k, const StreamEnd& end, float* out /* (C, kTileW) */) {
  using Row = decltype(RowOf(weight, 0));
  alignas(64) float sums[kDotRows * C * 16];
  const RowStep step = StepBetween(RowOf(weight, 0), RowOf(weight, 1));
  int64_t w = 0;
  SideBySide<Row, C>(step.values, [&]<int R, bool kNear>(std::integral_constant<int, R>, std::bool_constant<kNear>) {
    for (; w + kDotRows <= w_count; w += kDotRows) {
      for (int r = 0; r < kDotRows; r += R) {
        Row rows[R];
        for (int i = 0; i < R; ++i) rows[i] = RowOf(weight, w_begin + w + r + i);
        DotTile<Row, R, C, kNear>(rows, step, k, x, end, sums + r * C * 16);
      }
      for (int c = 0; c < C; ++c) ReduceStrip(sums + c * 16, C * 16, out + c * kTileW + w);
    }
  });
  for (; w < w_count; ++w) {
    const Row row = RowOf(weight, w_begin + w);
    DotTile<Row, 1, C, false>(&row, step, k, x, end, sums);
    for (int c = 0; c < C; ++c) out[c * kTileW + w] = ReduceAdd(Load(sums + c * 16));
  }
}

// out[c, j] = x[c] . weight[w_begin + j] for c < x_count <= kTileX and j < w_count <= kTileW; x rows are packed
// (PackRow). The other elements of `out` (x_count, kTileW) are left with anything. Activation rows take turns of nearly
// equal size, for which the weights are in the second-level cache.
template <class Weight>
static void DotProductTile(const bf16* const* x /* (x_count) */, int64_t x_count, const Weight& weight, int64_t w_begin,
                           int64_t w_count, int64_t k, const StreamEnd& end, float* out) {
  const int64_t turns = (x_count + kDotX - 1) / kDotX;
  for (int64_t turn = 0; turn < turns; ++turn) {
    const int64_t c = x_count * turn / turns;
    WithCount<kDotX>(x_count * (turn + 1) / turns - c, [&]<int C>(std::integral_constant<int, C>) {
      DotProduct<C>(x + c, weight, w_begin, w_count, k, end, out + c * kTileW);
    });
  }
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA

#endif  // __AVX512BF16__
