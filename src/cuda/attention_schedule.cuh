// Who works on what: the rows of decode attention, cut into parts on the device from the rows' lengths.
//
// A row's context is cut into chunks, which are summed apart and meet in order. A part is consecutive chunks of one
// row; a lane (one CTA for each group of heads) takes consecutive parts. Batch-invariant chunks follow from the row's
// length alone, so that a row's bits do not depend on who sums what; otherwise a chunk is a part.
#pragma once

#include <cstdint>

namespace mxmla::cuda {

constexpr int kTileTokens = 64;
constexpr int kMaxChunks = 40;  // of a row: a merge reads them all
// Of a row of more than 128 tiles, where chunks are parts and a lane has one: computing weighs more than merging.
constexpr int kMaxChunksOfLongRow = 66;
constexpr int kMaxLanes = 132;

__host__ __device__ inline int CeilDiv(int a, int b) { return (a + b - 1) / b; }
__host__ __device__ inline int TilesOf(int length) { return (length + kTileTokens - 1) / kTileTokens; }
// Longer chunks for longer rows: few enough partial results, and enough chunks for one sequence to fill the card.
__host__ __device__ inline int InvariantChunkTiles(int tiles) {
  if (tiles <= 16) return 1;
  if (tiles <= 80) return 2;
  if (tiles <= 160) return 4;
  const int even = CeilDiv(tiles, kMaxChunks);
  return even < 8 ? 8 : even;
}
// Of a row, in tiles: what begins and ends it costs about as much as one.
__host__ __device__ inline int CostOf(int length) { return TilesOf(length) + 1; }
// How many rows' partial results there can be at once: a split row has two lanes or more.
__host__ __device__ inline int64_t SlotRows(int64_t rows, int64_t lanes) {
  return rows < lanes / 2 + 1 ? rows : lanes / 2 + 1;
}

struct RowLengths {
  const int32_t* data;
  int64_t stride;
  int rows;
  __device__ int operator()(int row) const { return __ldg(data + row * stride); }
};

struct Part {
  int row, length, tiles, chunk_tiles, chunks;
  int index, count;  // of the row's parts
  int slot;          // of the row's first chunk's partial result; those of the other chunks follow

  __device__ int Begin(int i) const { return static_cast<int>(static_cast<uint32_t>(chunks * i) / count); }
  __device__ int begin() const { return Begin(index); }
  __device__ int end() const { return Begin(index + 1); }
};

struct Schedule {
  int lanes;
  int share;       // the most cost of a part; the same for all lanes
  bool one_each;   // a lane has at most one part
  bool invariant;  // chunks follow from the row's length
  Part first;      // this lane's part, if one_each; of no row if it has none

  // All of a part but its index and slot.
  __device__ Part Cut(int row, int length, int most_parts) const {
    Part part{row, length, TilesOf(length), 1, 0, 0, 1, 0};
    if (length == 0) return part;
    if (invariant) {
      part.chunk_tiles = InvariantChunkTiles(part.tiles);
      part.chunks = CeilDiv(part.tiles, part.chunk_tiles);
      part.count = min(part.chunks, most_parts);
    } else {
      part.chunk_tiles =
          CeilDiv(part.tiles, min(most_parts, one_each && part.tiles > 128 ? kMaxChunksOfLongRow : kMaxChunks));
      part.chunks = part.count = CeilDiv(part.tiles, part.chunk_tiles);
    }
    return part;
  }
  __device__ Part Cut(int row, int length) const {
    return Cut(row, length, CeilDiv(CostOf(length), one_each ? share : 2 * share));
  }
};

struct ScheduleScratch {
  int total, largest, parts[32];
  int warp_parts[32];
  int lengths[kMaxLanes];
  Part first;
};

// All threads of the CTA call; those of rows at most `lanes` need no more than one pass over the lengths.
template <int kThreads>
__device__ Schedule MakeSchedule(const RowLengths& length, int lanes, int me, bool invariant,
                                 ScheduleScratch& scratch) {
  static_assert(kThreads >= kMaxLanes);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  Schedule schedule{lanes, 1, length.rows <= lanes, invariant, {}};
  if (length.rows == 1) {
    schedule.first = schedule.Cut(0, length(0), lanes);
    schedule.first.index = me;
    if (me >= schedule.first.count) schedule.first.row = 1;
    return schedule;
  }
  if (thread < 32) scratch.parts[thread] = 0;
  if (thread == 0) scratch.total = scratch.largest = 0, scratch.first.row = length.rows;
  __syncthreads();
  int sum = 0, largest = 0, mine = 0;
  for (int row = thread; row < length.rows; row += kThreads) {
    mine = length(row);
    if (schedule.one_each) scratch.lengths[row] = mine;
    sum += CostOf(mine);
    largest = max(largest, CostOf(mine));
  }
  sum = __reduce_add_sync(~0u, sum);
  largest = __reduce_max_sync(~0u, largest);
  if (lane == 0 && sum > 0) {
    atomicAdd(&scratch.total, sum);
    atomicMax(&scratch.largest, largest);
  }
  __syncthreads();
  const int even = CeilDiv(scratch.total, lanes);
  schedule.share = even;
  if (!schedule.one_each) return schedule;
  // The smallest of 32 shares that leaves no more parts than lanes: the last one does, a part a row.
  schedule.share = even + max(0, scratch.largest - even) * lane / 31;
  int parts = 0;
  for (int row = warp; row < length.rows; row += kThreads / 32) parts += schedule.Cut(row, scratch.lengths[row]).count;
  atomicAdd(&scratch.parts[lane], parts);
  __syncthreads();
  const uint32_t fits = __ballot_sync(~0u, scratch.parts[lane] <= lanes);
  schedule.share = __shfl_sync(~0u, schedule.share, __ffs(static_cast<int>(fits)) - 1);
  // The part number `me` of all rows' parts.
  Part part{};
  if (thread < length.rows) part = schedule.Cut(thread, mine);
  int until = thread < length.rows ? part.count : 0;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int other = __shfl_up_sync(~0u, until, step);
    if (lane >= step) until += other;
  }
  if (lane == 31) scratch.warp_parts[warp] = until;
  __syncthreads();
  for (int w = 0; w < warp && w < kMaxLanes / 32 + 1; ++w) until += scratch.warp_parts[w];
  const int start = until - part.count;
  if (thread < length.rows && start <= me && me < until) {
    part.index = me - start;
    const int pair = length.rows <= lanes / 2 + 1 ? thread : start / 2;
    part.slot = invariant ? pair * kMaxChunks : start;
    scratch.first = part;
  }
  __syncthreads();
  schedule.first = scratch.first;
  return schedule;
}

// The parts of one lane in order. Warps call it as one.
class LaneParts {
 public:
  __device__ LaneParts(const Schedule& schedule, const RowLengths& length, int me)
      : schedule_(schedule), length_(length), me_(me), part_(schedule.first) {
    if (schedule.one_each) return;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    int before = 0;  // cost
    for (int base = 0; base < length.rows; base += 32) {
      const bool live = base + lane < length.rows;
      const int tokens = live ? length(base + lane) : 0;
      const int mine = live ? CostOf(tokens) : 0;
      int until = mine;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(~0u, until, step);
        if (lane >= step) until += other;
      }
      const int start = before + until - mine;
      const int count = schedule.Cut(0, tokens).count;
      const uint32_t found = __ballot_sync(~0u, live && LaneOf(start, mine, count - 1, count) >= me);
      if (found != 0) {
        const int at = __ffs(static_cast<int>(found)) - 1;
        start_ = __shfl_sync(~0u, start, at);
        Take(base + at);
        while (LaneOf(start_, CostOf(part_.length), part_.index, part_.count) < me) ++part_.index;
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
  // A part goes to the lane in whose share of the whole its middle lies: parts of rows that are cut cost more than a
  // share each, so that a lane has no two of them.
  __device__ int LaneOf(int start, int cost, int index, int count) const {
    const int64_t twice = 2 * int64_t{count};
    return static_cast<int>((start * twice + int64_t{cost} * (2 * index + 1)) / (twice * schedule_.share));
  }
  __device__ void Take(int row) {
    part_ = schedule_.Cut(row, length_(row));
    part_.slot = start_ / (2 * schedule_.share) * kMaxChunks;
  }

  Schedule schedule_;
  RowLengths length_;
  int me_;
  int start_ = 0;
  Part part_;
};

}  // namespace mxmla::cuda
