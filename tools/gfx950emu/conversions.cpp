// Conversions between number formats of 32 bits and fewer.
#include "number_formats.h"
#include "vector_lambdas.h"

namespace gfx950emu {
namespace {

template <class Integer>
uint32_t ToInteger(float value) {
  if (std::isnan(value)) return 0;
  constexpr double kLow = std::numeric_limits<Integer>::min(), kHigh = std::numeric_limits<Integer>::max();
  const double whole = std::trunc(static_cast<double>(value));
  return static_cast<uint32_t>(static_cast<Integer>(std::min(std::max(whole, kLow), kHigh)));
}
template <class F>
Operation FromFloat(F) {
  return {[](Wave& w, const Instruction& i) {
    Lanes buffer, result;
    const uint32_t* a = SourceFloat(w, i, 1, buffer);
    for (int l = 0; l < kLanes; ++l) result.lane[l] = F{}(AsFloat(a[l]));
    Commit(w, i, result);
  }};
}

// The scale operand's exponent as a power of two.
double ScaleOf(uint32_t bits) { return std::ldexp(1.0, static_cast<int>(bits >> 23 & 255) - 127); }

// Two float32 to `kBits` bits each, in a part of the destination whose rest is kept; f(value, scale).
template <int kBits, class F>
Operation PackScaled(F) {
  return {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, of_scale, result;
    const uint32_t* a = SourceFloat(w, i, 1, of_a);
    const uint32_t* b = SourceFloat(w, i, 2, of_b);
    const uint32_t* scale = SourceFloat(w, i, 3, of_scale);
    const uint32_t part = kBits == 4 ? i.op_sel >> 2 & 3 : i.op_sel >> 3 & 1;
    const uint32_t shift = part * 2 * kBits, field = ((1u << (2 * kBits)) - 1) << shift;
    const uint32_t* old = Vector(w, i.operands[0]);
    for (int l = 0; l < kLanes; ++l) {
      const double by = ScaleOf(scale[l]);
      const uint32_t pair = F{}(AsFloat(a[l]), by) | F{}(AsFloat(b[l]), by) << kBits;
      result.lane[l] = (old[l] & ~field) | pair << shift;
    }
    Commit(w, i, result);
  }};
}

// The other way: f(code) times the scale, as two float32 or a pair of bf16.
template <int kBits, bool kBf16, class F>
Operation UnpackScaled(F) {
  return {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_scale, low, high;
    const uint32_t* a = Source(w, i, 1, of_a);
    const uint32_t* scale = SourceFloat(w, i, 2, of_scale);
    const uint32_t part = kBits == 4 ? i.op_sel & 3 : i.op_sel & 1;
    constexpr uint32_t kCode = (1u << kBits) - 1;
    for (int l = 0; l < kLanes; ++l) {
      const uint32_t pair = a[l] >> (part * 2 * kBits);
      const double by = ScaleOf(scale[l]);
      const auto first = static_cast<float>(static_cast<double>(F{}(pair & kCode)) * by);
      const auto second = static_cast<float>(static_cast<double>(F{}(pair >> kBits & kCode)) * by);
      low.lane[l] = kBf16 ? FloatToBf16(first) | FloatToBf16(second) << 16 : AsBits(first);
      high.lane[l] = AsBits(second);
    }
    Commit(w, i, low, 0);
    if constexpr (!kBf16) Commit(w, i, high, 1);
  }};
}

struct FromE2m1 {
  float operator()(uint32_t code) const { return kE2m1[code]; }
};
struct FromE4m3 {
  float operator()(uint32_t code) const { return E4m3ToFloat(code); }
};

}  // namespace

void AddConversions(OperationTable& table) {
  table["v_cvt_f32_i32"] = Int1([](uint32_t a) { return AsBits(static_cast<float>(static_cast<int32_t>(a))); });
  table["v_cvt_f32_u32"] = Int1([](uint32_t a) { return AsBits(static_cast<float>(a)); });
  table["v_cvt_f32_ubyte0"] = Int1([](uint32_t a) { return AsBits(static_cast<float>(a & 255)); });
  table["v_cvt_f32_ubyte1"] = Int1([](uint32_t a) { return AsBits(static_cast<float>(a >> 8 & 255)); });
  table["v_cvt_f32_ubyte2"] = Int1([](uint32_t a) { return AsBits(static_cast<float>(a >> 16 & 255)); });
  table["v_cvt_f32_ubyte3"] = Int1([](uint32_t a) { return AsBits(static_cast<float>(a >> 24)); });
  table["v_cvt_u32_f32"] = FromFloat([](float a) { return ToInteger<uint32_t>(a); });
  table["v_cvt_i32_f32"] = FromFloat([](float a) { return ToInteger<int32_t>(a); });
  table["v_cvt_f32_f16"] = Int1([](uint32_t a) { return AsBits(HalfToFloat(a)); });
  table["v_cvt_f16_f32"] = FromFloat([](float a) { return FloatToHalf(a); });
  table["v_cvt_f32_bf16"] = Int1([](uint32_t a) { return a << 16; });
  table["v_cvt_pk_bf16_f32"] = {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, result;
    const uint32_t* a = SourceFloat(w, i, 1, of_a);
    const uint32_t* b = SourceFloat(w, i, 2, of_b);
    for (int l = 0; l < kLanes; ++l) result.lane[l] = FloatToBf16(AsFloat(a[l])) | FloatToBf16(AsFloat(b[l])) << 16;
    Commit(w, i, result);
  }};
  table["v_cvt_scalef32_pk_fp4_f32"] = PackScaled<4>([](float a, double scale) { return FloatToE2m1(a, scale); });
  table["v_cvt_scalef32_pk_fp8_f32"] = PackScaled<8>([](float a, double scale) { return FloatToE4m3(a, scale); });
  table["v_cvt_scalef32_pk_f32_fp4"] = UnpackScaled<4, false>(FromE2m1{});
  table["v_cvt_scalef32_pk_bf16_fp4"] = UnpackScaled<4, true>(FromE2m1{});
  table["v_cvt_scalef32_pk_f32_fp8"] = UnpackScaled<8, false>(FromE4m3{});
  table["v_cvt_scalef32_pk_bf16_fp8"] = UnpackScaled<8, true>(FromE4m3{});
  // Beyond 448 by more than half a step: NaN, unless the mode register asks for saturation.
  table["v_cvt_pk_fp8_f32"] = {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, result;
    const uint32_t* a = SourceFloat(w, i, 1, of_a);
    const uint32_t* b = SourceFloat(w, i, 2, of_b);
    const uint32_t shift = i.op_sel >> 2 & 1 ? 16 : 0;  // the entry behind the two sources'
    const uint32_t* old = Vector(w, i.operands[0]);
    const auto code = [](float value) {
      return std::fabs(value) > 464 ? (std::signbit(value) ? 0xffu : 0x7fu) : FloatToE4m3(value, 1);
    };
    for (int l = 0; l < kLanes; ++l) {
      result.lane[l] = (old[l] & ~(0xffffu << shift)) | (code(AsFloat(a[l])) | code(AsFloat(b[l])) << 8) << shift;
    }
    Commit(w, i, result);
  }};
  table["v_cvt_pk_f32_fp8"] = {[](Wave& w, const Instruction& i) {
    Lanes of_a, low, high;
    const uint32_t* a = Source(w, i, 1, of_a);
    const uint32_t shift = i.op_sel & 1 ? 16 : 0;
    for (int l = 0; l < kLanes; ++l) {
      low.lane[l] = AsBits(E4m3ToFloat(a[l] >> shift & 255));
      high.lane[l] = AsBits(E4m3ToFloat(a[l] >> (shift + 8) & 255));
    }
    Commit(w, i, low, 0);
    Commit(w, i, high, 1);
  }};
}

}  // namespace gfx950emu
