// The number formats of conversions and matrix operations.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace gfx950emu {

inline float HalfToFloat(uint32_t bits) {
  return static_cast<float>(std::bit_cast<_Float16>(static_cast<uint16_t>(bits)));
}
inline uint32_t FloatToHalf(float value) { return std::bit_cast<uint16_t>(static_cast<_Float16>(value)); }
inline float Bf16ToFloat(uint32_t bits) { return std::bit_cast<float>(bits << 16); }
inline uint32_t FloatToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 0x40u;
  return ((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16) & 0xffffu;
}

// OCP e4m3 (no infinities, S.1111.111 is NaN) and e5m2 (IEEE's specials).
inline float E4m3ToFloat(uint32_t code) {
  const int exponent = static_cast<int>(code >> 3 & 15), mantissa = static_cast<int>(code & 7);
  if ((code & 0x7fu) == 0x7fu) return std::numeric_limits<float>::quiet_NaN();
  const float value = exponent ? std::ldexp(1.0f + static_cast<float>(mantissa) / 8, exponent - 7)
                               : std::ldexp(static_cast<float>(mantissa), -9);
  return code & 0x80u ? -value : value;
}
inline float E5m2ToFloat(uint32_t code) {
  const int exponent = static_cast<int>(code >> 2 & 31), mantissa = static_cast<int>(code & 3);
  float value = exponent ? std::ldexp(1.0f + static_cast<float>(mantissa) / 4, exponent - 15)
                         : std::ldexp(static_cast<float>(mantissa), -16);
  if (exponent == 31)
    value = mantissa ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  return code & 0x80u ? -value : value;
}
inline constexpr float kE2m1[16] = {0, .5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -.5f, -1, -1.5f, -2, -3, -4, -6};
// 2^(code - 127); 255 is NaN.
inline double E8m0ToDouble(uint32_t code) {
  return code == 255 ? std::numeric_limits<double>::quiet_NaN() : std::ldexp(1.0, static_cast<int>(code) - 127);
}

// The nearest of `code_count` codes by `to_float`, which rises with the code; ties to the even code, saturating.
template <class ToFloat>
uint32_t NearestCode(double magnitude, uint32_t code_count, const ToFloat& to_float) {
  uint32_t below = 0;
  while (below + 1 < code_count && static_cast<double>(to_float(below + 1)) <= magnitude) ++below;
  if (below + 1 == code_count) return below;
  const double low = magnitude - static_cast<double>(to_float(below));
  const double high = static_cast<double>(to_float(below + 1)) - magnitude;
  return low < high || (low == high && below % 2 == 0) ? below : below + 1;
}
inline uint32_t FloatToE2m1(float value, double scale) {
  const uint32_t sign = std::signbit(value) ? 8 : 0;
  if (std::isnan(value)) return sign | 7;
  return sign | NearestCode(std::fabs(static_cast<double>(value)) / scale, 8, [](uint32_t c) { return kE2m1[c]; });
}
inline uint32_t FloatToE4m3(float value, double scale) {
  const uint32_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return sign | 0x7f;
  return sign | NearestCode(std::fabs(static_cast<double>(value)) / scale, 127, E4m3ToFloat);
}

}  // namespace gfx950emu
