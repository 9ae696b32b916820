// The element types of weights, activations and scales. Each format is a type of its own: nothing is a bare byte.
// All conversions here are exact or round to nearest, ties to even; NaN stays NaN.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>

namespace mxmla {

// The upper half of a float32.
struct bf16 {
  uint16_t bits = 0;

  static constexpr bf16 FromFloat(float value) {
    const uint32_t u = std::bit_cast<uint32_t>(value);
    if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40u)};  // a quiet NaN
    return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
  }
  constexpr float ToFloat() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

// IEEE half precision.
struct f16 {
  uint16_t bits = 0;

  constexpr float ToFloat() const {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
    const uint32_t exponent = (bits >> 10) & 0x1fu;
    const uint32_t mantissa = bits & 0x3ffu;
    if (exponent == 0) {
      const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
      return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
    }
    const uint32_t wide = exponent == 31 ? 255u : exponent + 112u;
    return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
  }
};

// FP8 e4m3fn: bias 7, no infinities, S.1111.111 is NaN, largest finite value 448.
struct e4m3 {
  uint8_t bits = 0;

  static constexpr float kMax = 448.0f;

  // Rounds to nearest even; a magnitude above 448 saturates to 448 (clamp, as the FP8 activation format asks).
  static constexpr e4m3 FromFloat(float value) {
    const uint32_t u = std::bit_cast<uint32_t>(value);
    const auto sign = static_cast<uint8_t>((u >> 24) & 0x80u);
    const uint32_t magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return {static_cast<uint8_t>(sign | 0x7fu)};
    if (magnitude >= 0x43e00000u) return {static_cast<uint8_t>(sign | 0x7eu)};  // >= 448
    if (magnitude < 0x3c800000u) {  // below 2^-6: the subnormals, multiples of 2^-9
      const float scaled = std::bit_cast<float>(magnitude) * 512.0f;
      const float shifted = scaled + 8388608.0f;  // 2^23: the sum rounds to an integer, ties to even
      return {static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(shifted) & 0xffu))};
    }
    const uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1u);
    return {static_cast<uint8_t>(sign | ((rounded >> 20) - (120u << 3)))};
  }
  constexpr float ToFloat() const {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x80u) << 24;
    const uint32_t magnitude = bits & 0x7fu;
    if (magnitude == 0x7fu) return std::bit_cast<float>(sign | 0x7fc00000u);
    if (magnitude < 8u) {
      const float value = static_cast<float>(magnitude) * 0x1p-9f;
      return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
    }
    return std::bit_cast<float>(sign | ((magnitude << 20) + (120u << 23)));
  }
};

// E8M0, the scale of an MX block: 2^(bits - 127); 255 is NaN.
struct e8m0 {
  uint8_t bits = 0;

  static constexpr uint8_t kNan = 255;

  constexpr float ToFloat() const {
    if (bits == kNan) return std::numeric_limits<float>::quiet_NaN();
    if (bits == 0) return 0x1p-127f;
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 23);
  }
};

// The magnitudes of an E2M1 code's low three bits; bit 3 is the sign.
inline constexpr float kE2m1Values[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                          -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

// Two E2M1 elements in a byte, the even one in the low nibble.
struct e2m1x2 {
  uint8_t bits = 0;

  constexpr float Low() const { return kE2m1Values[bits & 0xfu]; }
  constexpr float High() const { return kE2m1Values[bits >> 4]; }
};

// Two 4-bit integers in a byte, each stored with 8 added, the even element in the low nibble.
struct int4x2 {
  uint8_t bits = 0;

  constexpr int Low() const { return (bits & 0xf) - 8; }
  constexpr int High() const { return (bits >> 4) - 8; }
};

// The E2M1 code (0..15) nearest to `value`, ties to the even code, saturating at 6. NaN is the caller's business (an
// MX block that holds one gets the scale NaN).
constexpr uint8_t E2m1FromFloat(float value) {
  const uint8_t sign = std::bit_cast<uint32_t>(value) >> 31 ? 8 : 0;
  const float magnitude = value < 0 ? -value : value;
  uint8_t code = 0;
  if (magnitude > 5.0f) {
    code = 7;
  } else if (magnitude >= 3.5f) {
    code = 6;
  } else if (magnitude > 2.5f) {
    code = 5;
  } else if (magnitude >= 1.75f) {
    code = 4;
  } else if (magnitude > 1.25f) {
    code = 3;
  } else if (magnitude >= 0.75f) {
    code = 2;
  } else if (magnitude > 0.25f) {
    code = 1;
  }
  return sign | code;
}

inline constexpr int64_t kMxBlock = 32;    // elements that share one E8M0 scale
inline constexpr int64_t kInt4Group = 32;  // 4-bit integers that share one bf16 scale
inline constexpr int64_t kNvBlock = 16;    // elements that share one E4M3 scale
inline constexpr int64_t kFp8Group = 128;  // activation elements that share one float32 scale
inline constexpr int64_t kFp8Block = 128;  // edge of the square of FP8 weights that share one float32 scale

// How an MX block's exponent follows from its largest magnitude, and whether an FP8 group's scale is a power of two
// (kCeil): see ops/quantize_block.h.
enum class ScaleMode { kEven, kFloor, kCeil };

enum class DType { kF32, kBf16, kE4m3, kE8m0, kE2m1x2, kI32, kI64, kF16, kInt4x2, kQ8_0, kQ4K, kQ6K, kGgmlMxfp4 };

constexpr std::string_view DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBf16:
      return "bf16";
    case DType::kE4m3:
      return "e4m3";
    case DType::kE8m0:
      return "e8m0";
    case DType::kE2m1x2:
      return "e2m1x2";
    case DType::kI32:
      return "i32";
    case DType::kI64:
      return "i64";
    case DType::kF16:
      return "f16";
    case DType::kInt4x2:
      return "int4x2";
    case DType::kQ8_0:
      return "q8_0";
    case DType::kQ4K:
      return "q4_k";
    case DType::kQ6K:
      return "q6_k";
    case DType::kGgmlMxfp4:
      return "ggml-mxfp4";
  }
  return "?";
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::kBf16;
};
template <>
struct DTypeOf<e4m3> {
  static constexpr DType value = DType::kE4m3;
};
template <>
struct DTypeOf<e8m0> {
  static constexpr DType value = DType::kE8m0;
};
template <>
struct DTypeOf<e2m1x2> {
  static constexpr DType value = DType::kE2m1x2;
};
template <>
struct DTypeOf<f16> {
  static constexpr DType value = DType::kF16;
};
template <>
struct DTypeOf<int4x2> {
  static constexpr DType value = DType::kInt4x2;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};

inline float ToFloat(float value) { return value; }
inline float ToFloat(bf16 value) { return value.ToFloat(); }
inline float ToFloat(f16 value) { return value.ToFloat(); }

// Rounds `value` to the activation type T.
template <class T>
T FromFloat(float value);
template <>
inline float FromFloat<float>(float value) {
  return value;
}
template <>
inline bf16 FromFloat<bf16>(float value) {
  return bf16::FromFloat(value);
}

}  // namespace mxmla
