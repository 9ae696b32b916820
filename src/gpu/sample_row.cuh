// One row of logits as a cluster of blocks sees it, a slice of the vocabulary each: reductions, cuts and the draw.
// Counts and weights are added as integers, so that no result depends on an order of additions.
#pragma once

#include "gpu/platform.h"

namespace mxmla::gpu {

inline constexpr int kSampleThreads = 512;
inline constexpr int kSampleWaves = kSampleThreads / kWave;
inline constexpr int kBins = kSampleThreads;
inline constexpr int kTiles = 128;
inline constexpr float kWeightOne = 0x1p40f;  // a weight of 1: 2^24 tokens of it can be added

// Tokens in falling order of logit, rising id on a tie, have falling orders: the bits of the logit, then those of the
// id turned round. What the truncations keep is all from some order on.
__device__ __forceinline__ uint32_t KeyOf(float logit) {
  const uint32_t bits = std::bit_cast<uint32_t>(logit + 0.0f);  // one zero
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float LogitOf(uint32_t key) {
  return std::bit_cast<float>(key & 0x80000000u ? key ^ 0x80000000u : ~key);
}
__device__ __forceinline__ uint64_t OrderOf(float logit, int token) {
  return uint64_t{KeyOf(logit)} << 32 | (0xffffffffu - static_cast<uint32_t>(token));
}
__device__ __forceinline__ float LogitOfOrder(uint64_t order) { return LogitOf(static_cast<uint32_t>(order >> 32)); }
__device__ __forceinline__ int TokenOfOrder(uint64_t order) {
  return static_cast<int>(0xffffffffu - static_cast<uint32_t>(order));
}

struct Row {
  const float* logits;  // (vocab), mask, bias and penalties applied
  int begin, end;       // this block's tokens
  float temperature;
  float largest, smallest;  // above -inf
  uint32_t count;           // tokens above -inf

  // In a row with +inf every other logit counts as -inf.
  __device__ float Logit(int token) const {
    const float x = logits[token];
    return largest == INFINITY && x < INFINITY ? -INFINITY : x;
  }
  __device__ float Below(float logit) const { return logit == largest ? 0.0f : logit - largest; }
  __device__ uint64_t Weight(float logit) const {
    return static_cast<uint64_t>(expf(Below(logit) / temperature) * kWeightOne);
  }
  __device__ uint64_t SoftmaxWeight(float logit) const {
    return static_cast<uint64_t>(expf(Below(logit)) * kWeightOne);
  }
};

struct Histogram {
  uint32_t count[kBins];
  uint32_t low[kBins], high[kBins];  // of the sum of weights

  __device__ void Add(int bin, uint64_t weight) {
    const auto words = static_cast<uint32_t>(weight);
    const uint32_t before = atomicAdd(&low[bin], words);
    const uint32_t above = static_cast<uint32_t>(weight >> 32) + (before + words < before ? 1u : 0u);
    if (above > 0) atomicAdd(&high[bin], above);
  }
};

// What the blocks of a cluster show one another. Each use takes the other half of what there are two of: a half is
// written again only behind a barrier that stands behind its last reading.
struct Exchange {
  Histogram histogram[2];
  uint64_t total[2];
  uint64_t waves[kSampleWaves];
  uint64_t tiles[kTiles];
  uint64_t boundary_need;
  uint32_t boundary_count;
  int boundary_bin;
  uint32_t key_range[2];
};

// The sum, over the threads of the wave up to this one.
__device__ __forceinline__ uint64_t InclusiveScan(uint64_t value, int lane) {
  for (int step = 1; step < kWave; step *= 2) {
    const uint64_t other = ShuffleUp(static_cast<unsigned long long>(value), step);
    if (lane >= step) value += other;
  }
  return value;
}

// merge(values of all threads of the cluster); merge is associative and commutative, exactly.
template <class T, class Merge>
__device__ T ClusterReduce(int* half, T value, const Merge& merge) {
  __shared__ T waves[kSampleWaves];
  __shared__ T block[2];
  const auto across = [&](T v, int lanes) {
    constexpr int kWords = sizeof(T) / sizeof(uint32_t);
    for (int step = lanes / 2; step > 0; step /= 2) {
      T other;
#pragma unroll
      for (int i = 0; i < kWords; ++i) {
        reinterpret_cast<uint32_t*>(&other)[i] = ShuffleXor(reinterpret_cast<const uint32_t*>(&v)[i], step);
      }
      v = merge(v, other);
    }
    return v;
  };
  const int lane = static_cast<int>(threadIdx.x) % kWave;
  value = across(value, kWave);
  if (lane == 0) waves[threadIdx.x / kWave] = value;
  __syncthreads();
  if (threadIdx.x < kWave) {
    value = across(waves[lane % kSampleWaves], kSampleWaves);
    if (lane == 0) block[*half] = value;
  }
  ClusterBarrier();
  value = across(*InBlock(&block[*half], lane % kBlocks), kBlocks);
  *half ^= 1;
  return value;
}

// Buckets of falling logits, of equal width over `range` below the largest; the last one takes what is below. A lower
// logit is never in an earlier bucket.
struct Buckets {
  float largest, scale;

  __device__ Buckets(const Row& row, float range)
      : largest(row.largest), scale(static_cast<float>(kBins) / fminf(fmaxf(range, 1e-30f), 3.402823466e38f)) {}
  __device__ int Of(float logit) const {
    if (logit == largest) return 0;
    return static_cast<int>(fminf((largest - logit) * scale, static_cast<float>(kBins - 1)));
  }
  // The lowest (or highest) key of a logit in `bucket`, of keys from `lowest` to `highest`.
  __device__ uint32_t Edge(int bucket, bool top, uint32_t lowest, uint32_t highest) const {
    while (lowest < highest) {
      const uint32_t middle = lowest + (highest - lowest) / 2;
      const int of_middle = Of(LogitOf(top ? middle + 1 : middle));
      if (top) {  // the highest key whose bucket is not before `bucket`
        if (of_middle >= bucket) {
          lowest = middle + 1;
        } else {
          highest = middle;
        }
      } else if (of_middle <= bucket) {  // the lowest key whose bucket is not behind it
        highest = middle;
      } else {
        lowest = middle + 1;
      }
    }
    return lowest;
  }
};

// What a cut is made of: the boundary's bin, what is still needed inside it, and how many tokens it holds.
struct Boundary {
  int bin;
  uint64_t need;
  uint32_t count;
};

template <bool kWeighted>
class Selection {
 public:
  __device__ Selection(Exchange* exchange, int* half, const Row& row) : exchange_(exchange), half_(half), row_(row) {}

  // The lowest order of the fewest tokens, from the largest down and of those from `from` on, whose number (or weights)
  // come to `need`, which is at least 1 and no more than there is.
  __device__ uint64_t Cut(uint64_t need, uint64_t from) {
    const float range = row_.largest == row_.smallest ? 0.0f : row_.largest - row_.smallest;
    // A weight 20 temperatures below the largest hardly ever decides.
    const Buckets buckets(row_, kWeighted ? fminf(range, 20 * row_.temperature) : range);
    Boundary at = Find(need, [&](float logit, uint64_t order) {
      const int bin = order >= from ? buckets.Of(logit) : kBins - 1;
      return bin < kBins - 1 ? bin : -1;
    });
    if (threadIdx.x < 2) {
      exchange_->key_range[threadIdx.x] =
          buckets.Edge(at.bin, threadIdx.x == 1, KeyOf(row_.smallest), KeyOf(row_.largest));
    }
    __syncthreads();
    uint64_t low = max(uint64_t{exchange_->key_range[0]} << 32, from);
    uint64_t high = uint64_t{exchange_->key_range[1]} << 32 | 0xffffffffu;
    while (low < high && at.count > 1 && (kWeighted || at.need < at.count)) {
      const int shift = max(64 - __clzll(static_cast<long long>(high - low)) - kBinBits, 0);
      at = Find(at.need, [&](float, uint64_t order) {
        return order >= low && order <= high ? static_cast<int>((high - order) >> shift) : -1;
      });
      high -= static_cast<uint64_t>(at.bin) << shift;
      const uint64_t width = (uint64_t{1} << shift) - 1;
      if (high - low > width) low = high - width;
    }
    return low;
  }

 private:
  static constexpr int kBinBits = 9;
  static_assert(1 << kBinBits == kBins);

  // Sums the tokens by bin (those of bin -1 are left out) and finds the bin in which the sum reaches `need`; the last
  // one, of unknown count, where it does not.
  template <class BinOf>
  __device__ Boundary Find(uint64_t need, const BinOf& bin_of) {
    Histogram& own = exchange_->histogram[*half_];
    const int thread = static_cast<int>(threadIdx.x);
    const int lane = thread % kWave;
    own.count[thread] = own.low[thread] = own.high[thread] = 0;
    __syncthreads();
#pragma unroll 4
    for (int t = row_.begin + thread; t < row_.end; t += kSampleThreads) {
      const float logit = row_.Logit(t);
      if (!(logit > -INFINITY)) continue;
      const int bin = bin_of(logit, OrderOf(logit, t));
      if (bin < 0) continue;
      atomicAdd(&own.count[bin], 1u);
      if constexpr (kWeighted) own.Add(bin, row_.Weight(logit));
    }
    ClusterBarrier();
    if (thread == 0) exchange_->boundary_bin = -1;
    uint32_t count = 0;
    uint64_t sum = 0;
#pragma unroll
    for (int rank = 0; rank < kBlocks; ++rank) {
      const Histogram* other = InBlock(&own, rank);
      count += other->count[thread];
      if constexpr (kWeighted) sum += (uint64_t{other->high[thread]} << 32) + other->low[thread];
    }
    if constexpr (!kWeighted) sum = count;
    const uint64_t scanned = InclusiveScan(sum, lane);
    if (lane == kWave - 1) exchange_->waves[thread / kWave] = scanned;
    __syncthreads();
    uint64_t before = scanned - sum, all = 0;
    for (int wave = 0; wave < kSampleWaves; ++wave) {
      if (wave < thread / kWave) before += exchange_->waves[wave];
      all += exchange_->waves[wave];
    }
    if (before < need && need <= before + sum) {
      exchange_->boundary_bin = thread;
      exchange_->boundary_need = need - before;
      exchange_->boundary_count = count;
    }
    __syncthreads();
    *half_ ^= 1;
    if (exchange_->boundary_bin < 0) return {kBins - 1, need - all, 0xffffffffu};
    return {exchange_->boundary_bin, exchange_->boundary_need, exchange_->boundary_count};
  }

  Exchange* exchange_;
  int* half_;
  const Row& row_;
};

// The draw: the weights of the tokens from order `from` on, summed by tiles of consecutive tokens.
class Draw {
 public:
  __device__ Draw(Exchange* exchange, int* half, const Row& row)
      : exchange_(exchange), half_(half), row_(row), lane_(static_cast<int>(threadIdx.x) % kWave) {
    const int tokens = row.end - row.begin;
    tile_ = (tokens + kTiles * kWave - 1) / (kTiles * kWave) * kWave;
  }

  // The sum over the cluster. With `softmax` it adds this thread's share of the softmax's sum there.
  __device__ uint64_t Sum(uint64_t from, uint64_t* softmax) {
    from_ = from;
    const int wave = static_cast<int>(threadIdx.x) / kWave;
    __syncthreads();
    for (int tile = wave; tile < kTiles; tile += kSampleWaves) {
      uint64_t sum = 0;
      for (int t = TileBegin(tile) + lane_; t < TileBegin(tile + 1); t += kWave) {
        const float logit = row_.Logit(t);
        sum += KeptWeight(logit, t);
        if (softmax != nullptr) *softmax += row_.SoftmaxWeight(logit);
      }
      for (int step = kWave / 2; step > 0; step /= 2) {
        sum += ShuffleXor(static_cast<unsigned long long>(sum), step);
      }
      if (lane_ == 0) exchange_->tiles[tile] = sum;
    }
    __syncthreads();
    if (threadIdx.x < kWave) {
      uint64_t sum = 0;
      for (int tile = lane_; tile < kTiles; tile += kWave) sum += exchange_->tiles[tile];
      for (int step = kWave / 2; step > 0; step /= 2) {
        sum += ShuffleXor(static_cast<unsigned long long>(sum), step);
      }
      if (lane_ == 0) exchange_->total[*half_] = sum;
    }
    ClusterBarrier();
    uint64_t all = 0;
    for (int rank = 0; rank < kBlocks; ++rank) {
      const uint64_t total = *InBlock(&exchange_->total[*half_], rank);
      if (rank == BlockRank()) {
        before_ = all;
        own_ = total;
      }
      all += total;
    }
    *half_ ^= 1;
    return all;
  }

  // The first token at which the sum exceeds `target`, in the first wave of the block that has it; -1 elsewhere.
  __device__ int Find(uint64_t target) const {
    if (threadIdx.x >= kWave || target < before_ || target >= before_ + own_) return -1;
    uint64_t passed = before_;
    const int tile = Reach(&passed, target, 0, kTiles, [&](int i) { return exchange_->tiles[i]; });
    return Reach(&passed, target, TileBegin(tile), TileBegin(tile + 1),
                 [&](int t) { return KeptWeight(row_.Logit(t), t); });
  }

 private:
  __device__ int TileBegin(int tile) const {
    const int64_t begin = row_.begin + int64_t{tile} * tile_;
    return begin < row_.end ? static_cast<int>(begin) : row_.end;
  }
  __device__ uint64_t KeptWeight(float logit, int token) const {
    return logit > -INFINITY && OrderOf(logit, token) >= from_ ? row_.Weight(logit) : 0;
  }
  // The first of begin .. end - 1 at which *passed, with the summands so far, exceeds target; *passed is without its
  // own.
  template <class Summand>
  __device__ int Reach(uint64_t* passed, uint64_t target, int begin, int end, const Summand& summand) const {
    for (int base = begin; base < end; base += kWave) {
      const int i = base + lane_;
      const uint64_t own = i < end ? summand(i) : 0;
      const uint64_t scanned = *passed + InclusiveScan(own, lane_);
      const uint64_t beyond = Ballot(scanned > target);
      const int lane = beyond != 0 ? __ffsll(static_cast<long long>(beyond)) - 1 : kWave - 1;
      const uint64_t shown = beyond != 0 ? scanned - own : scanned;
      *passed = Shown(shown, lane);
      if (beyond != 0) return base + lane;
    }
    return end - 1;
  }
  // What `lane` has.
  __device__ static uint64_t Shown(uint64_t value, int lane) {
#if defined(__HIP__)
    return __shfl(static_cast<unsigned long long>(value), lane);
#else
    return __shfl_sync(~0u, static_cast<unsigned long long>(value), lane);
#endif
  }

  Exchange* exchange_;
  int* half_;
  const Row& row_;
  int lane_;
  int tile_;
  uint64_t from_ = 0, before_ = 0, own_ = 0;
};

}  // namespace mxmla::gpu
