// Who works on what: the rows of decode attention, cut into parts on the device from the rows' lengths.
//
// A row's context is cut into chunks at places that follow from its length alone; chunks are summed apart and meet in
// order, so that a row's bits do not depend on who sums what. A part is consecutive chunks of one row. A lane (one CTA
// for each group of heads) takes consecutive parts.
#pragma once

#include <cstdint>

namespace mxmla::cuda {

constexpr int kTileTokens = 64;
constexpr int kMaxChunks = 32;

__host__ __device__ inline int TilesOf(int length) { return (length + kTileTokens - 1) / kTileTokens; }
// Longer chunks for longer rows: few enough partial results, and enough chunks for one sequence to fill the card.
__host__ __device__ inline int ChunkTiles(int tiles) {
  if (tiles <= 8) return 1;
  if (tiles <= 32) return 2;
  if (tiles <= 128) return 4;
  const int even = (tiles + kMaxChunks - 1) / kMaxChunks;
  return even < 8 ? 8 : even;
}
__host__ __device__ inline int ChunksOf(int length) {
  const int tiles = TilesOf(length), chunk = ChunkTiles(tiles);
  return (tiles + chunk - 1) / chunk;
}
// Of a row, in tiles: what begins and ends it costs about as much as one.
__host__ __device__ inline int CostOf(int length) { return TilesOf(length) + 1; }

struct RowLengths {
  const int32_t* data;
  int64_t stride;
  int rows;
  __device__ int operator()(int row) const { return __ldg(data + row * stride); }
};

struct ScheduleScratch {
  int total, largest, parts[32];
};

// How much cost a part may have; the same for all lanes.
struct Schedule {
  int lanes;
  int share;
  bool one_each;  // a lane has at most one part

  __device__ int PartsOf(int length) const {
    const int chunks = ChunksOf(length), most = one_each ? share : 2 * share;
    return max(1, min(chunks, (CostOf(length) + most - 1) / most));
  }
};

// All threads of the CTA call.
template <int kThreads>
__device__ Schedule MakeSchedule(const RowLengths& length, int lanes, ScheduleScratch& scratch) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  Schedule schedule{lanes, 0, length.rows <= lanes};
  if (length.rows == 1) {
    schedule.share = (CostOf(length(0)) + lanes - 1) / lanes;
    return schedule;
  }
  if (thread < 32) scratch.parts[thread] = 0;
  if (thread == 0) scratch.total = scratch.largest = 0;
  __syncthreads();
  int sum = 0, largest = 0;
  for (int row = thread; row < length.rows; row += kThreads) {
    const int cost = CostOf(length(row));
    sum += cost;
    largest = max(largest, cost);
  }
  sum = __reduce_add_sync(~0u, sum);
  largest = __reduce_max_sync(~0u, largest);
  if (lane == 0) {
    atomicAdd(&scratch.total, sum);
    atomicMax(&scratch.largest, largest);
  }
  __syncthreads();
  const int even = (scratch.total + lanes - 1) / lanes;
  schedule.share = even;
  if (!schedule.one_each) return schedule;
  // The smallest of 32 shares that leaves no more parts than lanes: the last one does, a part a row.
  const int rest = max(0, scratch.largest - even);
  schedule.share = even + static_cast<int>(static_cast<int64_t>(rest) * lane / 31);
  int parts = 0;
  for (int row = thread / 32; row < length.rows; row += kThreads / 32) parts += schedule.PartsOf(length(row));
  atomicAdd(&scratch.parts[lane], parts);
  __syncthreads();
  const uint32_t fits = __ballot_sync(~0u, scratch.parts[lane] <= lanes);
  schedule.share = __shfl_sync(~0u, schedule.share, __ffs(static_cast<int>(fits)) - 1);
  return schedule;
}

// How many rows' partial results there can be at once.
__host__ __device__ inline int64_t SlotRows(int64_t rows, int64_t lanes) {
  return rows < lanes / 2 + 1 ? rows : lanes / 2 + 1;
}

struct Part {
  int row, length, tiles, chunk_tiles, chunks;
  int index, count;  // of the row's parts
  int slot_row;      // where partial results of the row are kept; no other split row has it

  __device__ int Begin(int i) const { return static_cast<int>(static_cast<int64_t>(chunks) * i / count); }
  __device__ int begin() const { return Begin(index); }
  __device__ int end() const { return Begin(index + 1); }
};

// The parts of one lane in order. Warps call it as one.
class LaneParts {
 public:
  __device__ LaneParts(const Schedule& schedule, const RowLengths& length, int me)
      : schedule_(schedule), length_(length), me_(me) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    int before = 0;  // parts if one_each, else cost
    for (int base = 0; base < length.rows; base += 32) {
      const bool live = base + lane < length.rows;
      const int tokens = live ? length(base + lane) : 0;
      const int parts = live ? schedule.PartsOf(tokens) : 0;
      const int mine = schedule.one_each ? parts : live ? CostOf(tokens) : 0;
      int until = mine;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(~0u, until, step);
        if (lane >= step) until += other;
      }
      const int start = before + until - mine;
      const bool reaches =
          live && (schedule.one_each ? start + parts > me : LaneOf(start, mine, parts - 1, parts) >= me);
      const uint32_t found = __ballot_sync(~0u, reaches);
      if (found != 0) {
        const int at = __ffs(static_cast<int>(found)) - 1;
        start_ = __shfl_sync(~0u, start, at);
        Take(base + at);
        if (schedule.one_each) part_.index = me - start_;
        while (!schedule.one_each && LaneOf(start_, CostOf(part_.length), part_.index, part_.count) < me) ++part_.index;
        return;
      }
      before += __shfl_sync(~0u, until, 31);
    }
    part_.row = length.rows;
  }

  __device__ bool Done() const {
    return part_.row >= length_.rows ||
           (!schedule_.one_each && LaneOf(start_, CostOf(part_.length), part_.index, part_.count) > me_);
  }
  __device__ const Part& operator*() const { return part_; }
  __device__ void Next() {
    if (schedule_.one_each) {
      part_.row = length_.rows;
    } else if (++part_.index == part_.count) {
      start_ += CostOf(part_.length);
      if (part_.row + 1 < length_.rows) {
        Take(part_.row + 1);
      } else {
        part_.row = length_.rows;
      }
    }
  }

 private:
  // A part goes to the lane in whose share of the whole its middle lies.
  __device__ int LaneOf(int start, int cost, int index, int count) const {
    const int64_t twice = 2 * int64_t{count};
    return static_cast<int>((start * twice + int64_t{cost} * (2 * index + 1)) / (twice * schedule_.share));
  }
  __device__ void Take(int row) {
    part_.row = row;
    part_.length = length_(row);
    part_.tiles = TilesOf(part_.length);
    part_.chunk_tiles = ChunkTiles(part_.tiles);
    part_.chunks = ChunksOf(part_.length);
    part_.index = 0;
    part_.count = schedule_.PartsOf(part_.length);
    // Below SlotRows(rows, lanes): split rows have two lanes each, or more than two shares of cost.
    const int pair = schedule_.one_each ? start_ / 2 : start_ / (2 * schedule_.share);
    part_.slot_row = length_.rows <= schedule_.lanes / 2 + 1 ? row : pair;
  }

  Schedule schedule_;
  RowLengths length_;
  int me_;
  int start_ = 0;
  Part part_{};
};

}  // namespace mxmla::cuda
