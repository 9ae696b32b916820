// A tile of a product of many rows of activations with quantised weights, on the tensor cores: 128 rows of the weights
// by kRows rows of activations. The weights are wgmma's left operand, which comes from registers: they are decoded
// where they are multiplied and never written back. A lane holds 32 consecutive elements of a row's 128; the
// activations have been laid out to match (prepared_rows.h), so that one thread fetches a stage of them in one copy.
// FP8 weights become fp16, as the activations are.
#pragma once

#include "cuda/hopper_instructions.cuh"
#include "cuda/matrix_tile.cuh"
#include "cuda/weight_stream.cuh"

namespace mxmla::cuda {

template <WeightKind kKind, int kTileRows>
struct WeightTile {
  static_assert(kKind != WeightKind::kBf16, "plain weights go from memory to where wgmma reads them: MatrixTile");
  static constexpr WeightKind kPreparedFor = kKind;        // the rows, by LaunchTiledRows
  static constexpr int kRows = kTileRows, kColumns = 128;  // of activations, and of the weights
  // A warpgroup to fetch, of which one thread does, since registers are handed over in warpgroups.
  static constexpr int kConsumers = 256, kThreads = kConsumers + 128;
  static constexpr int kCtas = 1;     // a multiprocessor
  static constexpr int kStepK = 128;  // elements of k in a stage: two halves of 64 of the right operand
  static constexpr bool kScaledSums = kKind == WeightKind::kFp8;
  static constexpr int kLoads = kKind == WeightKind::kMxfp4 ? 1 : 2;  // of 16 bytes, a weight row and step of a lane
  static constexpr int kXBytes = kRows * kStepK * 2;
  static constexpr int kRawBytes = kConsumers * 2 * kLoads * 16;
  static constexpr int kStages = kRows == 128 ? 4 : 6;  // of activations
  static constexpr int kRawStages = kKind == WeightKind::kMxfp4 ? 8 : kRows == 128 ? 5 : 6;
  static constexpr int kBarrierBytes = 1024;  // before the stages, which are aligned to 1024 bytes
  static constexpr int kStageBytes = kStages * kXBytes + kRawStages * kRawBytes;
  static constexpr int kSumBytes = kRows * kColumns * 4;  // where ranks meet
  static constexpr int kSharedBytes = kBarrierBytes + (kStageBytes > kSumBytes ? kStageBytes : kSumBytes);

  // Rows: the activations and where their results go.
  //   const uint8_t* Stages() const               the tile's activations
  //   float Inverse(int r) const                  FP8: what results of row r are multiplied by
  //   void Store(int r, int column, float, float) as of MatrixTile
  // The launch that has prepared the rows may still run. `shared` is aligned to 1024 bytes. The `ranks` CTAs of a
  // cluster share k; their sums meet in the order of k.
  template <class Rows>
  __device__ static void Run(const WeightPlanes& w, int n, int k, int n0, uint8_t* shared, const Rows& rows,
                             int ranks = 1, int rank = 0) {
    const int tid = static_cast<int>(threadIdx.x);
    const uint32_t full = SharedAddress(shared), empty = full + kStages * 8;
    if (tid == 0) {
      for (int i = 0; i < kStages; ++i) {
        BarrierInit(full + i * 8, 1);
        BarrierInit(empty + i * 8, kConsumers / 32);
      }
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    const int all_steps = (k + kStepK - 1) / kStepK;
    const int steps_of_rank = (all_steps + ranks - 1) / ranks;
    const int first_step = min(rank * steps_of_rank, all_steps);
    const int steps = min(steps_of_rank, all_steps - first_step);
    if (tid >= kConsumers) {
      asm volatile("setmaxnreg.dec.sync.aligned.u32 48;");
      if (tid == kConsumers) {
        WaitForPredecessor();
        const uint8_t* const from = rows.Stages() + int64_t{first_step} * kXBytes;
        const uint32_t stages = SharedAddress(shared) + kBarrierBytes;
        uint32_t stage = 0, parity = 1;
#pragma unroll 1
        for (int step = 0; step < steps; ++step) {
          if (step >= kStages) BarrierWait(empty + stage * 8, parity);
          BarrierExpect(full + stage * 8, kXBytes);
          CopyBulk(stages + stage * kXBytes, from + int64_t{step} * kXBytes, kXBytes, full + stage * 8);
          stage = stage + 1 == kStages ? 0 : stage + 1;
          parity ^= stage == 0;
        }
      }
      __syncwarp();
      if (ranks > 1) {
        ClusterBarrier();
        ClusterBarrier();
      }
      return;
    }
    asm volatile("setmaxnreg.inc.sync.aligned.u32 224;");
    Consume(w, n, k, n0, shared, rows, first_step, steps, full, empty, ranks, rank);
  }

 private:
  // One load of a lane's of one row of the weights, step after step.
  struct Source {
    const uint8_t* next;
    int left;  // steps in which the row has it
  };

  // Half b of a row's raw values to the pairs u = j * 4 + v.
  __device__ static void Decode(const uint4 (&raw)[kLoads], int b, uint32_t scale, uint32_t (&pairs)[8]) {
    if constexpr (kKind == WeightKind::kMxfp4) {
      const uint32_t first = b == 0 ? raw[0].x : raw[0].z, second = b == 0 ? raw[0].y : raw[0].w;
      PlaceE2m1(first, pairs);
      PlaceE2m1(second, pairs + 4);
      // 2^126, which the placed codes lack, and the scale, which may not fit into one factor with it. (A branch here
      // would make the compiler wait for each product of the step.)
      const uint32_t factor = E8m0Pair(scale);
#pragma unroll
      for (uint32_t& pair : pairs) pair = Times(Times(pair, 0x7e807e80u), factor);
    } else {
      const uint4 v = raw[b < kLoads ? b : 0];
      const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) HalvesOfE4m3(words[i], pairs + 2 * i);
    }
  }

  template <class Rows>
  __device__ static void Consume(const WeightPlanes& w, int n, int k, int n0, uint8_t* shared, const Rows& rows,
                                 int first_step, int steps, uint32_t full, uint32_t empty, int ranks, int rank) {
    const int tid = static_cast<int>(threadIdx.x), lane = tid % 32, g = lane / 4, t = lane % 4;
    uint8_t* const stages = shared + kBarrierBytes;
    const uint8_t* const ring = stages + kStages * kXBytes + tid * 16;
    const uint32_t x_at = SharedAddress(stages), ring_at = SharedAddress(ring);
    const int column0 = tid / 32 * 16 + g;  // of the tile; and the eighth behind it
    Source values[2][kLoads], scales[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = n0 + column0 + 8 * r;
      const int64_t at_row = row < n ? row : 0;
      const auto steps_to = [&](int element) {  // whose first element of k, in a step, is there
        return row < n ? min((k - element + kStepK - 1) / kStepK - first_step, steps) : 0;
      };
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const int at = kKind == WeightKind::kMxfp4 ? 32 * t : 64 * i + 16 * t;
        const int64_t element = int64_t{first_step} * kStepK + at;
        values[r][i] = {w.values + at_row * w.row_bytes + (kKind == WeightKind::kMxfp4 ? element / 2 : element),
                        steps_to(at)};
      }
      if constexpr (kKind == WeightKind::kMxfp4) {
        scales[r] = {static_cast<const uint8_t*>(w.scales) + at_row * w.scale_row_stride + first_step * 4 + t,
                     steps_to(32 * t)};
      } else {
        scales[r] = {reinterpret_cast<const uint8_t*>(static_cast<const float*>(w.scales) +
                                                      (w.first_row + at_row) / 128 * w.scale_row_stride +
                                                      first_step * w.scale_column_stride),
                     row < n ? steps : 0};
      }
    }
    const auto copy = [&](int step, uint32_t to) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
#pragma unroll
        for (int i = 0; i < kLoads; ++i) {
          Source& from = values[r][i];
          Copy16(to + (r * kLoads + i) * kConsumers * 16, from.next, step < from.left);
          from.next += kKind == WeightKind::kMxfp4 ? kStepK / 2 : kStepK;
        }
      }
      CommitCopies();
    };
    // The step's scale: of the lane's block (MXFP4, as its byte), or of the square (FP8, as its bits).
    const auto next_scale = [&](int r, int step) -> uint32_t {
      uint32_t scale = 0;
      if constexpr (kKind == WeightKind::kMxfp4) {
        if (step < scales[r].left) scale = __ldg(scales[r].next);
        scales[r].next += kStepK / kMxBlock;
      } else {
        if (step < scales[r].left) scale = __ldg(reinterpret_cast<const uint32_t*>(scales[r].next));
        scales[r].next += w.scale_column_stride * 4;
      }
      return scale;
    };
#pragma unroll
    for (int step = 0; step < kRawStages - 1; ++step) copy(step, ring_at + step * kRawBytes);
    // Two steps ahead: they come from memory.
    uint32_t scale[2] = {next_scale(0, 0), next_scale(1, 0)};
    uint32_t later[2] = {next_scale(0, 1), next_scale(1, 1)};

    float sum[kRows / 2] = {};
    float total[kScaledSums ? kRows / 2 : 1];
    if constexpr (kScaledSums) {
#pragma unroll
      for (float& value : total) value = 0;
    }
    float square_scale[2] = {};  // of the sums of the step before
    const auto promote = [&] {
      if constexpr (kScaledSums) {
#pragma unroll
        for (int i = 0; i < kRows / 2; ++i) total[i] = __fmaf_rn(sum[i], square_scale[i % 4 / 2], total[i]);
      }
    };
    uint32_t raw_at = 0, stage = 0, parity = 0;  // the step's place in the rings
    const auto release_before = [&] {            // the stage of the step before
      if (lane == 0) BarrierArrive(empty + (stage == 0 ? kStages - 1 : stage - 1) * 8);
    };
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      WaitForCopies<kRawStages - 2>();
      uint4 raw[2][kLoads];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
#pragma unroll
        for (int i = 0; i < kLoads; ++i) {
          raw[r][i] = *reinterpret_cast<const uint4*>(ring + raw_at + (r * kLoads + i) * kConsumers * 16);
        }
      }
      // What was read one step ago is free: only this thread reads it.
      copy(step + kRawStages - 1, ring_at + (raw_at == 0 ? (kRawStages - 1) * kRawBytes : raw_at - kRawBytes));
      raw_at = raw_at == (kRawStages - 1) * kRawBytes ? 0 : raw_at + kRawBytes;
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        WgmmaWait<1>();  // the step before has read this half's registers; half 0's products may run while 1 is decoded
        uint32_t pairs[2][8];
        Decode(raw[0], b, scale[0], pairs[0]);
        Decode(raw[1], b, scale[1], pairs[1]);
        if (b == 0) {
          BarrierWait(full + stage * 8, parity);
          if constexpr (kScaledSums) {
            WgmmaWait<0>();
            promote();
            square_scale[0] = __uint_as_float(scale[0]);
            square_scale[1] = __uint_as_float(scale[1]);
          }
        }
        // All products of the step before have ended.
        if (b == (kScaledSums ? 0 : 1) && step > 0) release_before();
        const SwizzledTile x(x_at + stage * kXBytes + b * (kRows * 128));
        WgmmaFence();
#pragma unroll
        for (int s = 0; s < 4; ++s) {
          const uint32_t a[4] = {pairs[0][2 * s], pairs[1][2 * s], pairs[0][2 * s + 1], pairs[1][2 * s + 1]};
          WgmmaLeft<kRows, kScaledSums>(sum, a, x.At(s * 32), s > 0 || b > 0 || !kScaledSums);
        }
        WgmmaCommit();
      }
      scale[0] = later[0], scale[1] = later[1];
      later[0] = next_scale(0, step + 2);
      later[1] = next_scale(1, step + 2);
      stage = stage + 1 == kStages ? 0 : stage + 1;
      parity ^= stage == 0;
    }
    WgmmaWait<0>();
    promote();
    if constexpr (kScaledSums) {
      WaitForPredecessor();  // this thread, too, reads what it has written
#pragma unroll
      for (int i = 0; i < kRows / 2; ++i) total[i] *= rows.Inverse(i / 4 * 8 + 2 * t + i % 2);
    }

    const auto result = [&](int i) {
      if constexpr (kScaledSums) {
        return total[i];
      } else {
        return sum[i];
      }
    };
    // Result i lies in row i / 4 * 8 + 2 * t + i % 2 and column column0 + i % 4 / 2 * 8.
    const auto store = [&](int pair, float first, float second) {  // results 2 * pair and the next one
      StoreOfTwoRows(rows, pair / 2 * 8 + 2 * t, n0 + column0 + pair % 2 * 8, first, second);
    };
    if (ranks == 1) {
#pragma unroll
      for (int i = 0; i < kRows / 4; ++i) store(i, result(2 * i), result(2 * i + 1));
      return;
    }
    // A thread's results mean the same in every rank, which adds up its share of them.
    auto* const mine = reinterpret_cast<float2*>(stages);
    NamedBarrier<kConsumers>(1);  // the stages have been read
#pragma unroll
    for (int i = 0; i < kRows / 4; ++i) {
      mine[i * kConsumers + tid] = steps > 0 ? make_float2(result(2 * i), result(2 * i + 1)) : make_float2(0, 0);
    }
    StoreSumsOfRanks<kConsumers>(mine, kRows / 4, ranks, rank, tid, store);
  }
};

}  // namespace mxmla::cuda
