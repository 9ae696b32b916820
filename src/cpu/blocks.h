// Weights and activations of every format, read 32 consecutive elements at a time as two vectors: the even and the odd
// elements. That is how bf16 pairs and MXFP4 nibbles come apart most cheaply; the other formats follow. The values are
// exactly those of core/dtype.h (a code times its scale, rounded once), on every path and instruction set.
#pragma once

#include <cstring>
#include <variant>

#include "core/scaled.h"
#include "cpu/simd.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

inline constexpr int64_t kBlock = 32;        // elements of a block
inline constexpr int64_t kGroupBlocks = 16;  // blocks whose scales are prepared together

// Elements 0, 2, .. 30 and 1, 3, .. 31.
struct Block {
  F32x16 even;
  F32x16 odd;
};

// One row of k elements; k is known to whoever holds the row.
struct F32Row {
  const float* values;  // (k)
};
struct Bf16Row {
  const bf16* values;  // (k)
};
struct Fp8Row {
  const e4m3* values;    // (k)
  const float* scales;   // (ceil(k/128))
  int64_t scale_stride;  // between neighbours of `scales`
};
struct Mxfp4Row {
  const e2m1x2* values;  // (k/2)
  const e8m0* scales;    // (k/32)
};
struct Int4Row {
  const int4x2* values;  // (k/2)
  const bf16* scales;    // (k/32)
};
// Of activations.
using AnyRow = std::variant<F32Row, Bf16Row, Fp8Row, Mxfp4Row>;

// Row r of a matrix, or of head h of a tensor of rows and heads.
MXMLA_INLINE F32Row RowOf(const View<const float, 2>& x, int64_t r) { return {x.data + r * x.stride[0]}; }
MXMLA_INLINE Bf16Row RowOf(const View<const bf16, 2>& x, int64_t r) { return {x.data + r * x.stride[0]}; }
MXMLA_INLINE Fp8Row RowOf(const Fp8Group<const e4m3, 2>& x, int64_t r) {
  return {x.values.data + r * x.values.stride[0], x.scales.data + r * x.scales.stride[0], x.scales.stride[1]};
}
MXMLA_INLINE Fp8Row RowOf(const Fp8Block& x, int64_t r) {
  return {x.values.data + r * x.values.stride[0], x.scales.data + x.ScaleRow(r) * x.scales.stride[0],
          x.scales.stride[1]};
}
MXMLA_INLINE Mxfp4Row RowOf(const Mxfp4<const e2m1x2, 2>& x, int64_t r) {
  return {x.values.data + r * x.values.stride[0], x.scales.data + r * x.scales.stride[0]};
}
MXMLA_INLINE Int4Row RowOf(const Int4Group& x, int64_t r) {
  return {x.values.data + r * x.values.stride[0], x.scales.data + r * x.scales.stride[0]};
}
MXMLA_INLINE F32Row RowOf(const View<const float, 3>& x, int64_t r, int64_t h) {
  return {x.data + r * x.stride[0] + h * x.stride[1]};
}
MXMLA_INLINE Bf16Row RowOf(const View<const bf16, 3>& x, int64_t r, int64_t h) {
  return {x.data + r * x.stride[0] + h * x.stride[1]};
}
MXMLA_INLINE Fp8Row RowOf(const Fp8Group<const e4m3, 3>& x, int64_t r, int64_t h) {
  return {x.values.data + r * x.values.stride[0] + h * x.values.stride[1],
          x.scales.data + r * x.scales.stride[0] + h * x.scales.stride[1], x.scales.stride[2]};
}
MXMLA_INLINE Mxfp4Row RowOf(const Mxfp4<const e2m1x2, 3>& x, int64_t r, int64_t h) {
  return {x.values.data + r * x.values.stride[0] + h * x.values.stride[1],
          x.scales.data + r * x.scales.stride[0] + h * x.scales.stride[1]};
}
template <class... Alternatives>
static AnyRow RowOf(const std::variant<Alternatives...>& x, auto... at) {
  return std::visit([&](const auto& view) -> AnyRow { return RowOf(view, at...); }, x);
}

// Whether the elements lie in pairs, and 32 of them share one scale.
template <class Row>
inline constexpr bool kPaired = std::is_same_v<Row, Mxfp4Row> || std::is_same_v<Row, Int4Row>;

// ---- Even and odd, and back ----

#if defined(__AVX512F__)
#define MXMLA_EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define MXMLA_ODD(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#define MXMLA_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define MXMLA_HIGH(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif defined(__AVX2__)
#define MXMLA_EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#define MXMLA_ODD(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#define MXMLA_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define MXMLA_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define MXMLA_EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6)
#define MXMLA_ODD(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7)
#define MXMLA_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define MXMLA_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#endif

MXMLA_INLINE Block Deinterleave(const float* from /* (32) */) {
  const F32x16 x[2] = {Load(from), Load(from + 16)};
  const auto native = [&](int i) __attribute__((always_inline)) { return x[i / kParts].part[i % kParts]; };
  return {MXMLA_MAP(F32Native, MXMLA_EVEN(native(2 * p), native(2 * p + 1))),
          MXMLA_MAP(F32Native, MXMLA_ODD(native(2 * p), native(2 * p + 1)))};
}
// The first and the last 16 elements of the block, in their order.
MXMLA_INLINE F32x16 FirstHalf(const Block& x) {
  return MXMLA_MAP(F32Native, p % 2 ? MXMLA_HIGH(x.even.part[p / 2], x.odd.part[p / 2])
                                    : MXMLA_LOW(x.even.part[p / 2], x.odd.part[p / 2]));
}
MXMLA_INLINE F32x16 LastHalf(const Block& x) {
  if constexpr (kParts == 1) {
    return {{MXMLA_HIGH(x.even.part[0], x.odd.part[0])}};
  } else {
    constexpr int kFrom = kParts / 2;
    return MXMLA_MAP(F32Native, p % 2 ? MXMLA_HIGH(x.even.part[kFrom + p / 2], x.odd.part[kFrom + p / 2])
                                      : MXMLA_LOW(x.even.part[kFrom + p / 2], x.odd.part[kFrom + p / 2]));
  }
}
#undef MXMLA_EVEN
#undef MXMLA_ODD
#undef MXMLA_LOW
#undef MXMLA_HIGH

// ---- Scales: those of up to kGroupBlocks blocks, prepared together as floats ----

MXMLA_INLINE void LoadScales(const F32Row&, int64_t, int64_t, float*) {}
MXMLA_INLINE void LoadScales(const Bf16Row&, int64_t, int64_t, float*) {}

// One for each four blocks: first_block is a multiple of 4 (or the blocks share one scale); there is at least one
// block.
MXMLA_INLINE void LoadScales(const Fp8Row& row, int64_t first_block, int64_t blocks, float* scales /* (16) */) {
  const float* from = row.scales + first_block / 4 * row.scale_stride;
  scales[0] = from[0];
  for (int64_t s = 1; s < (blocks + 3) / 4; ++s) scales[s] = from[s * row.scale_stride];
}

// Lanes past the last block are 1: the subnormal number that 0 stands for takes a hundred cycles to multiply.
MXMLA_INLINE void LoadScales(const Mxfp4Row& row, int64_t first_block, int64_t blocks, float* scales /* (16) */) {
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask16>((1u << blocks) - 1);
  const __m128i bytes = _mm_mask_loadu_epi8(_mm_set1_epi8(127), mask, row.scales + first_block);
  const U32x16 codes{{(U32Native)_mm512_cvtepu8_epi32(bytes)}};
#else
  uint8_t bytes[kGroupBlocks];
  std::memset(bytes, 127, sizeof(bytes));
  std::memcpy(bytes, row.scales + first_block, static_cast<size_t>(blocks));
  const U32x16 codes = WidenBytes(bytes);
#endif
  // Code 0 is 2^-127, a subnormal, and 255 is NaN: one more bit for both.
  const I32x16 odd = ((codes + Splat(1u)) & Splat(0xffu)) < Splat(2u);
  StoreWords(scales, (codes << 23) | (BitsOf(odd) & Splat(0x00400000u)));
}

MXMLA_INLINE void LoadScales(const Int4Row& row, int64_t first_block, int64_t blocks, float* scales /* (16) */) {
  const bf16* from = row.scales + first_block;
  Store(scales, blocks == kGroupBlocks ? Load(from) : LoadPartial(from, blocks));
}

// ---- Decoding 32 elements ----

MXMLA_INLINE Block DecodeBf16(const void* from /* 64 bytes */) {
  const U32x16 pairs = LoadWords(from);
  return {FromBits(pairs << 16), FromBits(pairs & Splat(0xffff0000u))};
}

#if defined(__AVX512F__)
MXMLA_INLINE Block DecodeFp8(const void* from /* 32 bytes */, float scale) {
  // As bf16, which holds every e4m3: the few codes that are not normal numbers (NaN and the subnormals, next to one
  // another once 1 is added) come from a table.
  alignas(64) static constexpr uint16_t kSpecial[32] = {0x7fc0, 0x0000, 0x3b00, 0x3b80, 0x3bc0,
                                                        0x3c00, 0x3c20, 0x3c40, 0x3c60};
  const __m512i codes = _mm512_cvtepu8_epi16(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
  const __m512i index = _mm512_and_si512(_mm512_add_epi16(codes, _mm512_set1_epi16(1)), _mm512_set1_epi16(0x7f));
  __m512i half = _mm512_add_epi16(_mm512_slli_epi16(index, 4), _mm512_set1_epi16((120 << 7) - 16));
  const __mmask32 special = _mm512_cmplt_epu16_mask(index, _mm512_set1_epi16(9));
  half = _mm512_mask_permutexvar_epi16(half, special, index, _mm512_load_si512(kSpecial));
  half = _mm512_ternarylogic_epi32(half, _mm512_slli_epi16(codes, 8), _mm512_set1_epi16(-0x8000), 0xf8);  // a | b & c
  const U32x16 pairs{{(U32Native)half}};
  return {FromBits(pairs << 16) * Splat(scale), FromBits(pairs & Splat(0xffff0000u)) * Splat(scale)};
}

MXMLA_INLINE Block DecodeMxfp4(const void* from /* 16 bytes */, float scale) {
  // The permutation looks at the low four bits of each lane only.
  const __m512 table = _mm512_mul_ps(_mm512_loadu_ps(kE2m1Values), _mm512_set1_ps(scale));
  const __m512i codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from)));
  return {{{(F32Native)_mm512_permutexvar_ps(codes, table)}},
          {{(F32Native)_mm512_permutexvar_ps(_mm512_srli_epi32(codes, 4), table)}}};
}
MXMLA_INLINE Block DecodeInt4(const void* from /* 16 bytes */, float scale) {
  alignas(64) static constexpr float kValues[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
  const __m512 table = _mm512_mul_ps(_mm512_load_ps(kValues), _mm512_set1_ps(scale));
  const __m512i codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from)));
  return {{{(F32Native)_mm512_permutexvar_ps(codes, table)}},
          {{(F32Native)_mm512_permutexvar_ps(_mm512_srli_epi32(codes, 4), table)}}};
}
#else
// A code in the low eight bits of each lane.
MXMLA_INLINE F32x16 E4m3Value(U32x16 code) {
  const U32x16 magnitude = code & Splat(0x7fu);
  const U32x16 normal = (magnitude << 20) + Splat(120u << 23);
  // A subnormal m * 2^-9 as (2^-6 + m * 2^-9) - 2^-6: no subnormal float is touched.
  const U32x16 subnormal = BitsOf(FromBits(normal + Splat(1u << 23)) - Splat(0x1p-6f));
  U32x16 bits = Select(AsSigned(magnitude) < Splat(int32_t{8}), subnormal, normal);
  bits = bits | (BitsOf(magnitude == Splat(0x7fu)) & Splat(0x7fc00000u));
  return FromBits(bits | ((code & Splat(0x80u)) << 24));
}
MXMLA_INLINE Block DecodeFp8(const void* from /* 32 bytes */, float scale) {
  const U32x16 pairs = WidenShorts(from);
  return {E4m3Value(pairs & Splat(0xffu)) * Splat(scale), E4m3Value(pairs >> 8) * Splat(scale)};
}

// A code in the low four bits of each lane, whatever is above.
MXMLA_INLINE F32x16 E2m1Value(U32x16 code, F32x16 scale) {
  const U32x16 sign = (code << 28) & Splat(0x80000000u);
#if defined(__AVX2__)
  const __m256 table = _mm256_mul_ps(_mm256_loadu_ps(kE2m1Values), (__m256)scale.part[0]);
  const F32x16 magnitude = MXMLA_MAP(F32Native, _mm256_permutevar8x32_ps(table, (__m256i)code.part[p]));
#else
  // Twice the magnitude is 0 1 2 3 4 6 8 12; a comparison that holds is -1.
  const I32x16 m = AsSigned(code & Splat(7u));
  const I32x16 seven = m > Splat(int32_t{6});
  const I32x16 twice = m - (m > Splat(int32_t{4})) - (m > Splat(int32_t{5})) - (seven + seven + seven);
  const F32x16 magnitude = ToFloat(twice) * Splat(0.5f) * scale;
#endif
  return FromBits(BitsOf(magnitude) ^ sign);
}
MXMLA_INLINE Block DecodeMxfp4(const void* from /* 16 bytes */, float scale) {
  const U32x16 codes = WidenBytes(from);
  return {E2m1Value(codes, Splat(scale)), E2m1Value(codes >> 4, Splat(scale))};
}
MXMLA_INLINE Block DecodeInt4(const void* from /* 16 bytes */, float scale) {
  const U32x16 codes = WidenBytes(from);
  const I32x16 eight = Splat(int32_t{8});
  return {ToFloat(AsSigned(codes & Splat(15u)) - eight) * Splat(scale),
          ToFloat(AsSigned(codes >> 4) - eight) * Splat(scale)};
}
#endif

// Block `block` of a row: block `i` of those whose scales LoadScales prepared.
MXMLA_INLINE Block Decode(const F32Row& row, int64_t block, const float*, int64_t) {
  return Deinterleave(row.values + block * kBlock);
}
MXMLA_INLINE Block Decode(const Bf16Row& row, int64_t block, const float*, int64_t) {
  return DecodeBf16(row.values + block * kBlock);
}
MXMLA_INLINE Block Decode(const Fp8Row& row, int64_t block, const float* scales, int64_t i) {
  return DecodeFp8(row.values + block * kBlock, scales[i / 4]);
}
MXMLA_INLINE Block Decode(const Mxfp4Row& row, int64_t block, const float* scales, int64_t i) {
  return DecodeMxfp4(row.values + block * (kBlock / 2), scales[i]);
}

MXMLA_INLINE Block Decode(const Int4Row& row, int64_t block, const float* scales, int64_t i) {
  return DecodeInt4(row.values + block * (kBlock / 2), scales[i]);
}

// Block `block`, of which the row holds only `count` < 32 elements: the rest is 0. Nothing past the row is read.
template <class Row>
[[gnu::noinline]] static Block DecodeTail(const Row& row, int64_t block, int64_t count) {
  alignas(64) std::remove_const_t<std::remove_pointer_t<decltype(row.values)>> padded[kBlock] = {};
  Row copy = row;
  const int64_t begin = kPaired<Row> ? block * kBlock / 2 : block * kBlock;
  const int64_t elements = kPaired<Row> ? count / 2 : count;
  std::memcpy(padded, row.values + begin, static_cast<size_t>(elements) * sizeof(padded[0]));
  copy.values = padded;
  float scales[kGroupBlocks] = {};
  if constexpr (std::is_same_v<Row, Fp8Row>) scales[0] = row.scales[block / 4 * row.scale_stride];
  if constexpr (kPaired<Row>) LoadScales(row, block, 1, scales);
  return Decode(copy, 0, scales, 0);
}

// A stretch of k: `blocks` whole blocks from `first_block` (a multiple of kGroupBlocks, or of 4 where no FP8 scale is
// split), then, with `tail` > 0, one more block of `tail` elements.
struct Stretch {
  int64_t first_block = 0;
  int64_t blocks = 0;
  int64_t tail = 0;

  int64_t padded_blocks() const { return blocks + (tail > 0 ? 1 : 0); }
};

// Calls use(i, block) for each block i of the stretch.
template <class Row, class Use>
MXMLA_INLINE void ForEachBlock(const Row& row, const Stretch& stretch, Use&& use) {
  for (int64_t begin = 0; begin < stretch.blocks; begin += kGroupBlocks) {
    const int64_t count = stretch.blocks - begin < kGroupBlocks ? stretch.blocks - begin : kGroupBlocks;
    alignas(64) float scales[kGroupBlocks];
    LoadScales(row, stretch.first_block + begin, count, scales);
    for (int64_t i = 0; i < count; ++i) use(begin + i, Decode(row, stretch.first_block + begin + i, scales, i));
  }
  if (stretch.tail > 0) {
    use(stretch.blocks, DecodeTail(row, stretch.first_block + stretch.blocks, stretch.tail));
  }
}

// Bytes between two rows of weights, in each plane.
struct RowStep {
  int64_t values = 0;
  int64_t scales = 0;
};
template <class Row>
MXMLA_INLINE RowStep StepBetween(const Row& from, const Row& to) {
  RowStep step{reinterpret_cast<const char*>(to.values) - reinterpret_cast<const char*>(from.values), 0};
  if constexpr (kPaired<Row>) {
    step.scales = reinterpret_cast<const char*>(to.scales) - reinterpret_cast<const char*>(from.scales);
  }
  return step;
}
template <class Row>
inline constexpr int64_t kBlockBytes = kPaired<Row>                   ? 16
                                       : std::is_same_v<Row, Fp8Row>  ? 32
                                       : std::is_same_v<Row, Bf16Row> ? 64
                                                                      : 128;

// Asks for what is `bytes` away from block `block` of the row, once a cache line. A row is too short for the hardware
// to see where its rows lead. Into the second-level cache: the first one's queue of misses is too short for memory.
template <class Row>
MXMLA_INLINE void PrefetchValues(const Row& row, int64_t block, int64_t bytes) {
  const char* at = reinterpret_cast<const char*>(row.values) + block * kBlockBytes<Row> + bytes;
  if constexpr (kBlockBytes<Row> < 64) {
    if (block % (64 / kBlockBytes<Row>) == 0) __builtin_prefetch(at, 0, 2);
  } else {
    for (int64_t line = 0; line < kBlockBytes<Row>; line += 64) __builtin_prefetch(at + line, 0, 2);
  }
}

// Asks for blocks first .. first + count of the row and their scales, all at once: a task that begins would else wait
// for one cache line after the other.
template <class Row>
MXMLA_INLINE void PrefetchBlocks(const Row& row, int64_t first, int64_t count) {
  const char* at = reinterpret_cast<const char*>(row.values) + first * kBlockBytes<Row>;
  for (int64_t line = 0; line < count * kBlockBytes<Row>; line += 64) __builtin_prefetch(at + line, 0, 2);
  if constexpr (kPaired<Row>) __builtin_prefetch(row.scales + first, 0, 2);
}
// The first rows of weights, which no row before them asks for.
inline constexpr int64_t kPrefetchRows = 8;
template <class Weight>
static void PrefetchRows(const Weight& weight, int64_t begin, int64_t count, int64_t first_block, int64_t blocks) {
  for (int64_t r = begin; r < begin + count; ++r) PrefetchBlocks(RowOf(weight, r), first_block, blocks);
}

// Decodes a stretch: block i, its even then its odd elements, to `to + i * step`.
template <class Row>
static void Pack(const Row& row, const Stretch& stretch, float* to, int64_t step, RowStep ahead = {}) {
  ForEachBlock(
      row, stretch, [&](int64_t i, const Block& block) __attribute__((always_inline)) {
        if (ahead.values != 0) PrefetchValues(row, stretch.first_block + i, ahead.values);
        Store(to + i * step, block.even);
        Store(to + i * step + 16, block.odd);
      });
}
static inline void Pack(const AnyRow& row, const Stretch& stretch, float* to, int64_t step) {
  std::visit([&](const auto& typed) { Pack(typed, stretch, to, step); }, row);
}

// Decodes a stretch into its natural order; `to` has room for whole blocks.
template <class Row>
static void Unpack(const Row& row, const Stretch& stretch, float* to) {
  ForEachBlock(
      row, stretch, [&](int64_t i, const Block& block) __attribute__((always_inline)) {
        Store(to + i * kBlock, FirstHalf(block));
        Store(to + i * kBlock + 16, LastHalf(block));
      });
}
static inline void Unpack(const AnyRow& row, const Stretch& stretch, float* to) {
  std::visit([&](const auto& typed) { Unpack(typed, stretch, to); }, row);
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
