// A tile of a product of many rows of activations with weights, on the tensor cores: kM rows by kN rows of the weights.
// Two warpgroups share it. In each step of 64 elements of k they decode the weights from registers to bf16 in shared
// memory, in wgmma's layout, while the products of the step before run; the activations come by asynchronous copies.
#pragma once

#include "cuda/hopper_instructions.cuh"
#include "cuda/stream_plan.cuh"

namespace mxmla::cuda {

constexpr int kMatrixThreads = 256;

template <WeightKind kKind, int kM, int kN>
struct MatrixTile {
  static constexpr int kStepK = 64;
  static constexpr int kXStages = 4;   // copied two steps ahead, while the products of the last two may still read
  static constexpr int kWBuffers = 3;  // one is written while those two read
  static constexpr int kXBytes = kM * 128, kWBytes = kN * 128;
  static constexpr int kSharedBytes = kXStages * kXBytes + kWBuffers * kWBytes;  // aligned to 1024
  static constexpr int kWgmmaN = kM == 128 ? kN : kN / 2;
  static constexpr int kRowPointers = kM / 32;
  static constexpr bool kScaledSums = kKind == WeightKind::kFp8;

  static constexpr int kElements = kN / 4;  // of the weights, of a thread and step
  static constexpr int kThreadsOfRow = kStepK / kElements;
  static constexpr int kWords = kKind == WeightKind::kMxfp4 ? kElements / 8
                                : kKind == WeightKind::kFp8 ? kElements / 4
                                                            : kElements / 2;
  static constexpr int kAhead = 4;  // steps that weights, which come from memory, are requested ahead

  struct Raw {
    uint32_t word[kWords];
    uint32_t scale;
  };

  // Where the thread's rows of the weights and what it takes of them lie.
  struct Source {
    const uint8_t* values;
    const uint8_t* scales;
    int left;  // elements from the thread's first one to the end of k; none for rows beyond n
  };

  __device__ static Source SourceOf(const WeightPlanes& w, int n, int k, int n0) {
    const int row = static_cast<int>(threadIdx.x) / kThreadsOfRow,
              at = static_cast<int>(threadIdx.x) % kThreadsOfRow * kElements;
    const bool there = n0 + row < n;
    const int64_t weight_row = there ? n0 + row : n0;
    Source from{w.values + weight_row * w.row_bytes + StreamFormat<kKind, 128>::Bytes(at), nullptr, there ? k - at : 0};
    if constexpr (kKind == WeightKind::kMxfp4) {
      from.scales = static_cast<const uint8_t*>(w.scales) + weight_row * w.scale_row_stride + at / 32;
    }
    return from;
  }

  __device__ static void Load(const Source& from, int step, Raw& raw) {
    const int left = from.left - step * kStepK;
    const uint8_t* const values = from.values + StreamFormat<kKind, 128>::Bytes(int64_t{step} * kStepK);
    if constexpr (kKind == WeightKind::kMxfp4) {
      raw.scale = 0;
#pragma unroll
      for (uint32_t& word : raw.word) word = 0;
      if (left <= 0) return;
      if constexpr (kWords == 4) {
        const uint4 v = LoadWeights16(values);
        raw.word[0] = v.x, raw.word[1] = v.y, raw.word[2] = v.z, raw.word[3] = v.w;
      } else {
        asm volatile("ld.global.nc.v2.u32 {%0,%1}, [%2];" : "=r"(raw.word[0]), "=r"(raw.word[1]) : "l"(values));
      }
      raw.scale = __ldg(from.scales + step * (kStepK / 32));
    } else {
      constexpr int kElementsOf16 = kKind == WeightKind::kFp8 ? 16 : 8;
#pragma unroll
      for (int i = 0; i < kWords / 4; ++i) {
        uint4 v = make_uint4(0, 0, 0, 0);
        if (i * kElementsOf16 < left) v = LoadWeights16(values + i * 16);
        raw.word[4 * i] = v.x, raw.word[4 * i + 1] = v.y, raw.word[4 * i + 2] = v.z, raw.word[4 * i + 3] = v.w;
      }
    }
  }

  // The pairs (0, 4), (1, 5), (2, 6), (3, 7) in their order.
  __device__ static uint4 InOrder(const uint32_t p[4]) {
    return make_uint4(Permute(p[0], p[1], 0x5410), Permute(p[2], p[3], 0x5410), Permute(p[0], p[1], 0x7632),
                      Permute(p[2], p[3], 0x7632));
  }

  __device__ static uint32_t DecodeE4m3Pair(uint32_t word, int half) {
    uint32_t pairs[2];
    DecodeE4m3(word, pairs);
    if (AnyNanE4m3(word)) {
      const uint32_t codes = half ? word >> 16 : word & 0xffffu;
      if ((codes & 0x7fu) == 0x7fu) pairs[half] = (pairs[half] & 0xffff0000u) | 0x7fc0u;
      if ((codes & 0x7f00u) == 0x7f00u) pairs[half] = (pairs[half] & 0xffffu) | 0x7fc00000u;
    }
    return pairs[half];
  }

  // To rows of 128 bytes in the 128-byte swizzle.
  __device__ static void Decode(const Raw& raw, uint8_t* buffer) {
    const int row = static_cast<int>(threadIdx.x) / kThreadsOfRow, part = static_cast<int>(threadIdx.x) % kThreadsOfRow;
#pragma unroll
    for (int i = 0; i < kElements / 8; ++i) {
      uint4 piece;
      if constexpr (kKind == WeightKind::kMxfp4) {
        uint32_t pairs[4];
        PlaceE2m1(raw.word[i], pairs);
        // 2^126, which the placed codes lack, and the scale in one factor, but for a scale above 2^1.
        if (raw.scale > 128) {
          const uint32_t scale = E8m0Pair(raw.scale);
#pragma unroll
          for (uint32_t& pair : pairs) pair = Times(Times(pair, 0x7e807e80u), scale);
        } else {
          const uint32_t factor = raw.scale * 0x00800080u + 0x3f003f00u;
#pragma unroll
          for (uint32_t& pair : pairs) pair = Times(pair, factor);
        }
        piece = InOrder(pairs);
      } else if constexpr (kKind == WeightKind::kFp8) {
        piece = make_uint4(DecodeE4m3Pair(raw.word[2 * i], 0), DecodeE4m3Pair(raw.word[2 * i], 1),
                           DecodeE4m3Pair(raw.word[2 * i + 1], 0), DecodeE4m3Pair(raw.word[2 * i + 1], 1));
      } else {
        piece = make_uint4(raw.word[4 * i], raw.word[4 * i + 1], raw.word[4 * i + 2], raw.word[4 * i + 3]);
      }
      const int chunk = part * (kElements / 8) + i;
      *reinterpret_cast<uint4*>(buffer + row * 128 + ((chunk ^ (row % 8)) * 16)) = piece;
    }
  }

  // Rows: the activations and where their results go.
  //   void Wait()                                 until the activations may be read
  //   const uint8_t* Row(int r) const             row r of the tile, in bf16, 16-byte aligned; null: zeros
  //   void Store(int r, int column, float, float) results of row r in columns `column` (even, from n0) and the next one
  // `shared` is aligned to 1024 bytes.
  template <class Rows>
  __device__ static void Run(const WeightPlanes& w, int n, int k, int n0, uint8_t* shared, Rows& rows) {
    const int tid = static_cast<int>(threadIdx.x), group = tid / 128;
    uint8_t* const x_stages = shared;
    uint8_t* const w_buffers = shared + kXStages * kXBytes;
    const int steps = (k + kStepK - 1) / kStepK;

    const Source source = SourceOf(w, n, k, n0);
    Raw raw[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) Load(source, a, raw[a]);
    rows.Wait();

    const uint8_t* x[kRowPointers];
#pragma unroll
    for (int i = 0; i < kRowPointers; ++i) x[i] = rows.Row(tid / 8 + 32 * i);
    const int chunk = tid % 8;
    const uint32_t x_at = SharedAddress(x_stages) + tid / 8 * 128 + ((chunk ^ (tid / 8 % 8)) * 16);
    const auto copy_x = [&](int step) {
      if (step < steps) {
        const int at = step * kStepK + chunk * 8;
        const uint32_t to = x_at + step % kXStages * kXBytes;
#pragma unroll
        for (int i = 0; i < kRowPointers; ++i) {
          const bool there = x[i] != nullptr && at < k;
          const int bytes = there ? 16 : 0;
          const uint8_t* const from = there ? x[i] + int64_t{at} * 2 : w.values;
          asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to + i * 4096), "l"(from), "r"(bytes)
                       : "memory");
        }
      }
      CommitCopies();
    };
    copy_x(0);
    copy_x(1);

    // FP8: squares' scales of the columns before and after an edge, for the 128 elements of k that are summed.
    const int64_t square_row = w.first_row + n0;
    const int edge = static_cast<int>(128 - square_row % 128);
    const auto* squares = static_cast<const float*>(w.scales);
    const auto scale_of = [&](int step, int after) {
      const int64_t row = square_row / 128 + (after && n0 + edge < n && edge < kN ? 1 : 0);
      return __ldg(squares + row * w.scale_row_stride + step / 2 * w.scale_column_stride);
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
    int buffer = 0;
    // FP8: two steps are a square's 128 elements of k, whose sum is scaled before the next is begun.
    const auto step_of = [&](int step, auto slot) {
      constexpr bool kNewSquare = kScaledSums && slot % 2 == 0;
      Decode(raw[slot], w_buffers + buffer * kWBytes);
      Load(source, step + kAhead, raw[slot]);
      WaitForCopies<1>();
      FenceAsyncProxy();
      WgmmaWait<kNewSquare ? 0 : 1>();  // so behind the barrier nothing reads what step - 2 read
      __syncthreads();
      if constexpr (kNewSquare) {
        if (step > 0) promote();
        scale[0] = scale_of(step, 0);
        scale[1] = scale_of(step, 1);
      }
      const SwizzledTile a(x_tile + step % kXStages * kXBytes), b(w_tile + buffer * kWBytes);
      WgmmaFence();
#pragma unroll
      for (int i = 0; i < 4; ++i)
        Wgmma<kWgmmaN, false>(sum, a.At(i * 32), b.At(i * 32), i > 0 || (!kNewSquare && step > 0));
      WgmmaCommit();
      copy_x(step + 2);
      buffer = buffer + 1 == kWBuffers ? 0 : buffer + 1;
    };
#pragma unroll 1
    for (int step = 0; step < steps; step += kAhead) {
      const auto if_there = [&](auto slot) {
        if (step + slot < steps) step_of(step + slot, slot);
      };
      [&]<int... kSlot>(std::integer_sequence<int, kSlot...>) { (if_there(std::integral_constant<int, kSlot>{}), ...); }
      (std::make_integer_sequence<int, kAhead>{});
    }
    WgmmaWait<0>();
    if constexpr (kScaledSums) promote();

    const int lane = tid % 32, row0 = (kM == 128 ? group * 64 : 0) + tid % 128 / 32 * 16 + lane / 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int j = 0; j < kWgmmaN / 8; ++j) {
        const int at = 4 * j + 2 * half, column = n0 + column0 + 8 * j + 2 * t;
        if constexpr (kScaledSums) {
          rows.Store(row0 + 8 * half, column, total[at], total[at + 1]);
        } else {
          rows.Store(row0 + 8 * half, column, sum[at], sum[at + 1]);
        }
      }
    }
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

// Launches CTAs of a kernel over MatrixTile.
template <auto kKernel, class Tile, class Params>
void LaunchMatrix(std::string_view op, const Params& p, int64_t ctas, const LaunchOptions& options) {
  constexpr int kBytes = Tile::kSharedBytes + 1024;  // and where the tile begins is rounded up
  static const cudaError_t prepared =
      cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  CheckCuda(prepared, op, "a kernel");
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(ctas));
  config.blockDim = dim3(kMatrixThreads);
  config.dynamicSmemBytes = kBytes;
  config.stream = options.stream;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &attribute;
  config.numAttrs = options.programmatic ? 1 : 0;
  CheckCuda(cudaLaunchKernelEx(&config, kKernel, p), op, "a launch");
}
__device__ __forceinline__ uint8_t* AlignTo1024(uint8_t* shared) {
  return shared + (1024 - SharedAddress(shared) % 1024) % 1024;
}

}  // namespace mxmla::cuda
