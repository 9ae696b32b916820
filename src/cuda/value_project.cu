#include "cuda/value_project.h"

#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <algorithm>
#include <string>

#include "cuda/chunk_joins.cuh"
#include "cuda/hopper_instructions.cuh"
#include "cuda/launch_link.h"
#include "cuda/weight_fragments.cuh"
#include "gpu/quantize.cuh"

namespace mxmla::cuda {
namespace {

constexpr int kLatent = 512;
constexpr int kChunk = 128;  // latents of one warp: the sum is split over 4 warps, whatever the batch
constexpr int kChunks = kLatent / kChunk;
constexpr int kTileRows = 8;  // activation rows of one mma

enum class OutKind { kBf16, kMxfp4, kFp8 };

struct Params {
  WeightPlanes weight;
  int64_t head_stride, head_offset;
  int v;
  const uint8_t* x;
  int64_t x_row_bytes, x_head_bytes;
  int rows;
  uint8_t* out;
  int64_t out_row_bytes, out_head_bytes;
  void* scales;
  int64_t scale_row_stride, scale_column_stride;
  ScaleMode mode;
  AttentionParts parts;  // instead of x, where attention's rows are joined here
};

__device__ __forceinline__ void Mma(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t ToE2m1(float value) {
  const uint32_t u = __float_as_uint(value) & 0x7fffffffu;
  // Below 2 the codes are multiples of 0.5, what a sum with 2^22 rounds to; above, one bit of mantissa is kept.
  const uint32_t fixed = __float_as_uint(__uint_as_float(u) + 0x1p22f) - 0x4a800000u;
  const uint32_t floating = min(((u + 0x1fffffu + ((u >> 22) & 1u)) >> 22) - 252u, 7u);
  return (u < 0x3f800000u ? fixed : floating) | (__float_as_uint(value) >> 31) << 3;
}

// Four consecutive columns of one row, of `lane`; all 32 lanes call, those with !store hold no row.
template <OutKind kOut>
__device__ __forceinline__ void Store(const Params& p, int64_t row, int64_t head, int column, const float sum[4],
                                      int lane, bool store) {
  uint2 packed;
  __nv_bfloat162 low = __floats2bfloat162_rn(sum[0], sum[1]);
  __nv_bfloat162 high = __floats2bfloat162_rn(sum[2], sum[3]);
  packed.x = *reinterpret_cast<uint32_t*>(&low);
  packed.y = *reinterpret_cast<uint32_t*>(&high);
  uint8_t* out = p.out + row * p.out_row_bytes + head * p.out_head_bytes;
  if constexpr (kOut == OutKind::kBf16) {
    if (store) *reinterpret_cast<uint2*>(out + column * 2) = packed;
    return;
  }
  const float value[4] = {__uint_as_float(packed.x << 16), __uint_as_float(packed.x & 0xffff0000u),
                          __uint_as_float(packed.y << 16), __uint_as_float(packed.y & 0xffff0000u)};
  uint32_t amax = 0;
#pragma unroll
  for (int j = 0; j < 4; ++j) amax = max(amax, __float_as_uint(value[j]) & 0x7fffffffu);
#pragma unroll
  for (int step = 1; step < (kOut == OutKind::kMxfp4 ? 8 : 32); step *= 2) {
    amax = max(amax, __shfl_xor_sync(~0u, amax, step));
  }
  const int64_t flat = head * p.v + column;
  if constexpr (kOut == OutKind::kMxfp4) {
    const uint32_t scale = gpu::Mxfp4ScaleBits(amax, p.mode);
    const float inverse = gpu::Mxfp4Inverse(scale);
    uint32_t codes = 0;
    if (amax != 0 && scale != 255) {
#pragma unroll
      for (int j = 0; j < 4; ++j) codes |= ToE2m1(value[j] * inverse) << (4 * j);
    }
    if (!store) return;
    *reinterpret_cast<uint16_t*>(out + column / 2) = static_cast<uint16_t>(codes);
    if (lane % 8 == 0) {
      static_cast<uint8_t*>(p.scales)[row * p.scale_row_stride + flat / 32 * p.scale_column_stride] =
          static_cast<uint8_t>(scale);
    }
  } else {
    const bool bad = amax >= 0x7f800000u;
    const float scale = gpu::Fp8GroupScale(bad ? 0 : amax, p.mode);
    uint32_t codes = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float quotient = bad ? value[j] : __fdiv_rn(value[j], scale);
      codes |= static_cast<uint32_t>(__nv_cvt_float_to_fp8(quotient, __NV_SATFINITE, __NV_E4M3)) << (8 * j);
    }
    if (!store) return;
    *reinterpret_cast<uint32_t*>(out + column) = codes;
    if (lane == 0) {
      static_cast<float*>(p.scales)[row * p.scale_row_stride + flat / 128 * p.scale_column_stride] =
          bad ? __uint_as_float(0x7fc00000u) : scale;
    }
  }
}

// Sums the four chunks of a tile, (chunk, row, column) at `partials`, and stores its first `rows` rows from row `row0`
// on: a thread takes 4 columns of a row, so 8 lanes an MX block, 32 a group.
template <OutKind kOut, class S>
__device__ __forceinline__ void StoreSums(const Params& p, const float* partials, int row0, int rows, int64_t head,
                                          int column0, int lane) {
  constexpr int kQuads = S::kColumns / 4;
  constexpr int kUsed = kTileRows * kQuads;
#pragma unroll
  for (int quad = static_cast<int>(threadIdx.x); quad < kUsed; quad += S::kThreads) {
    const int r = quad / kQuads, column = quad % kQuads * 4;
    if ((quad - lane) / kQuads >= rows) break;  // no lane of the warp holds a row
    float4 part[kChunks];
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      part[c] = *reinterpret_cast<const float4*>(partials + (c * kTileRows + r) * S::kPitch + column);
    }
    const float sum[4] = {
        (part[0].x + part[1].x) + (part[2].x + part[3].x), (part[0].y + part[1].y) + (part[2].y + part[3].y),
        (part[0].z + part[1].z) + (part[2].z + part[3].z), (part[0].w + part[1].w) + (part[2].w + part[3].w)};
    Store<kOut>(p, row0 + r, head, column0 + column, sum, lane, r < rows);
  }
}

// --- few rows: nothing staged ---

// Row `row` of one head of attention's result in bf16, from its parts: a thread has two latents of the first 256. All
// threads of the CTA call.
template <int kTogether>
__device__ __forceinline__ void JoinRow(const AttentionParts& parts, int row, int64_t head,
                                        uint32_t* joined /* shared, (256) */) {
  constexpr int kMostParts = 132;
  __shared__ ChunkFactors factors[kMostParts];
  const int4 of_row = *reinterpret_cast<const int4*>(parts.rows + 4 * row);
  const int slot = of_row.x, unjoined = of_row.y, count = of_row.z, thread = static_cast<int>(threadIdx.x);
  const auto place = [&](int s) { return (slot + (s == 0 ? 0 : unjoined + s - 1)) * parts.heads + head; };
  const bool mine = thread < kLatent / 2;
  float2 values[kTogether];
  const auto load = [&](int first) {
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (mine && first + i < count) {
        values[i] = __ldcg(reinterpret_cast<const float2*>(parts.values + place(first + i) * kLatent) + thread);
      }
    }
  };
  load(0);
  if (row > 0) __syncthreads();  // the factors before have been read
  if (thread < 32) {
    FindFactors(
        count, [&](int s) { return __ldcg(reinterpret_cast<const float2*>(parts.sums) + place(s)); }, factors);
  }
  __syncthreads();
  if (!mine) return;
  float a = 0, b = 0, sum = 0;
  for (int first = 0; first < count; first += kTogether) {
    if (first > 0) load(first);
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (first + i >= count) break;
      const ChunkFactors f = factors[first + i];
      if (first + i == 0) {
        a = values[0].x, b = values[0].y, sum = f.sum;
      } else {
        a = JoinValue(a, f.keep, values[i].x, f.add);
        b = JoinValue(b, f.keep, values[i].y, f.add);
        sum = __fmaf_rn(sum, f.keep, f.sum);
      }
    }
  }
  const float inverse = __frcp_rn(sum);
  joined[thread] = count == 0 ? 0 : PackBf16(__fmul_rn(a, inverse), __fmul_rn(b, inverse));
}

template <int kMTiles, int kMWarps, int kRowTiles>
struct FewShape {
  static constexpr int kColumns = kMTiles * kMWarps * 16;  // of the result a CTA
  static constexpr int kRows = kRowTiles * kTileRows;
  static constexpr int kThreads = kMWarps * kChunks * 32;
  static constexpr int kPitch = kColumns + 4;
  static constexpr int kPartialFloats = kChunks * kTileRows * kPitch;
  static constexpr int kSharedBytes = 0;
};

// A CTA takes kColumns rows of one w_vc[h] (columns of the result) and kRowTiles * 8 activation rows. Warp (m, chunk)
// multiplies kMTiles * 16 of the columns; the four chunks' partial sums meet in shared memory, always as (0 + 1) + (2 +
// 3). Latencies are all that counts here, so a warp takes as little as possible, and x comes straight to the registers
// that multiply it.
//
// kJoins: x is still attention's parts, of few rows, which every CTA of a head joins for itself.
template <WeightKind kKind, OutKind kOut, int kMTiles, int kMWarps, int kRowTiles, bool kJoins>
__global__ void __launch_bounds__(FewShape<kMTiles, kMWarps, kRowTiles>::kThreads)
    ValueProjectFewKernel(const __grid_constant__ Params p) {
  using S = FewShape<kMTiles, kMWarps, kRowTiles>;
  __shared__ __align__(16) float partials[kRowTiles * S::kPartialFloats];
  __shared__ __align__(16) uint32_t joined[kJoins ? kMostRowsInParts : 1][kJoins ? kLatent / 2 : 1];
  asm volatile("griddepcontrol.launch_dependents;");

  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const int warp = static_cast<int>(threadIdx.x) / 32, chunk = warp % kChunks, m_warp = warp / kChunks;
  const int slices = p.v / S::kColumns;
  const int64_t head = static_cast<int>(blockIdx.x) / slices;
  const int column0 = static_cast<int>(blockIdx.x) % slices * S::kColumns;
  const int row0 = static_cast<int>(blockIdx.y) * S::kRows;
  const int rows = p.rows - row0;

  RowShare<kKind> share[kMTiles][2];
  const int64_t weight_row = head * p.head_stride + p.head_offset + column0 + m_warp * kMTiles * 16 + g;
#pragma unroll
  for (int m = 0; m < kMTiles; ++m) {
    share[m][0].Load(p.weight, weight_row + m * 16, chunk, t);
    share[m][1].Load(p.weight, weight_row + m * 16 + 8, chunk, t);
  }
  asm volatile("griddepcontrol.wait;" ::: "memory");

  if constexpr (kJoins) {
    // As many parts at once as find registers.
    constexpr int kTogether = S::kThreads <= 256 ? 36 : S::kThreads <= 512 ? 16 : 8;
    for (int row = 0; row < rows; ++row) JoinRow<kTogether>(p.parts, row, head, joined[row]);
    __syncthreads();
  }
  uint4 b[kRowTiles][4];  // row g's pieces of the chunk, as the weights' lanes hold theirs
#pragma unroll
  for (int n = 0; n < kRowTiles; ++n) {
    const int row = n * kTileRows + g;
    const uint8_t* x = p.x + (row0 + row) * p.x_row_bytes + head * p.x_head_bytes + chunk * 256;
    if constexpr (kJoins) x = reinterpret_cast<const uint8_t*>(joined[min(row, rows - 1)]) + chunk * 256;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      b[n][i] = make_uint4(0, 0, 0, 0);
      if (row < rows) b[n][i] = *reinterpret_cast<const uint4*>(x + RowShare<kKind>::kPiece(i, t) * 16);
    }
  }
  float d[kMTiles][kRowTiles][4] = {};
#pragma unroll
  for (int m = 0; m < kMTiles; ++m) {
    uint32_t r0[16], r1[16];
    share[m][0].Decode(t, r0);
    share[m][1].Decode(t, r1);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t first[4] = {r0[4 * i], r1[4 * i], r0[4 * i + 1], r1[4 * i + 1]};
      const uint32_t second[4] = {r0[4 * i + 2], r1[4 * i + 2], r0[4 * i + 3], r1[4 * i + 3]};
#pragma unroll
      for (int n = 0; n < kRowTiles; ++n) {
        Mma(d[m][n], first, b[n][i].x, b[n][i].y);
        Mma(d[m][n], second, b[n][i].z, b[n][i].w);
      }
    }
  }
#pragma unroll
  for (int m = 0; m < kMTiles; ++m) {
    const int column = (m_warp * kMTiles + m) * 16 + g;
    const float s0 = share[m][0].Scale(), s1 = share[m][1].Scale();
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
      float* const to = partials + n * S::kPartialFloats + (chunk * kTileRows + 2 * t) * S::kPitch + column;
      to[0] = d[m][n][0] * s0;
      to[S::kPitch] = d[m][n][1] * s0;
      to[8] = d[m][n][2] * s1;
      to[S::kPitch + 8] = d[m][n][3] * s1;
    }
  }
  __syncthreads();
#pragma unroll
  for (int n = 0; n < kRowTiles; ++n) {
    StoreSums<kOut, S>(p, partials + n * S::kPartialFloats, row0 + n * kTileRows, rows - n * kTileRows, head, column0,
                       lane);
  }
}

// --- more rows: wgmma, the weights decoded in registers, x rearranged once in shared memory ---

__device__ __forceinline__ uint64_t Descriptor(uint32_t address, uint32_t leading_bytes, uint32_t stride_bytes) {
  return static_cast<uint64_t>((address & 0x3ffffu) >> 4) | static_cast<uint64_t>(leading_bytes >> 4) << 16 |
         static_cast<uint64_t>(stride_bytes >> 4) << 32;
}

template <int kN>
struct WideShape {
  static constexpr int kColumns = 128, kRows = kN;
  static constexpr int kThreads = 256;
  static constexpr int kPitch = kColumns + 4;
  static constexpr int kSharedBytes = kN * kLatent * 2 > kN* kPitch * 4 ? kN* kLatent * 2 : kN* kPitch * 4;
};

// A CTA takes 128 columns and kN activation rows; each of its two warpgroups 64 columns over all latents. Each chunk of
// 128 latents is summed by itself and the chunks meet as in the kernel above.
template <WeightKind kKind, OutKind kOut, int kN>
__global__ void __launch_bounds__(256, kN == 64 ? 1 : 2) ValueProjectWideKernel(const __grid_constant__ Params p) {
  using S = WideShape<kN>;
  extern __shared__ __align__(128) uint8_t shared[];
  asm volatile("griddepcontrol.launch_dependents;");
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int slices = p.v / S::kColumns;
  const int64_t head = static_cast<int>(blockIdx.x) / slices;
  const int column0 = static_cast<int>(blockIdx.x) % slices * S::kColumns;
  const int row0 = static_cast<int>(blockIdx.y) * kN;
  const int rows = min(kN, p.rows - row0);

  // BF16 weights fill too many registers to be held all at once.
  constexpr int kHeld = kKind == WeightKind::kBf16 ? 2 : kChunks;
  RowShare<kKind> share[kChunks][2];
  const int64_t weight_row = head * p.head_stride + p.head_offset + column0 + warp * 16 + g;
#pragma unroll
  for (int c = 0; c < kHeld; ++c) {
    share[c][0].Load(p.weight, weight_row, c, t);
    share[c][1].Load(p.weight, weight_row + 8, c, t);
  }
  asm volatile("griddepcontrol.wait;" ::: "memory");

  // A thread takes the i-th pieces of a quad's four lanes: their words, transposed, are the granules of 8 latents that
  // wgmma reads, in the order in which the left operand holds them.
  const uint8_t* const x = p.x + row0 * p.x_row_bytes + head * p.x_head_bytes;
  constexpr int kUnits = kN * 16;
  constexpr int kPerThread = kUnits / S::kThreads;
  uint4 piece[kPerThread][4];
#pragma unroll
  for (int u = 0; u < kPerThread; ++u) {
    const int id = u * S::kThreads + static_cast<int>(threadIdx.x);
    const int n = id % 8 + id / 128 * 8, i = id / 8 % 4, chunk = id / 32 % 4;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      piece[u][q] = make_uint4(0, 0, 0, 0);
      if (n < rows) {
        piece[u][q] =
            *reinterpret_cast<const uint4*>(x + n * p.x_row_bytes + chunk * 256 + RowShare<kKind>::kPiece(i, q) * 16);
      }
    }
  }
#pragma unroll
  for (int u = 0; u < kPerThread; ++u) {
    const int id = u * S::kThreads + static_cast<int>(threadIdx.x);
    const int n = id % 8 + id / 128 * 8, i = id / 8 % 4, chunk = id / 32 % 4;
    uint8_t* const to = shared + ((chunk * 16 + i * 4) * kN + n) * 16;
    const uint4* const w = piece[u];
    *reinterpret_cast<uint4*>(to) = make_uint4(w[0].x, w[1].x, w[2].x, w[3].x);
    *reinterpret_cast<uint4*>(to + kN * 16) = make_uint4(w[0].y, w[1].y, w[2].y, w[3].y);
    *reinterpret_cast<uint4*>(to + kN * 32) = make_uint4(w[0].z, w[1].z, w[2].z, w[3].z);
    *reinterpret_cast<uint4*>(to + kN * 48) = make_uint4(w[0].w, w[1].w, w[2].w, w[3].w);
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();

  const auto base = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  float sum[2][kN / 2];
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    if constexpr (kHeld < kChunks) {
      if (c + kHeld - 1 < kChunks && c > 0) {
        share[c + kHeld - 1][0].Load(p.weight, weight_row, c + kHeld - 1, t);
        share[c + kHeld - 1][1].Load(p.weight, weight_row + 8, c + kHeld - 1, t);
      }
    }
    uint32_t r0[16], r1[16];
    share[c][0].Decode(t, r0);
    share[c][1].Decode(t, r1);
    float d[kN / 2];
#pragma unroll
    for (float& v : d) v = 0.0f;
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int step = 0; step < 8; ++step) {
      const uint32_t a[4] = {r0[2 * step], r1[2 * step], r0[2 * step + 1], r1[2 * step + 1]};
      WgmmaLeft<kN>(d, a, Descriptor(base + (c * 8 + step) * kN * 32, kN * 16, 128), step > 0);
    }
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    const float s0 = share[c][0].Scale(), s1 = share[c][1].Scale();
#pragma unroll
    for (int j = 0; j < kN / 2; ++j) {
      const float part = __fmul_rn(d[j], j % 4 < 2 ? s0 : s1);
      sum[c / 2][j] = c % 2 == 0 ? part : __fadd_rn(sum[c / 2][j], part);
    }
  }
  __syncthreads();  // x is no longer read: its memory takes the sums
  float* const sums = reinterpret_cast<float*>(shared);
#pragma unroll
  for (int j = 0; j < kN / 2; ++j) {
    const int n = j / 4 * 8 + 2 * t + j % 2, column = warp * 16 + g + j % 4 / 2 * 8;
    sums[n * S::kPitch + column] = sum[0][j] + sum[1][j];
  }
  __syncthreads();
#pragma unroll 2
  for (int u = 0; u < kN / 8; ++u) {
    const int n = u * 8 + warp;
    const float4 v = *reinterpret_cast<const float4*>(sums + n * S::kPitch + lane * 4);
    const float values[4] = {v.x, v.y, v.z, v.w};
    if (n < rows) Store<kOut>(p, row0 + n, head, column0 + lane * 4, values, lane, true);
  }
}

// --- the launcher ---

void Check(bool honoured, const std::string& what, const std::string& expected, const std::string& found) {
  if (!honoured) Fail(ErrorCode::kLayout, "cuda value_project, " + what, expected, found);
}
void CheckCuda(cudaError_t status) {
  if (status != cudaSuccess) Fail(ErrorCode::kDevice, "cuda value_project", "a launch", cudaGetErrorString(status));
}

// The last dimension is contiguous; the first element and the strides of the others are multiples of `alignment` bytes.
template <class T, int Rank>
void CheckPlane(const std::string& what, const View<T, Rank>& view, size_t alignment) {
  Check(view.shape[Rank - 1] <= 1 || view.stride[Rank - 1] == 1, what, "a contiguous last dimension",
        "strides " + FormatDims(view.stride.data(), Rank));
  bool aligned = reinterpret_cast<uintptr_t>(view.data) % alignment == 0;
  for (int d = 0; d + 1 < Rank; ++d) {
    aligned &=
        view.shape[d] <= 1 || view.stride[d] * static_cast<int64_t>(sizeof(T)) % static_cast<int64_t>(alignment) == 0;
  }
  Check(aligned, what, std::to_string(alignment) + "-byte aligned rows",
        "strides " + FormatDims(view.stride.data(), Rank));
}

template <class S>
void Launch(void (*kernel)(Params), const Params& p, int64_t columns, const LaunchOptions& options) {
  cudaLaunchConfig_t config{};
  config.gridDim =
      dim3(static_cast<unsigned>(columns / S::kColumns), static_cast<unsigned>((p.rows + S::kRows - 1) / S::kRows));
  config.blockDim = dim3(S::kThreads);
  config.dynamicSmemBytes = S::kSharedBytes;
  config.stream = options.stream;
  CheckCuda(LaunchLink(kernel, config, options.programmatic, p));
}
template <auto kKernel, class S>
void Launch(const Params& p, int64_t columns, const LaunchOptions& options) {
  static const cudaError_t prepared =
      cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kSharedBytes);
  CheckCuda(prepared);
  Launch<S>(kKernel, p, columns, options);
}

// Columns by 8 or 16 rows a CTA.
template <WeightKind kKind, OutKind kOut, int kMTiles, int kMWarps, int kRowTiles>
void LaunchFew(const Params& p, int64_t columns, const LaunchOptions& options) {
  using S = FewShape<kMTiles, kMWarps, kRowTiles>;
  if constexpr (kRowTiles == 1) {
    if (p.parts.rows) {
      return Launch<ValueProjectFewKernel<kKind, kOut, kMTiles, kMWarps, kRowTiles, true>, S>(p, columns, options);
    }
  }
  Launch<ValueProjectFewKernel<kKind, kOut, kMTiles, kMWarps, kRowTiles, false>, S>(p, columns, options);
}

// Only how the work is divided depends on its size, never a sum's order. The limits are measured:
// docs/kernels/value_project.md.
template <WeightKind kKind, OutKind kOut>
void Choose(const Params& p, int64_t columns, const LaunchOptions& options) {
  constexpr int64_t kMultiprocessors = 132;
  const int64_t eights = (p.rows + 7) / 8, sixteens = (p.rows + 15) / 16;
  if constexpr (kOut == OutKind::kFp8) {  // 128 columns belong together
    if (eights == 1 && kKind == WeightKind::kMxfp4) return LaunchFew<kKind, kOut, 2, 4, 1>(p, columns, options);
    if (eights == 1) return LaunchFew<kKind, kOut, 1, 8, 1>(p, columns, options);
    if constexpr (kKind == WeightKind::kFp8) {
      if (columns / 128 * sixteens <= kMultiprocessors) return LaunchFew<kKind, kOut, 2, 4, 2>(p, columns, options);
    }
  } else {
    const int64_t most_of_eight = kOut == OutKind::kMxfp4 ? 256 : 128;
    const int64_t most_of_sixteen = kKind == WeightKind::kMxfp4 ? 256 : 512;
    if (eights == 1 || columns / 32 * eights <= most_of_eight) {
      return LaunchFew<kKind, kOut, 1, 2, 1>(p, columns, options);
    }
    if (p.v % 128 != 0 || columns / 32 * sixteens <= most_of_sixteen) {
      return LaunchFew<kKind, kOut, 1, 2, 2>(p, columns, options);
    }
  }
  // Narrow tiles while they all fit on the card at once.
  if (columns / 128 * sixteens <= 2 * kMultiprocessors) {
    return Launch<ValueProjectWideKernel<kKind, kOut, 16>, WideShape<16>>(p, columns, options);
  }
  Launch<ValueProjectWideKernel<kKind, kOut, 64>, WideShape<64>>(p, columns, options);
}

template <OutKind kOut>
void ForWeight(Params p, const ValueProjectArgs& args, const LaunchOptions& options) {
  const int64_t columns = args.w_vc.heads * args.w_vc.head_rows;
  if (const auto* w = std::get_if<Mxfp4<const e2m1x2, 2>>(&args.w_vc.tensor)) {
    CheckPlane("w_vc values", w->values, 16);
    CheckPlane("w_vc scales", w->scales, 4);
    p.weight = {&w->values.data->bits, w->values.stride[0], w->scales.data, w->scales.stride[0], 1, 0};
    return Choose<WeightKind::kMxfp4, kOut>(p, columns, options);
  }
  if (const auto* w = std::get_if<View<const bf16, 2>>(&args.w_vc.tensor)) {
    CheckPlane("w_vc", *w, 16);
    p.weight = {reinterpret_cast<const uint8_t*>(w->data), w->stride[0] * 2, nullptr, 0, 0, 0};
    return Choose<WeightKind::kBf16, kOut>(p, columns, options);
  }
  if (const auto* w = std::get_if<Fp8Block>(&args.w_vc.tensor); w && w->in_squares()) {
    CheckPlane("w_vc values", w->values, 16);
    p.weight = {&w->values.data->bits, w->values.stride[0], w->scales.data,
                w->scales.stride[0],   w->scales.stride[1], w->first_row};
    return Choose<WeightKind::kFp8, kOut>(p, columns, options);
  }
  Check(false, "w_vc", "mxfp4, bf16 or fp8-block128", std::string(FormatName(args.w_vc.tensor)));
}

}  // namespace

void ValueProject(const ValueProjectArgs& args, const LaunchOptions& options) { ValueProject(args, {}, options); }

void ValueProject(const ValueProjectArgs& args, const AttentionParts& parts, const LaunchOptions& options) {
  const auto* attn = std::get_if<View<const bf16, 3>>(&args.attn);
  Check(attn != nullptr, "attn", "bf16", "another format");
  const int64_t heads = args.w_vc.heads, v = args.w_vc.head_rows, rows = attn->shape[0];
  if (rows == 0 || heads == 0) return;
  Check(attn->shape[1] == heads && attn->shape[2] == kLatent && ColumnCount(args.w_vc.tensor) == kLatent, "attn",
        "(rows, " + std::to_string(heads) + ", 512) and w_vc of 512 columns", FormatDims(attn->shape.data(), 3));
  Check(v > 0 && v % 32 == 0, "v_head_dim", "a multiple of 32", std::to_string(v));
  Check((heads - 1) * args.w_vc.head_stride + args.w_vc.head_offset + v <= RowCount(args.w_vc.tensor), "w_vc",
        "rows of every head", std::to_string(RowCount(args.w_vc.tensor)));
  CheckPlane("attn", *attn, 16);

  Params p{};
  p.head_stride = args.w_vc.head_stride;
  p.head_offset = args.w_vc.head_offset;
  p.v = static_cast<int>(v);
  p.x = reinterpret_cast<const uint8_t*>(attn->data);
  p.x_row_bytes = attn->stride[0] * 2;
  p.x_head_bytes = attn->stride[1] * 2;
  p.rows = static_cast<int>(rows);
  p.mode = args.scale_mode;
  p.parts = parts;
  Check(!parts.rows || rows <= kMostRowsInParts, "attn",
        "at most " + std::to_string(kMostRowsInParts) + " rows in parts", std::to_string(rows));

  const auto check_flat = [&](int64_t out_rows, int64_t out_columns) {
    Check(out_rows == rows && out_columns == heads * v, "out",
          "(" + std::to_string(rows) + ", " + std::to_string(heads * v) + ")",
          "(" + std::to_string(out_rows) + ", " + std::to_string(out_columns) + ")");
  };
  if (const auto* split = std::get_if<FloatOutput<3>>(&args.out)) {
    const auto* out = std::get_if<View<bf16, 3>>(split);
    Check(out != nullptr, "out", "bf16", "f32");
    Check(out->shape == View<bf16, 3>::Dims{rows, heads, v}, "out", "(rows, heads, v_head_dim)",
          FormatDims(out->shape.data(), 3));
    CheckPlane("out", *out, 8);
    p.out = reinterpret_cast<uint8_t*>(out->data);
    p.out_row_bytes = out->stride[0] * 2;
    p.out_head_bytes = out->stride[1] * 2;
    return ForWeight<OutKind::kBf16>(p, args, options);
  }
  const auto& flat = std::get<ActivationOutput<2>>(args.out);
  if (const auto* out = std::get_if<View<bf16, 2>>(&flat)) {
    check_flat(out->shape[0], out->shape[1]);
    CheckPlane("out", *out, 8);
    p.out = reinterpret_cast<uint8_t*>(out->data);
    p.out_row_bytes = out->stride[0] * 2;
    p.out_head_bytes = v * 2;
    return ForWeight<OutKind::kBf16>(p, args, options);
  }
  if (const auto* out = std::get_if<Mxfp4<e2m1x2, 2>>(&flat)) {
    check_flat(out->values.shape[0], 2 * out->values.shape[1]);
    CheckPlane("out values", out->values, 2);
    CheckPlane("out scales", out->scales, 1);
    p.out = &out->values.data->bits;
    p.out_row_bytes = out->values.stride[0];
    p.out_head_bytes = v / 2;
    p.scales = out->scales.data;
    p.scale_row_stride = out->scales.stride[0];
    p.scale_column_stride = 1;
    return ForWeight<OutKind::kMxfp4>(p, args, options);
  }
  if (const auto* out = std::get_if<Fp8Group<e4m3, 2>>(&flat)) {
    check_flat(out->values.shape[0], out->values.shape[1]);
    Check(v % 128 == 0, "v_head_dim", "a multiple of 128 for FP8 outputs", std::to_string(v));
    CheckPlane("out values", out->values, 4);
    p.out = &out->values.data->bits;
    p.out_row_bytes = out->values.stride[0];
    p.out_head_bytes = v;
    p.scales = out->scales.data;
    p.scale_row_stride = out->scales.stride[0];
    p.scale_column_stride = out->scales.stride[1];
    return ForWeight<OutKind::kFp8>(p, args, options);
  }
  Check(false, "out", "bf16, mxfp4 or fp8", "f32");
}

}  // namespace mxmla::cuda
