// Elementary functions on sixteen lanes.
#pragma once

#include <limits>

#include "cpu/simd.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

// exp(x) within 2 ulp, subnormal results included; +inf above the range, 0 below it, NaN for NaN.
MXMLA_INLINE F32x16 Exp(F32x16 x) {
  constexpr float kRound = 12582912.0f;           // 1.5 * 2^23: a sum with it is rounded to an integer
  x = Min(Max(Splat(-104.5f), x), Splat(89.5f));  // keeps NaN
  const F32x16 shifted = Fma(x, Splat(1.44269504f), Splat(kRound));
  const F32x16 n = shifted - Splat(kRound);
  // ln 2 in two parts; the product of n and the first is exact.
  F32x16 r = Fma(n, Splat(-0.693359375f), x);
  r = Fma(n, Splat(2.12194440e-4f), r);
  F32x16 sum = Splat(1.0f / 5040);
  sum = Fma(sum, r, Splat(1.0f / 720));
  sum = Fma(sum, r, Splat(1.0f / 120));
  sum = Fma(sum, r, Splat(1.0f / 24));
  sum = Fma(sum, r, Splat(1.0f / 6));
  sum = Fma(sum, r, Splat(0.5f));
  const F32x16 value = Fma(sum, r * r, r) + Splat(1.0f);
  // 2^n in two factors, each a normal number, so that results may overflow or be subnormal.
  const I32x16 exponent = AsSigned(BitsOf(shifted) - BitsOf(Splat(kRound)));
  const I32x16 half = exponent >> 1;
  const F32x16 scale_a = FromBits(BitsOf(half + Splat(int32_t{127})) << 23);
  const F32x16 scale_b = FromBits(BitsOf(exponent - half + Splat(int32_t{127})) << 23);
  return value * scale_a * scale_b;
}

// g / (1 + exp(-g))
MXMLA_INLINE F32x16 Silu(F32x16 g) { return g / (Splat(1.0f) + Exp(-g)); }

MXMLA_INLINE F32x16 Sigmoid(F32x16 x) { return Splat(1.0f) / (Splat(1.0f) + Exp(-x)); }

// A lane is set where it holds NaN.
MXMLA_INLINE I32x16 IsNan(F32x16 x) { return x != x; }

// {0, 1, .. 15}
MXMLA_INLINE I32x16 LaneNumbers() {
  alignas(64) static constexpr int32_t kNumbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return AsSigned(LoadWords(kNumbers));
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
