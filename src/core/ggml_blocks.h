// The quantised blocks of GGUF files, as ggml lays them out: values and scales of one block lie together.
// Source: ggml's quantised types; tests hold every one against the `gguf` package.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace mxmla {

// Value of element i: d * q[i].
struct q8_0 {
  static constexpr int64_t kElements = 32;
  f16 d;
  int8_t q[32];
};
static_assert(sizeof(q8_0) == 34);

// Eight groups of 32; value of element i of group g: (d * scale[g]) * q[i] - (dmin * minimum[g]). Scales and minima are
// six bits each: those of groups 0..3 are the low six bits of scales[g] and scales[g + 4]; the low four bits of those
// of groups 4..7 are the nibbles of scales[g + 4], the high two the top of scales[g - 4] and scales[g]. Groups 2p and
// 2p + 1 are the low and the high nibbles of q[32 p ..].
struct q4_k {
  static constexpr int64_t kElements = 256;
  f16 d, dmin;
  uint8_t scales[12];
  uint8_t q[128];

  constexpr int Scale(int g) const {
    return g < 4 ? scales[g] & 63 : (scales[g + 4] & 15) | ((scales[g - 4] >> 6) << 4);
  }
  constexpr int Minimum(int g) const {
    return g < 4 ? scales[g + 4] & 63 : (scales[g + 4] >> 4) | ((scales[g] >> 6) << 4);
  }
};
static_assert(sizeof(q4_k) == 144);

// Sixteen groups of 16; value of element i of group g: (d * scales[g]) * (code - 32). Of each half of 128 elements,
// element 32 j + l has its low four bits in low[64 half + 32 (j % 2) + l], the lower nibble for j < 2, and its high two
// bits at bit 2 j of high[32 half + l].
struct q6_k {
  static constexpr int64_t kElements = 256;
  uint8_t low[128];
  uint8_t high[64];
  int8_t scales[16];
  f16 d;

  // Of element i of the block.
  constexpr int Code(int i) const {
    const int half = i / 128, j = i % 128 / 32, l = i % 32;
    const int nibble = (low[64 * half + 32 * (j % 2) + l] >> (j < 2 ? 0 : 4)) & 15;
    return (nibble | (((high[32 * half + l] >> (2 * j)) & 3) << 4)) - 32;
  }
};
static_assert(sizeof(q6_k) == 210);

// MXFP4, but byte i holds elements i (low nibble) and i + 16 (high).
struct ggml_mxfp4 {
  static constexpr int64_t kElements = 32;
  e8m0 scale;
  uint8_t q[16];
};
static_assert(sizeof(ggml_mxfp4) == 17);

template <>
struct DTypeOf<q8_0> {
  static constexpr DType value = DType::kQ8_0;
};
template <>
struct DTypeOf<q4_k> {
  static constexpr DType value = DType::kQ4K;
};
template <>
struct DTypeOf<q6_k> {
  static constexpr DType value = DType::kQ6K;
};
template <>
struct DTypeOf<ggml_mxfp4> {
  static constexpr DType value = DType::kGgmlMxfp4;
};

}  // namespace mxmla
