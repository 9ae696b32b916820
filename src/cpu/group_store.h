// Writing a row of an activation 128 elements at a time, in whatever format it has. A group of 128 owns its scales: one
// of FP8, four of MXFP4. The codes are those of ops/quantize_block.h, bit for bit.
#pragma once

#include <algorithm>
#include <bit>

#include "core/scaled.h"
#include "cpu/simd.h"
#include "ops/quantize_block.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

inline constexpr int64_t kGroup = 128;
static_assert(kGroup == kFp8Group && kGroup % kMxBlock == 0);

// One row of an output, in each format.
template <class T>
struct PlainOutRow {
  T* values;  // (n)
};
struct Mxfp4OutRow {
  e2m1x2* values;  // (n/2)
  e8m0* scales;    // (n/32)
  ScaleMode mode;
};
struct Fp8OutRow {
  e4m3* values;   // (n)
  float* scales;  // (n/128), with a stride
  int64_t scale_stride;
  ScaleMode mode;
};

template <class T>
PlainOutRow<T> OutputRow(const View<T, 2>& out, ScaleMode, int64_t r) {
  return {out.data + r * out.stride[0]};
}
inline Mxfp4OutRow OutputRow(const Mxfp4<e2m1x2, 2>& out, ScaleMode mode, int64_t r) {
  return {out.values.data + r * out.values.stride[0], out.scales.data + r * out.scales.stride[0], mode};
}
inline Fp8OutRow OutputRow(const Fp8Group<e4m3, 2>& out, ScaleMode mode, int64_t r) {
  return {out.values.data + r * out.values.stride[0], out.scales.data + r * out.scales.stride[0], out.scales.stride[1],
          mode};
}
// Row r of head h.
inline Mxfp4OutRow OutputRow(const Mxfp4<e2m1x2, 3>& out, ScaleMode mode, int64_t r, int64_t h) {
  return {out.values.data + r * out.values.stride[0] + h * out.values.stride[1],
          out.scales.data + r * out.scales.stride[0] + h * out.scales.stride[1], mode};
}
inline Fp8OutRow OutputRow(const Fp8Group<e4m3, 3>& out, ScaleMode mode, int64_t r, int64_t h) {
  return {out.values.data + r * out.values.stride[0] + h * out.values.stride[1],
          out.scales.data + r * out.scales.stride[0] + h * out.scales.stride[1], out.scales.stride[2], mode};
}

// The bits of the largest magnitude among `count` floats, a multiple of 16; NaN is above all.
MXMLA_INLINE uint32_t LargestBits(const float* values /* (count) */, int64_t count) {
  I32x16 largest = Splat(int32_t{0});
  for (int64_t i = 0; i < count; i += 16) {
    const I32x16 bits = AsSigned(BitsOf(Abs(Load(values + i))));
    largest = Select(bits > largest, bits, largest);
  }
  uint32_t lanes[16];
  StoreWords(lanes, BitsOf(largest));
  uint32_t result = 0;
  for (uint32_t lane : lanes) result = std::max(result, lane);
  return result;
}

// E2m1FromFloat of finite values, a code a lane.
MXMLA_INLINE U32x16 E2m1Codes(F32x16 value) {
  const F32x16 m = Abs(value);
  // Each mask is -1 where its threshold is passed; a tie goes to the even code.
  const I32x16 passed = (m > Splat(0.25f)) + (m >= Splat(0.75f)) + (m > Splat(1.25f)) + (m >= Splat(1.75f)) +
                        (m > Splat(2.5f)) + (m >= Splat(3.5f)) + (m > Splat(5.0f));
  return BitsOf(-passed) | ((BitsOf(value) >> 31) << 3);
}

// e4m3::FromFloat of finite values, a code a lane.
MXMLA_INLINE U32x16 E4m3Codes(F32x16 value) {
  const U32x16 u = BitsOf(value);
  const U32x16 sign = (u >> 24) & Splat(0x80u);
  const U32x16 magnitude = u & Splat(0x7fffffffu);
  const U32x16 normal = ((magnitude + Splat(0x7ffffu) + ((magnitude >> 20) & Splat(1u))) >> 20) - Splat(120u << 3);
  const F32x16 m = FromBits(magnitude);
  const U32x16 subnormal = BitsOf(m * Splat(512.0f) + Splat(8388608.0f)) & Splat(0xffu);
  const U32x16 code = Select(m < Splat(0x1p-6f), subnormal, Select(m >= Splat(448.0f), Splat(0x7eu), normal));
  return sign | code;
}

// QuantizeMxfp4Block.
inline e8m0 QuantizeMxfp4(const float* values /* (32) */, ScaleMode mode, e2m1x2* codes /* (16) */) {
  const uint32_t amax = LargestBits(values, kMxBlock);
  const e8m0 scale = Mxfp4Scale(std::bit_cast<float>(amax), mode);
  if (amax == 0 || scale.bits == e8m0::kNan) {
    for (int64_t i = 0; i < kMxBlock / 2; ++i) codes[i] = {0};
    return scale;
  }
  const F32x16 inverse =
      Splat(scale.bits == 254 ? 0x1p-127f : std::bit_cast<float>(static_cast<uint32_t>(254 - scale.bits) << 23));
  uint16_t wide[32];
  StoreShorts(wide, E2m1Codes(Load(values) * inverse));
  StoreShorts(wide + 16, E2m1Codes(Load(values + 16) * inverse));
  for (int64_t i = 0; i < kMxBlock / 2; ++i) {
    codes[i] = {static_cast<uint8_t>(wide[2 * i] | (wide[2 * i + 1] << 4))};
  }
  return scale;
}

// QuantizeFp8Group; `values` has 0 from `count` to 128.
inline float QuantizeFp8(const float* values /* (128) */, int64_t count, ScaleMode mode, e4m3* codes /* (count) */) {
  const uint32_t amax = LargestBits(values, kGroup);
  if (amax >= 0x7f800000u) {
    for (int64_t i = 0; i < count; ++i) codes[i] = e4m3::FromFloat(values[i]);
    return std::numeric_limits<float>::quiet_NaN();
  }
  const float scale = Fp8GroupScale(std::bit_cast<float>(amax), mode);
  uint16_t wide[kGroup];
  for (int64_t i = 0; i < kGroup; i += 16) StoreShorts(wide + i, E4m3Codes(Load(values + i) / Splat(scale)));
  for (int64_t i = 0; i < count; ++i) codes[i] = {static_cast<uint8_t>(wide[i])};
  return scale;
}

// A group's `count` elements as float32, then zeros up to 128.
template <class T>
MXMLA_INLINE void LoadGroup(const T* from /* (count) */, int64_t count, float* group /* (128) */) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) Store(group + i, Load(from + i));
  if (i < count) {
    Store(group + i, LoadPartial(from + i, count - i));
    i += 16;
  }
  for (; i < kGroup; i += 16) Store(group + i, Zero());
}

// Rounds a group to bf16, in place.
MXMLA_INLINE void RoundGroup(float* group /* (128) */) {
  for (int64_t i = 0; i < kGroup; i += 16) Store(group + i, RoundToBf16(Load(group + i)));
}

// Writes elements begin .. begin + count of a row; `begin` is a multiple of 128, and the group has zeros past `count`.
template <class T>
MXMLA_INLINE void StoreGroup(const float* group /* (128) */, int64_t begin, int64_t count, const PlainOutRow<T>& row) {
  T* to = row.values + begin;
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) Store(to + i, Load(group + i));
  if (i < count) StorePartial(to + i, Load(group + i), count - i);
}
inline void StoreGroup(const float* group, int64_t begin, int64_t count, const Mxfp4OutRow& row) {
  for (int64_t i = 0; i < count; i += kMxBlock) {
    const int64_t at = begin + i;
    row.scales[at / kMxBlock] = QuantizeMxfp4(group + i, row.mode, row.values + at / 2);
  }
}
inline void StoreGroup(const float* group, int64_t begin, int64_t count, const Fp8OutRow& row) {
  row.scales[begin / kGroup * row.scale_stride] = QuantizeFp8(group, count, row.mode, row.values + begin);
}

template <class Row>
inline constexpr bool kIsPlain = false;
template <class T>
inline constexpr bool kIsPlain<PlainOutRow<T>> = true;

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
