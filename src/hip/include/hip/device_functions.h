// The device functions that src/gpu names, by clang's builtins for amdgcn; float64's sine, cosine and logarithm, which
// the instruction set has no instruction for, by series.
#pragma once

#define MXMLA_DEVICE static __attribute__((device)) inline __attribute__((always_inline))

struct MxmlaThreadIndex {
  struct X {
    __attribute__((device)) operator unsigned() const { return __builtin_amdgcn_workitem_id_x(); }  // NOLINT
  };
  X x;
};
struct MxmlaBlockIndex {
  struct X {
    __attribute__((device)) operator unsigned() const { return __builtin_amdgcn_workgroup_id_x(); }  // NOLINT
  };
  struct Y {
    __attribute__((device)) operator unsigned() const { return __builtin_amdgcn_workgroup_id_y(); }  // NOLINT
  };
  struct Z {
    __attribute__((device)) operator unsigned() const { return __builtin_amdgcn_workgroup_id_z(); }  // NOLINT
  };
  X x;
  Y y;
  Z z;
};
// Of the dispatch packet: a group's size and the grid's in threads.
struct MxmlaBlockSize {
  struct X {
    __attribute__((device)) operator unsigned() const { return __builtin_amdgcn_workgroup_size_x(); }  // NOLINT
  };
  X x;
};
// Blocks of the grid: the first of the arguments that the compiler adds.
struct MxmlaGridSize {
  struct X {
    __attribute__((device)) operator unsigned() const {  // NOLINT
      return *(const __attribute__((address_space(4))) unsigned*)__builtin_amdgcn_implicitarg_ptr();
    }
  };
  X x;
};
extern const __attribute__((device)) __attribute__((weak)) MxmlaGridSize gridDim;
extern const __attribute__((device)) __attribute__((weak)) MxmlaThreadIndex threadIdx;
extern const __attribute__((device)) __attribute__((weak)) MxmlaBlockIndex blockIdx;
extern const __attribute__((device)) __attribute__((weak)) MxmlaBlockSize blockDim;

MXMLA_DEVICE void __syncthreads() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}

// --- bits ---
MXMLA_DEVICE float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }
MXMLA_DEVICE unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
MXMLA_DEVICE int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
MXMLA_DEVICE int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x)); }
MXMLA_DEVICE int __ffsll(long long x) { return __builtin_ffsll(x); }

// --- the wave ---
MXMLA_DEVICE unsigned __lane_id() { return __builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0u)); }
MXMLA_DEVICE unsigned long long __ballot(int predicate) { return __builtin_amdgcn_ballot_w64(predicate != 0); }

// What another lane has of a value of 4 or 8 bytes.
template <class T>
MXMLA_DEVICE T MxmlaFromLane(T value, unsigned lane) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  struct Words {
    int word[sizeof(T) / 4];
  };
  Words words = __builtin_bit_cast(Words, value);
  for (int& word : words.word) word = __builtin_amdgcn_ds_bpermute(static_cast<int>(lane * 4), word);
  return __builtin_bit_cast(T, words);
}
template <class T>
MXMLA_DEVICE T __shfl(T value, int lane) {
  return MxmlaFromLane(value, static_cast<unsigned>(lane) & 63u);
}
template <class T>
MXMLA_DEVICE T __shfl_xor(T value, int mask) {
  return MxmlaFromLane(value, __lane_id() ^ static_cast<unsigned>(mask));
}
template <class T>
MXMLA_DEVICE T __shfl_up(T value, unsigned lanes) {
  const unsigned lane = __lane_id();
  return MxmlaFromLane(value, lane >= lanes ? lane - lanes : lane);
}

// --- atomics ---
template <class T>
MXMLA_DEVICE T atomicAdd(T* at, T value) {
  return __hip_atomic_fetch_add(at, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}
template <class T>
MXMLA_DEVICE T atomicMax(T* at, T value) {
  return __hip_atomic_fetch_max(at, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}
MXMLA_DEVICE void __threadfence() { __builtin_amdgcn_fence(__ATOMIC_SEQ_CST, "agent"); }

// --- arithmetic ---
#define MXMLA_MIN_MAX(T)                                           \
  MXMLA_DEVICE constexpr T min(T a, T b) { return b < a ? b : a; } \
  MXMLA_DEVICE constexpr T max(T a, T b) { return a < b ? b : a; }
MXMLA_MIN_MAX(int)
MXMLA_MIN_MAX(unsigned)
MXMLA_MIN_MAX(long)
MXMLA_MIN_MAX(unsigned long)
#undef MXMLA_MIN_MAX

MXMLA_DEVICE float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
MXMLA_DEVICE float fminf(float a, float b) { return __builtin_fminf(a, b); }
MXMLA_DEVICE float fmaxf(float a, float b) { return __builtin_fmaxf(a, b); }
MXMLA_DEVICE double fmin(double a, double b) { return __builtin_fmin(a, b); }
MXMLA_DEVICE float fabsf(float a) { return __builtin_fabsf(a); }
MXMLA_DEVICE float sqrtf(float a) { return __builtin_sqrtf(a); }
MXMLA_DEVICE float expf(float a) { return __builtin_expf(a); }
MXMLA_DEVICE double ceil(double a) { return __builtin_ceil(a); }
MXMLA_DEVICE bool isnan(float a) { return a != a; }
MXMLA_DEVICE void* memcpy(void* to, const void* from, size_t bytes) { return __builtin_memcpy(to, from, bytes); }
MXMLA_DEVICE int2 make_int2(int x, int y) { return {x, y}; }
MXMLA_DEVICE float2 make_float2(float x, float y) { return {x, y}; }
MXMLA_DEVICE float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
MXMLA_DEVICE uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
MXMLA_DEVICE uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }

// The next float32 after x in the direction of `to`.
MXMLA_DEVICE float nextafterf(float x, float to) {
  if (x != x || to != to) return x + to;
  if (x == to) return to;
  if (x == 0) return to > 0 ? 0x1p-149f : -0x1p-149f;
  const unsigned bits = __float_as_uint(x);
  return __uint_as_float((x < to) == (x > 0) ? bits + 1 : bits - 1);
}

// The natural logarithm: x = m * 2^e with m around 1, log m = 2 artanh((m - 1) / (m + 1)).
MXMLA_DEVICE double log(double x) {
  if (!(x > 0) || x == __builtin_inf()) return x == 0 ? -__builtin_inf() : x > 0 ? x : __builtin_nan("");
  int exponent = __builtin_amdgcn_frexp_exp(x);
  double m = __builtin_amdgcn_frexp_mant(x);
  if (m < 0.70710678118654752440) {
    m *= 2;
    --exponent;
  }
  const double s = (m - 1) / (m + 1), square = s * s;
  double sum = 0;
#pragma unroll
  for (int odd = 23; odd >= 3; odd -= 2) sum = __builtin_fma(sum, square, 1.0 / odd);
  constexpr double kLn2High = 0x1.62e42fee00000p-1, kLn2Low = 0x1.a39ef35793c76p-33;
  return exponent * kLn2High + (2 * s + (2 * s * square * sum + exponent * kLn2Low));
}

// Taylor's series on [-pi/4, pi/4]: below float64's last bit after the term in x^18.
MXMLA_DEVICE double MxmlaSineSeries(double x) {
  const double square = x * x;
  double sum = 0;
#pragma unroll
  for (int n = 17; n >= 3; n -= 2) sum = (sum + 1) * (-square / (n * (n - 1)));
  return x + x * sum;
}
MXMLA_DEVICE double MxmlaCosineSeries(double x) {
  const double square = x * x;
  double sum = 0;
#pragma unroll
  for (int n = 18; n >= 2; n -= 2) sum = (sum + 1) * (-square / (n * (n - 1)));
  return 1 + sum;
}
// Sine of x + quarters * pi/2; pi/2 in three parts, whose products with a count below 2^26 are exact in a fused sum.
MXMLA_DEVICE double MxmlaSineOf(double x, int quarters) {
  const double count = __builtin_rint(x * 0.63661977236758134308);
  double rest = __builtin_fma(-count, 0x1.921fb54442d18p+0, x);
  rest = __builtin_fma(-count, 0x1.1a62633145c07p-54, rest);
  const int quadrant = static_cast<int>(count) + quarters;
  const double value = quadrant & 1 ? MxmlaCosineSeries(rest) : MxmlaSineSeries(rest);
  return quadrant & 2 ? -value : value;
}
MXMLA_DEVICE double sin(double x) { return MxmlaSineOf(x, 0); }
MXMLA_DEVICE double cos(double x) { return MxmlaSineOf(x, 1); }

#undef MXMLA_DEVICE
