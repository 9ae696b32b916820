// A GEMM in MXFP4 that stages its operands in LDS, and what goes wrong with it when MUTATION is not 0: the emulator's
// tests must tell each from the right one. out (m, n) = a (m, k) x b (n, k)^T; values (.., k/2), scales (.., k/32).
#include <hip/hip_runtime.h>

typedef int Int4 __attribute__((ext_vector_type(4)));
typedef int Int8 __attribute__((ext_vector_type(8)));
typedef float Float4 __attribute__((ext_vector_type(4)));

#define MUTATED(which) (MUTATION == (which))

// A block of four waves takes 32 rows of a and 32 of b; a wave a quarter of the result.
extern "C" __global__ void __launch_bounds__(256) Gemm(const uint8_t* a, const uint8_t* a_scales, const uint8_t* b,
                                                       const uint8_t* b_scales, float* out, int m, int n, int k) {
  __shared__ Int4 values[2][32][4];
  __shared__ uint8_t scales[2][32][4];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 64, wave = thread / 64;
  const int row0 = static_cast<int>(blockIdx.y) * 32, column0 = static_cast<int>(blockIdx.x) * 32;
  const int wave_row = wave / 2 * 16, wave_column = wave % 2 * 16;
  const int which = thread / 128, staged_row = thread % 128 / 4, block = thread % 4;
  const int rows = which ? n : m;
  int row = (which ? column0 : row0) + staged_row;
  if (!MUTATED(1)) row = min(row, rows - 1);  // 1: no clamp
  const uint8_t* from = (which ? b : a) + int64_t{row} * (k / 2);
  const uint8_t* from_scales = (which ? b_scales : a_scales) + int64_t{row} * (k / 32);
  const int g = lane / 16, i = lane % 16;
  Float4 sum = {};
  for (int k0 = 0; k0 < k; k0 += 128) {
    values[which][staged_row][MUTATED(2) ? block ^ 2 : block] =  // 2: halves of k swapped, in both operands' values
        *reinterpret_cast<const Int4*>(from + k0 / 2 + block * 16);
    scales[which][staged_row][block] =
        from_scales[MUTATED(3) ? (k0 + 128) % k / 32 + block : k0 / 32 + block];  // 3: next
    if (!MUTATED(4)) __syncthreads();                                             // 4: no barrier before the reads
    const Int4 of_a = values[0][wave_row + i][g], of_b = values[1][wave_column + i][g];
    const int scale_a = scales[0][wave_row + i][g], scale_b = scales[1][wave_column + i][g];
    const Int8 wide_a = {of_a[0], of_a[1], of_a[2], of_a[3], 0, 0, 0, 0};
    const Int8 wide_b = {of_b[0], of_b[1], of_b[2], of_b[3], 0, 0, 0, 0};
    sum =
        __builtin_amdgcn_mfma_scale_f32_16x16x128_f8f6f4(wide_a, wide_b, sum, MUTATED(5) ? 0 : 4, 4,  // 5: format code
                                                         MUTATED(6) ? 1 : 0, scale_a, 0, scale_b);    // 6: scale's byte
    if (!MUTATED(7)) __syncthreads();  // 7: no barrier behind the reads
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const int out_row = row0 + wave_row + (MUTATED(8) ? g + 4 * r : 4 * g + r);  // 8: rows permuted
    const int out_column = column0 + wave_column + i;
    if (out_row < m && (MUTATED(9) || out_column < n)) out[int64_t{out_row} * n + out_column] = sum[r];  // 9: no mask
  }
}

// A load whose result is used at once: what s_waitcnt is for. The compiler does not know what the first line does.
extern "C" __global__ void Unawaited(const int* from, int* to) {
  int value;
  asm volatile("global_load_dword %0, %1, %2" : "=&v"(value) : "v"(static_cast<int>(threadIdx.x) * 4), "s"(from));
  if (MUTATION == 0) asm volatile("s_waitcnt vmcnt(0)" : "+v"(value));
  to[threadIdx.x] = value + 1;
}
