// Vector operations on float64.
#include "vector_lambdas.h"

namespace gfx950emu {
namespace {

template <int kSources, class F>
Operation Double(F) {
  return Wide([](const Wave& w, const Instruction& i, int l) {
    double result = 0;
    if constexpr (kSources == 1) {
      result = F{}(SourceDouble(w, i.operands[1], l));
    } else if constexpr (kSources == 2) {
      result = F{}(SourceDouble(w, i.operands[1], l), SourceDouble(w, i.operands[2], l));
    } else {
      result =
          F{}(SourceDouble(w, i.operands[1], l), SourceDouble(w, i.operands[2], l), SourceDouble(w, i.operands[3], l));
    }
    if (i.clamp || i.output_scale != 0) throw Error("clamp or output scale of float64: " + i.text);
    return AsBits(result);
  });
}

int Exponent(double value) { return static_cast<int>(AsBits(value) >> 52 & 2047); }
bool Subnormal(double value) { return std::fpclassify(value) == FP_SUBNORMAL; }

double DivScale(double s0, double denominator, double numerator, bool* scaled_back) {
  *scaled_back = false;
  if (numerator == 0 || denominator == 0) return std::numeric_limits<double>::quiet_NaN();
  if (Exponent(numerator) - Exponent(denominator) >= 768) {
    *scaled_back = true;
    return s0 == denominator ? std::ldexp(s0, 128) : s0;
  }
  if (Subnormal(denominator)) return std::ldexp(s0, 128);
  const bool tiny_inverse = Subnormal(1 / denominator), tiny_quotient = Subnormal(numerator / denominator);
  if (tiny_inverse && tiny_quotient) {
    *scaled_back = true;
    return s0 == denominator ? std::ldexp(s0, -128) : s0;
  }
  if (tiny_inverse) return std::ldexp(s0, -128);
  if (tiny_quotient) {
    *scaled_back = true;
    return s0 == numerator ? std::ldexp(s0, 128) : s0;
  }
  return Exponent(numerator) <= 53 ? std::ldexp(s0, 128) : s0;
}

double DivFixup(double quotient, double denominator, double numerator) {
  const double sign = std::signbit(denominator) != std::signbit(numerator) ? -1.0 : 1.0;
  if (std::isnan(numerator)) return numerator;
  if (std::isnan(denominator)) return denominator;
  if ((numerator == 0 && denominator == 0) || (std::isinf(numerator) && std::isinf(denominator))) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  if (denominator == 0 || std::isinf(numerator)) return sign * std::numeric_limits<double>::infinity();
  if (std::isinf(denominator) || numerator == 0) return sign * 0.0;
  return sign * std::fabs(quotient);
}

// Clamped to what the integer holds; NaN is 0.
template <class Integer>
Integer Convert(double value) {
  if (std::isnan(value)) return 0;
  constexpr double kLow = std::numeric_limits<Integer>::min(), kHigh = std::numeric_limits<Integer>::max();
  return static_cast<Integer>(std::min(std::max(std::trunc(value), kLow), kHigh));
}
template <class F>
Operation ToWord(F) {
  return {[](Wave& w, const Instruction& i) {
    Lanes result;
    for (int l = 0; l < kLanes; ++l) result.lane[l] = static_cast<uint32_t>(F{}(SourceDouble(w, i.operands[1], l)));
    Commit(w, i, result);
  }};
}
template <class F>
Operation FromWord(F) {
  return {[](Wave& w, const Instruction& i) {
    Lanes buffer, low, high;
    const uint32_t* a = SourceFloat(w, i, 1, buffer);
    for (int l = 0; l < kLanes; ++l) {
      const uint64_t bits = AsBits(static_cast<double>(F{}(a[l])));
      low.lane[l] = static_cast<uint32_t>(bits);
      high.lane[l] = static_cast<uint32_t>(bits >> 32);
    }
    Commit(w, i, low, 0);
    Commit(w, i, high, 1);
  }};
}

}  // namespace

void AddVectorDouble(OperationTable& table) {
  table["v_add_f64"] = Double<2>([](double a, double b) { return a + b; });
  table["v_mul_f64"] = Double<2>([](double a, double b) { return a * b; });
  table["v_fma_f64"] = Double<3>([](double a, double b, double c) { return std::fma(a, b, c); });
  table["v_fmac_f64"] = Wide([](const Wave& w, const Instruction& i, int l) {
    return AsBits(std::fma(SourceDouble(w, i.operands[1], l), SourceDouble(w, i.operands[2], l),
                           AsDouble(Source64(w, i.operands[0], l))));
  });
  table["v_min_f64"] = Double<2>([](double a, double b) { return std::fmin(a, b); });
  table["v_max_f64"] = Double<2>([](double a, double b) { return std::fmax(a, b); });
  table["v_floor_f64"] = Double<1>([](double a) { return std::floor(a); });
  table["v_ceil_f64"] = Double<1>([](double a) { return std::ceil(a); });
  table["v_trunc_f64"] = Double<1>([](double a) { return std::trunc(a); });
  table["v_rndne_f64"] = Double<1>([](double a) { return std::nearbyint(a); });
  table["v_fract_f64"] = Double<1>([](double a) { return a - std::floor(a); });
  table["v_rcp_f64"] = Double<1>([](double a) { return 1 / a; });
  table["v_rsq_f64"] = Double<1>([](double a) { return 1 / std::sqrt(a); });
  table["v_frexp_mant_f64"] = Double<1>([](double a) {
    int exponent = 0;
    return std::isfinite(a) ? std::frexp(a, &exponent) : a;
  });
  table["v_frexp_exp_i32_f64"] = ToWord([](double a) {
    int exponent = 0;
    if (std::isfinite(a)) std::frexp(a, &exponent);
    return exponent;
  });
  table["v_ldexp_f64"] = Wide([](const Wave& w, const Instruction& i, int l) {
    const Operand& by = i.operands[2];
    const uint32_t exponent = by.place == Place::kVector ? w.v[by.index][l] : Scalar32(w, by);
    return AsBits(std::ldexp(SourceDouble(w, i.operands[1], l), static_cast<int32_t>(exponent)));
  });
  table["v_div_scale_f64"] = {[](Wave& w, const Instruction& i) {
    Lanes low, high;
    uint64_t back = 0;
    for (int l = 0; l < kLanes; ++l) {
      bool scaled_back = false;
      const uint64_t value = AsBits(DivScale(SourceDouble(w, i.operands[2], l), SourceDouble(w, i.operands[3], l),
                                             SourceDouble(w, i.operands[4], l), &scaled_back));
      low.lane[l] = static_cast<uint32_t>(value);
      high.lane[l] = static_cast<uint32_t>(value >> 32);
      back |= uint64_t{scaled_back} << l;
    }
    Commit(w, i, low, 0);
    Commit(w, i, high, 1);
    CommitMask(w, i, 1, back);
  }};
  table["v_div_fmas_f64"] = Wide([](const Wave& w, const Instruction& i, int l) {
    const double sum = std::fma(SourceDouble(w, i.operands[1], l), SourceDouble(w, i.operands[2], l),
                                SourceDouble(w, i.operands[3], l));
    const int exponent = Exponent(SourceDouble(w, i.operands[3], l)) > 1023 ? 128 : -128;
    return AsBits(w.vcc() >> l & 1 ? std::ldexp(sum, exponent) : sum);
  });
  table["v_div_fixup_f64"] = Double<3>([](double q, double d, double n) { return DivFixup(q, d, n); });

  table["v_cvt_f64_f32"] = FromWord([](uint32_t a) { return AsFloat(a); });
  table["v_cvt_f64_i32"] = FromWord([](uint32_t a) { return static_cast<int32_t>(a); });
  table["v_cvt_f64_u32"] = FromWord([](uint32_t a) { return a; });
  table["v_cvt_f32_f64"] = ToWord([](double a) { return AsBits(static_cast<float>(a)); });
  table["v_cvt_i32_f64"] = ToWord([](double a) { return Convert<int32_t>(a); });
  table["v_cvt_u32_f64"] = ToWord([](double a) { return Convert<uint32_t>(a); });
}

}  // namespace gfx950emu
