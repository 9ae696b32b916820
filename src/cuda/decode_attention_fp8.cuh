// Decode attention over an FP8 cache: a warpgroup brings the codes to the tiles of bf16 that NarrowConsumer multiplies.
// A code is a bf16 exactly; the scales are applied to scores and probabilities, so that nothing is rounded on the way.
#pragma once

#include "cuda/decode_attention_narrow.cuh"
#include "cuda/weight_fragments.cuh"

namespace mxmla::cuda {

// Eight warps; each brings 8 of a tile's tokens, in pieces of 16 bytes: a token's codes are one of each lane, keys take
// two rounds of the warp, the scales a third. A lane reads back only what it requested itself, so the ring needs no
// barrier; it has room for two groups of pieces, of which one is on its way while the other is converted.
template <int kN>
class Fp8Copier {
  using S = NarrowShape<kN, true>;
  static constexpr int kTokens = kTileTokens / (kFp8Copiers / 32);  // of a warp
  static constexpr int kPieces = kTokens + 3;                       // of a lane and tile
  static constexpr int kGroup = S::kGroup, kGroups = (kPieces + kGroup - 1) / kGroup;
  static constexpr int kSlotBytes = kFp8Copiers * 16;
  static_assert(kGroups >= 2 && kTokens == 8);

 public:
  __device__ Fp8Copier(const DecodeAttentionParams& p, const CUtensorMap& query_map, const Schedule& schedule, int me,
                       int group, int first_sequence, uint8_t* base, const CopyPlaces& at)
      : p_(p),
        query_map_(query_map),
        parts_(schedule, p.lengths, me),
        group_(group),
        first_sequence_(first_sequence),
        at_(at) {
    const uint32_t shared = SharedAddress(base);
    const int block = lane_ / 4, odd = block % 2;
    ring_ = shared + S::kRing + (static_cast<int>(threadIdx.x) - kConsumers) * 16;
    first_half_ = odd * 8;
    codes_at_ = shared + block * kBlockBytes + warp_ * kTokens * 128 + (lane_ % 4 * 2 + odd) * 16;
    key_at_ =
        shared + (kBlocks - 1) * kBlockBytes + (warp_ * kTokens + lane_ / 8) * 128 + ((lane_ % 8) ^ (lane_ / 8)) * 16;
    scales_at_ = shared + S::kScales + (warp_ * kTokens + lane_ % kTokens) * 16;
  }

  __device__ void Run() {
    Tile tile = NextTile();
    if (tile.valid == 0) return;
    Request(tile, 0);
    Request(tile, 1);
    for (uint32_t copied = 0; tile.valid > 0; ++copied) {
      const Tile next = NextTile();
      if (tile.row >= 0) CopyQuery(tile.row);
      const uint32_t stage = copied % kStages;
      if (copied >= kStages) BarrierWait(at_.empty + stage * 8, (copied / kStages - 1) & 1);
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        asm volatile("cp.async.wait_group 1;" ::: "memory");
        Convert(stage, group);
        Request(group + 2 < kGroups ? tile : next, (group + 2) % kGroups);
        half_ ^= 1;
      }
      FenceAsyncProxy();
      __syncwarp();
      if (lane_ < kTokens) BarrierArrive(at_.full + stage * 8);  // those whose scales ordinary accesses read
      tile = next;
    }
  }

 private:
  struct Tile {
    int valid = 0;  // tokens that exist; 0: no tile
    int row = -1;   // whose query comes with it: the part's first tile
    // Of the token lane % 8 of the warp's, in pieces.
    uint32_t codes = 0, scales = 0, keys = 0;
  };

  // The tile behind the last one, of this lane's parts.
  __device__ __forceinline__ Tile NextTile() {
    Tile tile;
    if (tile_ == end_) {
      for (; !parts_.Done() && (*parts_).length == 0; parts_.Next()) {
      }
      if (parts_.Done()) return tile;
      const Part& part = *parts_;
      tile_ = part.begin() * part.chunk_tiles;
      end_ = min(part.tiles, part.end() * part.chunk_tiles);
      length_ = part.length;
      tile.row = part.row;
      const int sequence =
          p_.lengths.rows == 1 ? first_sequence_ : __ldg(p_.row_sequence + part.row * p_.sequence_step);
      pages_ = p_.block_table + sequence * p_.table_row;
      parts_.Next();
    }
    tile.valid = min(kTileTokens, length_ - tile_ * kTileTokens);
    const int token = tile_ * kTileTokens + warp_ * kTokens + lane_ % kTokens;
    if (token < length_) {
      const int at = token / p_.page_size, row = token - at * p_.page_size;
      const int page = pages_[at * p_.table_column];
      tile.codes = page * p_.codes.page + row * p_.codes.row;
      tile.scales = page * p_.scales.page + row * p_.scales.row;
      tile.keys = page * p_.keys.page + row * p_.keys.row;
    }
    ++tile_;
    return tile;
  }
  __device__ __forceinline__ int OwnTokens(const Tile& tile) const { return tile.valid - warp_ * kTokens; }

  // A group of the tile's pieces into the half of the ring that was read last.
  __device__ __forceinline__ void Request(const Tile& tile, int group) {
    const int own = OwnTokens(tile);
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const int j = group * kGroup + i;
      const uint32_t slot = ring_ + (requested_ * kGroup + i) * kSlotBytes;
      if (j < kTokens) {
        Copy(slot, p_.codes, __shfl_sync(~0u, tile.codes, j) + lane_, j < own);
      } else if (j < kTokens + 2) {
        const int token = (j - kTokens) * 4 + lane_ / 8;
        Copy(slot, p_.keys, __shfl_sync(~0u, tile.keys, token) + lane_ % 8, token < own);
      } else if (j < kPieces) {
        Copy(slot, p_.scales, tile.scales, lane_ < min(own, kTokens));
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
    requested_ ^= 1;
  }
  // Zeros for tokens that do not exist.
  __device__ __forceinline__ static void Copy(uint32_t to, const DecodeAttentionParams::Plane& from, uint32_t piece,
                                              bool exists) {
    if (exists) {
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from.data + uint64_t{piece} * 16)
                   : "memory");
    } else {
      Store(to, 0, 0, 0, 0);
    }
  }
  __device__ __forceinline__ static void Store(uint32_t to, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
  }
  __device__ __forceinline__ static void Load(uint32_t from, uint32_t* a, uint32_t* b) {
    asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(*a), "=r"(*b) : "r"(from) : "memory");
  }

  // Lanes of every other block take the upper half of their codes first, so that eight lanes meet all banks.
  __device__ __forceinline__ void Convert(uint32_t stage, int group) const {
    uint32_t words[kGroup][4];
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const int j = group * kGroup + i;
      if (j >= kPieces) break;
      const uint32_t slot = ring_ + (half_ * kGroup + i) * kSlotBytes, first = j < kTokens ? first_half_ : 0;
      Load(slot + first, &words[i][0], &words[i][1]);
      Load(slot + (first ^ 8), &words[i][2], &words[i][3]);
    }
    const uint32_t tile = stage * kStageBytes;
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const int j = group * kGroup + i;
      if (j < kTokens) {
        uint32_t pairs[8];
        Decode(words[i], pairs);
        const uint32_t to = (codes_at_ + tile) ^ (j * 16);  // row j of eight in the swizzle
        Store(to + j * 128, pairs[0], pairs[1], pairs[2], pairs[3]);
        Store((to ^ 16) + j * 128, pairs[4], pairs[5], pairs[6], pairs[7]);
      } else if (j < kTokens + 2) {
        const uint32_t to = j == kTokens ? key_at_ + tile : ((key_at_ + tile) ^ 64) + 512;
        Store(to, words[i][0], words[i][1], words[i][2], words[i][3]);
      } else if (j < kPieces && lane_ < kTokens) {
        Store(scales_at_ + stage * kTileTokens * 16, words[i][0], words[i][1], words[i][2], words[i][3]);
      }
    }
  }

  // 16 codes to bf16.
  __device__ __forceinline__ static void Decode(const uint32_t (&words)[4], uint32_t (&pairs)[8]) {
    uint32_t nan = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      DecodeE4m3(words[i], pairs + 2 * i);
      nan |= (words[i] & 0x7f7f7f7fu) + 0x01010101u;
    }
    if ((nan & 0x80808080u) == 0) return;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint32_t two = words[i / 2] >> (i % 2 * 16);
      if ((two & 0x7fu) == 0x7fu) pairs[i] |= 0x7fc0u;
      if ((two & 0x7f00u) == 0x7f00u) pairs[i] |= 0x7fc00000u;
    }
  }

  __device__ __forceinline__ void CopyQuery(int row) {
    if (warp_ != 0) return;
    if (queries_ > 0) BarrierWait(at_.query_empty, (queries_ - 1) & 1);
    ++queries_;
    if (lane_ == 0) BarrierExpect(at_.query_full, kN * kWidth * 2);
    __syncwarp();
    if (lane_ < kBlocks)
      CopyBox(query_map_, at_.query + lane_ * kN * 128, at_.query_full, lane_ * 64, group_ * kN, row);
  }

  const DecodeAttentionParams& p_;
  const CUtensorMap& query_map_;
  LaneParts parts_;
  const int group_, first_sequence_;
  const CopyPlaces& at_;
  const int lane_ = static_cast<int>(threadIdx.x) % 32;
  const int warp_ = __shfl_sync(~0u, (static_cast<int>(threadIdx.x) - kConsumers) / 32, 0);
  // Of shared memory: the lane's slots; where the first 8 of its columns of the first stage's token 0 of the warp go,
  // its piece of a key, its token's scales.
  uint32_t ring_, codes_at_, key_at_, scales_at_;
  uint32_t first_half_;                  // of a slot's 16 bytes: what is decoded first
  int tile_ = 0, end_ = 0, length_ = 0;  // of the part whose tiles come next
  const int32_t* pages_ = nullptr;
  int requested_ = 0, half_ = 0;  // halves of the ring: to request into, to convert
  uint32_t queries_ = 0;
};

template <int kN, bool kJoins>
__global__ void __launch_bounds__(kConsumers + kFp8Copiers, 1)
    DecodeAttentionFp8Kernel(const __grid_constant__ DecodeAttentionParams p,
                             const __grid_constant__ CUtensorMap query_map) {
  using S = NarrowShape<kN, true>;
  extern __shared__ __align__(1024) uint8_t memory[];
  if (LetsDependentsInEarly(p)) AllowDependents();
  const uint32_t shared = SharedAddress(memory);
  const CopyPlaces at(shared, shared + S::kQuery, shared + S::kBarriers);
  const int group = static_cast<int>(blockIdx.x) % p.groups, me = static_cast<int>(blockIdx.x) / p.groups;
  const int first_sequence = __ldg(p.row_sequence);
  if (threadIdx.x == kConsumers) {
    PrefetchMap(query_map);
    at.Init(kTileTokens);
  }
  const Schedule schedule = MakeSchedule<kConsumers + kFp8Copiers>(
      p.lengths, p.lanes, me, p.invariant, *reinterpret_cast<ScheduleScratch*>(memory + S::kScratch));
  __syncthreads();
  if (threadIdx.x >= kConsumers) {
    if constexpr (kN == 32) {
      asm volatile("setmaxnreg.dec.sync.aligned.u32 72;");
    } else {
      asm volatile("setmaxnreg.dec.sync.aligned.u32 80;");
    }
    WaitForPredecessor();
    Fp8Copier<kN>(p, query_map, schedule, me, group, first_sequence, memory, at).Run();
  } else {
    if constexpr (kN == 32) {
      asm volatile("setmaxnreg.inc.sync.aligned.u32 184;");
    } else {
      asm volatile("setmaxnreg.inc.sync.aligned.u32 176;");
    }
    NarrowConsumer<kN, kJoins, true> consumer(p, group, memory);
    ConsumeParts<kN>(consumer, p, schedule, me, group, memory);
  }
}

}  // namespace mxmla::cuda
