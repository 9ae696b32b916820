// A tile of a product of many rows of activations with weights, on the tensor cores: kM rows by kN rows of the weights.
// Two warpgroups share it. In each step of 64 elements of k they decode the weights to bf16 in shared memory, in
// wgmma's layout, while the products of the step before run; activations and weights come by asynchronous copies.
#pragma once

#include "cuda/hopper_instructions.cuh"
#include "cuda/stream_plan.cuh"

namespace mxmla::cuda {

constexpr int kMatrixThreads = 256;

__device__ __forceinline__ void ClusterBarrier() {
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
__device__ __forceinline__ float2 LoadFromRank(uint32_t address, int rank) {
  uint32_t remote;
  float2 v;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address), "r"(rank));
  asm volatile("ld.shared::cluster.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(remote));
  return v;
}

// Each rank of a cluster has `pairs` results of each of kThreads threads in `mine` (pairs, kThreads), which mean the
// same in every rank: it sums its share of them over the ranks, in their order, and calls store(pair, first, second).
template <int kThreads, class Store>
__device__ __forceinline__ void StoreSumsOfRanks(const float2* mine, int pairs, int ranks, int rank, int thread,
                                                 const Store& store) {
  ClusterBarrier();
  const int share = pairs / ranks;
  for (int i = rank * share; i < (rank + 1) * share; ++i) {
    float2 all = make_float2(0, 0);
    for (int r = 0; r < ranks; ++r) {
      const float2 part = LoadFromRank(SharedAddress(mine + i * kThreads + thread), r);
      all = r == 0 ? part : make_float2(all.x + part.x, all.y + part.y);
    }
    store(i, all.x, all.y);
  }
  ClusterBarrier();  // nobody leaves while its results are read
}

// --- eight weights as wgmma reads them from shared memory: in their order, 16 bytes ---

// The pairs (0, 4), (1, 5), (2, 6), (3, 7) in their order.
__device__ __forceinline__ uint4 InOrder(const uint32_t p[4]) {
  return make_uint4(Permute(p[0], p[1], 0x5410), Permute(p[2], p[3], 0x5410), Permute(p[0], p[1], 0x7632),
                    Permute(p[2], p[3], 0x7632));
}

__device__ __forceinline__ uint4 DecodeMxfp4(uint32_t word, uint32_t scale) {
  uint32_t pairs[4];
  if (scale > 128) {
    DecodeMxWord<true>(word, MxFactor<true>(scale), pairs);
  } else {
    DecodeMxWord<false>(word, MxFactor<false>(scale), pairs);
  }
  return InOrder(pairs);
}
__device__ __forceinline__ uint4 DecodeFp8(uint32_t low, uint32_t high) {
  const uint32_t words[2] = {low, high};
  uint32_t pairs[4];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    DecodeE4m3(words[i], pairs + 2 * i);
    if (!AnyNanE4m3(words[i])) continue;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t codes = words[i] >> (16 * half);
      uint32_t& pair = pairs[2 * i + half];
      if ((codes & 0x7fu) == 0x7fu) pair = (pair & 0xffff0000u) | 0x7fc0u;
      if ((codes & 0x7f00u) == 0x7f00u) pair = (pair & 0xffffu) | 0x7fc00000u;
    }
  }
  return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

template <WeightKind kKind, int kM, int kN>
struct MatrixTile {
  static constexpr int kRows = kM, kColumns = kN;
  static constexpr int kThreads = kMatrixThreads;
  static constexpr int kCtas = kKind == WeightKind::kFp8 ? 1 : 2;  // a multiprocessor
  static constexpr int kStepK = 64;
  static constexpr bool kDecoded = kKind != WeightKind::kBf16;  // bf16 weights are copied to where wgmma reads them
  static constexpr bool kScaledSums = kKind == WeightKind::kFp8;
  static constexpr int kAhead = kDecoded ? 3 : 2;  // steps that copies are requested ahead
  static constexpr int kXStages = kAhead + 1;      // the products of the step before may still read one
  static constexpr int kWBuffers = kDecoded ? 2 : kAhead + 1;
  static constexpr int kXBytes = kM * 128, kWBytes = kN * 128;
  static constexpr int kElements = kN / 4;  // of the weights, of a thread and step
  static constexpr int kThreadsOfRow = kStepK / kElements;
  static constexpr int kRawBytes =
      kDecoded ? static_cast<int>(StreamFormat<kKind, 128>::Bytes(kElements)) : 0;  // those
  static constexpr int kSharedBytes = kXStages * kXBytes + kWBuffers * kWBytes + kAhead * kMatrixThreads * kRawBytes;
  static constexpr int kWgmmaN = kM == 128 ? kN : kN / 2;
  static constexpr int kScaleSteps = 4;  // whose scales a thread loads together

  static __device__ int RowOfThread() { return static_cast<int>(threadIdx.x) / kThreadsOfRow; }
  static __device__ int PartOfThread() { return static_cast<int>(threadIdx.x) % kThreadsOfRow; }

  // What a thread decodes lies in a ring that it alone reads and writes: kRawBytes a step.
  struct Source {
    const uint8_t* values;
    const uint8_t* scales;
    int left;  // elements from the thread's first one to the end of k; none for rows beyond n
  };

  __device__ static Source SourceOf(const WeightPlanes& w, int n, int k, int n0) {
    const int row = RowOfThread(), at = PartOfThread() * kElements;
    const bool there = n0 + row < n;
    const int64_t weight_row = there ? n0 + row : 0;
    Source from{w.values + weight_row * w.row_bytes + StreamFormat<kKind, 128>::Bytes(at), nullptr, there ? k - at : 0};
    if constexpr (kKind == WeightKind::kMxfp4) {
      from.scales = static_cast<const uint8_t*>(w.scales) + weight_row * w.scale_row_stride + at / 32;
    }
    return from;
  }

  __device__ static void CopyRaw(const Source& from, int step, uint32_t ring) {
    const int left = from.left - step * kStepK;
    const uint8_t* const values = from.values + StreamFormat<kKind, 128>::Bytes(int64_t{step} * kStepK);
    const uint32_t to = ring + step % kAhead * kMatrixThreads * kRawBytes;
    if constexpr (kRawBytes == 8) {
      CopySmall<8>(to + threadIdx.x * 8, left > 0 ? values : from.values, left > 0 ? 8 : 0);
    } else {
#pragma unroll
      for (int i = 0; i < kRawBytes / 16; ++i) {
        const bool there = i * kElements * 16 / kRawBytes < left;
        Copy16(to + i * kMatrixThreads * 16 + threadIdx.x * 16, there ? values + i * 16 : from.values, there);
      }
    }
  }
  __device__ static void LoadRaw(const uint8_t* ring, int step, uint32_t (&word)[kDecoded ? kRawBytes / 4 : 1]) {
    const uint8_t* const at = ring + step % kAhead * kMatrixThreads * kRawBytes;
    if constexpr (kRawBytes == 8) {
      const uint2 v = *reinterpret_cast<const uint2*>(at + threadIdx.x * 8);
      word[0] = v.x, word[1] = v.y;
    } else {
#pragma unroll
      for (int i = 0; i < kRawBytes / 16; ++i) {
        const uint4 v = *reinterpret_cast<const uint4*>(at + i * kMatrixThreads * 16 + threadIdx.x * 16);
        word[4 * i] = v.x, word[4 * i + 1] = v.y, word[4 * i + 2] = v.z, word[4 * i + 3] = v.w;
      }
    }
  }
  // MXFP4: the scales of kScaleSteps steps from `step` on.
  __device__ static void LoadScales(const Source& from, int step, uint32_t (&scale)[kScaleSteps]) {
#pragma unroll
    for (int i = 0; i < kScaleSteps; ++i) {
      scale[i] = from.left > (step + i) * kStepK ? __ldg(from.scales + (step + i) * (kStepK / 32)) : 0;
    }
  }

  // To rows of 128 bytes in the 128-byte swizzle.
  __device__ static void Decode(const uint8_t* ring, int step, uint32_t scale, uint8_t* buffer) {
    uint32_t word[kDecoded ? kRawBytes / 4 : 1];
    LoadRaw(ring, step, word);
    const int row = RowOfThread();
#pragma unroll
    for (int i = 0; i < kElements / 8; ++i) {
      uint4 piece;
      if constexpr (kKind == WeightKind::kMxfp4) {
        piece = DecodeMxfp4(word[i], scale);
      } else {
        piece = DecodeFp8(word[2 * i], word[2 * i + 1]);
      }
      const int chunk = PartOfThread() * (kElements / 8) + i;
      *reinterpret_cast<uint4*>(buffer + row * 128 + ((chunk ^ (row % 8)) * 16)) = piece;
    }
  }

  // Rows: the activations and where their results go.
  //   void Wait()                                 until the activations may be read
  //   const uint8_t* Row(int r) const             row r of the tile, in bf16, 16-byte aligned; null: zeros
  //   void Store(int r, int column, float, float) results of row r in columns `column` (even, from n0) and the next one
  // `shared` is aligned to 1024 bytes. The `ranks` CTAs of a cluster share k; their sums meet in the order of k.
  template <class Rows>
  __device__ static void Run(const WeightPlanes& w, int n, int k, int n0, uint8_t* shared, const Rows& rows,
                             int ranks = 1, int rank = 0) {
    const int tid = static_cast<int>(threadIdx.x), group = tid / 128;
    uint8_t* const x_stages = shared;
    uint8_t* const w_buffers = shared + kXStages * kXBytes;
    uint8_t* const ring = w_buffers + kWBuffers * kWBytes;
    const int all_steps = (k + kStepK - 1) / kStepK;
    const int steps_of_rank = (all_steps + ranks * kScaleSteps - 1) / (ranks * kScaleSteps) * kScaleSteps;
    const int first_step = rank * steps_of_rank, steps = min(first_step + steps_of_rank, all_steps);

    // A thread copies piece `chunk` of every 32nd row.
    const int chunk = tid % 8, row = tid / 8;
    const uint32_t piece_at = row * 128 + ((chunk ^ (row % 8)) * 16);
    const Source source = SourceOf(w, n, k, n0);
    const uint32_t ring_at = SharedAddress(ring);
    const auto copy_w = [&](int step) {
      if (step >= steps) return;
      if constexpr (kDecoded) {
        CopyRaw(source, step, ring_at);
      } else {
        const int at = step * kStepK + chunk * 8;
        const uint8_t* const from = w.values + (n0 + row) * w.row_bytes + int64_t{at} * 2;
        const uint32_t to = SharedAddress(w_buffers) + step % kWBuffers * kWBytes + piece_at;
#pragma unroll
        for (int i = 0; i < kN / 32; ++i) {
          const bool there = n0 + row + 32 * i < n && at < k;
          Copy16(to + i * 4096, there ? from + i * 32 * w.row_bytes : w.values, there);
        }
      }
    };
    const uint8_t* x[kM / 32];
    const auto copy_x = [&](int step) {
      if (step >= steps) return;
      const int at = step * kStepK + chunk * 8;
      const uint32_t to = SharedAddress(x_stages) + step % kXStages * kXBytes + piece_at;
#pragma unroll
      for (int i = 0; i < kM / 32; ++i) {
        const bool there = x[i] != nullptr && at < k;
        Copy16(to + i * 4096, there ? x[i] + int64_t{at} * 2 : w.values, there);
      }
    };
#pragma unroll
    for (int step = 0; step < kAhead; ++step) copy_w(first_step + step);
    uint32_t scales[kScaleSteps] = {}, next_scales[kScaleSteps] = {};
    if constexpr (kKind == WeightKind::kMxfp4) LoadScales(source, first_step, next_scales);
    rows.Wait();
#pragma unroll
    for (int i = 0; i < kM / 32; ++i) x[i] = rows.Row(row + 32 * i);
#pragma unroll
    for (int step = 0; step < kAhead; ++step) {
      copy_x(first_step + step);
      CommitCopies();
    }

    // FP8: squares' scales of the columns before and after an edge, for the 128 elements of k that are summed.
    const int64_t square_row = w.first_row + min(n0, n - 1);
    const int edge = static_cast<int>(128 - square_row % 128);
    const auto* squares = static_cast<const float*>(w.scales);
    const auto scale_of = [&](int step, int after) {
      const int64_t square = square_row / 128 + (after && n0 + edge < n && edge < kN ? 1 : 0);
      return __ldg(squares + square * w.scale_row_stride + step / 2 * w.scale_column_stride);
    };
    const int column0 = kM == 128 ? 0 : group * kWgmmaN;
    const int t = tid % 4;

    float sum[kWgmmaN / 2];
    float total[kScaledSums ? kWgmmaN / 2 : 1];
    float scale[2] = {};
    if constexpr (kScaledSums) {
#pragma unroll
      for (float& value : total) value = 0;
    }
    const auto promote = [&] {
#pragma unroll
      for (int i = 0; i < kWgmmaN / 2; ++i) {
        const int column = column0 + i / 4 * 8 + 2 * t + i % 2;
        total[i] = __fmaf_rn(sum[i], column < edge ? scale[0] : scale[1], total[i]);
      }
    };
    const uint32_t x_tile = SharedAddress(x_stages) + (kM == 128 ? group * 64 * 128 : 0);
    const uint32_t w_tile = SharedAddress(w_buffers) + (kM == 128 ? 0 : group * kWgmmaN * 128);
    // FP8: two steps are a square's 128 elements of k, whose sum is scaled before the next is begun.
    const auto step_of = [&](int step, auto slot) {
      constexpr bool kNewSquare = kScaledSums && slot % 2 == 0;
      WaitForCopies<kAhead - 1>();
      if constexpr (kDecoded) Decode(ring, step, scales[slot], w_buffers + step % kWBuffers * kWBytes);
      FenceAsyncProxy();
      WgmmaWait<0>();
      __syncthreads();  // what this step reads is there, and what the one before read may be overwritten
      if constexpr (kNewSquare) {
        if (step > first_step) promote();
        scale[0] = scale_of(step, 0);
        scale[1] = scale_of(step, 1);
      }
      const SwizzledTile a(x_tile + step % kXStages * kXBytes), b(w_tile + step % kWBuffers * kWBytes);
      WgmmaFence();
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        Wgmma<kWgmmaN, false>(sum, a.At(i * 32), b.At(i * 32), i > 0 || (!kNewSquare && step > first_step));
      }
      WgmmaCommit();
      copy_x(step + kAhead);
      copy_w(step + kAhead);
      CommitCopies();
    };
#pragma unroll 1
    for (int step = first_step; step < steps; step += kScaleSteps) {
      if constexpr (kKind == WeightKind::kMxfp4) {
#pragma unroll
        for (int i = 0; i < kScaleSteps; ++i) scales[i] = next_scales[i];
        LoadScales(source, step + kScaleSteps, next_scales);
      }
      const auto if_there = [&](auto slot) {
        if (step + slot < steps) step_of(step + slot, slot);
      };
      [&]<int... kSlot>(std::integer_sequence<int, kSlot...>) { (if_there(std::integral_constant<int, kSlot>{}), ...); }
      (std::make_integer_sequence<int, kScaleSteps>{});
    }
    WgmmaWait<0>();
    if constexpr (kScaledSums) promote();

    const int lane = tid % 32, row0 = (kM == 128 ? group * 64 : 0) + tid % 128 / 32 * 16 + lane / 4;
    const auto result = [&](int i) {
      if constexpr (kScaledSums) {
        return total[i];
      } else {
        return sum[i];
      }
    };
    const auto store = [&](int pair, float a, float b) {  // results 2 * pair and the next one of the thread's
      rows.Store(row0 + pair % 2 * 8, n0 + column0 + pair / 2 * 8 + 2 * t, a, b);
    };
    if (ranks == 1) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int j = 0; j < kWgmmaN / 8; ++j)
          store(2 * j + half, result(4 * j + 2 * half), result(4 * j + 2 * half + 1));
      }
      return;
    }
    // A thread's results mean the same in every rank, which adds up its share of them.
    const bool none = first_step >= steps;  // more ranks than parts of k
    auto* const mine = reinterpret_cast<float2*>(shared);
    __syncthreads();  // the stages have been read
#pragma unroll
    for (int i = 0; i < kWgmmaN / 4; ++i) {
      mine[i * kMatrixThreads + tid] = none ? make_float2(0, 0) : make_float2(result(2 * i), result(2 * i + 1));
    }
    StoreSumsOfRanks<kMatrixThreads>(mine, kWgmmaN / 4, ranks, rank, tid, store);
  }
};

// Results of two neighbouring columns, the first even. Two lie at a multiple of their size where four do.
__device__ __forceinline__ void StorePair(const StreamOutput& out, int64_t row, int column, float first, float second) {
  const int64_t at = row * out.stride + column;
  const bool both = column + 1 < out.n && out.in_fours;
  if (column >= out.n) return;
  if (out.is_float) {
    auto* const to = reinterpret_cast<float*>(out.data) + at;
    if (both) {
      *reinterpret_cast<float2*>(to) = make_float2(first, second);
    } else {
      to[0] = first;
      if (column + 1 < out.n) to[1] = second;
    }
  } else {
    auto* const to = reinterpret_cast<__nv_bfloat16*>(out.data) + at;
    if (both) {
      *reinterpret_cast<uint32_t*>(to) = PackBf16(first, second);
    } else {
      to[0] = __float2bfloat16_rn(first);
      if (column + 1 < out.n) to[1] = __float2bfloat16_rn(second);
    }
  }
}

// Eight of bf16, the first in a column that is a multiple of 8; in_eights.
__device__ __forceinline__ void StoreEight(const StreamOutput& out, int64_t row, int column, const uint4& v) {
  auto* const to = reinterpret_cast<uint16_t*>(out.data) + row * out.stride + column;
  if (column + 8 <= out.n) {
    *reinterpret_cast<uint4*>(to) = v;
    return;
  }
  const uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (column + i < out.n) to[i] = static_cast<uint16_t>(pairs[i / 2] >> (16 * (i % 2)));
  }
}

// A thread's results `first` and `second`, of column `column` and rows `row` and row + 1 of the tile, where lanes hold
// neighbouring columns 4 apart: lanes of two swap, so that the even one has both columns of the first row.
template <class Rows>
__device__ __forceinline__ void StoreOfTwoRows(const Rows& rows, int row, int column, float first, float second) {
  const bool odd = threadIdx.x / 4 % 2 != 0;
  const float other = __shfl_xor_sync(~0u, odd ? first : second, 4);
  rows.Store(row + (odd ? 1 : 0), column - (odd ? 1 : 0), odd ? other : first, odd ? second : other);
}

// Launches CTAs of a kernel over MatrixTile, in clusters of `ranks`.
template <auto kKernel, class Tile, class Params>
void LaunchMatrix(std::string_view op, const Params& p, int64_t ctas, const LaunchOptions& options, int ranks = 1) {
  constexpr int kBytes = Tile::kSharedBytes;
  static const cudaError_t prepared =
      cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  CheckCuda(prepared, op, "a kernel");
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(ctas));
  config.blockDim = dim3(Tile::kThreads);
  config.dynamicSmemBytes = kBytes;
  config.stream = options.stream;
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {static_cast<unsigned>(ranks), 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  config.attrs = attributes;
  config.numAttrs = options.programmatic ? 2 : 1;
  CheckCuda(cudaLaunchKernelEx(&config, kKernel, p), op, "a launch");
}

}  // namespace mxmla::cuda
