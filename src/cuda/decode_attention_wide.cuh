// Decode attention for 64 heads a CTA, heads in the tensor cores' 64 rows: less work in the softmax and fewer reads of
// shared memory than the narrow kernel, whose sums it does not repeat bit for bit.
#pragma once

#include "cuda/decode_attention_parts.cuh"

namespace mxmla::cuda {

struct WideShape {
  static constexpr int kHeads = 64;
  static constexpr int kHalfTokens = kTileTokens / 2;  // of a tile: those whose scores a warpgroup computes
  static constexpr int kHalfBytes = kHalfTokens * kWidth * 2;
  static constexpr int kBlockBytes = kHalfTokens * 128;
  static constexpr int kQuery = kStages * kStageBytes;
  static constexpr int kProbabilities = kQuery + kHeads * kWidth * 2;
  static constexpr int kRowValues = kProbabilities + kHeads * kTileTokens * 2;
  static constexpr int kBarriers = kRowValues + 2 * kHeads * 4;
  static constexpr int kScratch = kBarriers + CopyPlaces::kBarrierBytes;
  static constexpr int kSharedBytes = kScratch + static_cast<int>(sizeof(ScheduleScratch));
  static_assert(kSharedBytes <= 232448);
};

// A warpgroup has the scores of half of a tile's tokens, and sums half of the latents over all of them. With g = lane /
// 4, t = lane % 4 and head(i) = 16 warp + g + 8 i: s[4 j + 2 i + e] is of head(i) and token 8 j + 2 t + e, o[4 j + 2 i
// + e] of head(i) and latent 8 j + 2 t + e of the half.
class WideConsumer {
  using S = WideShape;
  static constexpr float kSlack = 8;

 public:
  __device__ WideConsumer(const DecodeAttentionParams& p, int group, uint8_t* base)
      : p_(p),
        group_(group),
        base_(base),
        shared_(SharedAddress(base)),
        at_(shared_, shared_ + S::kQuery, shared_ + S::kBarriers),
        row_values_(reinterpret_cast<float*>(base + S::kRowValues)) {}

  __device__ void Compute(const Part& part) {
    if (part.length == 0) return WriteZeros(p_, part.row, group_ * S::kHeads, S::kHeads);
    BarrierWait(at_.query_full, queries_ & 1);
    ++queries_;
    float o[128], m[2], l[2] = {0, 0};
    m[0] = m[1] = __int_as_float(0xff800000);
    const int begin = part.begin() * part.chunk_tiles, end = min(part.tiles, part.end() * part.chunk_tiles);
#pragma unroll 1
    for (int tile = begin; tile < end; ++tile) Tile(o, m, l, part.length - tile * kTileTokens, tile == begin);

      // Both warpgroups' sums, in one order.
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      l[i] += __shfl_xor_sync(~0u, l[i], 1);
      l[i] += __shfl_xor_sync(~0u, l[i], 2);
      if (t_ == 0) row_values_[warpgroup_ * S::kHeads + head_ + 8 * i] = l[i];
    }
    NamedBarrier<kConsumers>(1);
#pragma unroll
    for (int i = 0; i < 2; ++i) l[i] = row_values_[head_ + 8 * i] + row_values_[S::kHeads + head_ + 8 * i];
    if (part.count > 1) {
      WritePartial(part, o, m, l);
    } else {
      WriteOut(part.row, o, l);
    }
    // Ordinary accesses to the query's memory (WriteOut) come before the copy of the next, these to row_values_ before
    // the next part's.
    FenceAsyncProxy();
    NamedBarrier<kConsumers>(1);
    if (lane_ == 0) BarrierArrive(at_.query_empty);
    if (part.count > 1) PublishPart(p_, part.row, group_);
  }

 private:
  __device__ __forceinline__ void Tile(float (&o)[128], float (&m)[2], float (&l)[2], int valid, bool first) {
    const uint32_t stage = tiles_ % kStages, kv = shared_ + stage * kStageBytes;
    BarrierWait(at_.full + stage * 8, tiles_ / kStages & 1);
    ++tiles_;
    float s[16];
    {
      const SwizzledTile query(shared_ + S::kQuery), keys(kv + warpgroup_ * S::kHalfBytes);
      WgmmaFence();
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
        for (int step = 0; step < 4; ++step) {
          Wgmma<S::kHalfTokens, false>(s, query.At(block * S::kHeads * 128 + step * 32),
                                       keys.At(block * S::kBlockBytes + step * 32), block + step > 0);
        }
      }
      WgmmaCommit();
      WgmmaWait<0>();
    }
    if (valid < kTileTokens) {
      ZeroTokens(stage, valid);
      FenceAsyncProxy();
    }
    float top[2];
    top[0] = top[1] = __int_as_float(0xff800000);
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      s[j] *= p_.scale;
      if (warpgroup_ * S::kHalfTokens + j / 4 * 8 + 2 * t_ + j % 2 >= valid) s[j] = __int_as_float(0xff800000);
      top[j / 2 % 2] = fmaxf(top[j / 2 % 2], s[j]);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      top[i] = fmaxf(top[i], __shfl_xor_sync(~0u, top[i], 1));
      top[i] = fmaxf(top[i], __shfl_xor_sync(~0u, top[i], 2));
      if (t_ == 0) row_values_[warpgroup_ * S::kHeads + head_ + 8 * i] = top[i];
    }
    NamedBarrier<kConsumers>(1);
    float alpha[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float most = fmaxf(top[i], row_values_[(1 - warpgroup_) * S::kHeads + head_ + 8 * i]);
      // What is summed so far is only scaled down when exponentials would grow beyond 2^8.
      const float next = most > m[i] + kSlack ? most : m[i];
      alpha[i] = Exp2(m[i] - next);
      m[i] = next;
      l[i] *= alpha[i];
    }
    // p[4 k + i]: the left operand of 16 tokens' products, whose sums are of the rounded probabilities so that the
    // weights of the values add up to 1.
    uint32_t p[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      p[j] = PackBf16(Exp2(s[2 * j] - m[j % 2]), Exp2(s[2 * j + 1] - m[j % 2]));
      l[j % 2] += LowBf16(p[j]) + HighBf16(p[j]);
    }
    const int row = lane_ % 16;
    const uint32_t to = shared_ + S::kProbabilities + (warp_ * 16 + row) * 128;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int piece = warpgroup_ * 4 + k * 2 + lane_ / 16;
      StoreMatrices(to + (piece ^ row % 8) * 16, p[4 * k], p[4 * k + 1], p[4 * k + 2], p[4 * k + 3]);
    }
    FenceAsyncProxy();
    if (!first && __any_sync(~0u, alpha[0] != 1.0f || alpha[1] != 1.0f)) {
#pragma unroll
      for (int j = 0; j < 128; ++j) o[j] *= alpha[j / 2 % 2];
    }

    const StridedTile values(kv + warpgroup_ * 4 * S::kBlockBytes, S::kBlockBytes);
    const uint32_t own = warpgroup_ * S::kHalfBytes, other = (1 - warpgroup_) * S::kHalfBytes;
    WgmmaFence();
#pragma unroll
    for (int k = 0; k < 2; ++k) WgmmaWide(o, p + 4 * k, values.At(own + k * 16 * 128), !first || k > 0);
    WgmmaCommit();
    NamedBarrier<kConsumers>(1);
    const SwizzledTile theirs(shared_ + S::kProbabilities + (1 - warpgroup_) * 64);
#pragma unroll
    for (int k = 0; k < 2; ++k) WgmmaWide(o, theirs.At(k * 32), values.At(other + k * 16 * 128));
    WgmmaCommit();
    WgmmaWait<0>();
    __syncwarp();
    if (lane_ == 0) BarrierArrive(at_.empty + stage * 8);
  }

  // Rows that no token of this row's sequence fills may hold anything; p = 0 would not make a NaN 0.
  __device__ __forceinline__ void ZeroTokens(uint32_t stage, int valid) {
    for (int i = thread_; i < (kTileTokens - valid) * (kLatents / 8); i += kConsumers) {
      const int token = valid + i / (kLatents / 8), block = i % (kLatents / 8) / 8;
      *reinterpret_cast<uint4*>(base_ + stage * kStageBytes + token / S::kHalfTokens * S::kHalfBytes +
                                block * S::kBlockBytes + token % S::kHalfTokens * 128 + i % 8 * 16) =
          make_uint4(0, 0, 0, 0);
    }
  }

  __device__ __forceinline__ void WritePartial(const Part& part, const float (&o)[128], const float (&m)[2],
                                               const float (&l)[2]) const {
    const int64_t slot = (int64_t{part.slot + part.index} * p_.groups + group_) * S::kHeads + head_;
    float* const to = p_.partials + slot * kLatents + warpgroup_ * 256 + 2 * t_;
#pragma unroll
    for (int j = 0; j < 32; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        *reinterpret_cast<float2*>(to + i * 8 * kLatents + j * 8) = make_float2(o[4 * j + 2 * i], o[4 * j + 2 * i + 1]);
      }
    }
    if (warpgroup_ == 0 && t_ == 0) {
      p_.sums[slot] = make_float2(m[0], l[0]);
      p_.sums[slot + 8] = make_float2(m[1], l[1]);
    }
  }

  // Through the query's memory, which nothing reads any more, to rows of 16-byte pieces.
  __device__ __forceinline__ void WriteOut(int row, const float (&o)[128], const float (&l)[2]) const {
    const float inverse[2] = {__frcp_rn(l[0]), __frcp_rn(l[1])};
    const uint32_t to =
        shared_ + S::kQuery + (warp_ * 16 + lane_ % 16) * kOutPitch + warpgroup_ * 512 + lane_ / 16 * 16;
#pragma unroll
    for (int j = 0; j < 32; j += 2) {
      uint32_t packed[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int at = 4 * j + 2 * e;
        packed[e] = PackBf16(__fmul_rn(o[at], inverse[e % 2]), __fmul_rn(o[at + 1], inverse[e % 2]));
      }
      StoreMatrices(to + j * 16, packed[0], packed[1], packed[2], packed[3]);
    }
    NamedBarrier<kConsumers>(1);
    WriteRows(p_, row, group_ * S::kHeads, S::kHeads, base_ + S::kQuery);
  }

  const DecodeAttentionParams& p_;
  const int thread_ = static_cast<int>(threadIdx.x), lane_ = thread_ % 32, t_ = lane_ % 4;
  // The same in all lanes, and known to be.
  const int warpgroup_ = __shfl_sync(~0u, thread_ / 128, 0), warp_ = __shfl_sync(~0u, thread_ / 32 % 4, 0);
  const int head_ = warp_ * 16 + lane_ / 4;
  const int group_;
  uint8_t* const base_;
  const uint32_t shared_;
  const CopyPlaces at_;
  float* const row_values_;  // (warpgroups, heads)
  uint32_t tiles_ = 0, queries_ = 0;
};

__global__ void __launch_bounds__(kThreads, 1)
    DecodeAttentionWideKernel(const __grid_constant__ DecodeAttentionParams p,
                              const __grid_constant__ CUtensorMap query_map,
                              const __grid_constant__ CUtensorMap kv_map) {
  using S = WideShape;
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
      CopyParts<S::kHeads, S::kHalfTokens>(p, query_map, kv_map, schedule, me, group, first_sequence, at);
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 224;");
    WideConsumer consumer(p, group, memory);
    ConsumeParts<S::kHeads>(consumer, p, schedule, me, group, memory);
  }
}

}  // namespace mxmla::cuda
