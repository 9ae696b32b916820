// Vector operations on float32, and packed pairs of it.
#include "number_formats.h"
#include "vector_lambdas.h"

namespace gfx950emu {
namespace {

// IEEE's maximumNumber: of a NaN and a number, the number; +0 is larger than -0.
float Larger(float a, float b) {
  if (std::isnan(a)) return b;
  if (std::isnan(b)) return a;
  if (a == b) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}
float Smaller(float a, float b) {
  if (std::isnan(a)) return b;
  if (std::isnan(b)) return a;
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}

// Transcendental operations do not know subnormals, as compilers assume: they count as 0 on both sides.
float Flush(float value) { return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0f, value) : value; }
template <class F>
Operation Transcendental(F) {
  return Float1([](float a) { return Flush(static_cast<float>(F{}(static_cast<double>(Flush(a))))); });
}

int Exponent(float value) { return static_cast<int>(AsBits(value) >> 23 & 255); }
bool Subnormal(float value) { return std::fpclassify(value) == FP_SUBNORMAL; }

// Division in steps: the operand (numerator or denominator, s0) scaled so that the steps between lose nothing, and
// whether the quotient must be scaled back. The published pseudocode scales the denominator up where its inverse and
// the quotient are subnormal, which would overflow: down is what makes the sequence of steps a division.
float DivScale(float s0, float denominator, float numerator, bool* scaled_back) {
  *scaled_back = false;
  if (numerator == 0 || denominator == 0) return std::numeric_limits<float>::quiet_NaN();
  if (Exponent(numerator) - Exponent(denominator) >= 96) {
    *scaled_back = true;
    return s0 == denominator ? std::ldexp(s0, 64) : s0;
  }
  if (Subnormal(denominator)) return std::ldexp(s0, 64);
  const bool tiny_inverse = Subnormal(1.0f / denominator), tiny_quotient = Subnormal(numerator / denominator);
  if (tiny_inverse && tiny_quotient) {
    *scaled_back = true;
    return s0 == denominator ? std::ldexp(s0, -64) : s0;
  }
  if (tiny_inverse) return std::ldexp(s0, -64);
  if (tiny_quotient) {
    *scaled_back = true;
    return s0 == numerator ? std::ldexp(s0, 64) : s0;
  }
  return Exponent(numerator) <= 23 ? std::ldexp(s0, 64) : s0;
}

float DivFixup(float quotient, float denominator, float numerator) {
  const bool negative = std::signbit(denominator) != std::signbit(numerator);
  const float sign = negative ? -1.0f : 1.0f;
  if (std::isnan(numerator)) return numerator;
  if (std::isnan(denominator)) return denominator;
  if ((numerator == 0 && denominator == 0) || (std::isinf(numerator) && std::isinf(denominator))) {
    return std::numeric_limits<float>::quiet_NaN();
  }
  if (denominator == 0 || std::isinf(numerator)) return sign * std::numeric_limits<float>::infinity();
  if (std::isinf(denominator) || numerator == 0) return sign * 0.0f;
  return sign * std::fabs(quotient);
}

// Two float32 in a register pair: op_sel and op_sel_hi choose the halves of each source for the low and high result.
template <int kSources, class F>
Operation Packed(F) {
  return {[](Wave& w, const Instruction& i) {
    Lanes result[2];
    for (int half = 0; half < 2; ++half) {
      Lanes buffer[kSources];
      const uint32_t* source[kSources];
      for (int k = 0; k < kSources; ++k) {
        const Operand& o = i.operands[static_cast<size_t>(k + 1)];
        const int select = (half ? i.op_sel_hi : i.op_sel) >> k & 1;
        const bool negate = (half ? i.neg_hi : i.neg_lo) >> k & 1;
        source[k] = Source(w, i, k + 1, buffer[k], o.place == Place::kConstant || o.count < 2 ? 0 : select);
        if (negate) {
          for (int l = 0; l < kLanes; ++l) buffer[k].lane[l] = source[k][l] ^ 0x80000000u;
          source[k] = buffer[k].lane;
        }
      }
      for (int l = 0; l < kLanes; ++l) {
        if constexpr (kSources == 2) {
          result[half].lane[l] = AsBits(F{}(AsFloat(source[0][l]), AsFloat(source[1][l])));
        } else {
          result[half].lane[l] = AsBits(F{}(AsFloat(source[0][l]), AsFloat(source[1][l]), AsFloat(source[2][l])));
        }
      }
    }
    Commit(w, i, result[0], 0);
    Commit(w, i, result[1], 1);
  }};
}

void AddArithmetic(OperationTable& table) {
  table["v_add_f32"] = Float2([](float a, float b) { return a + b; });
  table["v_sub_f32"] = Float2([](float a, float b) { return a - b; });
  table["v_subrev_f32"] = Float2([](float a, float b) { return b - a; });
  table["v_mul_f32"] = Float2([](float a, float b) { return a * b; });
  table["v_max_f32"] = Float2([](float a, float b) { return Larger(a, b); });
  table["v_min_f32"] = Float2([](float a, float b) { return Smaller(a, b); });
  table["v_max3_f32"] = Float3([](float a, float b, float c) { return Larger(Larger(a, b), c); });
  table["v_min3_f32"] = Float3([](float a, float b, float c) { return Smaller(Smaller(a, b), c); });
  table["v_med3_f32"] = Float3([](float a, float b, float c) {
    if (std::isnan(a) || std::isnan(b) || std::isnan(c)) return Smaller(Smaller(a, b), c);
    return Larger(Smaller(a, b), Smaller(Larger(a, b), c));
  });
  table["v_maximum3_f32"] = Float3([](float a, float b, float c) {
    if (std::isnan(a) || std::isnan(b) || std::isnan(c)) return std::numeric_limits<float>::quiet_NaN();
    return Larger(Larger(a, b), c);
  });
  table["v_minimum3_f32"] = Float3([](float a, float b, float c) {
    if (std::isnan(a) || std::isnan(b) || std::isnan(c)) return std::numeric_limits<float>::quiet_NaN();
    return Smaller(Smaller(a, b), c);
  });
  for (const char* name : {"v_fma_f32", "v_fmaak_f32", "v_fmamk_f32"}) {
    table[name] = Float3([](float a, float b, float c) { return std::fma(a, b, c); });
  }
  table["v_fmac_f32"] = {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, result;
    const uint32_t* a = SourceFloat(w, i, 1, of_a);
    const uint32_t* b = SourceFloat(w, i, 2, of_b);
    const uint32_t* c = Vector(w, i.operands[0]);
    for (int l = 0; l < kLanes; ++l) result.lane[l] = AsBits(std::fma(AsFloat(a[l]), AsFloat(b[l]), AsFloat(c[l])));
    CommitFloat(w, i, result);
  }};
  table["v_floor_f32"] = Float1([](float a) { return std::floor(a); });
  table["v_ceil_f32"] = Float1([](float a) { return std::ceil(a); });
  table["v_trunc_f32"] = Float1([](float a) { return std::trunc(a); });
  table["v_rndne_f32"] = Float1([](float a) { return std::nearbyint(a); });
  table["v_fract_f32"] = Float1([](float a) { return a - std::floor(a); });
  table["v_frexp_mant_f32"] = Float1([](float a) {
    int exponent = 0;
    return std::isfinite(a) ? std::frexp(a, &exponent) : a;
  });
  table["v_frexp_exp_i32_f32"] = {[](Wave& w, const Instruction& i) {
    Lanes buffer, result;
    const uint32_t* a = SourceFloat(w, i, 1, buffer);
    for (int l = 0; l < kLanes; ++l) {
      int exponent = 0;
      if (std::isfinite(AsFloat(a[l]))) std::frexp(AsFloat(a[l]), &exponent);
      result.lane[l] = static_cast<uint32_t>(exponent);
    }
    Commit(w, i, result);
  }};
  table["v_ldexp_f32"] = {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, result;
    const uint32_t* a = SourceFloat(w, i, 1, of_a);
    const uint32_t* b = Source(w, i, 2, of_b);
    for (int l = 0; l < kLanes; ++l) result.lane[l] = AsBits(std::ldexp(AsFloat(a[l]), static_cast<int32_t>(b[l])));
    CommitFloat(w, i, result);
  }};
}

void AddTranscendentals(OperationTable& table) {
  for (const char* name : {"v_rcp_f32", "v_rcp_iflag_f32"}) {
    table[name] = Transcendental([](double a) { return 1 / a; });
  }
  table["v_rsq_f32"] = Transcendental([](double a) { return 1 / std::sqrt(a); });
  table["v_exp_f32"] = Transcendental([](double a) { return std::exp2(a); });
  table["v_log_f32"] = Transcendental([](double a) { return std::log2(a); });
  // In turns.
  table["v_sin_f32"] = Transcendental([](double a) { return std::sin(2 * M_PI * a); });
  table["v_cos_f32"] = Transcendental([](double a) { return std::cos(2 * M_PI * a); });
  table["v_sqrt_f32"] = Float1([](float a) { return std::sqrt(a); });
}

void AddDivision(OperationTable& table) {
  table["v_div_scale_f32"] = {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, of_c, result;
    const uint32_t* a = SourceFloat(w, i, 2, of_a);
    const uint32_t* b = SourceFloat(w, i, 3, of_b);
    const uint32_t* c = SourceFloat(w, i, 4, of_c);
    uint64_t back = 0;
    for (int l = 0; l < kLanes; ++l) {
      bool scaled_back = false;
      result.lane[l] = AsBits(DivScale(AsFloat(a[l]), AsFloat(b[l]), AsFloat(c[l]), &scaled_back));
      back |= uint64_t{scaled_back} << l;
    }
    Commit(w, i, result);
    CommitMask(w, i, 1, back);
  }};
  table["v_div_fmas_f32"] = {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, of_c, result;
    const uint32_t* a = SourceFloat(w, i, 1, of_a);
    const uint32_t* b = SourceFloat(w, i, 2, of_b);
    const uint32_t* c = SourceFloat(w, i, 3, of_c);
    const uint64_t back = w.vcc();
    for (int l = 0; l < kLanes; ++l) {
      // The scale goes with the size of the scaled quotient, and the sum is rounded once.
      const int exponent = back >> l & 1 ? (Exponent(AsFloat(c[l])) > 127 ? 64 : -64) : 0;
      const double product = static_cast<double>(AsFloat(a[l])) * static_cast<double>(AsFloat(b[l]));
      const double sum = product + static_cast<double>(AsFloat(c[l]));
      result.lane[l] = exponent == 0 ? AsBits(std::fma(AsFloat(a[l]), AsFloat(b[l]), AsFloat(c[l])))
                                     : AsBits(static_cast<float>(std::ldexp(sum, exponent)));
    }
    CommitFloat(w, i, result);
  }};
  table["v_div_fixup_f32"] = Float3([](float q, float d, float n) { return DivFixup(q, d, n); });
}

}  // namespace

void AddVectorFloat(OperationTable& table) {
  AddArithmetic(table);
  AddTranscendentals(table);
  AddDivision(table);
  table["v_pk_add_f32"] = Packed<2>([](float a, float b) { return a + b; });
  table["v_pk_mul_f32"] = Packed<2>([](float a, float b) { return a * b; });
  table["v_pk_fma_f32"] = Packed<3>([](float a, float b, float c) { return std::fma(a, b, c); });
  table["v_pk_mov_b32"] = {[](Wave& w, const Instruction& i) {
    Lanes of_a, of_b, low, high;
    const uint32_t* a = Source(w, i, 1, of_a, i.op_sel & 1);
    std::memcpy(low.lane, a, sizeof(low.lane));
    const uint32_t* b = Source(w, i, 2, of_b, i.op_sel >> 1 & 1);
    std::memcpy(high.lane, b, sizeof(high.lane));
    Commit(w, i, low, 0);
    Commit(w, i, high, 1);
  }};
}

}  // namespace gfx950emu
