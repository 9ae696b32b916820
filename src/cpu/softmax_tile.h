// The running softmax: one row's scores, 64 at a time.
#pragma once

#include <limits>

#include "cpu/attention_tile.h"
#include "cpu/simd_math.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

// Turns the first `valid` >= 1 of 64 scores into weights exp(score - largest so far) and the others into 0. Returns the
// factor by which what was summed before shrinks. `largest` starts at -infinity, `sum` at 0.
MXMLA_INLINE float SoftmaxTile(float* scores /* (64) */, int64_t valid, float* largest, float* sum) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  F32x16 s[4];
  F32x16 most = Splat(*largest);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const I32x16 lane = LaneNumbers() + Splat(static_cast<int32_t>(16 * i));
    s[i] = Select(lane < Splat(static_cast<int32_t>(valid)), Load(scores + 16 * i), Splat(kNone));
    most = Max(s[i], most);
  }
  const float now = ReduceMax(most);
  alignas(64) float change[16];
  Store(change, Exp(Splat(*largest - now)));
  F32x16 total = Zero();
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    s[i] = Exp(s[i] - Splat(now));
    Store(scores + 16 * i, s[i]);
    total = total + s[i];
  }
  *largest = now;
  *sum = *sum * change[0] + ReduceAdd(total);
  return change[0];
}

MXMLA_INLINE void Scale(float* values /* (n) */, int64_t n /* a multiple of 16 */, float factor) {
  if (factor == 1.0f) return;
  for (int64_t i = 0; i < n; i += 16) Store(values + i, Load(values + i) * Splat(factor));
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
