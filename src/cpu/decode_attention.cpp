// Paged MQA in the latent space, split over the context.
//
// A token costs 2 bytes x (kv_lora_rank + rope) to read and heads x 2 x (2 kv_lora_rank + rope) operations: 1152 bytes
// and 2176 operations a head for DeepSeek, so that from a few heads on the multiply-adds are the limit, not the memory.
// A task therefore takes a block of heads over one chunk of the context: each cache row is read from memory once for
// all of them and for both its uses, and the tiles (latent_tile.h) do little but multiply and add.
#include <cmath>

#include "cpu/cache_rows.h"
#include "cpu/kernels.h"
#include "cpu/latent_scores_amx.h"
#include "cpu/latent_tile.h"
#include "cpu/parallel.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

constexpr int64_t kMostHeads = kScoreHeads;  // heads of a task
constexpr int64_t kSplitRows = 4;  // rows whose chunks may run in parallel; more keep the threads busy themselves

// Tokens of a chunk of a context: part of the order of the sums, so of the result. Few enough that many threads share a
// context evenly, and that of a long one not too many results lie in memory.
int64_t ChunkTokens(int64_t length) { return length <= 32768 ? 256 : 512; }
int64_t Chunks(int64_t length) { return (length + ChunkTokens(length) - 1) / ChunkTokens(length); }
// The most that contexts of up to `length` tokens have.
int64_t MostChunks(int64_t length) { return std::max(Chunks(length), Chunks(std::min<int64_t>(length, 32768))); }

struct Shape {
  int64_t heads;   // of the model
  int64_t rank;    // kv_lora_rank
  int64_t width;   // of a cache row
  int64_t chunks;  // of the longest row
  int64_t head_block;

  int64_t head_blocks() const { return (heads + head_block - 1) / head_block; }
  int64_t padded_width() const { return RoundUp(width, kSplitBlock); }
  int64_t padded_rank() const { return RoundUp(rank, kSplitBlock); }
  // Floats of one chunk's result for one head: unnormalised values in split order, then their largest score and sum.
  int64_t partial() const { return padded_rank() + 16; }
};

// A task's scratch: floats of one worker.
struct Scratch {
  float* query;    // (head_block, padded_width), split
  float* rows;     // (kTokenTile, padded_width), split; of rows that are not multiplied where they lie
  float* values;   // (head_block, padded_rank), split
  float* scores;   // (kTokenTile, kScoreHeads)
  float* partial;  // (head_block, partial()): one chunk's result
  float* merged;   // (head_block, partial())

  // Rows of the query, as tiles on AMX.
  static int64_t QueryRows(const Shape& shape) {
    constexpr int64_t kTileRows = 8;  // kTileSide rows of bf16
    return std::max(RoundUp(shape.head_block, 4), kTileRows);
  }
  static int64_t Floats(const Shape& shape) {
    const int64_t head_block = RoundUp(shape.head_block, 4);
    return (QueryRows(shape) + kTokenTile) * shape.padded_width() +
           head_block * (shape.padded_rank() + 2 * shape.partial()) + kTokenTile * kScoreHeads;
  }

  static Scratch Of(const ExecContext& context, int worker, const Shape& shape) {
    const int64_t head_block = RoundUp(shape.head_block, 4);
    Scratch scratch;
    scratch.query = context.Scratch<float>(worker, 0, static_cast<size_t>(Floats(shape)));
    scratch.rows = scratch.query + QueryRows(shape) * shape.padded_width();
    scratch.values = scratch.rows + kTokenTile * shape.padded_width();
    scratch.scores = scratch.values + head_block * shape.padded_rank();
    scratch.partial = scratch.scores + kTokenTile * kScoreHeads;
    scratch.merged = scratch.partial + head_block * shape.partial();
    return scratch;
  }
};

// Whether rows of whole blocks are multiplied where they lie.
template <class Cache>
inline constexpr bool kInPlace = std::is_same_v<Cache, PlainRows<bf16>>;

// What queries of type Q are multiplied with such rows as.
#if defined(__AVX512BF16__)
template <class Q>
using DirectQuery = Q;
#else
template <class Q>
using DirectQuery = float;
#endif

// One chunk of one row's context for `heads` heads from `head` on; `partial` rows are partial_stride apart.
template <class Q, class Cache>
void Chunk(const DecodeAttentionArgs& args, const View<const Q, 3>& query, const Cache& cache, const Shape& shape,
           int64_t r, int64_t head, int64_t heads, int64_t chunk, const Scratch& scratch, float* partial,
           int64_t partial_stride) {
  const int64_t width = shape.padded_width();
  const int64_t rank = shape.padded_rank();
  const int64_t tile_heads = RoundUp(heads, 4);
  const bool direct = kInPlace<Cache> && shape.width == width && shape.rank == rank;
  const int64_t page_size = cache.page_size();
  const int64_t length = TokensOf(args, r);
  const int64_t chunk_tokens = ChunkTokens(length);
  const int64_t end = std::min(length, (chunk + 1) * chunk_tokens);
  const int32_t* table = args.block_table.data + args.row_sequence(r) * args.block_table.stride[0];
  const auto find = [&](int64_t i) {
    const int64_t token = TokenAt(args, r, i);
    return std::pair<int64_t, int64_t>{table[token / page_size * args.block_table.stride[1]], token % page_size};
  };

  const auto query_row = [&](int64_t h) { return query.data + r * query.stride[0] + (head + h) * query.stride[1]; };
  constexpr bool kPlainQuery = kInPlace<Cache> && !std::is_same_v<DirectQuery<Q>, float>;
  constexpr bool kTiles = kInPlace<Cache> && ScoreTiles<Q>::kUsed;
  [[maybe_unused]] const ScoreTiles<Q> tiles(kTiles && direct);
  if (kTiles && direct) {
    if constexpr (kTiles) {
      const Q* queries[kScoreHeads];
      for (int64_t h = 0; h < heads; ++h) queries[h] = query_row(h);
      tiles.Pack(queries, heads, width, reinterpret_cast<Q*>(scratch.query));
    }
  } else if (kPlainQuery && direct) {
    auto* to = reinterpret_cast<Q*>(scratch.query);
    for (int64_t h = 0; h < heads; ++h) std::copy_n(query_row(h), width, to + h * width);
    std::fill(to + heads * width, to + tile_heads * width, Q{});
  } else {
    for (int64_t h = 0; h < heads; ++h) ToSplit(query_row(h), shape.width, scratch.query + h * width);
    std::fill(scratch.query + heads * width, scratch.query + tile_heads * width, 0.0f);
  }
  std::fill(scratch.values, scratch.values + tile_heads * rank, 0.0f);
  // Lanes without a head must hold numbers.
  if (tile_heads < kScoreHeads) std::fill(scratch.scores, scratch.scores + kTokenTile * kScoreHeads, 0.0f);
  alignas(64) float largest[kScoreHeads];
  alignas(64) float sum[kScoreHeads] = {};
  alignas(64) float factors[kScoreHeads];
  std::fill(largest, largest + kScoreHeads, -std::numeric_limits<float>::infinity());

  RowsAhead ahead;
  ahead.bytes = cache.row_bytes();
  for (int64_t begin = chunk * chunk_tokens; begin < end; begin += kTokenTile) {
    const int64_t tokens = std::min(kTokenTile, end - begin);
    // The next tile, of this chunk or the one behind it, comes into the second-level cache while this one is weighed.
    for (int64_t t = 0; t < tokens; ++t) {
      const auto [page, slot] = find(std::min(begin + kTokenTile + t, length - 1));
      ahead.row[t] = static_cast<const char*>(cache.Begin(page, slot));
    }
    const auto attend = [&](const auto* queries, const auto& rows) {
      if constexpr (kTiles && std::is_same_v<std::decay_t<decltype(*queries)>, Q>) {
        tiles.Score(queries, rows, tokens, width, reinterpret_cast<Q*>(scratch.rows), scratch.scores);
      } else {
        ScoreRows(queries, width, tile_heads, rows, tokens, width / kSplitBlock, scratch.scores);
      }
      SoftmaxHeads(scratch.scores, tokens, args.softmax_scale, largest, sum, factors);
      WeighRows(scratch.scores, factors, tile_heads, rows, tokens, rank / kSplitBlock, scratch.values, ahead);
    };
    if (direct) {
      if constexpr (kInPlace<Cache>) {
        LatentRows<bf16> rows;
        for (int64_t t = 0; t < tokens; ++t) {
          const auto [page, slot] = find(begin + t);
          rows.row[t] = cache.At(page, slot);
        }
        attend(reinterpret_cast<const DirectQuery<Q>*>(scratch.query), rows);
      }
    } else {
      LatentRows<float> rows;
      for (int64_t t = 0; t < tokens; ++t) {
        const auto [page, slot] = find(begin + t);
        rows.row[t] = scratch.rows + t * width;
        cache.Decode(page, slot, scratch.rows + t * width);
      }
      attend(scratch.query, rows);
    }
  }

  for (int64_t h = 0; h < heads; ++h) {
    float* to = partial + h * partial_stride;
    std::memcpy(to, scratch.values + h * rank, static_cast<size_t>(rank) * sizeof(float));
    to[rank] = largest[h];
    to[rank + 1] = sum[h];
  }
}

// Adds a chunk's result to what earlier chunks gave.
void Merge(const float* partial, int64_t rank /* padded */, float* merged) {
  const float largest = std::max(merged[rank], partial[rank]);
  const float old_factor = std::exp(merged[rank] - largest);
  const float new_factor = std::exp(partial[rank] - largest);
  for (int64_t k = 0; k < rank; k += 16) {
    Store(merged + k, Fma(Load(merged + k), Splat(old_factor), Load(partial + k) * Splat(new_factor)));
  }
  merged[rank] = largest;
  merged[rank + 1] = std::fma(merged[rank + 1], old_factor, partial[rank + 1] * new_factor);
}

template <class Out>
void Finish(const float* merged, const Shape& shape, Out* out /* (rank) */) {
  const float inverse = 1.0f / merged[shape.padded_rank() + 1];
  int64_t k = 0;
  for (; k + kSplitBlock <= shape.rank; k += kSplitBlock) {
    StoreSplit(out + k, {Load(merged + k) * Splat(inverse), Load(merged + k + 16) * Splat(inverse)});
  }
  for (; k < shape.rank; ++k) out[k] = FromFloat<Out>(merged[SplitIndex(k)] * inverse);
}

// Each task runs all chunks of a block of heads.
template <class Q, class Cache, class Out>
void RunInOrder(const ExecContext& context, const DecodeAttentionArgs& args, const View<const Q, 3>& query,
                const Cache& cache, const View<Out, 3>& out, const Shape& shape) {
  const int64_t blocks = shape.head_blocks();
  RunTasks(context, query.shape[0] * blocks, [&](int64_t task, int worker) {
    const int64_t r = task / blocks;
    const int64_t head = task % blocks * shape.head_block;
    const int64_t heads = std::min(shape.head_block, shape.heads - head);
    const int64_t chunks = Chunks(TokensOf(args, r));
    const Scratch scratch = Scratch::Of(context, worker, shape);
    const int64_t stride = shape.partial();
    for (int64_t c = 0; c < chunks; ++c) {
      Chunk(args, query, cache, shape, r, head, heads, c, scratch, c == 0 ? scratch.merged : scratch.partial, stride);
      if (c == 0) continue;
      for (int64_t h = 0; h < heads; ++h)
        Merge(scratch.partial + h * stride, shape.padded_rank(), scratch.merged + h * stride);
    }
    for (int64_t h = 0; h < heads; ++h) {
      Out* to = out.data + r * out.stride[0] + (head + h) * out.stride[1];
      if (chunks == 0) {
        std::fill(to, to + shape.rank, Out{});
      } else {
        Finish(scratch.merged + h * stride, shape, to);
      }
    }
  });
}

// Each task runs one chunk; its results lie in the shared workspace, (rows, heads, chunks, partial()).
template <class Q, class Cache, class Out>
void RunSplit(const ExecContext& context, const DecodeAttentionArgs& args, const View<const Q, 3>& query,
              const Cache& cache, const View<Out, 3>& out, const Shape& shape) {
  const int64_t blocks = shape.head_blocks();
  const int64_t stride = shape.partial();
  const int64_t rows = query.shape[0];
  auto* partials = context.SharedScratch<float>(0, static_cast<size_t>(rows * shape.heads * shape.chunks * stride));
  const auto partial_at = [&](int64_t r, int64_t h) {
    return partials + (r * shape.heads + h) * shape.chunks * stride;
  };
  RunStreams(context, rows * shape.chunks * blocks, [&](int64_t task, int worker, int64_t) {
    const int64_t head = task % blocks * shape.head_block;
    const int64_t chunk = task / blocks % shape.chunks;
    const int64_t r = task / blocks / shape.chunks;
    if (chunk >= Chunks(TokensOf(args, r))) return;
    const int64_t heads = std::min(shape.head_block, shape.heads - head);
    Chunk(args, query, cache, shape, r, head, heads, chunk, Scratch::Of(context, worker, shape),
          partial_at(r, head) + chunk * stride, shape.chunks * stride);
  });
  RunTasks(context, rows * shape.heads, [&](int64_t task, int) {
    const int64_t r = task / shape.heads;
    const int64_t h = task % shape.heads;
    const int64_t chunks = Chunks(TokensOf(args, r));
    Out* to = out.data + r * out.stride[0] + h * out.stride[1];
    if (chunks == 0) {
      std::fill(to, to + shape.rank, Out{});
      return;
    }
    float* merged = partial_at(r, h);
    for (int64_t c = 1; c < chunks; ++c) Merge(merged + c * stride, shape.padded_rank(), merged);
    Finish(merged, shape, to);
  });
}

void Run(const ExecContext& context, const DecodeAttentionArgs& args) {
  std::visit(
      [&](const auto& query, const auto& pages, const auto& out) {
        const int64_t rows = query.shape[0];
        const int64_t threads = context.pool->threads();
        int64_t longest = 0;
        for (int64_t r = 0; r < rows; ++r) longest = std::max<int64_t>(longest, TokensOf(args, r));
        if (context.profiler) {
          context.profiler->AddBytes(TokensRead(args) * KvRowBytes(args.kv_pages));
        }
        Shape shape{query.shape[1], args.kv_lora_rank, query.shape[2], MostChunks(longest), kMostHeads};
        // Split, also where threads are few, when several blocks of heads read each chunk: it then stays in the cache.
        const bool split = rows <= kSplitRows && shape.chunks > 1 &&
                           (shape.head_blocks() > 1 || rows * shape.head_blocks() < 4 * threads);
        // Fewer heads a task when the tasks would not go round; a head's result does not depend on its neighbours.
        const int64_t repeats = rows * (split ? shape.chunks : 1);
        const auto wanted = [&] { return shape.head_block > kTileHeads ? 2 * threads : threads; };
        while (shape.head_block > 4 && repeats * shape.head_blocks() < wanted()) shape.head_block /= 2;
        shape.head_block = std::min(shape.head_block, RoundUp(shape.heads, 4));
        if (split) {
          RunSplit(context, args, query, RowsOf(pages), out, shape);
        } else {
          RunInOrder(context, args, query, RowsOf(pages), out, shape);
        }
      },
      args.query, args.kv_pages, args.out);
}

WorkspaceSize WorkspaceFor(const DecodeAttentionArgs& args, int) {
  const int64_t heads = Extent(args.query, 1);
  const int64_t chunks = MostChunks(args.block_table.shape[1] * Extent(args.kv_pages, 1));
  const Shape shape{heads, args.kv_lora_rank, Extent(args.query, 2), chunks, std::min(kMostHeads, RoundUp(heads, 4))};
  const int64_t rows = std::min(Extent(args.query, 0), kSplitRows);
  WorkspaceSize size;
  if (chunks > 1) size.shared = static_cast<size_t>(rows * heads * chunks * shape.partial()) * sizeof(float);
  size.per_worker = static_cast<size_t>(Scratch::Floats(shape)) * sizeof(float);
  return size;
}

}  // namespace

KernelTable<DecodeAttentionArgs> MakeDecodeAttentionKernels() {
  return {{kKernelName,
           {{.operand = "query", .inner_stride_one = true},
            {.operand = "kv_pages", .inner_stride_one = true},
            {.operand = "out", .inner_stride_one = true}},
           &Run,
           &WorkspaceFor}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
