// "Split" rows of float32: each block of 32 elements stored as its 16 even elements, then its 16 odd ones, which is
// what 32 bf16 become by a mask and a shift, without shuffles.
#pragma once

#include "cpu/blocks.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

inline constexpr int64_t kSplitBlock = kBlock;

constexpr int64_t RoundUp(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Where element k of a row is in the split row.
constexpr int64_t SplitIndex(int64_t k) { return k / 32 * 32 + (k % 2) * 16 + k % 32 / 2; }

// 32 elements as the even and the odd ones, and back.
MXMLA_INLINE Block LoadSplit(const bf16* from /* (32) */) { return DecodeBf16(from); }
MXMLA_INLINE Block LoadSplit(const float* from /* (32) */) { return Deinterleave(from); }
MXMLA_INLINE void StoreSplit(bf16* to /* (32) */, const Block& block) {
  StoreWords(to, Bf16Bits(block.even) | (Bf16Bits(block.odd) << 16));
}
MXMLA_INLINE void StoreSplit(float* to /* (32) */, const Block& block) {
  Store(to, FirstHalf(block));
  Store(to + 16, LastHalf(block));
}

// Converts n elements into a split row, with zeros up to a multiple of 32.
template <class T>
void ToSplit(const T* from /* (n) */, int64_t n, float* to /* (n rounded up to 32) */) {
  int64_t k = 0;
  for (; k + kSplitBlock <= n; k += kSplitBlock) {
    const Block block = LoadSplit(from + k);
    Store(to + k, block.even);
    Store(to + k + 16, block.odd);
  }
  if (k == n) return;
  for (int64_t i = 0; i < kSplitBlock; ++i) {
    to[SplitIndex(k + i)] = k + i < n ? mxmla::ToFloat(from[k + i]) : 0.0f;
  }
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
