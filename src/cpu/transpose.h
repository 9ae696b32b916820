// Sixteen rows of sixteen 32-bit words in registers: rows become columns.
#pragma once

#if defined(__AVX512F__)

#include "cpu/simd.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

MXMLA_INLINE void Transpose(__m512i (&row)[16]) {
  __m512i pair[16], four[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    pair[2 * i] = _mm512_unpacklo_epi32(row[2 * i], row[2 * i + 1]);
    pair[2 * i + 1] = _mm512_unpackhi_epi32(row[2 * i], row[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // words j, j + 4, j + 8, j + 12 of rows 4 * i .. 4 * i + 3
    four[4 * i] = _mm512_unpacklo_epi64(pair[4 * i], pair[4 * i + 2]);
    four[4 * i + 1] = _mm512_unpackhi_epi64(pair[4 * i], pair[4 * i + 2]);
    four[4 * i + 2] = _mm512_unpacklo_epi64(pair[4 * i + 1], pair[4 * i + 3]);
    four[4 * i + 3] = _mm512_unpackhi_epi64(pair[4 * i + 1], pair[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i low0 = _mm512_shuffle_i32x4(four[j], four[4 + j], 0x88);
    const __m512i high0 = _mm512_shuffle_i32x4(four[j], four[4 + j], 0xdd);
    const __m512i low1 = _mm512_shuffle_i32x4(four[8 + j], four[12 + j], 0x88);
    const __m512i high1 = _mm512_shuffle_i32x4(four[8 + j], four[12 + j], 0xdd);
    row[j] = _mm512_shuffle_i32x4(low0, low1, 0x88);
    row[8 + j] = _mm512_shuffle_i32x4(low0, low1, 0xdd);
    row[4 + j] = _mm512_shuffle_i32x4(high0, high1, 0x88);
    row[12 + j] = _mm512_shuffle_i32x4(high0, high1, 0xdd);
  }
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA

#endif
