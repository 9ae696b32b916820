// What the kernels of decode attention share: their parameters, the warp that copies, and the merge of partial results.
#pragma once

#include "cuda/attention_schedule.cuh"
#include "cuda/chunk_joins.cuh"
#include "cuda/hopper_instructions.cuh"

namespace mxmla::cuda {

constexpr int kLatents = 512, kRotated = 64, kWidth = kLatents + kRotated;
constexpr int kBlocks = kWidth / 64;  // of 64 columns, 128 bytes a row: what the swizzle spans
constexpr int kStageBytes = kTileTokens * kWidth * 2;
constexpr int kStages = 2;
constexpr int kConsumers = 256;             // two warpgroups, half of the latents each
constexpr int kThreads = kConsumers + 128;  // and a warpgroup of which one warp copies

struct DecodeAttentionParams {
  const int32_t* block_table;
  int64_t table_row, table_column;
  const int32_t* row_sequence;
  int64_t sequence_step;
  RowLengths lengths;
  int heads, groups, lanes;
  int page_size, box_rows;
  float scale;  // softmax_scale * log2(e)
  __nv_bfloat16* out;
  int64_t out_row, out_head;
  bool invariant;
  // Of an FP8 cache: codes, scales and keys, and from a page and a row of each to the next in pieces of 16 bytes.
  struct Plane {
    const uint8_t* data;
    uint32_t page, row;
  } codes, scales, keys;
  int* counters;    // (rows, groups) x {parts written, parts merged}: zero before and after a launch
  float* partials;  // (slots, groups * kN, 512)
  float2* sums;     // (slots, groups * kN): largest score, sum of exponentials
  // Not null: nothing is merged; every row's parts are left, and where they are: see AttentionParts.
  int4* row_parts;
};

// The copying warp: the query's rows and the tiles of the cache, into shared memory.
//
// The query: blocks of 64 columns of kN rows. A stage: a tile, as blocks of 64 columns of kBlockTokens tokens, those of
// the tile's first tokens first.
struct CopyPlaces {
  uint32_t stages, query;
  uint32_t full, empty, query_full, query_empty;  // barriers; kStages of the first two

  __device__ CopyPlaces(uint32_t stages_address, uint32_t query_address, uint32_t barriers)
      : stages(stages_address),
        query(query_address),
        full(barriers),
        empty(full + kStages * 8),
        query_full(empty + kStages * 8),
        query_empty(query_full + 8) {}
  static constexpr int kBarrierBytes = (2 * kStages + 2) * 8;
  __device__ void Init(int copying) const {  // arrivals that fill a stage
    for (int i = 0; i < kStages; ++i) {
      BarrierInit(full + i * 8, copying);
      BarrierInit(empty + i * 8, kConsumers / 32);
    }
    BarrierInit(query_full, 1);
    BarrierInit(query_empty, kConsumers / 32);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    FenceAsyncProxy();
  }
};

template <int kN, int kBlockTokens>
__device__ void CopyParts(const DecodeAttentionParams& p, const CUtensorMap& query_map, const CUtensorMap& kv_map,
                          const Schedule& schedule, int me, int group, int first_sequence, const CopyPlaces& at) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int boxes_a_tile = kTileTokens / p.box_rows;
  uint32_t copied = 0, queries = 0;
  for (LaneParts parts(schedule, p.lengths, me); !parts.Done(); parts.Next()) {
    const Part& part = *parts;
    if (part.length == 0) continue;
    const int sequence = p.lengths.rows == 1 ? first_sequence : __ldg(p.row_sequence + part.row * p.sequence_step);
    const int32_t* const pages = p.block_table + sequence * p.table_row;
    if (queries > 0) BarrierWait(at.query_empty, (queries - 1) & 1);
    ++queries;
    if (lane == 0) BarrierExpect(at.query_full, kN * kWidth * 2);
    __syncwarp();
    if (lane < kBlocks) {
      CopyBox(query_map, at.query + lane * kN * 128, at.query_full, lane * 64, group * kN, part.row);
    }
    const int first_box = part.begin() * part.chunk_tiles * boxes_a_tile;
    const int end_tile = min(part.tiles, part.end() * part.chunk_tiles);
    const int end_box = min(end_tile * boxes_a_tile, (part.length + p.box_rows - 1) / p.box_rows);
    int page = 0;
    for (int box = first_box; box < end_box; ++box) {
      const int in_batch = (box - first_box) % 32;
      if (in_batch == 0 && box + lane < end_box) page = pages[(box + lane) * p.box_rows / p.page_size * p.table_column];
      const int in_tile = box % boxes_a_tile;
      const uint32_t stage = copied % kStages;
      if (in_tile == 0) {
        if (copied >= kStages) BarrierWait(at.empty + stage * 8, (copied / kStages - 1) & 1);
        const int boxes = min(boxes_a_tile, end_box - box);
        if (lane == 0) BarrierExpect(at.full + stage * 8, boxes * p.box_rows * kWidth * 2);
        __syncwarp();
      }
      const int from = __shfl_sync(~0u, page, in_batch);
      if (lane < kBlocks) {
        const int token = in_tile * p.box_rows;
        const uint32_t to = at.stages + stage * kStageBytes + token / kBlockTokens * (kBlockTokens * kWidth * 2) +
                            (lane * kBlockTokens + token % kBlockTokens) * 128;
        CopyBox(kv_map, to, at.full + stage * 8, lane * 64, box * p.box_rows % p.page_size, from);
      }
      if (in_tile == boxes_a_tile - 1 || box + 1 == end_box) ++copied;
    }
  }
}

// Announces a part's partial results, and waits for those of the row's other parts. All consumers call.
__device__ __forceinline__ int* PartCounter(const DecodeAttentionParams& p, int row, int group) {
  return p.counters + (int64_t{row} * p.groups + group) * 2;
}
__device__ __forceinline__ void PublishPart(const DecodeAttentionParams& p, int row, int group) {
  NamedBarrier<kConsumers>(1);
  if (threadIdx.x == 0) {
    __threadfence();
    asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(PartCounter(p, row, group)) : "memory");
  }
}

constexpr int kMergeBytes = kStages * kStageBytes;

// Pieces (4 columns of a head) begin .. end of a row's result. All of a batch's partial results are on their way at
// once, to `scratch`; the factors of the chunks, which are joined in order, are found for all of them together.
template <int kN>
__device__ __forceinline__ void MergeColumns(const DecodeAttentionParams& p, const Part& part, int group, int begin,
                                             int end, uint8_t* scratch /* shared, kMergeBytes */) {
  constexpr int kPieces = kLatents / 4, kWarps = kConsumers / 32;
  const int thread = static_cast<int>(threadIdx.x);
  const int unjoined = part.Begin(1);
  const int count = 1 + part.chunks - unjoined;
  const int stride = p.groups * kN;
  const int64_t slot = (int64_t{part.slot} * p.groups + group) * kN;
  const auto place = [&](int s) { return int64_t{s == 0 ? 0 : unjoined + s - 1} * stride; };
  const int head0 = begin / kPieces, heads = (end - 1) / kPieces - head0 + 1;
  auto* const factors = reinterpret_cast<ChunkFactors*>(scratch);  // (heads, count)
  auto* const values = reinterpret_cast<float4*>(factors + heads * count);
  const int room = (kMergeBytes - heads * count * static_cast<int>(sizeof(ChunkFactors))) / (count * 16);
#pragma unroll 1
  for (int from = begin; from < end; from += room) {
    const int pieces = min(room, end - from);
    const auto* const source = reinterpret_cast<const float4*>(p.partials + slot * kLatents) + from;
    for (int id = thread; id < pieces * count; id += kConsumers) {
      const int s = id / pieces, i = id - s * pieces;
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(SharedAddress(values + id)),
                   "l"(source + place(s) * kPieces + i)
                   : "memory");
    }
    if (from == begin) {
      for (int h = thread / 32; h < heads; h += kWarps) {
        FindFactors(
            count, [&](int s) { return __ldcg(p.sums + slot + place(s) + head0 + h); }, factors + h * count);
      }
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
    NamedBarrier<kConsumers>(1);
    const auto* const columns = reinterpret_cast<const float*>(values);
#pragma unroll 1
    for (int base = 0; base < pieces * 4; base += kConsumers) {
      const int id = min(base + thread, pieces * 4 - 1), piece = from + id / 4;
      const ChunkFactors* const of_head = factors + (piece / kPieces - head0) * count;
      float value = columns[id], sum = of_head[0].sum;
#pragma unroll 4
      for (int s = 1; s < count; ++s) {
        const ChunkFactors f = of_head[s];
        value = JoinValue(value, f.keep, columns[s * pieces * 4 + id], f.add);
        sum = __fmaf_rn(sum, f.keep, f.sum);
      }
      const float result = __fmul_rn(value, __frcp_rn(sum)), next = __shfl_down_sync(~0u, result, 1);
      const int head = group * kN + piece / kPieces;
      if (base + thread < pieces * 4 && id % 2 == 0 && head < p.heads) {
        *reinterpret_cast<uint32_t*>(p.out + part.row * p.out_row + head * p.out_head + piece % kPieces * 4 + id % 4) =
            PackBf16(result, next);
      }
    }
    NamedBarrier<kConsumers>(1);
  }
}

// This part's share of its row's merge, once every part is written. All consumers call.
template <int kN>
__device__ void MergePart(const DecodeAttentionParams& p, const Part& part, int group, uint8_t* scratch) {
  int* const counter = PartCounter(p, part.row, group);
  if (threadIdx.x == 0) {
    int written = 0;
    do {
      asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(written) : "l"(counter) : "memory");
    } while (written < part.count);
  }
  NamedBarrier<kConsumers>(1);
  constexpr int kPieces = kN * kLatents / 4;
  const int begin = static_cast<int>(static_cast<uint32_t>(kPieces * part.index) / part.count);
  const int end = static_cast<int>(static_cast<uint32_t>(kPieces * (part.index + 1)) / part.count);
  if (begin < end) MergeColumns<kN>(p, part, group, begin, end, scratch);
  if (threadIdx.x == 0 && atomicAdd(counter + 1, 1) == part.count - 1) {
    counter[0] = 0;
    counter[1] = 0;
  }
}

// Says where a row's parts are.
__device__ __forceinline__ void DescribeParts(const DecodeAttentionParams& p, const Part& part, int group) {
  if (group != 0 || part.index != 0 || threadIdx.x != 0) return;
  const int unjoined = part.length == 0 ? 0 : part.Begin(1);
  p.row_parts[part.row] = make_int4(part.slot, unjoined, part.length == 0 ? 0 : 1 + part.chunks - unjoined, 0);
}
__device__ __forceinline__ void WriteZeros(const DecodeAttentionParams& p, int row, int first_head, int heads) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int head = thread / 32; head < heads && first_head + head < p.heads; head += kConsumers / 32) {
    auto* const out = reinterpret_cast<uint4*>(p.out + row * p.out_row + (first_head + head) * p.out_head);
    for (int i = thread % 32; i < kLatents / 8; i += 32) out[i] = make_uint4(0, 0, 0, 0);
  }
}
// Rows of bf16 from shared memory, kOutPitch bytes each.
constexpr int kOutPitch = kLatents * 2 + 16;
__device__ __forceinline__ void WriteRows(const DecodeAttentionParams& p, int row, int first_head, int heads,
                                          const uint8_t* from) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int head = thread / 32; head < heads && first_head + head < p.heads; head += kConsumers / 32) {
    auto* const out = reinterpret_cast<uint4*>(p.out + row * p.out_row + (first_head + head) * p.out_head);
#pragma unroll
    for (int i = thread % 32; i < kLatents / 8; i += 32) {
      out[i] = *reinterpret_cast<const uint4*>(from + head * kOutPitch + i * 16);
    }
  }
}

// Waiting CTAs of the next launch start wherever a multiprocessor is free. The groups of one lane then start apart, and
// no longer read the same tiles at the same time.
__device__ __forceinline__ bool LetsDependentsInEarly(const DecodeAttentionParams& p) {
  return p.groups == 1 || p.lengths.rows <= 8;
}

// A consumer's parts: all computed, then those of cut rows merged. All CTAs run at once, so every part that a merge
// waits for is written in the end.
template <int kN, class Consumer>
__device__ __forceinline__ void ConsumeParts(Consumer& consumer, const DecodeAttentionParams& p,
                                             const Schedule& schedule, int me, int group,
                                             uint8_t* stages /* shared, the copied tiles' */) {
  LaneParts parts(schedule, p.lengths, me);
  WaitForPredecessor();
  if (schedule.one_each) {
    if (parts.Done()) return;
    consumer.Compute(*parts);
    AllowDependents();
    if ((*parts).count > 1 && !p.row_parts) MergePart<kN>(p, *parts, group, stages);
    return;
  }
  bool split = false;
  for (; !parts.Done(); parts.Next()) {
    consumer.Compute(*parts);
    split |= (*parts).count > 1;
  }
  AllowDependents();
  if (!split) return;
  for (LaneParts again(schedule, p.lengths, me); !again.Done(); again.Next()) {
    if ((*again).count > 1) MergePart<kN>(p, *again, group, stages);
  }
}

}  // namespace mxmla::cuda
