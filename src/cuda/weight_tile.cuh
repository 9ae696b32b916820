// A tile of a product of many rows of activations with quantised weights, on the tensor cores: 128 rows of the weights
// by kRows rows of activations. The weights are wgmma's left operand, which comes from registers: they are decoded
// where they are multiplied and never written back. A lane holds 32 consecutive elements of a row's 128, so the
// activations are laid out to match by warps of their own. FP8 weights become fp16, and the activations are
// (half_products.cuh).
#pragma once

#include "cuda/hopper_instructions.cuh"
#include "cuda/matrix_tile.cuh"
#include "cuda/weight_stream.cuh"

namespace mxmla::cuda {

template <WeightKind kKind, int kTileRows>
struct WeightTile {
  static_assert(kKind != WeightKind::kBf16, "plain weights go from memory to where wgmma reads them: MatrixTile");
  static constexpr int kRows = kTileRows, kColumns = 128;  // of activations, and of the weights
  static constexpr int kConsumers = 256, kProducers = 256, kThreads = kConsumers + kProducers;
  static constexpr int kCtas = 1;     // a multiprocessor
  static constexpr int kStepK = 128;  // elements of k in a stage: two rows of 64 of the right operand
  static constexpr bool kScaledSums = kKind == WeightKind::kFp8;
  // Whether those that multiply order what was written before what wgmma reads: behind copies that fence waits for
  // those of later steps too, but in FP8 the readers have more to do.
  static constexpr bool kReadersFence = !kScaledSums;
  static constexpr int kLoads = kKind == WeightKind::kMxfp4 ? 1 : 2;  // of 16 bytes, a weight row and step of a lane
  static constexpr int kXBytes = kRows * kStepK * 2;
  static constexpr int kRawBytes = kConsumers * 2 * kLoads * 16;
  static constexpr int kStages = kRows == 128 ? 2 : 3;  // of activations as wgmma reads them
  static constexpr int kXSlots = 4;                     // of activations as they come
  static constexpr int kRawStages = kKind == WeightKind::kMxfp4 && kRows < 128 ? 8 : 4;
  static constexpr int kBarrierBytes = 1024;  // before the stages, which are aligned to 1024 bytes
  static constexpr int kStageBytes = (kStages + kXSlots) * kXBytes + kRawStages * kRawBytes;
  static constexpr int kSumBytes = kRows * kColumns * 4;  // where ranks meet
  static constexpr int kSharedBytes = kBarrierBytes + (kStageBytes > kSumBytes ? kStageBytes : kSumBytes);
  static constexpr int kPieces = kRows / 16;  // of 8 activations, a producer and step: each of another row

  // Lane t of a quad holds piece q of a row's 16 as the j-th of half b.
  static __device__ constexpr int HalfOf(int q) { return kKind == WeightKind::kMxfp4 ? q / 2 % 2 : q / 8; }
  static __device__ constexpr int LaneOf(int q) { return kKind == WeightKind::kMxfp4 ? q / 4 : q / 2 % 4; }

  // As MatrixTile::Run, whose Rows it takes; `shared` is aligned to 1024 bytes.
  template <class Rows>
  __device__ static void Run(const WeightPlanes& w, int n, int k, int n0, uint8_t* shared, const Rows& rows,
                             int ranks = 1, int rank = 0) {
    const int tid = static_cast<int>(threadIdx.x);
    uint8_t* const stages = shared + kBarrierBytes;
    const uint32_t full = SharedAddress(shared), empty = full + kStages * 8;
    if (tid == 0) {
      for (int i = 0; i < kStages; ++i) {
        BarrierInit(full + i * 8, kProducers / 32);
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
      asm volatile("setmaxnreg.dec.sync.aligned.u32 104;");
      Produce(rows, w.values, k, first_step, steps, stages, full, empty);
      if (ranks > 1) {
        ClusterBarrier();
        ClusterBarrier();
      }
      return;
    }
    asm volatile("setmaxnreg.inc.sync.aligned.u32 152;");
    Consume(w, n, k, n0, shared, rows, first_step, steps, full, empty, ranks, rank);
  }

 private:
  // Brings the activations into shared memory: 16 lanes a row, each of which pairs the elements of its piece in the
  // order in which a lane of the consumers decodes weights, and puts the pairs into four granules of wgmma's right
  // operand.
  template <class Rows>
  __device__ static void Produce(const Rows& rows, const uint8_t* anywhere, int k, int first_step, int steps,
                                 uint8_t* stages, uint32_t full, uint32_t empty) {
    const int p = static_cast<int>(threadIdx.x) - kConsumers, row = p / 16;
    const int q = p % 16, b = HalfOf(q), t = LaneOf(q), j = q % 2;
    rows.Wait();
    const uint8_t* x[kPieces];
    bool has[kPieces];
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const uint8_t* const from = rows.Row(row + 16 * i);
      has[i] = from != nullptr;
      x[i] = (has[i] ? from : anywhere) + (int64_t{first_step} * kStepK + q * 8) * 2;
    }
    // A slot's pieces are each read by the thread that asked for it.
    const int there = min((k - q * 8 + kStepK - 1) / kStepK - first_step, steps);  // steps that have the piece
    const uint8_t* const slots = stages + kStages * kXBytes + p * 16;
    const uint32_t slots_at = SharedAddress(slots);
    const auto copy = [&](int step) {
      const uint32_t slot = slots_at + step % kXSlots * kXBytes;
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        Copy16(slot + i * kProducers * 16, x[i] + int64_t{step} * (kStepK * 2), step < there && has[i]);
      }
      CommitCopies();
    };
    // The halves write their granules in different orders, or they would meet in the same banks.
    uint8_t* const to = stages + b * (kRows * 128) + row * 128 + t * 4;
    const int first = (j * 4) ^ (row % 8) ^ (b * 2);
#pragma unroll
    for (int step = 0; step < kXSlots - 1; ++step) copy(step);
    uint32_t stage = 0, parity = 1;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      WaitForCopies<kXSlots - 2>();
      const uint8_t* const slot = slots + step % kXSlots * kXBytes;
      uint4 piece[kPieces];
#pragma unroll
      for (int i = 0; i < kPieces; ++i) piece[i] = *reinterpret_cast<const uint4*>(slot + i * kProducers * 16);
      copy(step + kXSlots - 1);  // to the slot that was read one step ago
      if (step >= kStages) BarrierWait(empty + stage * 8, parity);
      uint8_t* const at = to + stage * kXBytes;
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        uint32_t pairs[4];
        PairPiece<kKind>(piece[i], pairs);
#pragma unroll
        for (int v = 0; v < 4; ++v) {
          *reinterpret_cast<uint32_t*>(at + i * 2048 + ((first ^ v) * 16)) = b ? pairs[v ^ 2] : pairs[v];
        }
      }
      if constexpr (!kReadersFence) FenceAsyncProxy();
      __syncwarp();
      if (p % 32 == 0) BarrierArrive(full + stage * 8);
      stage = (stage + 1) % kStages;
      parity ^= stage == 0;
    }
  }

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
    const uint8_t* const ring = stages + (kStages + kXSlots) * kXBytes + tid * 16;
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
        uint32_t pairs[2][8];
        Decode(raw[0], b, scale[0], pairs[0]);
        Decode(raw[1], b, scale[1], pairs[1]);
        if (b == 0) {
          BarrierWait(full + stage * 8, parity);
          if constexpr (kReadersFence) FenceAsyncProxy();
        }
        WgmmaWait<0>();
        if (b == 0) {
          if (lane == 0 && step > 0) BarrierArrive(empty + (stage + kStages - 1) % kStages * 8);
          promote();
          square_scale[0] = __uint_as_float(scale[0]);
          square_scale[1] = __uint_as_float(scale[1]);
        }
        const SwizzledTile x(x_at + stage * kXBytes + b * (kRows * 128));
        WgmmaFence();
#pragma unroll
        for (int s = 0; s < 4; ++s) {
          const uint32_t a[4] = {pairs[0][2 * s], pairs[1][2 * s], pairs[0][2 * s + 1], pairs[1][2 * s + 1]};
          WgmmaLeft<kRows, kKind == WeightKind::kFp8>(sum, a, x.At(s * 32), s > 0 || b > 0 || !kScaledSums);
        }
        WgmmaCommit();
      }
      scale[0] = later[0], scale[1] = later[1];
      later[0] = next_scale(0, step + 2);
      later[1] = next_scale(1, step + 2);
      stage = (stage + 1) % kStages;
      parity ^= stage == 0;
    }
    WgmmaWait<0>();
    promote();
    if constexpr (kScaledSums) {
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
