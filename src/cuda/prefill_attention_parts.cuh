// What the kernels of prefill attention are made of: 128 rows of one head against tiles of 64 expanded tokens.
#pragma once

#include "cuda/matrix_tile.cuh"

namespace mxmla::cuda::prefill {

constexpr int kMostCtas = 128;                                        // at once
constexpr int kRows = 128;                                            // of a CTA: 64 a warpgroup
constexpr int kTokens = 64;                                           // of a tile
constexpr int kQueryWidth = 192, kValueWidth = 128, kKeyWidth = 128;  // padded with zeros
constexpr int kMostRope = 64;
constexpr int kExpanded = 128;  // tokens that a CTA expands of a chunk

constexpr int kQueryBytes = kRows * kQueryWidth * 2;
constexpr int kKeyBytes = kTokens * kQueryWidth * 2, kValueBytes = kTokens * kValueWidth * 2;
constexpr int kStageBytes = kKeyBytes + kValueBytes;

struct Params {
  const uint8_t* query;
  int64_t query_row, query_head;  // bytes, as all steps of query, cache and out
  // The cache's planes: latents (bf16, or the codes of an FP8 cache, with a scale for each 128) and rotated keys.
  const uint8_t *latent, *key;
  int64_t latent_page, latent_row, key_page, key_row;
  const float* scales;                          // null: the latents are bf16
  int64_t scale_page, scale_row, scale_column;  // elements
  int page_log2, latents;
  const int32_t* block_table;
  int64_t table_row, table_column;
  const int32_t* row_sequence;
  int64_t sequence_step;
  const int32_t* row_length;
  int64_t length_step;
  const int32_t* segment_begin;
  int64_t segment_step;
  int segments, heads, nope, rope, v;
  WeightPlanes keys, values;  // of the tensors
  int64_t keys_stride, keys_offset, values_stride, values_offset;
  float scale;  // times log2 e
  uint8_t* out;
  int64_t out_row, out_head;
  uint8_t* scratch;  // a cluster: two chunks of keys, then of values
  // Where whole contexts are expanded: a head's tiles of kExpanded tokens of keys, then of values.
  uint8_t* expanded;
  int expanded_tiles;  // a head; 0: none
  // Latents of an FP8 cache as bf16, kExpanded tokens each: of the tiles, then of the CTAs of clusters.
  uint8_t *tile_latents, *cta_latents;
};

// Where the rows of a chunk are in the cache.
struct Context {
  const Params& p;
  const int32_t* table;
  int tokens;

  __device__ int32_t Page(int t) const { return t < tokens ? table[(t >> p.page_log2) * p.table_column] : 0; }
  __device__ int Slot(int t) const { return t & ((1 << p.page_log2) - 1); }
  __device__ const uint8_t* Latent(int32_t page, int t) const {
    return p.latent + page * p.latent_page + Slot(t) * p.latent_row;
  }
  __device__ const uint8_t* Key(int32_t page, int t) const { return p.key + page * p.key_page + Slot(t) * p.key_row; }
  __device__ const float* Scales(int32_t page, int t) const {
    return p.scales + page * p.scale_page + Slot(t) * p.scale_row;
  }
};

// Latents of an FP8 cache's tokens first .. first + kExpanded, times their scales, as bf16 in rows side by side.
__device__ __forceinline__ void DecodeLatents(const Context& context, int first, uint8_t* to) {
  const Params& p = context.p;
  const int pieces = p.latents / 16, tokens = min(kExpanded, context.tokens - first);
#pragma unroll 1
  for (int id = static_cast<int>(threadIdx.x); id < tokens * pieces; id += kMatrixThreads) {
    const int r = id / pieces, piece = id - r * pieces, t = first + r;
    const int32_t page = context.Page(t);
    const uint4 codes = *reinterpret_cast<const uint4*>(context.Latent(page, t) + piece * 16);
    const float scale = context.Scales(page, t)[piece / (kFp8Group / 16) * p.scale_column];
    const uint32_t words[4] = {codes.x, codes.y, codes.z, codes.w};
    uint32_t pairs[8];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      uint32_t decoded[2];
      DecodeE4m3(words[i], decoded);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t two = words[i] >> (16 * half);
        float low = LowBf16(decoded[half]), high = HighBf16(decoded[half]);
        if ((two & 0x7fu) == 0x7fu) low = NAN;
        if ((two & 0x7f00u) == 0x7f00u) high = NAN;
        pairs[2 * i + half] = PackBf16(__fmul_rn(low, scale), __fmul_rn(high, scale));
      }
    }
    auto* const out = reinterpret_cast<uint4*>(to + (int64_t{r} * p.latents + piece * 16) * 2);
    out[0] = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
    out[1] = make_uint4(pairs[4], pairs[5], pairs[6], pairs[7]);
  }
}

// The tokens that a CTA expands, and where to.
struct ExpandedRows {
  const Context& context;
  int first;
  __nv_bfloat16* to;       // (kExpanded, kKeyWidth)
  const uint8_t* decoded;  // their latents, of an FP8 cache; else null

  __device__ void Wait() const {}
  __device__ const uint8_t* Row(int r) const {
    if (first + r >= context.tokens) return nullptr;
    return decoded ? decoded + int64_t{r} * context.p.latents * 2 : context.Latent(context.Page(first + r), first + r);
  }
  __device__ void Store(int r, int column, float a, float b) const {
    *reinterpret_cast<uint32_t*>(to + r * kKeyWidth + column) = PackBf16(a, b);
  }
};

template <WeightKind kKind>
__device__ __forceinline__ WeightPlanes HeadPlanes(const WeightPlanes& tensor, int64_t row) {
  WeightPlanes w = tensor;
  w.values += row * w.row_bytes;
  w.first_row += row;
  if constexpr (kKind == WeightKind::kMxfp4)
    w.scales = static_cast<const uint8_t*>(w.scales) + row * w.scale_row_stride;
  return w;
}

// Of 16-byte piece `piece` of row r of panels of `rows` rows, in the 128-byte swizzle.
__device__ __forceinline__ uint32_t PieceAt(uint32_t tile, int rows, int r, int piece) {
  return tile + piece / 8 * rows * 128 + r * 128 + ((piece % 8 ^ r % 8) * 16);
}

__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float OfQuad(float v, bool maximum) {
#pragma unroll
  for (int apart = 1; apart <= 2; apart *= 2) {
    const float other = __shfl_xor_sync(~0u, v, apart);
    v = maximum ? fmaxf(v, other) : v + other;
  }
  return v;
}

// A warpgroup's 64 rows: two rows a lane, g and g + 8 of its warp's 16.
struct RowState {
  float sum[kValueWidth / 2];
  float maximum[2], total[2];
};

__device__ __forceinline__ void MultiplyKeys(uint32_t query, uint32_t stage, float (&score)[kTokens / 2]) {
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < kQueryWidth / 16; ++k) {
    const SwizzledTile a(query + k / 4 * kRows * 128), b(stage + k / 4 * kTokens * 128);
    Wgmma<kTokens, false>(score, a.At(k % 4 * 32), b.At(k % 4 * 32), k > 0);
  }
  WgmmaCommit();
}

// The scores of a tile to probabilities, rounded to bf16, and what the sums so far are to be rescaled by. Row i of the
// lane's two sees tokens below visible[i].
__device__ __forceinline__ void Softmax(float scale, int token0, const int (&visible)[2], float (&score)[kTokens / 2],
                                        RowState& state, float (&rescale)[2]) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = -INFINITY;
#pragma unroll
    for (int j = 0; j < kTokens / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& s = score[4 * j + 2 * half + i];
        s = token0 + 8 * j + 2 * t + i < visible[half] ? s : -INFINITY;
        largest = fmaxf(largest, s);
      }
    }
    const float maximum = fmaxf(state.maximum[half], OfQuad(largest, true) * scale);
    const float base = maximum == -INFINITY ? 0.0f : maximum;  // no token seen yet
    rescale[half] = Exp2(state.maximum[half] - base);
    state.maximum[half] = maximum;
    float total = 0;
#pragma unroll
    for (int j = 0; j < kTokens / 8; ++j) {
      const float first = Exp2(__fmaf_rn(score[4 * j + 2 * half], scale, -base));
      const float second = Exp2(__fmaf_rn(score[4 * j + 2 * half + 1], scale, -base));
      const uint32_t pair = PackBf16(first, second);
      score[4 * j + 2 * half] = LowBf16(pair);
      score[4 * j + 2 * half + 1] = HighBf16(pair);
      total += score[4 * j + 2 * half] + score[4 * j + 2 * half + 1];
    }
    state.total[half] = __fmaf_rn(state.total[half], rescale[half], OfQuad(total, false));
  }
}

// Probabilities to the layout of wgmma's left operand. Not before the product that reads the last ones has ended: the
// compiler would let every product wait for the one before.
__device__ __forceinline__ void Pack(const float (&score)[kTokens / 2], uint32_t (&probability)[kTokens / 4]) {
#pragma unroll
  for (int j = 0; j < kTokens / 8; ++j) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      probability[j / 2 * 4 + j % 2 * 2 + half] =
          Permute(__float_as_uint(score[4 * j + 2 * half]), __float_as_uint(score[4 * j + 2 * half + 1]), 0x7632);
    }
  }
}

__device__ __forceinline__ void Rescale(const float (&factor)[2], RowState& state) {
#pragma unroll
  for (int i = 0; i < kValueWidth / 2; ++i) state.sum[i] *= factor[i / 2 % 2];
}

__device__ __forceinline__ void MultiplyValues(const uint32_t (&probability)[kTokens / 4], uint32_t stage,
                                               RowState& state) {
  const StridedTile values(stage + kKeyBytes, kTokens * 128);
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < kTokens / 16; ++k) WgmmaValues(state.sum, probability + 4 * k, values.At(k * 2048), 1);
  WgmmaCommit();
}

// Expanded tokens from number `base` on.
struct Expanded {
  const __nv_bfloat16* keys;    // (.., kKeyWidth)
  const __nv_bfloat16* values;  // (.., kValueWidth)
  int base;
};

// Up to kRows rows of a segment, of one head, through all of their context.
struct QueryTile {
  const Params& p;
  Context context;
  int head, row0, rows;
  uint32_t query, stages;  // shared memory: kQueryBytes, two of kStageBytes
  int visible[2];          // tokens that the lane's two rows see
  RowState state;

  __device__ QueryTile(const Params& params, const Context& of, int h, int first, int count, int first_sees,
                       uint32_t shared)
      : p(params), context(of), head(h), row0(first), rows(count), query(shared), stages(shared + kQueryBytes) {
#pragma unroll
    for (float& value : state.sum) value = 0;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      state.maximum[half] = -INFINITY;
      state.total[half] = 0;
      visible[half] = first_sees + Row(half);
    }
  }

  static __device__ int Thread() { return static_cast<int>(threadIdx.x); }
  // The lane's rows of the tile: 64 a warpgroup, 16 a warp.
  static __device__ int Row(int half) { return Thread() / 32 * 16 + Thread() % 32 / 4 + 8 * half; }

  __device__ void CopyQuery() const {
    for (int id = Thread(); id < kRows * kQueryWidth / 8; id += kMatrixThreads) {
      const int r = id / (kQueryWidth / 8), piece = id % (kQueryWidth / 8);
      const bool there = r < rows && piece * 8 < p.nope + p.rope;
      const uint8_t* const from =
          there ? p.query + (row0 + r) * p.query_row + head * p.query_head + piece * 16 : p.query;
      Copy16(PieceAt(query, kRows, r, piece), from, there);
    }
    CommitCopies();
  }

  // A thread copies piece thread % 8 of the rotated keys of two tokens, whose pages have been looked up.
  __device__ void LookUp(int token0, int32_t (&page)[2]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) page[i] = context.Page(token0 + Thread() / 8 + 32 * i);
  }
  __device__ void CopyKeys(const Expanded& from, int token0, const int32_t (&page)[2], uint32_t stage) const {
    const auto* const keys = reinterpret_cast<const uint8_t*>(from.keys + int64_t{token0 - from.base} * kKeyWidth);
#pragma unroll
    for (int i = 0; i < kTokens * kKeyWidth / 8 / kMatrixThreads; ++i) {
      const int r = Thread() / 16 + 16 * i, piece = Thread() % 16;
      if (piece * 8 >= p.nope) continue;
      Copy16(PieceAt(stage, kTokens, r, piece), keys + (r * kKeyWidth + piece * 8) * 2, true);
    }
    const int rotated = Thread() % 8;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int r = Thread() / 8 + 32 * i;
      if (rotated * 8 >= p.rope) continue;
      const uint8_t* const key = context.Key(page[i], token0 + r) + rotated * 16;
      Copy16(PieceAt(stage, kTokens, r, p.nope / 8 + rotated), key, token0 + r < context.tokens);
    }
    for (int id = Thread(); id < kTokens * ((kQueryWidth - p.nope - p.rope) / 8); id += kMatrixThreads) {
      Copy16(PieceAt(stage, kTokens, id % kTokens, (p.nope + p.rope) / 8 + id / kTokens), p.key, false);
    }
  }
  __device__ void CopyValues(const Expanded& from, int token0, uint32_t stage) const {
    const auto* const values =
        reinterpret_cast<const uint8_t*>(from.values + int64_t{token0 - from.base} * kValueWidth);
#pragma unroll
    for (int i = 0; i < kTokens * kValueWidth / 8 / kMatrixThreads; ++i) {
      const int r = Thread() / 16 + 16 * i, piece = Thread() % 16;
      Copy16(PieceAt(stage + kKeyBytes, kTokens, r, piece), values + (r * kValueWidth + piece * 8) * 2, true);
    }
  }

  // Attends to tokens begin .. end, `begin` a multiple of kTokens. While the tensor cores multiply the scores of a tile
  // and the values of the one before, the other warpgroup takes its softmax; the tile's own is taken while the values
  // are still multiplied. Whatever lay in the stages has been read.
  __device__ void Attend(const Expanded& from, int begin, int end) {
    if (begin >= end) return;
    const uint32_t rows_at = query + Thread() / 128 * 64 * 128;
    const auto stage_of = [&](int token0) { return stages + (token0 - begin) / kTokens % 2 * kStageBytes; };
    int32_t page[2];
    LookUp(begin, page);
    CopyKeys(from, begin, page, stages);
    CommitCopies();
    LookUp(begin + kTokens, page);
    CopyValues(from, begin, stages);
    if (begin + kTokens < end) CopyKeys(from, begin + kTokens, page, stages + kStageBytes);
    CommitCopies();
    LookUp(begin + 2 * kTokens, page);
    WaitForCopies<1>();
    FenceAsyncProxy();
    __syncthreads();
    float score[kTokens / 2], rescale[2];
    uint32_t probability[kTokens / 4];
    MultiplyKeys(rows_at, stages, score);
    WgmmaWait<0>();
    Softmax(p.scale, begin, visible, score, state, rescale);
    Rescale(rescale, state);
    Pack(score, probability);
    int token0 = begin;
#pragma unroll 1
    for (; token0 + kTokens < end; token0 += kTokens) {
      WaitForCopies<0>();
      FenceAsyncProxy();
      __syncthreads();  // this tile's values and the next one's keys are there; what is overwritten has been read
      MultiplyKeys(rows_at, stage_of(token0 + kTokens), score);
      MultiplyValues(probability, stage_of(token0), state);
      CopyValues(from, token0 + kTokens, stage_of(token0 + kTokens));
      if (token0 + 2 * kTokens < end) CopyKeys(from, token0 + 2 * kTokens, page, stage_of(token0));
      CommitCopies();
      LookUp(token0 + 3 * kTokens, page);
      WgmmaWait<1>();
      Softmax(p.scale, token0 + kTokens, visible, score, state, rescale);
      WgmmaWait<0>();
      Rescale(rescale, state);
      Pack(score, probability);
    }
    WaitForCopies<0>();
    FenceAsyncProxy();
    __syncthreads();
    MultiplyValues(probability, stage_of(token0), state);
    WgmmaWait<0>();
  }

  __device__ void Store() const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = Row(half);
      if (r >= rows) continue;
      const float inverse = 1.0f / state.total[half];
      uint8_t* const out = p.out + (row0 + r) * p.out_row + head * p.out_head;
#pragma unroll
      for (int j = 0; j < kValueWidth / 8; ++j) {
        const int column = 8 * j + 2 * (Thread() % 4);
        if (column < p.v) {
          *reinterpret_cast<uint32_t*>(out + column * 2) =
              PackBf16(state.sum[4 * j + 2 * half] * inverse, state.sum[4 * j + 2 * half + 1] * inverse);
        }
      }
    }
  }
};

// --- what there is to do, found on the device; the whole warp calls ---

struct Found {
  int segment;  // -1: none
  int index;    // within the segment
  int before;   // of the segments before it
};

// The wanted-th of what count(segment) counts in all segments.
template <class Count>
__device__ __forceinline__ Found Find(int segments, int wanted, const Count& count, int* all) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int of_lane = (segments + 31) / 32;
  const int first = min(lane * of_lane, segments), last = min(first + of_lane, segments);
  int counted = 0;
  for (int s = first; s < last; ++s) counted += count(s);
  const int behind = SumUpToLane(counted);
  *all = __shfl_sync(~0u, behind, 31);
  Found found{-1, wanted - (behind - counted), behind - counted};
  const bool here = wanted >= behind - counted && wanted < behind;
  if (here) {
    found.segment = first;
    for (int c; found.index >= (c = count(found.segment)); ++found.segment) found.index -= c, found.before += c;
  }
  const uint32_t who = __ballot_sync(~0u, here);
  if (who == 0) return {-1, 0, 0};
  const int from = __ffs(static_cast<int>(who)) - 1;
  return {__shfl_sync(~0u, found.segment, from), __shfl_sync(~0u, found.index, from),
          __shfl_sync(~0u, found.before, from)};
}

struct Segment {
  int begin, end;  // rows
  int first_sees;  // tokens that its first row sees

  __device__ Segment(const Params& p, int s)
      : begin(p.segment_begin[s * p.segment_step]),
        end(p.segment_begin[(s + 1) * p.segment_step]),
        first_sees(begin < end ? p.row_length[begin * p.length_step] : 0) {}
  __device__ int rows() const { return end - begin; }
  // Tokens that its rows before `row` see.
  __device__ int SeenBefore(int row) const { return begin < row ? first_sees + row - 1 - begin : 0; }
  __device__ Context ContextBefore(const Params& p, int row) const {
    return {p, p.block_table + p.row_sequence[begin * p.sequence_step] * p.table_row, SeenBefore(row)};
  }
};

// The unit-th group of rows of all segments; of a segment, the last rows, which see most, come first.
template <int kGroupRows>
__device__ __forceinline__ Found FindRows(const Params& p, int unit) {
  const auto groups_of = [&](int s) { return (Segment(p, s).rows() + kGroupRows - 1) / kGroupRows; };
  int all;
  Found found = Find(p.segments, unit, groups_of, &all);
  if (found.segment >= 0) found.index = groups_of(found.segment) - 1 - found.index;
  return found;
}

// The i-th kExpanded tokens of all segments' contexts; none where the contexts do not find room all at once.
__device__ __forceinline__ Found FindTokens(const Params& p, int i, bool* fit) {
  int all;
  const Found found = Find(
      p.segments, i,
      [&](int s) {
        const Segment segment(p, s);
        return (segment.SeenBefore(segment.end) + kExpanded - 1) / kExpanded;
      },
      &all);
  *fit = all <= p.expanded_tiles;
  return *fit ? found : Found{-1, 0, 0};
}

}  // namespace mxmla::cuda::prefill
