// Decode attention for up to 32 heads a CTA: K q and V^T p with the tokens and the latents in the tensor cores' 64 rows
// and the heads in their columns, so that few heads waste nothing.
#pragma once

#include "cuda/decode_attention_parts.cuh"

namespace mxmla::cuda {

constexpr int kBlockBytes = kTileTokens * 128;

constexpr int kFp8Copiers = 256;  // threads that bring an FP8 cache's tiles

// kFp8: the tiles' latents are codes as bf16, still without their scales, which are 4 a token, for 128 latents each.
template <int kN, bool kFp8>
struct NarrowShape {
  // Heads whose softmax a warpgroup computes: half, or all where 8 are the least.
  static constexpr int kOwn = kN == 8 ? 8 : kN / 2;
  static constexpr int kQuery = kStages * kStageBytes;
  static constexpr int kScaleGroups = kFp8 ? kLatents / 128 : 1;
  // For FP8 times the scales of each group of latents.
  static constexpr int kProbabilities = kQuery + kN * kWidth * 2;
  static constexpr int kPartialScores = kProbabilities + kScaleGroups * kN * 128;
  static constexpr int kColumnValues = kPartialScores + 2 * 128 * kOwn / 2 * 4;
  static constexpr int kFactors = kColumnValues + 2 * 4 * kOwn * 4;
  static constexpr int kBarriers = kFactors + 6 * kN * 4;
  static constexpr int kScratch = kBarriers + CopyPlaces::kBarrierBytes;
  static constexpr int kScales = (kScratch + static_cast<int>(sizeof(ScheduleScratch)) + 15) / 16 * 16;
  static constexpr int kRing = kScales + (kFp8 ? kStages * kTileTokens * 16 : 0);
  static constexpr int kGroup = kN == 32 ? 2 : 4;  // pieces of 16 bytes that a copying thread converts together
  static constexpr int kSharedBytes = kRing + (kFp8 ? 2 * kGroup * kFp8Copiers * 16 : 0);
  static_assert(kSharedBytes <= 232448);
};

// A warpgroup's accumulators of V^T p: d[m][4 j + i] is latent 64 (4 warpgroup + m) + 16 warp + g + 8 (i / 2) of head
// 8 j + 2 t + i % 2, with g = lane / 4, t = lane % 4.
//
// kJoins: parts of several chunks, whose sum takes further registers.
template <int kN, bool kJoins, bool kFp8>
class NarrowConsumer {
  using S = NarrowShape<kN, kFp8>;
  static constexpr int kOwn = S::kOwn;
  static constexpr float kSlack = 8;

 public:
  __device__ NarrowConsumer(const DecodeAttentionParams& p, int group, uint8_t* base)
      : p_(p),
        group_(group),
        base_(base),
        shared_(SharedAddress(base)),
        at_(shared_, shared_ + S::kQuery, shared_ + S::kBarriers),
        column_values_(reinterpret_cast<float*>(base + S::kColumnValues)),
        alpha_(reinterpret_cast<float*>(base + S::kFactors)),
        chunk_maximum_(alpha_ + kN),
        keep_(alpha_ + 2 * kN),
        add_(alpha_ + 3 * kN),
        maximum_(alpha_ + 4 * kN),
        sum_(alpha_ + 5 * kN) {}

  __device__ void Compute(const Part& part) {
    if (p_.row_parts) DescribeParts(p_, part, group_);
    if (part.length == 0) {
      if (!p_.row_parts) WriteZeros(p_, part.row, group_ * kN, kN);
      return;
    }
    BarrierWait(at_.query_full, queries_ & 1);
    ++queries_;
    const bool prefix = part.index == 0;
    float o[4][kN / 2];
    [[maybe_unused]] float total[4][kN / 2];
    for (int chunk = part.begin(); chunk < part.end(); ++chunk) {
      const int end = min(part.tiles, (chunk + 1) * part.chunk_tiles);
      float m[kOwn / 4], l[kOwn / 4];
#pragma unroll
      for (int j = 0; j < kOwn / 4; ++j) m[j] = __int_as_float(0xff800000), l[j] = 0;
#pragma unroll 1
      for (int tile = chunk * part.chunk_tiles; tile < end; ++tile) {
        Tile(o, m, l, part.length - tile * kTileTokens, tile == chunk * part.chunk_tiles);
      }
      const bool joins = kJoins && prefix && chunk > 0;
      EndChunk(m, l, joins);
      if constexpr (kJoins) {
        if (joins) JoinTotal(total, o);
        if (prefix && chunk + 1 < part.end()) {
          Copy(total, o);
          continue;
        }
      }
      if (part.count > 1 || p_.row_parts) {
        WritePartial(part, prefix ? 0 : chunk, o);
      } else {
        WriteOut(part.row, o);
      }
    }
    // Ordinary accesses to the query's memory (WriteOut) come before the copy of the next.
    FenceAsyncProxy();
    __syncwarp();
    if (lane_ == 0) BarrierArrive(at_.query_empty);
    if (part.count > 1 && !p_.row_parts) PublishPart(p_, part.row, group_);
  }

 private:
  __device__ int64_t Slot(const Part& part, int chunk) const {
    return (int64_t{part.slot + chunk} * p_.groups + group_) * kN;
  }

  // One tile of the context: `valid` of its tokens exist.
  __device__ __forceinline__ void Tile(float (&o)[4][kN / 2], float (&m)[kOwn / 4], float (&l)[kOwn / 4], int valid,
                                       bool first) {
    const uint32_t stage = tiles_ % kStages, kv = shared_ + stage * kStageBytes;
    BarrierWait(at_.full + stage * 8, tiles_ / kStages & 1);
    ++tiles_;
    float v[kOwn / 2];
    Scores(v, kv, stage);
    if (!kFp8 && valid < kTileTokens) ZeroTokens(stage, valid);

    float top[kOwn / 4];
    const int token = warp_ * 16 + g_;
#pragma unroll
    for (int j = 0; j < kOwn / 2; ++j) {
      v[j] *= p_.scale;
      if (token + j % 4 / 2 * 8 >= valid) v[j] = __int_as_float(0xff800000);
    }
#pragma unroll
    for (int j = 0; j < kOwn / 4; ++j) {
      const int at = j / 2 * 4 + j % 2;
      top[j] = fmaxf(v[at], v[at + 2]);
#pragma unroll
      for (int step = 4; step < 32; step *= 2) top[j] = fmaxf(top[j], __shfl_xor_sync(~0u, top[j], step));
    }
    float* const column = column_values_ + warpgroup_ * 4 * kOwn + 2 * t_;
    if (g_ == 0) {
#pragma unroll
      for (int j = 0; j < kOwn / 8; ++j) {
        *reinterpret_cast<float2*>(column + warp_ * kOwn + 8 * j) = make_float2(top[2 * j], top[2 * j + 1]);
      }
    }
    NamedBarrier<128>(2 + warpgroup_);
    uint32_t packed[S::kScaleGroups][kOwn / 4];
    [[maybe_unused]] float4 scales[2];
    if constexpr (kFp8) scales[0] = ScalesOf(stage, token), scales[1] = ScalesOf(stage, token + 8);
#pragma unroll
    for (int j = 0; j < kOwn / 8; ++j) {
      float2 most = *reinterpret_cast<const float2*>(column + 8 * j);
#pragma unroll
      for (int w = 1; w < 4; ++w) {
        const float2 other = *reinterpret_cast<const float2*>(column + w * kOwn + 8 * j);
        most.x = fmaxf(most.x, other.x);
        most.y = fmaxf(most.y, other.y);
      }
      // What is summed so far is only scaled down when exponentials would grow beyond 2^8.
      most.x = most.x > m[2 * j] + kSlack ? most.x : m[2 * j];
      most.y = most.y > m[2 * j + 1] + kSlack ? most.y : m[2 * j + 1];
      const float a0 = Exp2(m[2 * j] - most.x), a1 = Exp2(m[2 * j + 1] - most.y);
      m[2 * j] = most.x, m[2 * j + 1] = most.y;
      const float* const s = v + 4 * j;
      const float p[4] = {Exp2(s[0] - most.x), Exp2(s[1] - most.y), Exp2(s[2] - most.x), Exp2(s[3] - most.y)};
      if constexpr (kFp8) {
#pragma unroll
        for (int group = 0; group < S::kScaleGroups; ++group) {
          const float low = GroupOf(scales[0], group), high = GroupOf(scales[1], group);
          packed[group][2 * j] = PackBf16(__fmul_rn(p[0], low), __fmul_rn(p[1], low));
          packed[group][2 * j + 1] = PackBf16(__fmul_rn(p[2], high), __fmul_rn(p[3], high));
        }
        l[2 * j] = __fmaf_rn(l[2 * j], a0, __fadd_rn(p[0], p[2]));
        l[2 * j + 1] = __fmaf_rn(l[2 * j + 1], a1, __fadd_rn(p[1], p[3]));
      } else {
        // The sums are of the rounded probabilities, so that the weights of the values add up to 1.
        uint32_t(&of_tile)[kOwn / 4] = packed[0];
        of_tile[2 * j] = PackBf16(p[0], p[1]);
        of_tile[2 * j + 1] = PackBf16(p[2], p[3]);
        l[2 * j] = __fmaf_rn(l[2 * j], a0, __fadd_rn(LowBf16(of_tile[2 * j]), LowBf16(of_tile[2 * j + 1])));
        l[2 * j + 1] = __fmaf_rn(l[2 * j + 1], a1, __fadd_rn(HighBf16(of_tile[2 * j]), HighBf16(of_tile[2 * j + 1])));
      }
      if (warp_ == 0 && g_ == 0) {
        *reinterpret_cast<float2*>(alpha_ + own_head_ + 8 * j + 2 * t_) = make_float2(a0, a1);
      }
    }
#pragma unroll
    for (int group = 0; group < S::kScaleGroups; ++group) StoreProbabilities(packed[group], group * kN * 128);
    FenceAsyncProxy();
    NamedBarrier<kConsumers>(1);

    if (!first) Rescale(o);
    const SwizzledTile values(kv + warpgroup_ * 4 * kBlockBytes), p(shared_ + S::kProbabilities);
    WgmmaFence();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int step = 0; step < kTileTokens / 16; ++step) {
        const int group = kFp8 ? (warpgroup_ * 4 + i) / 2 : 0;
        Wgmma<kN, true>(o[i], values.At(i * kBlockBytes + step * 16 * 128), p.At(group * kN * 128 + step * 32),
                        !first || step > 0);
      }
    }
    WgmmaCommit();
    WgmmaWait<0>();
    __syncwarp();
    if (lane_ == 0) BarrierArrive(at_.empty + stage * 8);
  }

  // This warpgroup's heads' scores: the products of every block's first 32 columns and of its last 32 are summed apart.
  // For FP8 those of each group of latents too, which take their tokens' scales before they meet.
  __device__ __forceinline__ void Scores(float (&v)[kOwn / 2], uint32_t kv, [[maybe_unused]] uint32_t stage) {
    const uint32_t query = shared_ + S::kQuery;
    {
      const SwizzledTile keys(kv + warpgroup_ * 64), queries(query + warpgroup_ * 64);
      float s[kN / 2];
      const auto multiply = [&](float(&to)[kN / 2], int first_block, int blocks) {
#pragma unroll
        for (int i = 0; i < 2 * blocks; ++i) {
          const int block = first_block + i / 2, step = i % 2;
          Wgmma<kN, false>(to, keys.At(block * kBlockBytes + step * 32), queries.At(block * kN * 128 + step * 32),
                           i > 0);
        }
      };
      if constexpr (kFp8) {
        constexpr int kTogether = kN == 32 ? 2 : S::kScaleGroups;  // as many sums as find registers
        const int token = warp_ * 16 + g_;
        const float4 scales[2] = {ScalesOf(stage, token), ScalesOf(stage, token + 8)};
#pragma unroll
        for (int first = 0; first < S::kScaleGroups; first += kTogether) {
          float sums[kTogether][kN / 2];
          WgmmaFence();
          if (first == 0) multiply(s, kBlocks - 1, 1);
#pragma unroll
          for (int i = 0; i < kTogether; ++i) multiply(sums[i], 2 * (first + i), 2);
          WgmmaCommit();
          WgmmaWait<0>();
#pragma unroll
          for (int i = 0; i < kTogether; ++i) {
#pragma unroll
            for (int j = 0; j < kN / 2; ++j) {
              s[j] = __fmaf_rn(sums[i][j], GroupOf(scales[j % 4 / 2], first + i), s[j]);
            }
          }
        }
      } else {
        WgmmaFence();
        multiply(s, 0, kBlocks);
        WgmmaCommit();
        WgmmaWait<0>();
      }
      constexpr int kSent = kOwn / 2;
      float4* const exchange = reinterpret_cast<float4*>(base_ + S::kPartialScores) + thread_ % 128;
#pragma unroll
      for (int j = 0; j < kSent; j += 4) {
        const int high = kN == 8 ? 0 : kN / 4;
        exchange[((1 - warpgroup_) * (kSent / 4) + j / 4) * 128] =
            warpgroup_ == 0 ? make_float4(s[high + j], s[high + j + 1], s[high + j + 2], s[high + j + 3])
                            : make_float4(s[j], s[j + 1], s[j + 2], s[j + 3]);
#pragma unroll
        for (int i = 0; i < 4; ++i) v[j + i] = warpgroup_ == 0 ? s[j + i] : s[high + j + i];
      }
      NamedBarrier<kConsumers>(1);
#pragma unroll
      for (int j = 0; j < kSent; j += 4) {
        const float4 other = exchange[(warpgroup_ * (kSent / 4) + j / 4) * 128];
        v[j] += other.x, v[j + 1] += other.y, v[j + 2] += other.z, v[j + 3] += other.w;
      }
    }
  }

  // Rows that no token of this row's sequence fills may hold anything; p = 0 would not make a NaN 0.
  __device__ __forceinline__ void ZeroTokens(uint32_t stage, int valid) {
    for (int i = thread_; i < (kTileTokens - valid) * (kLatents / 8); i += kConsumers) {
      const int token = valid + i / (kLatents / 8), block = i % (kLatents / 8) / 8;
      *reinterpret_cast<uint4*>(base_ + stage * kStageBytes + block * kBlockBytes + token * 128 + i % 8 * 16) =
          make_uint4(0, 0, 0, 0);
    }
  }

  // The scales of a token of a stage's tile, and that of one group of its latents.
  __device__ __forceinline__ float4 ScalesOf(uint32_t stage, int token) const {
    return *reinterpret_cast<const float4*>(base_ + S::kScales + (stage * kTileTokens + token) * 16);
  }
  __device__ __forceinline__ static float GroupOf(const float4& scales, int group) {
    return group == 0 ? scales.x : group == 1 ? scales.y : group == 2 ? scales.z : scales.w;
  }

  __device__ __forceinline__ void StoreProbabilities(const uint32_t (&packed)[kOwn / 4], int offset) {
    if (kN == 8 && warpgroup_ == 1) return;
    const int row = lane_ % 8, half = lane_ / 8 % 2;
    const uint32_t to =
        shared_ + S::kProbabilities + offset + own_head_ * 128 + row * 128 + (((warp_ * 2 + half) ^ row) * 16);
    if constexpr (kOwn == 8) {
      StoreTransposed(to, packed[0], packed[1]);
    } else {
#pragma unroll
      for (int j = 0; j < kOwn / 4; j += 4) {
        StoreTransposed(to + (j / 2 + lane_ / 16) * 1024, packed[j], packed[j + 1], packed[j + 2], packed[j + 3]);
      }
    }
  }

  __device__ __forceinline__ void Rescale(float (&o)[4][kN / 2]) {
    float2 alpha[kN / 8];
    bool changed = false;
#pragma unroll
    for (int j = 0; j < kN / 8; ++j) {
      alpha[j] = *reinterpret_cast<const float2*>(alpha_ + 8 * j + 2 * t_);
      changed |= alpha[j].x != 1.0f || alpha[j].y != 1.0f;
    }
    if (!__any_sync(~0u, changed)) return;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < kN / 2; ++j) o[i][j] *= j % 2 == 0 ? alpha[j / 4].x : alpha[j / 4].y;
    }
  }

  // Sums the chunk's exponentials and joins its (maximum, sum) to the part's.
  __device__ __forceinline__ void EndChunk(const float (&m)[kOwn / 4], float (&l)[kOwn / 4], bool joins) {
    float* const column = column_values_ + warpgroup_ * 4 * kOwn;
#pragma unroll
    for (int j = 0; j < kOwn / 4; ++j) {
#pragma unroll
      for (int step = 4; step < 32; step *= 2) l[j] = __fadd_rn(l[j], __shfl_xor_sync(~0u, l[j], step));
      if (g_ == 0) {
        const int head = j / 2 * 8 + 2 * t_ + j % 2;
        column[warp_ * kOwn + head] = l[j];
        if (warp_ == 0) chunk_maximum_[own_head_ + head] = m[j];
      }
    }
    NamedBarrier<kConsumers>(1);
    if (thread_ < kN) {
      const float* const sums = column_values_ + thread_ / kOwn * 4 * kOwn + thread_ % kOwn;
      const float sum = __fadd_rn(__fadd_rn(sums[0], sums[kOwn]), __fadd_rn(sums[2 * kOwn], sums[3 * kOwn]));
      if (joins) {
        const Join join = JoinChunk(maximum_[thread_], sum_[thread_], chunk_maximum_[thread_], sum);
        keep_[thread_] = join.keep;
        add_[thread_] = join.add;
        maximum_[thread_] = join.maximum;
        sum_[thread_] = join.sum;
      } else {
        maximum_[thread_] = chunk_maximum_[thread_];
        sum_[thread_] = sum;
      }
    }
    NamedBarrier<kConsumers>(1);
  }

  __device__ __forceinline__ static void Copy(float (&to)[4][kN / 2], const float (&from)[4][kN / 2]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < kN / 2; ++j) to[i][j] = from[i][j];
    }
  }
  // The sum of the part's earlier chunks onto this chunk's.
  __device__ __forceinline__ void JoinTotal(const float (&total)[4][kN / 2], float (&o)[4][kN / 2]) const {
#pragma unroll
    for (int j = 0; j < kN / 2; j += 4) {
      const float2 keep = *reinterpret_cast<const float2*>(keep_ + j * 2 + 2 * t_);
      const float2 add = *reinterpret_cast<const float2*>(add_ + j * 2 + 2 * t_);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          o[i][j + e] =
              JoinValue(total[i][j + e], e % 2 == 0 ? keep.x : keep.y, o[i][j + e], e % 2 == 0 ? add.x : add.y);
        }
      }
    }
  }

  __device__ __forceinline__ void WritePartial(const Part& part, int chunk, const float (&o)[4][kN / 2]) {
    const int64_t slot = Slot(part, chunk);
    float* const to = p_.partials + slot * kLatents + warpgroup_ * 256 + warp_ * 16 + g_;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < kN / 2; ++j) {
        to[(j / 4 * 8 + 2 * t_ + j % 2) * kLatents + i * 64 + j % 4 / 2 * 8] = o[i][j];
      }
    }
    if (thread_ < kN) p_.sums[slot + thread_] = make_float2(maximum_[thread_], sum_[thread_]);
  }

  // Through the query's memory, which nothing reads any more, to rows of 16-byte pieces.
  __device__ __forceinline__ void WriteOut(int row, const float (&o)[4][kN / 2]) {
    const uint32_t to = shared_ + S::kQuery + (lane_ % 8 + lane_ / 16 * 8) * kOutPitch +
                        (warpgroup_ * 256 + warp_ * 16 + lane_ / 8 % 2 * 8) * 2;
#pragma unroll
    for (int j = 0; j < kN / 2; j += kN == 8 ? 4 : 8) {
      float inverse[4];
#pragma unroll
      for (int e = 0; e < (kN == 8 ? 2 : 4); ++e) inverse[e] = __frcp_rn(sum_[j * 2 + e / 2 * 8 + 2 * t_ + e % 2]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        uint32_t packed[4];
#pragma unroll
        for (int e = 0; e < (kN == 8 ? 2 : 4); ++e) {
          packed[e] = PackBf16(__fmul_rn(o[i][j + 2 * e], inverse[e / 2 * 2]),
                               __fmul_rn(o[i][j + 2 * e + 1], inverse[e / 2 * 2 + 1]));
        }
        const uint32_t at = to + j * 2 * kOutPitch + i * 128;
        if constexpr (kN == 8) {
          StoreTransposed(at, packed[0], packed[1]);
        } else {
          StoreTransposed(at, packed[0], packed[1], packed[2], packed[3]);
        }
      }
    }
    NamedBarrier<kConsumers>(1);
    WriteRows(p_, row, group_ * kN, kN, base_ + S::kQuery);
  }

  const DecodeAttentionParams& p_;
  const int thread_ = static_cast<int>(threadIdx.x), lane_ = thread_ % 32, g_ = lane_ / 4, t_ = lane_ % 4;
  // The same in all lanes, and known to be.
  const int warpgroup_ = __shfl_sync(~0u, thread_ / 128, 0), warp_ = __shfl_sync(~0u, thread_ / 32 % 4, 0);
  const int own_head_ = kN == 8 ? 0 : warpgroup_ * kOwn;
  const int group_;
  uint8_t* const base_;
  const uint32_t shared_;
  const CopyPlaces at_;
  float* const column_values_;  // (warpgroups, warps, own heads)
  float *const alpha_, *const chunk_maximum_, *const keep_, *const add_, *const maximum_, *const sum_;  // (heads) each
  uint32_t tiles_ = 0, queries_ = 0;
};

template <int kN, bool kJoins>
__global__ void __launch_bounds__(kThreads, 1)
    DecodeAttentionNarrowKernel(const __grid_constant__ DecodeAttentionParams p,
                                const __grid_constant__ CUtensorMap query_map,
                                const __grid_constant__ CUtensorMap kv_map) {
  using S = NarrowShape<kN, false>;
  extern __shared__ __align__(1024) uint8_t memory[];
  if (LetsDependentsInEarly(p)) AllowDependents();
  const uint32_t shared = SharedAddress(memory);
  const CopyPlaces at(shared, shared + S::kQuery, shared + S::kBarriers);
  const int group = static_cast<int>(blockIdx.x) % p.groups, me = static_cast<int>(blockIdx.x) / p.groups;
  const int first_sequence = __ldg(p.row_sequence);
  if (threadIdx.x == kConsumers) {
    PrefetchMap(query_map);
    PrefetchMap(kv_map);
    at.Init(1);
  }
  const Schedule schedule = MakeSchedule<kThreads>(p.lengths, p.lanes, me, p.invariant,
                                                   *reinterpret_cast<ScheduleScratch*>(memory + S::kScratch));
  __syncthreads();
  if (threadIdx.x >= kConsumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 48;");
    if (threadIdx.x < kConsumers + 32) {
      WaitForPredecessor();
      CopyParts<kN, kTileTokens>(p, query_map, kv_map, schedule, me, group, first_sequence, at);
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 224;");
    NarrowConsumer<kN, kJoins, false> consumer(p, group, memory);
    ConsumeParts<kN>(consumer, p, schedule, me, group, memory);
  }
}

}  // namespace mxmla::cuda
