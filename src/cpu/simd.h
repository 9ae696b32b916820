// Sixteen lanes of 32 bits on every instruction set: one AVX-512 register, two AVX registers, or four of 128 bits.
// A value is a struct of native registers, which the compiler keeps in registers (it would keep a 64-byte vector of its
// own in memory where the machine has none). Arithmetic is lane by lane; comparisons give masks (all bits of a lane).
#pragma once

#include <cstdint>
#include <cstring>

#include "core/dtype.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mxmla::cpu::MXMLA_CPU_ISA {

#define MXMLA_INLINE [[gnu::always_inline]] static inline

#if defined(__AVX512F__)
inline constexpr int kNativeLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kNativeLanes = 8;
#else
inline constexpr int kNativeLanes = 4;
#endif
inline constexpr int kParts = 16 / kNativeLanes;

typedef float F32Native __attribute__((vector_size(4 * kNativeLanes)));
typedef int32_t I32Native __attribute__((vector_size(4 * kNativeLanes)));
typedef uint32_t U32Native __attribute__((vector_size(4 * kNativeLanes)));

// V is one of the native types above.
template <class V>
struct Simd16 {
  V part[kParts];
};
using F32x16 = Simd16<F32Native>;
using I32x16 = Simd16<I32Native>;
using U32x16 = Simd16<U32Native>;

// {f(0), f(1), ..}: spelled out, so that no loop stands between the compiler and its registers.
template <class V, class F>
MXMLA_INLINE Simd16<V> Map(F&& f) {
  if constexpr (kParts == 1) {
    return {{f(0)}};
  } else if constexpr (kParts == 2) {
    return {{f(0), f(1)}};
  } else {
    return {{f(0), f(1), f(2), f(3)}};
  }
}
#define MXMLA_MAP(V, expression) \
  Map<V>([&]([[maybe_unused]] int p) __attribute__((always_inline))->V { return (V)(expression); })

#define MXMLA_BINARY(op)                                         \
  template <class V>                                             \
  MXMLA_INLINE Simd16<V> operator op(Simd16<V> a, Simd16<V> b) { \
    return MXMLA_MAP(V, a.part[p] op b.part[p]);                 \
  }
MXMLA_BINARY(+)
MXMLA_BINARY(-)
MXMLA_BINARY(*)
MXMLA_BINARY(/)
MXMLA_BINARY(&)
MXMLA_BINARY(|)
MXMLA_BINARY(^)
#undef MXMLA_BINARY

template <class V>
MXMLA_INLINE Simd16<V> operator-(Simd16<V> a) {
  return MXMLA_MAP(V, -a.part[p]);
}
template <class V>
MXMLA_INLINE Simd16<V> operator~(Simd16<V> a) {
  return MXMLA_MAP(V, ~a.part[p]);
}
// Shifts by a constant; right shifts are logical for U32x16 and arithmetic for I32x16.
template <class V>
MXMLA_INLINE Simd16<V> operator<<(Simd16<V> a, int bits) {
  return MXMLA_MAP(V, a.part[p] << bits);
}
template <class V>
MXMLA_INLINE Simd16<V> operator>>(Simd16<V> a, int bits) {
  return MXMLA_MAP(V, a.part[p] >> bits);
}

#define MXMLA_COMPARE(op)                                     \
  template <class V>                                          \
  MXMLA_INLINE I32x16 operator op(Simd16<V> a, Simd16<V> b) { \
    return MXMLA_MAP(I32Native, a.part[p] op b.part[p]);      \
  }
MXMLA_COMPARE(<)
MXMLA_COMPARE(<=)
MXMLA_COMPARE(>)
MXMLA_COMPARE(>=)
MXMLA_COMPARE(==)
MXMLA_COMPARE(!=)
#undef MXMLA_COMPARE

// a where the mask's lane is set, b elsewhere.
template <class V>
MXMLA_INLINE Simd16<V> Select(I32x16 mask, Simd16<V> a, Simd16<V> b) {
  return MXMLA_MAP(V, mask.part[p] ? a.part[p] : b.part[p]);
}

// Not 0 + value, which is an addition: the compiler may not drop it, because it turns -0 into 0.
MXMLA_INLINE F32Native SplatNative(float value) {
#if defined(__AVX512F__)
  return (F32Native)_mm512_set1_ps(value);
#elif defined(__AVX2__)
  return (F32Native)_mm256_set1_ps(value);
#else
  return F32Native{value, value, value, value};
#endif
}
MXMLA_INLINE F32x16 Splat(float value) { return MXMLA_MAP(F32Native, SplatNative(value)); }
MXMLA_INLINE I32x16 Splat(int32_t value) { return MXMLA_MAP(I32Native, I32Native{} + value); }
MXMLA_INLINE U32x16 Splat(uint32_t value) { return MXMLA_MAP(U32Native, U32Native{} + value); }
MXMLA_INLINE F32x16 Zero() { return MXMLA_MAP(F32Native, (F32Native{})); }

// The same bits as another type.
MXMLA_INLINE U32x16 BitsOf(F32x16 a) { return MXMLA_MAP(U32Native, a.part[p]); }
MXMLA_INLINE U32x16 BitsOf(I32x16 a) { return MXMLA_MAP(U32Native, a.part[p]); }
MXMLA_INLINE F32x16 FromBits(U32x16 a) { return MXMLA_MAP(F32Native, a.part[p]); }
MXMLA_INLINE I32x16 AsSigned(U32x16 a) { return MXMLA_MAP(I32Native, a.part[p]); }

// Conversions by value; ToInt truncates.
MXMLA_INLINE F32x16 ToFloat(I32x16 a) { return MXMLA_MAP(F32Native, __builtin_convertvector(a.part[p], F32Native)); }
MXMLA_INLINE I32x16 ToInt(F32x16 a) { return MXMLA_MAP(I32Native, __builtin_convertvector(a.part[p], I32Native)); }

// a * b + c; rounded once where the instruction set has a fused multiply-add.
MXMLA_INLINE F32Native FmaNative(F32Native a, F32Native b, F32Native c) {
#if defined(__AVX512F__)
  return (F32Native)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (F32Native)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}
MXMLA_INLINE F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return MXMLA_MAP(F32Native, FmaNative(a.part[p], b.part[p], c.part[p]));
}

MXMLA_INLINE F32Native MaxNative(F32Native a, F32Native b) {
#if defined(__AVX512F__)
  return (F32Native)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (F32Native)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
  return (F32Native)_mm_max_ps((__m128)a, (__m128)b);
#else
  return a > b ? a : b;
#endif
}
// Lane-wise a > b ? a : b, so that b is taken when either is NaN.
MXMLA_INLINE F32x16 Max(F32x16 a, F32x16 b) { return MXMLA_MAP(F32Native, MaxNative(a.part[p], b.part[p])); }
// Lane-wise b < a ? b : a, so that a is taken when either is NaN.
MXMLA_INLINE F32x16 Min(F32x16 a, F32x16 b) { return -Max(-b, -a); }
MXMLA_INLINE F32x16 Abs(F32x16 a) { return FromBits(BitsOf(a) & Splat(0x7fffffffu)); }

// Keeps the compiler from reading the value from memory again at each use.
MXMLA_INLINE void KeepInRegister([[maybe_unused]] F32Native& value) {
#if defined(__AVX2__)
  asm("" : "+v"(value));
#endif
}

// Loads and stores of any alignment; `from` and `to` are (16).
typedef F32Native F32NativeAt __attribute__((aligned(4), may_alias));
typedef U32Native U32NativeAt __attribute__((aligned(1), may_alias));
MXMLA_INLINE F32x16 Load(const float* from) {
  return MXMLA_MAP(F32Native, *reinterpret_cast<const F32NativeAt*>(from + p * kNativeLanes));
}
MXMLA_INLINE void Store(float* to, F32x16 a) {
#pragma GCC unroll 4
  for (int p = 0; p < kParts; ++p) *reinterpret_cast<F32NativeAt*>(to + p * kNativeLanes) = a.part[p];
}
// 64 bytes as 16 words.
MXMLA_INLINE U32x16 LoadWords(const void* from) {
  return MXMLA_MAP(U32Native,
                   *reinterpret_cast<const U32NativeAt*>(static_cast<const char*>(from) + 4 * p * kNativeLanes));
}
MXMLA_INLINE void StoreWords(void* to, U32x16 a) {
#pragma GCC unroll 4
  for (int p = 0; p < kParts; ++p) {
    *reinterpret_cast<U32NativeAt*>(static_cast<char*>(to) + 4 * p * kNativeLanes) = a.part[p];
  }
}

// 16 uint8 or uint16 from memory of any alignment, widened.
typedef uint8_t U8Native __attribute__((vector_size(kNativeLanes)));
typedef uint16_t U16Native __attribute__((vector_size(2 * kNativeLanes)));
MXMLA_INLINE U32x16 WidenBytes(const void* from /* (16) */) {
#if defined(__AVX512F__)
  return {{(U32Native)_mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from)))}};
#else
  return MXMLA_MAP(U32Native, ([&]() __attribute__((always_inline)) {
                     U8Native bytes;
                     std::memcpy(&bytes, static_cast<const char*>(from) + p * kNativeLanes, sizeof(bytes));
                     return __builtin_convertvector(bytes, U32Native);
                   }()));
#endif
}
MXMLA_INLINE U32x16 WidenShorts(const void* from /* (16) */) {
#if defined(__AVX512F__)
  return {{(U32Native)_mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(from)))}};
#else
  return MXMLA_MAP(U32Native, ([&]() __attribute__((always_inline)) {
                     U16Native shorts;
                     std::memcpy(&shorts, static_cast<const char*>(from) + 2 * p * kNativeLanes, sizeof(shorts));
                     return __builtin_convertvector(shorts, U32Native);
                   }()));
#endif
}
// The low 16 bits of each lane to `to` (16).
MXMLA_INLINE void StoreShorts(void* to, U32x16 a) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(static_cast<__m256i*>(to), _mm512_cvtepi32_epi16((__m512i)a.part[0]));
#else
#pragma GCC unroll 4
  for (int p = 0; p < kParts; ++p) {
    const U16Native shorts = __builtin_convertvector(a.part[p], U16Native);
    std::memcpy(static_cast<char*>(to) + 2 * p * kNativeLanes, &shorts, sizeof(shorts));
  }
#endif
}

// bf16: exact to float; to nearest even from float, NaN stays a quiet NaN, as bf16::FromFloat.
MXMLA_INLINE U32x16 Bf16Bits(F32x16 a) {
  const U32x16 u = BitsOf(a);
  const U32x16 rounded = (u + Splat(0x7fffu) + ((u >> 16) & Splat(1u))) >> 16;
  const U32x16 nan = (u >> 16) | Splat(0x40u);
  return Select(a != a, nan, rounded);
}
// The value of bf16::FromFloat, as float32.
MXMLA_INLINE F32x16 RoundToBf16(F32x16 a) { return FromBits(Bf16Bits(a) << 16); }
MXMLA_INLINE F32x16 Load(const bf16* from) { return FromBits(WidenShorts(from) << 16); }
MXMLA_INLINE void Store(bf16* to, F32x16 a) { StoreShorts(to, Bf16Bits(a)); }

// The first `count` < 16 elements; the other lanes are 0. Nothing past them is read or written.
template <class T>
MXMLA_INLINE F32x16 LoadPartial(const T* from, int64_t count) {
  alignas(64) T lanes[16] = {};
  std::memcpy(lanes, from, static_cast<size_t>(count) * sizeof(T));
  return Load(lanes);
}
template <class T>
MXMLA_INLINE void StorePartial(T* to, F32x16 a, int64_t count) {
  alignas(64) T lanes[16];
  Store(lanes, a);
  std::memcpy(to, lanes, static_cast<size_t>(count) * sizeof(T));
}

// The sum of the lanes, in one order everywhere: lanes i and i + 8, then i + 4, then i + 2, then i + 1.
MXMLA_INLINE float ReduceAdd(F32x16 a) {
#if defined(__AVX512F__)
  const __m512 v = (__m512)a.part[0];
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
#elif defined(__AVX2__)
  const __m256 eight = (__m256)(a.part[0] + a.part[1]);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
#else
  typedef float F32x4 __attribute__((vector_size(16)));
  const F32x4 four = (a.part[0] + a.part[2]) + (a.part[1] + a.part[3]);
#endif
#if defined(__SSE2__)
  const __m128 two = _mm_add_ps((__m128)four, _mm_movehl_ps((__m128)four, (__m128)four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
#else
  return (four[0] + four[2]) + (four[1] + four[3]);
#endif
}

// The largest lane; meaningless when a lane is NaN.
MXMLA_INLINE float ReduceMax(F32x16 a) {
  float lanes[16];
  Store(lanes, a);
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] = lanes[i] > lanes[i + width] ? lanes[i] : lanes[i + width];
  }
  return lanes[0];
}
// Whether any lane of the mask is set.
MXMLA_INLINE bool Any(I32x16 mask) {
  U32x16 bits = BitsOf(mask);
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)bits.part[0], (__m512i)bits.part[0]) != 0;
#else
  uint32_t lanes[16];
  StoreWords(lanes, bits);
  uint32_t any = 0;
  for (uint32_t lane : lanes) any |= lane;
  return any != 0;
#endif
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
