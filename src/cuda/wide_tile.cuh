// Products of many rows of activations on the tensor cores, by CTAs that stay: 128 rows of the weights by up to 192
// rows of activations a tile. Two warpgroups copy activations and decode weights into a ring of stages, two multiply.
// The former go on to the next tile while the latter store their results. FP8 weights become fp16, and the activations
// are (half_products.cuh).
#pragma once

#include "cuda/hopper_instructions.cuh"
#include "cuda/matrix_tile.cuh"
#include "cuda/stream_plan.cuh"

namespace mxmla::cuda {

template <WeightKind kKind>
struct WideTile {
  static constexpr bool kDecoded = kKind != WeightKind::kBf16;
  static constexpr bool kScaledSums = kKind == WeightKind::kFp8;  // of 128 elements, beside the total
  static constexpr int kColumns = 128;                            // rows of the weights
  static constexpr int kMostRows = kScaledSums ? 128 : 192;       // of activations
  static constexpr int kConsumers = 256, kProducers = 256, kThreads = kConsumers + kProducers;
  static constexpr int kCtas = 1;  // a multiprocessor
  static constexpr int kStepK = 64;
  static constexpr int kStages = kDecoded && !kScaledSums ? 4 : 5;
  static constexpr int kXBytes = kMostRows * 128, kWBytes = kColumns * 128, kStageBytes = kXBytes + kWBytes;
  static constexpr int kTeams = kDecoded ? 2 : 1, kTeamThreads = kProducers / kTeams;
  static constexpr int kTogether =
      kKind == WeightKind::kMxfp4 ? 2 : 1;                  // steps of a team, 64 bytes of a row of weights
  static constexpr int kRawBytes = kDecoded ? 32 * 64 : 0;  // of those, of a warp's rows
  static constexpr int kStagedRows = 64;                    // of results, on their way out
  static constexpr int kStagingBytes = kConsumers / 128 * kStagedRows * 128;
  static constexpr int kBarrierBytes = 1024;
  static constexpr int kSharedBytes =
      kBarrierBytes + kStages * kStageBytes + kProducers / 32 * 2 * kRawBytes + kStagingBytes;

  // Where a role is in the ring of stages.
  struct Ring {
    uint32_t stage, parity = 0;
    __device__ void Advance(int steps) {
      stage += steps;
      if (stage < kStages) return;
      stage -= kStages;
      parity ^= 1;
    }
  };

  struct Tile {
    WeightPlanes weight;
    int n0;    // first row of the weights
    int rows;  // of activations, at most kMostRows
  };

  // Tiles: what there is to do.
  //   bool Find(int i, Tile* tile)               the i-th tile; whole warps call
  //   const uint8_t* Row(int r) const            row r of the tile found last, in bf16 (FP8: fp16), 16-byte aligned
  //   float Inverse(int r) const                 FP8: what its results are multiplied by
  //   void Store(int r, int column, float, float), void StoreEight(int r, int column, const uint4&)
  //   bool in_eights() const                     whether the latter may be used
  // `shared` is aligned to 1024 bytes.
  template <class Tiles>
  __device__ static void Run(Tiles tiles, int n, int k, uint8_t* shared) {
    const int tid = static_cast<int>(threadIdx.x);
    const uint32_t full = SharedAddress(shared), empty = full + kStages * 8;
    if (tid == 0) {
      for (int i = 0; i < kStages; ++i) {
        BarrierInit(full + i * 8, kTeamThreads + (kDecoded ? kTeamThreads / 32 : 0));
        BarrierInit(empty + i * 8, kConsumers / 32);
      }
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    uint8_t* const stages = shared + kBarrierBytes;
    const int steps = (k + kStepK - 1) / kStepK;
    Tile tile;
    if (tid >= kConsumers) {
      asm volatile("setmaxnreg.dec.sync.aligned.u32 104;");
      const int team = (tid - kConsumers) / kTeamThreads;
      Ring ring{static_cast<uint32_t>(team)};
      int first = team;  // of the tile's steps, the team's
      for (int i = static_cast<int>(blockIdx.x); tiles.Find(i, &tile); i += static_cast<int>(gridDim.x)) {
        Produce(tiles, tile, n, k, steps, first, &ring, stages, full, empty);
        first = (first + steps) % kTeams;
      }
      return;
    }
    asm volatile("setmaxnreg.inc.sync.aligned.u32 152;");
    Ring ring{0};
    for (int i = static_cast<int>(blockIdx.x); tiles.Find(i, &tile); i += static_cast<int>(gridDim.x)) {
      const auto consume = [&]<int kN>(std::integral_constant<int, kN>) {
        Consume<kN>(tiles, tile, n, steps, &ring, stages, full, empty);
      };
      const int quarter = (tile.rows + 63) / 64;
      if (quarter == 1) {
        consume(std::integral_constant<int, 64>{});
      } else if (quarter == 2) {
        consume(std::integral_constant<int, 128>{});
      } else if constexpr (kMostRows > 128) {
        consume(std::integral_constant<int, 192>{});
      }
    }
  }

 private:
  // Teams of producers take turns at the steps, so that one waits while the other works. A warp decodes rows of the
  // weights that it alone fetches, kTogether of its team's steps at a time, a lane one; a thread copies piece `chunk`
  // of every kPassRows-th row of the activations.
  template <class Tiles>
  __device__ static void Produce(const Tiles& tiles, const Tile& tile, int n, int k, int steps, int first, Ring* ring,
                                 uint8_t* stages, uint32_t full, uint32_t empty) {
    constexpr int kPassRows = kTeamThreads / 8, kPasses = kMostRows / kPassRows, kPassBytes = kPassRows * 128;
    const int p = static_cast<int>(threadIdx.x) - kConsumers, team = p / kTeamThreads, q = p % kTeamThreads;
    const int lane = p % 32, chunk = q % 8, row = q / 8;
    const WeightPlanes& w = tile.weight;
    const int passes = (tile.rows + 63) / 64 * (64 / kPassRows);
    // Rows that are not there are the first once more: what becomes of them is not stored.
    const uint8_t* x[kPasses];
#pragma unroll
    for (int i = 0; i < kPasses; ++i) {
      const int r = row + kPassRows * i;
      x[i] = tiles.Row(r < tile.rows ? r : 0) + chunk * 16 + first * 128;
    }
    const int row0 = tile.n0 + q / 32 * 32, own = q / 32 * 32 + lane;  // the warp's rows of the weights, and the lane's
    const bool has_row = row0 + lane < n;
    const uint8_t* const scales = kKind == WeightKind::kMxfp4 && has_row
                                      ? static_cast<const uint8_t*>(w.scales) + (row0 + lane) * w.scale_row_stride
                                      : nullptr;
    const uint32_t scales_in = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(scales)) % 8;
    uint8_t* const raw = stages + kStages * kStageBytes + p / 32 * (2 * kRawBytes);
    const uint32_t stages_at = SharedAddress(stages), raw_at = SharedAddress(raw);
    const uint32_t piece_at = row * 128 + ((chunk ^ (row % 8)) * 16);

    // What each row has for the unit-th kTogether steps of the team: four pieces of 16 bytes.
    const auto fetch = [&](int unit) {
      const int piece = lane % 4, step = first + (unit * kTogether + piece * kTogether / 4) * kTeams;
      constexpr int kElements = kStepK * kTogether / 4;  // of a piece
      const int at = step * kStepK + piece % (4 / kTogether) * kElements;
      const uint32_t to = raw_at + unit % 2 * kRawBytes;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int r = lane / 4 + 8 * i;
        Copy16(to + r * 64 + ((piece ^ (r / 2 % 4)) * 16),
               w.values + int64_t{row0 + r} * w.row_bytes + at / (kElements / 16), row0 + r < n && at < k);
      }
      CommitCopies();
      // Two fetches ahead, they come from memory.
      const int64_t ahead = int64_t{unit + 2} * 128;
      if (team == 0 && has_row && ahead < k / (kElements / 16)) {
        asm volatile("prefetch.global.L2 [%0];" ::"l"(w.values + int64_t{row0 + lane} * w.row_bytes + ahead));
      }
    };
    // MXFP4: the eight scales of the unit's steps and of the other team's between them.
    const auto fetch_scales = [&](int unit) -> uint2 {
      const int count = has_row ? k / kMxBlock - unit * 8 : 0;
      const uint8_t* const from = scales + unit * 8;
      if (count >= 8 && scales_in == 0) return __ldg(reinterpret_cast<const uint2*>(from));
      uint32_t words[2] = {};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (count >= 4 * i + 4 && scales_in % 4 == 0) {
          words[i] = __ldg(reinterpret_cast<const uint32_t*>(from + 4 * i));
          continue;
        }
        for (int j = 4 * i; j < min(count, 4 * i + 4); ++j) {
          words[i] |= static_cast<uint32_t>(__ldg(from + j)) << (8 * (j % 4));
        }
      }
      return make_uint2(words[0], words[1]);
    };
    const auto decode = [&](int unit, int i, uint32_t scale, uint8_t* to) {  // to: the stage's weights
      uint4 v[4 / kTogether];
      const uint8_t* const from = raw + unit % 2 * kRawBytes + lane * 64;
#pragma unroll
      for (int j = 0; j < 4 / kTogether; ++j) {
        v[j] = *reinterpret_cast<const uint4*>(from + (((i * (4 / kTogether) + j) ^ (lane / 2 % 4)) * 16));
      }
      const auto store = [&](int j, const uint4& eight) {
        *reinterpret_cast<uint4*>(to + own * 128 + ((j ^ (own % 8)) * 16)) = eight;
      };
      if constexpr (kKind == WeightKind::kMxfp4) {
        const uint32_t low = scale & 0xff, high = scale >> 8 & 0xff;
        if (__any_sync(~0u, max(low, high) > 128)) {
          DecodeMx<true>(v, low, high, store);
        } else {
          DecodeMx<false>(v, low, high, store);
        }
      } else {
#pragma unroll
        for (int j = 0; j < 4 / kTogether; ++j) {
          uint32_t pairs[8];
          HalvesOfE4m3(v[j].x, pairs);
          HalvesOfE4m3(v[j].y, pairs + 2);
          HalvesOfE4m3(v[j].z, pairs + 4);
          HalvesOfE4m3(v[j].w, pairs + 6);
          store(2 * j, make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]));
          store(2 * j + 1, make_uint4(pairs[4], pairs[5], pairs[6], pairs[7]));
        }
      }
    };
    uint2 next_scales{};
    if constexpr (kDecoded) {
      __syncwarp();  // what the tile before fetched last has been read
      fetch(0);
    }
    if constexpr (kKind == WeightKind::kMxfp4) next_scales = fetch_scales(0);
#pragma unroll 1
    for (int unit = 0; first + unit * kTogether * kTeams < steps; ++unit) {
      const uint32_t scales_of[2] = {next_scales.x >> (16 * first), next_scales.y >> (16 * first)};
      if constexpr (kDecoded) {
        WaitForCopies<0>();
        __syncwarp();
        fetch(unit + 1);
        if constexpr (kKind == WeightKind::kMxfp4) next_scales = fetch_scales(unit + 1);
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int step = first + (unit * kTogether + i) * kTeams;
        if (step >= steps) break;
        const uint32_t stage = ring->stage, stage_full = full + stage * 8;
        BarrierWait(empty + stage * 8, ring->parity ^ 1);
        const uint32_t to = stages_at + stage * kStageBytes + piece_at;
        const int at = step * kStepK + chunk * 8;
#pragma unroll
        for (int j = 0; j < kPasses; ++j) {
          if (j < passes) Copy16(to + j * kPassBytes, x[j] + i * kTeams * 128, at < k);
        }
        if constexpr (!kDecoded) {
#pragma unroll
          for (int j = 0; j < kColumns / kPassRows; ++j) {
            const int weight = tile.n0 + row + kPassRows * j;
            Copy16(to + kXBytes + j * kPassBytes, w.values + weight * w.row_bytes + int64_t{at} * 2,
                   weight < n && at < k);
          }
        }
        asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(stage_full) : "memory");
        if constexpr (kDecoded) {
          decode(unit, i, scales_of[i], stages + stage * kStageBytes + kXBytes);
          __syncwarp();
          if (lane == 0) BarrierArrive(stage_full);
        }
        ring->Advance(kTeams);
      }
#pragma unroll
      for (const uint8_t*& at : x) at += kTogether * kTeams * 128;
    }
  }

  // Two blocks' codes to eight pieces.
  template <bool kLarge, class Store>
  __device__ static void DecodeMx(const uint4 (&codes)[2], uint32_t low, uint32_t high, const Store& store) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t words[4] = {codes[i].x, codes[i].y, codes[i].z, codes[i].w};
      const uint32_t factor = MxFactor<kLarge>(i == 0 ? low : high);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        uint32_t pairs[4];
        DecodeMxWord<kLarge>(words[j], factor, pairs);
        store(4 * i + j, InOrder(pairs));
      }
    }
  }

  template <int kN, class Tiles>
  __device__ static void Consume(const Tiles& tiles, const Tile& tile, int n, int steps, Ring* ring, uint8_t* stages,
                                 uint32_t full, uint32_t empty) {
    const int tid = static_cast<int>(threadIdx.x), group = tid / 128, lane = tid % 32, g = lane / 4, t = lane % 4;
    const int warp = tid % 128 / 32;
    const uint32_t stages_at = SharedAddress(stages);
    float sum[kN / 2] = {};
    float total[kScaledSums ? kN / 2 : 1];
#pragma unroll
    for (float& value : total) value = 0;

    // FP8: scales of the squares of the thread's two rows of the weights.
    const float* squares[2] = {};
    float scale[2] = {};
    if constexpr (kScaledSums) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int row = min(tile.n0 + group * 64 + warp * 16 + g + 8 * r, n - 1);
        squares[r] = static_cast<const float*>(tile.weight.scales) +
                     (tile.weight.first_row + row) / 128 * tile.weight.scale_row_stride;
      }
    }
    const auto promote = [&] {
#pragma unroll
      for (int i = 0; i < kN / 2; ++i) total[i] = __fmaf_rn(sum[i], scale[i % 4 / 2], total[i]);
    };
    uint32_t before = 0;  // the stage of the step before
    const auto release = [&] {
      if (lane == 0) BarrierArrive(empty + before * 8);
    };
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      const uint32_t stage = ring->stage;
      const bool new_square = kScaledSums && step % 2 == 0;
      if constexpr (kScaledSums) {
        if (new_square) {
          WgmmaWait<0>();
          if (step > 0) promote();
          scale[0] = __ldg(squares[0] + step / 2 * tile.weight.scale_column_stride);
          scale[1] = __ldg(squares[1] + step / 2 * tile.weight.scale_column_stride);
        }
      }
      BarrierWait(full + stage * 8, ring->parity);
      FenceAsyncProxy();
      const uint32_t at = stages_at + stage * kStageBytes;
      const SwizzledTile a(at + kXBytes + group * 64 * 128), b(at);
      WgmmaFence();
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        Wgmma<kN, false, kScaledSums>(sum, a.At(i * 32), b.At(i * 32), i > 0 || !new_square);
      }
      WgmmaCommit();
      WgmmaWait<1>();
      if (step > 0) release();
      before = stage;
      ring->Advance(1);
    }
    WgmmaWait<0>();
    release();
    if constexpr (kScaledSums) {
      promote();
#pragma unroll
      for (int i = 0; i < kN / 2; ++i) total[i] *= tiles.Inverse(i / 4 * 8 + 2 * t + i % 2);
    }

    // Result i lies in row i / 4 * 8 + 2 * t + i % 2 and column column0 + i % 4 / 2 * 8.
    const auto result = [&](int i) {
      if constexpr (kScaledSums) {
        return total[i];
      } else {
        return sum[i];
      }
    };
    const int column0 = tile.n0 + group * 64 + warp * 16 + g;
    if (!tiles.in_eights()) {
#pragma unroll
      for (int i = 0; i < kN / 4; ++i) {
        StoreOfTwoRows(tiles, i / 2 * 8 + 2 * t, column0 + i % 2 * 8, result(2 * i), result(2 * i + 1));
      }
      return;
    }
    // By way of shared memory, so that a row's columns leave together.
    uint8_t* const staging = stages + kStages * kStageBytes + kProducers / 32 * 2 * kRawBytes +
                             group * (kStagedRows * 128);  // (kStagedRows, 64) of bf16
    const int to_row = lane / 16 * 8 + lane % 8, to_chunk = warp * 2 + lane / 8 % 2;
    const uint32_t to = SharedAddress(staging) + to_row * 128 + ((to_chunk ^ (to_row % 8)) * 16);
    const int from_row = tid % 128 / 8, chunk = tid % 8;
#pragma unroll
    for (int first = 0; first < kN; first += kStagedRows) {
      NamedBarrier<128>(1 + group);  // what was staged has left
#pragma unroll
      for (int j = 0; j < kStagedRows / 8; j += 2) {
        const int i = (first / 8 + j) * 4;
        StoreTransposed(to + j * 1024, PackBf16(result(i), result(i + 1)), PackBf16(result(i + 2), result(i + 3)),
                        PackBf16(result(i + 4), result(i + 5)), PackBf16(result(i + 6), result(i + 7)));
      }
      NamedBarrier<128>(1 + group);
#pragma unroll
      for (int i = 0; i < kStagedRows / 16; ++i) {
        const int row = from_row + 16 * i;
        const uint4 v = *reinterpret_cast<const uint4*>(staging + row * 128 + ((chunk ^ (row % 8)) * 16));
        tiles.StoreEight(first + row, tile.n0 + group * 64 + chunk * 8, v);
      }
    }
  }
};

}  // namespace mxmla::cuda
