// One row of logits as a cluster of blocks sees it, a slice of the vocabulary each: reductions, cuts and the draw.
// Counts and weights are added as integers, so that no result depends on an order of additions.
#pragma once

#include "gpu/platform.h"

namespace mxmla::gpu {

inline constexpr int kSampleThreads = 512;
inline constexpr int kSampleWaves = kSampleThreads / kWave;
inline constexpr int kBins = kSampleThreads;
inline constexpr int kBinBits = 9;
static_assert(1 << kBinBits == kBins);
inline constexpr int kCandidates = kSampleThreads;  // so many tokens are ranked by comparing all with all
inline constexpr int kTogether = 4;                 // consecutive tokens that a thread reads at once
inline constexpr float kMost = 3.402823466e38f;
inline constexpr double kWeightOne = 0x1p40;  // a weight of 1: 2^24 tokens of it can be added

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

// 2^40 w of a weight w in 0 .. 1, rounded down.
__device__ __forceinline__ uint64_t FixedWeight(float w) {
  const uint32_t bits = std::bit_cast<uint32_t>(w);
  const uint64_t mantissa = uint64_t{(bits & 0x7fffffu) | 0x800000u} << 17;
  return mantissa >> min(127u - (bits >> 23), 63u);
}

struct Row {
  const float* logits;      // (vocab), mask, bias and penalties applied
  int begin, end;           // this block's tokens; `begin` is a multiple of kTogether
  bool infinite;            // the row has +inf: those count as 0, all others as -inf
  float largest, smallest;  // above -inf
  uint32_t count;           // tokens above -inf
  float temperature;
  float scale;  // of a weight's exponent of two, log2(e) / temperature

  __device__ float Seen(float logit) const {
    if (!infinite) return logit;
    return logit == INFINITY ? 0.0f : -INFINITY;
  }
  __device__ float Logit(int token) const { return Seen(logits[token]); }
  // exp((logit - largest) / temperature); 0 for -inf.
  __device__ uint64_t Weight(float logit) const { return FixedWeight(Exp2((logit - largest) * scale)); }
  __device__ uint64_t SoftmaxWeight(float logit) const {
    constexpr float kLog2E = 1.44269504088896f;
    return FixedWeight(Exp2((logit - largest) * kLog2E));
  }

  // body(logit, token) of this thread's share of tokens first .. last - 1, in rising order; `first` is a multiple of
  // kTogether, and thread `thread` of `threads` reads each kTogether tokens.
  template <class Body>
  __device__ void ForEach(int first, int last, int thread, int threads, const Body& body) const {
    const bool aligned = reinterpret_cast<uintptr_t>(logits) % (kTogether * sizeof(float)) == 0;
    const int whole = aligned ? last - kTogether : -1;
    int t = first + thread * kTogether;
#pragma unroll 4
    for (; t <= whole; t += threads * kTogether) {
      const float4 four = *reinterpret_cast<const float4*>(logits + t);
      body(Seen(four.x), t), body(Seen(four.y), t + 1), body(Seen(four.z), t + 2), body(Seen(four.w), t + 3);
    }
    for (; t < last; t += threads * kTogether) {
      for (int i = t; i < min(t + kTogether, last); ++i) body(Seen(logits[i]), i);
    }
  }
  template <class Body>
  __device__ void ForEach(const Body& body) const {
    ForEach(begin, end, static_cast<int>(threadIdx.x), kSampleThreads, body);
  }
};

// The tokens from an order on, as a comparison of floats.
struct Cut {
  float logit = -INFINITY;
  uint32_t token = 0xffffffffu;

  Cut() = default;
  __device__ explicit Cut(uint64_t order) {
    if (order == 0) return;
    logit = LogitOfOrder(order);
    token = 0xffffffffu - static_cast<uint32_t>(order);
  }
  __device__ bool Keeps(float x, int t) const {
    return x > logit || (x == logit && static_cast<uint32_t>(t) <= token && x > -INFINITY);
  }
};

struct Candidate {
  uint64_t order, weight;
};

// What the blocks of a cluster show one another. Of what there are two, each use takes the other half: a half is
// written again only behind a barrier that stands behind its last reading.
struct Exchange {
  uint32_t low[2][kBins], high[2][kBins];  // sums by bin
  uint64_t total[2];
  Candidate found[kCandidates];  // of this block
  int found_count;
  Candidate all[kCandidates];  // of the cluster
  uint64_t waves[kSampleWaves];
  uint64_t boundary_need;
  int boundary_bin;
  uint64_t boundary_order;
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
__device__ __forceinline__ uint64_t WaveSum(uint64_t value) {
  for (int step = kWave / 2; step > 0; step /= 2) value += ShuffleXor(static_cast<unsigned long long>(value), step);
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
      uint32_t words[kWords];
      memcpy(words, &v, sizeof(T));
#pragma unroll
      for (int i = 0; i < kWords; ++i) words[i] = ShuffleXor(words[i], step);
      T other;
      memcpy(&other, words, sizeof(T));
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
      : largest(row.largest), scale(static_cast<float>(kBins) / fminf(fmaxf(range, 1e-30f), kMost)) {}
  __device__ int Of(float logit) const {
    return static_cast<int>(fminf((largest - logit) * scale, static_cast<float>(kBins - 1)));
  }
  // The highest key (top) or the lowest one of a logit in `bucket`, of keys from `lowest` to `highest`.
  __device__ uint32_t Edge(int bucket, bool top, uint32_t lowest, uint32_t highest) const {
    while (lowest < highest) {
      const uint32_t middle = lowest + (highest - lowest) / 2;
      const bool upper_part = top ? Of(LogitOf(middle + 1)) >= bucket : Of(LogitOf(middle)) > bucket;
      if (upper_part) {
        lowest = middle + 1;
      } else {
        highest = middle;
      }
    }
    return lowest;
  }
};

// Finding cuts, by the number of tokens or by their weights: the bin in which a running sum reaches what is needed,
// then the tokens of that bin.
template <bool kWeighted>
class Selection {
 public:
  __device__ Selection(Exchange* exchange, int* half, const Row& row) : exchange_(exchange), half_(half), row_(row) {}

  // The order of the last of the fewest tokens, from the largest down and of those that `of` keeps, whose sum comes to
  // need(the sum of all), which is between 1 and that.
  template <class Need>
  __device__ uint64_t Find(const Cut& of, const Need& need) {
    const float range = row_.largest - row_.smallest;
    // A weight 20 temperatures below the largest hardly ever decides.
    const Buckets buckets(row_, kWeighted ? fminf(range, 20 * row_.temperature) : range);
    Boundary at = FindBin(need, [&](float logit, int t) { return of.Keeps(logit, t) ? buckets.Of(logit) : -1; });
    if (Collect([&](float logit, int t) { return of.Keeps(logit, t) && buckets.Of(logit) == at.bin; })) {
      return FindCandidate(at.need);
    }
    // Too many: ever narrower ranges of orders.
    if (threadIdx.x < 2) {
      exchange_->key_range[threadIdx.x] =
          buckets.Edge(at.bin, threadIdx.x == 1, KeyOf(row_.smallest), KeyOf(row_.largest));
    }
    __syncthreads();
    uint64_t low = uint64_t{exchange_->key_range[0]} << 32;
    uint64_t high = uint64_t{exchange_->key_range[1]} << 32 | 0xffffffffu;
    while (low < high) {
      const int shift = max(64 - __clzll(static_cast<long long>(high - low)) - kBinBits, 0);
      at = FindBin(
          [&](uint64_t) { return at.need; },
          [&](float logit, int t) {
            const uint64_t order = OrderOf(logit, t);
            return of.Keeps(logit, t) && order >= low && order <= high ? static_cast<int>((high - order) >> shift) : -1;
          });
      high -= static_cast<uint64_t>(at.bin) << shift;
      const uint64_t width = (uint64_t{1} << shift) - 1;
      if (high - low > width) low = high - width;
      if (Collect([&](float logit, int t) {
            const uint64_t order = OrderOf(logit, t);
            return of.Keeps(logit, t) && order >= low && order <= high;
          })) {
        return FindCandidate(at.need);
      }
    }
    return low;
  }

 private:
  struct Boundary {
    int bin;
    uint64_t need;  // of the bin's own tokens
  };

  // Sums the tokens by bin; those of bin -1 are left out.
  template <class BinOf>
  __device__ void Fill(const BinOf& bin_of) {
    uint32_t* low = exchange_->low[*half_];
    uint32_t* high = exchange_->high[*half_];
    low[threadIdx.x] = high[threadIdx.x] = 0;
    __syncthreads();
    const auto add = [&](int bin, uint64_t weight) {
      const auto words = static_cast<uint32_t>(weight);
      const uint32_t before = atomicAdd(&low[bin], words);
      const uint32_t above = static_cast<uint32_t>(weight >> 32) + (before + words < before ? 1u : 0u);
      if (above > 0) atomicAdd(&high[bin], above);
    };
    uint64_t last = 0;  // many tokens' bin: one addition a wave
    row_.ForEach([&](float logit, int t) {
      const int bin = bin_of(logit, t);
      if (bin < 0) return;
      const uint64_t weight = kWeighted ? row_.Weight(logit) : 1;
      if (bin == kBins - 1) {
        last += weight;
      } else if constexpr (kWeighted) {
        add(bin, weight);
      } else {
        atomicAdd(&low[bin], 1u);
      }
    });
    last = WaveSum(last);
    if (threadIdx.x % kWave == 0 && last > 0) add(kBins - 1, last);
  }

  template <class Need, class BinOf>
  __device__ Boundary FindBin(const Need& need_of, const BinOf& bin_of) {
    const int thread = static_cast<int>(threadIdx.x);
    Fill(bin_of);
    ClusterBarrier();
    uint64_t sum = 0;
#pragma unroll
    for (int rank = 0; rank < kBlocks; ++rank) {
      sum += *InBlock(&exchange_->low[*half_][thread], rank);
      if constexpr (kWeighted) sum += uint64_t{*InBlock(&exchange_->high[*half_][thread], rank)} << 32;
    }
    *half_ ^= 1;
    const uint64_t scanned = InclusiveScan(sum, thread % kWave);
    if (thread % kWave == kWave - 1) exchange_->waves[thread / kWave] = scanned;
    __syncthreads();
    uint64_t before = scanned - sum, all = 0;
    for (int wave = 0; wave < kSampleWaves; ++wave) {
      if (wave < thread / kWave) before += exchange_->waves[wave];
      all += exchange_->waves[wave];
    }
    const uint64_t need = need_of(all);
    if (before < need && need <= before + sum) {
      exchange_->boundary_bin = thread;
      exchange_->boundary_need = need - before;
    }
    __syncthreads();
    return {exchange_->boundary_bin, exchange_->boundary_need};
  }

  // Puts the cluster's tokens for which inside(logit, token) into exchange_->all; false when they find no room.
  template <class Inside>
  __device__ bool Collect(const Inside& inside) {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread == 0) exchange_->found_count = 0;
    __syncthreads();
    row_.ForEach([&](float logit, int t) {
      if (!inside(logit, t)) return;
      const int at = atomicAdd(&exchange_->found_count, 1);
      if (at < kCandidates) exchange_->found[at] = {OrderOf(logit, t), kWeighted ? row_.Weight(logit) : 1};
    });
    ClusterBarrier();
    count_ = 0;
    int rank_of = 0, index = -1;
    for (int rank = 0; rank < kBlocks; ++rank) {
      const int of_rank = *InBlock(&exchange_->found_count, rank);
      if (thread >= count_ && thread < count_ + of_rank) {
        rank_of = rank;
        index = thread - count_;
      }
      count_ += of_rank;
    }
    const bool room = count_ <= kCandidates;
    if (room && index >= 0) exchange_->all[thread] = *InBlock(&exchange_->found[index], rank_of);
    ClusterBarrier();  // before a block collects again
    return room;
  }

  // The candidate at which the sum, in falling order, reaches `need`.
  __device__ uint64_t FindCandidate(uint64_t need) {
    if (static_cast<int>(threadIdx.x) < count_) {
      const Candidate own = exchange_->all[threadIdx.x];
      uint64_t before = 0;
      for (int i = 0; i < count_; ++i) {
        const Candidate other = exchange_->all[i];
        if (other.order > own.order) before += other.weight;
      }
      if (before < need && need <= before + own.weight) exchange_->boundary_order = own.order;
    }
    __syncthreads();
    return exchange_->boundary_order;
  }

  Exchange* exchange_;
  int* half_;
  const Row& row_;
  int count_ = 0;
};

// The draw: the weights of the tokens that a cut keeps, summed by waves of consecutive tokens.
class Draw {
 public:
  __device__ Draw(Exchange* exchange, int* half, const Row& row)
      : exchange_(exchange), half_(half), row_(row), lane_(static_cast<int>(threadIdx.x) % kWave) {
    constexpr int kRound = kWave * kTogether;
    const int rounds = (row.end - row.begin + kRound * kSampleWaves - 1) / (kRound * kSampleWaves);
    wave_tokens_ = rounds * kRound;
  }

  // The sum over the cluster. With `softmax` it adds this thread's share of the softmax's sum there.
  __device__ uint64_t Sum(const Cut& cut, uint64_t* softmax) {
    cut_ = cut;
    const int wave = static_cast<int>(threadIdx.x) / kWave;
    uint64_t sum = 0;
    row_.ForEach(WaveBegin(wave), WaveBegin(wave + 1), lane_, kWave, [&](float logit, int t) {
      sum += KeptWeight(logit, t);
      if (softmax != nullptr) *softmax += row_.SoftmaxWeight(logit);
    });
    sum = WaveSum(sum);
    if (lane_ == 0) exchange_->waves[wave] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
      uint64_t total = 0;
      for (const uint64_t of_wave : exchange_->waves) total += of_wave;
      exchange_->total[*half_] = total;
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
    const int wave = Reach(&passed, target, 0, kSampleWaves, [&](int i) { return exchange_->waves[i]; });
    return Reach(&passed, target, WaveBegin(wave), WaveBegin(wave + 1),
                 [&](int t) { return KeptWeight(row_.Logit(t), t); });
  }

 private:
  __device__ int WaveBegin(int wave) const {
    const int64_t begin = row_.begin + int64_t{wave} * wave_tokens_;
    return begin < row_.end ? static_cast<int>(begin) : row_.end;
  }
  __device__ uint64_t KeptWeight(float logit, int token) const {
    return cut_.Keeps(logit, token) ? row_.Weight(logit) : 0;
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
      *passed = ShuffleFrom(static_cast<unsigned long long>(beyond != 0 ? scanned - own : scanned), lane);
      if (beyond != 0) return base + lane;
    }
    return end - 1;
  }

  Exchange* exchange_;
  int* half_;
  const Row& row_;
  int lane_;
  int wave_tokens_;
  Cut cut_;
  uint64_t before_ = 0, own_ = 0;
};

}  // namespace mxmla::gpu
