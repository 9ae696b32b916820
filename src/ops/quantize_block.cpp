#include "ops/quantize_block.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace mxmla {
namespace {

constexpr uint32_t kInfinityBits = 0x7f800000u;
constexpr int kElementExponent = 2;  // floor(log2 6), the exponent of E2M1's largest value

// floor(log2) of a positive finite float given by its bits; at most -127 for a subnormal.
int FloorLog2(uint32_t bits) { return static_cast<int>(bits >> 23) - 127; }

}  // namespace

e8m0 Mxfp4Scale(float amax, ScaleMode mode) {
  const uint32_t bits = std::bit_cast<uint32_t>(amax) & 0x7fffffffu;
  if (bits >= kInfinityBits) return {e8m0::kNan};
  if (bits == 0) return {0};
  int exponent = 0;
  switch (mode) {
    case ScaleMode::kEven:
      exponent = FloorLog2(bits + 0x200000u) - kElementExponent;
      break;
    case ScaleMode::kFloor:
      exponent = FloorLog2(bits) - kElementExponent;
      break;
    case ScaleMode::kCeil: {
      // amax = m * 2^f, 1 <= m < 2: f - 2 is enough up to m = 1.5 (6 / 4), else f - 1.
      const bool above = (bits & 0x7fffffu) > 0x400000u;
      exponent = FloorLog2(bits) - kElementExponent + (above ? 1 : 0);
      break;
    }
  }
  return {static_cast<uint8_t>(std::clamp(exponent, -127, 127) + 127)};
}

e8m0 QuantizeMxfp4Block(const float* values, ScaleMode mode, e2m1x2* codes) {
  uint32_t amax = 0;  // bits of magnitudes order as the magnitudes do, NaN above all
  for (int i = 0; i < kMxBlock; ++i) amax = std::max(amax, std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu);
  const e8m0 scale = Mxfp4Scale(std::bit_cast<float>(amax), mode);
  if (amax == 0 || scale.bits == e8m0::kNan) {
    for (int i = 0; i < kMxBlock / 2; ++i) codes[i] = {0};
    return scale;
  }
  // 2^-e is a float for e up to 127 (a subnormal there) and the product is exact where it can matter: a product that
  // underflows rounds to a code of zero anyway.
  const float inverse = scale.bits == 254 ? 0x1p-127f
                        : scale.bits == 0 ? 0x1p127f
                                          : std::bit_cast<float>(static_cast<uint32_t>(254 - scale.bits) << 23);
  for (int i = 0; i < kMxBlock / 2; ++i) {
    const uint8_t low = E2m1FromFloat(values[2 * i] * inverse);
    const uint8_t high = E2m1FromFloat(values[2 * i + 1] * inverse);
    codes[i] = {static_cast<uint8_t>(low | (high << 4))};
  }
  return scale;
}

float Fp8GroupScale(float amax, ScaleMode mode) {
  const float scale = std::max(amax, 1e-10f) / e4m3::kMax;
  if (mode != ScaleMode::kCeil) return scale;
  return std::bit_cast<float>((std::bit_cast<uint32_t>(scale) + 0x7fffffu) & kInfinityBits);
}

float QuantizeFp8Group(const float* values, int64_t count, ScaleMode mode, e4m3* codes) {
  uint32_t amax_bits = 0;
  for (int64_t i = 0; i < count; ++i) amax_bits = std::max(amax_bits, std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu);
  if (amax_bits >= kInfinityBits) {
    for (int64_t i = 0; i < count; ++i) codes[i] = e4m3::FromFloat(values[i]);
    return std::numeric_limits<float>::quiet_NaN();
  }
  const float scale = Fp8GroupScale(std::bit_cast<float>(amax_bits), mode);
  for (int64_t i = 0; i < count; ++i) codes[i] = e4m3::FromFloat(values[i] / scale);
  return scale;
}

}  // namespace mxmla
