#include "cuda/prepared_rows.h"

#include "core/error.h"
#include "cuda/half_products.cuh"
#include "cuda/hopper_instructions.cuh"
#include "cuda/launch_link.h"
#include "cuda/stream_plan.cuh"

namespace mxmla::cuda {
namespace {

constexpr std::string_view kOp = "cuda prepared_rows";
constexpr int kThreads = 256;
constexpr int kStageK = 128;

struct Params {
  const uint8_t* x;  // bf16
  int64_t row_bytes;
  int k, stages;
  uint8_t* values;
  float* inverses;
  int tile_rows;
  int experts;  // 0: rows are x's
  const int32_t *expert_begin, *pairs;
  int pairs_per_row;
};

// Of what all threads of the block have.
__device__ __forceinline__ uint32_t LargestOfBlock(uint32_t largest) {
  __shared__ uint32_t of_warps[kThreads / 32];
  largest = LargerMagnitudesOfWarp(largest);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = largest;
  __syncthreads();
#pragma unroll
  for (const uint32_t of_warp : of_warps) largest = LargerMagnitudes(largest, of_warp);
  return largest;
}

__global__ void __launch_bounds__(kThreads) HalfRowsKernel(const __grid_constant__ Params p) {
  AllowDependents();
  WaitForPredecessor();
  constexpr int kHeld = 4;  // pieces of 8 of a thread, from one pass to the other
  const int thread = static_cast<int>(threadIdx.x), pieces = p.k / 8;
  const int64_t row = blockIdx.x;
  const auto* const from = reinterpret_cast<const uint4*>(p.x + row * p.row_bytes);
  auto* const to = reinterpret_cast<uint4*>(p.values + row * p.k * 2);
  uint4 held[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    held[i] = make_uint4(0, 0, 0, 0);
    if (thread + i * kThreads < pieces) held[i] = from[thread + i * kThreads];
  }
  uint32_t largest = 0;
#pragma unroll
  for (const uint4& v : held) largest = LargerMagnitudes(largest, LargerMagnitudes(v));
  for (int i = thread + kHeld * kThreads; i < pieces; i += kThreads) {
    largest = LargerMagnitudes(largest, LargerMagnitudes(from[i]));
  }
  const HalfScale scale(LargestOfBlock(largest));
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    if (thread + i * kThreads < pieces) to[thread + i * kThreads] = scale.Scaled(held[i]);
  }
  for (int i = thread + kHeld * kThreads; i < pieces; i += kThreads) to[i] = scale.Scaled(from[i]);
  if (thread == 0) p.inverses[row] = scale.inverse;
}

// Where the block's row comes from and goes.
struct Place {
  int64_t source;  // row of x
  int tile, row;
};

// Of the i-th pair of all experts: every thread looks at experts of its own.
__device__ __forceinline__ Place PlaceOfPair(const Params& p, int i) {
  __shared__ int tile, row;
  if (threadIdx.x == 0) tile = 0;
  __syncthreads();
  const int32_t pair = p.pairs[i];
  for (int e = static_cast<int>(threadIdx.x); e < p.experts; e += kThreads) {
    const int begin = p.expert_begin[e], end = p.expert_begin[e + 1];
    if (end <= i) {
      atomicAdd(&tile, (end - begin + p.tile_rows - 1) / p.tile_rows);
    } else if (begin <= i) {
      atomicAdd(&tile, (i - begin) / p.tile_rows);
      row = (i - begin) % p.tile_rows;
    }
  }
  __syncthreads();
  return {pair / p.pairs_per_row, tile, row};
}

// A thread has the four pieces of 8 elements, one of each lane of a quad, that make up four neighbouring granules of a
// row's half of a stage.
template <WeightKind kKind>
struct Granules {
  uint4 piece[4];

  static __device__ __forceinline__ int Element(int item, int t) {
    const int half = item / 2 % 2, j = item % 2;
    return item / 4 * kStageK + (kKind == WeightKind::kMxfp4 ? t * 32 + half * 16 + j * 8 : half * 64 + t * 16 + j * 8);
  }
  __device__ __forceinline__ void Load(const Params& p, const uint8_t* from, int item) {
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      piece[t] = make_uint4(0, 0, 0, 0);
      const int at = Element(item, t);
      if (item < p.stages * 4 && at < p.k) piece[t] = *reinterpret_cast<const uint4*>(from + int64_t{at} * 2);
    }
  }
  __device__ __forceinline__ void Store(const Params& p, uint8_t* tile, int row, int item) const {
    if (item >= p.stages * 4) return;
    uint32_t pairs[4][4];
#pragma unroll
    for (int t = 0; t < 4; ++t) PairPiece<kKind>(piece[t], pairs[t]);
    const int half = item / 2 % 2, j = item % 2, half_bytes = p.tile_rows * 128;
    uint8_t* const to = tile + int64_t{item / 4} * 2 * half_bytes + half * half_bytes + row * 128;
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      *reinterpret_cast<uint4*>(to + (((j * 4 + v) ^ (row % 8)) * 16)) =
          make_uint4(pairs[0][v], pairs[1][v], pairs[2][v], pairs[3][v]);
    }
  }
};

template <WeightKind kKind>
__global__ void __launch_bounds__(kThreads) TiledRowsKernel(const __grid_constant__ Params p) {
  AllowDependents();
  WaitForPredecessor();
  const int thread = static_cast<int>(threadIdx.x), index = static_cast<int>(blockIdx.x);
  if (p.experts > 0 && index >= p.expert_begin[p.experts]) return;  // a padding row's have no experts
  const Place place = p.experts > 0 ? PlaceOfPair(p, index) : Place{index, index / p.tile_rows, index % p.tile_rows};
  const uint8_t* const from = p.x + place.source * p.row_bytes;
  uint8_t* const tile = p.values + int64_t{place.tile} * p.tile_rows * p.stages * (kStageK * 2);
  const int items = p.stages * 4;
  if constexpr (kKind == WeightKind::kMxfp4) {
    for (int item = thread; item < items; item += kThreads) {
      Granules<kKind> granules;
      granules.Load(p, from, item);
      granules.Store(p, tile, place.row, item);
    }
  } else {
    constexpr int kHeld = 2;  // from one pass to the other: k up to 16384
    Granules<kKind> held[kHeld];
#pragma unroll
    for (int i = 0; i < kHeld; ++i) held[i].Load(p, from, thread + i * kThreads);
    uint32_t largest = 0;
    const auto look = [&](const Granules<kKind>& granules) {
#pragma unroll
      for (const uint4& v : granules.piece) largest = LargerMagnitudes(largest, LargerMagnitudes(v));
    };
#pragma unroll
    for (const auto& granules : held) look(granules);
    for (int item = thread + kHeld * kThreads; item < items; item += kThreads) {
      Granules<kKind> granules;
      granules.Load(p, from, item);
      look(granules);
    }
    const HalfScale scale(LargestOfBlock(largest));
    const auto store = [&](Granules<kKind>& granules, int item) {
#pragma unroll
      for (uint4& v : granules.piece) v = scale.Scaled(v);
      granules.Store(p, tile, place.row, item);
    };
#pragma unroll
    for (int i = 0; i < kHeld; ++i) store(held[i], thread + i * kThreads);
    for (int item = thread + kHeld * kThreads; item < items; item += kThreads) {
      Granules<kKind> granules;
      granules.Load(p, from, item);
      store(granules, item);
    }
    if (thread == 0) p.inverses[place.tile * p.tile_rows + place.row] = scale.inverse;
  }
}

template <auto kKernel>
void Launch(const Params& p, int64_t rows, const LaunchOptions& options) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(rows));
  config.blockDim = dim3(kThreads);
  config.stream = options.stream;
  CheckCuda(LaunchLink(kKernel, config, options.programmatic, p), kOp, "a launch");
}

Params ParamsOf(const RowsToPrepare& rows, int64_t tile_rows, int64_t value_bytes, const LaunchOptions& options) {
  if (options.workspace == nullptr) {
    Fail(ErrorCode::kInternal, kOp, "a workspace of " + std::to_string(value_bytes) + " bytes and more", "none");
  }
  Params p{};
  p.x = rows.x;
  p.row_bytes = rows.row_bytes;
  p.k = static_cast<int>(rows.k);
  p.stages = static_cast<int>(TileRowBytes(rows.k) / (kStageK * 2));
  p.values = static_cast<uint8_t*>(options.workspace);
  p.inverses = reinterpret_cast<float*>(p.values + value_bytes);
  p.tile_rows = static_cast<int>(tile_rows);
  p.experts = static_cast<int>(rows.experts);
  p.expert_begin = rows.expert_begin;
  p.pairs = rows.pairs;
  p.pairs_per_row = static_cast<int>(rows.pairs_per_row);
  return p;
}

int64_t HalfValueBytes(int64_t rows, int64_t k) { return CeilDiv(rows * k * 2, 16) * 16; }

}  // namespace

int64_t HalfRowsBytes(int64_t rows, int64_t k) { return HalfValueBytes(rows, k) + rows * int64_t{sizeof(float)}; }

PreparedRows LaunchHalfRows(const RowsToPrepare& rows, const LaunchOptions& options) {
  const Params p = ParamsOf(rows, 1, HalfValueBytes(rows.rows, rows.k), options);
  Launch<HalfRowsKernel>(p, rows.rows, options);
  return {p.values, p.inverses};
}

int64_t MostTiles(const RowsToPrepare& rows, int64_t tile_rows) {
  if (rows.experts == 0) return CeilDiv(rows.rows, tile_rows);
  return rows.rows / tile_rows + std::min(rows.rows, rows.experts);
}

int64_t TiledRowsBytes(int64_t tiles, int64_t tile_rows, int64_t k) {
  return tiles * tile_rows * (TileRowBytes(k) + int64_t{sizeof(float)});
}

PreparedRows LaunchTiledRows(WeightKind kind, const RowsToPrepare& rows, int64_t tile_rows,
                             const LaunchOptions& options) {
  const Params p = ParamsOf(rows, tile_rows, MostTiles(rows, tile_rows) * tile_rows * TileRowBytes(rows.k), options);
  if (kind == WeightKind::kMxfp4) {
    Launch<TiledRowsKernel<WeightKind::kMxfp4>>(p, rows.rows, options);
  } else {
    Launch<TiledRowsKernel<WeightKind::kFp8>>(p, rows.rows, options);
  }
  return {p.values, p.inverses};
}

}  // namespace mxmla::cuda
