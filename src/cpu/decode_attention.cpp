// Paged MQA in the latent space, split over the context.
//
// A token costs 2 bytes x (kv_lora_rank + rope) to read and heads x 2 x (2 kv_lora_rank + rope) operations: 1152 bytes
// and 2176 operations a head for DeepSeek, so that from a dozen heads on the multiply-adds are the limit, not the
// memory. A task therefore takes a block of heads over one chunk of the context: each cache row is converted to float32
// in registers, once for every 4 heads.
#include <cmath>

#include "cpu/cache_rows.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/softmax_tile.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

constexpr int64_t kAttentionChunk = 512;  // tokens: part of the order of the sums, so of the result
constexpr int64_t kMostHeads = 16;        // heads of a task
constexpr int64_t kSplitRows = 4;  // rows whose chunks may run in parallel; more keep the threads busy themselves

int64_t Chunks(int64_t length) { return (length + kAttentionChunk - 1) / kAttentionChunk; }

struct Shape {
  int64_t heads;    // of the model
  int64_t rank;     // kv_lora_rank
  int64_t width;    // of a cache row
  int64_t chunks;   // of the longest row
  int64_t decoded;  // floats of a tile's decoded cache rows, DecodedFloats
  int64_t head_block;

  int64_t head_blocks() const { return (heads + head_block - 1) / head_block; }
  int64_t partial() const { return rank + 2; }  // floats: maximum, sum, values
};

// A task's scratch: floats of one worker.
struct Scratch {
  float* query;    // (head_block, width rounded up to 32), split
  float* values;   // (head_block, rank rounded up to 32), split
  float* scores;   // (head_block, 64)
  float* partial;  // (head_block, rank + 2): one chunk's result
  float* merged;   // (head_block, rank + 2)
  float* decoded;  // (64, width rounded up to 32), of an FP8 cache
  void* rows;      // TileRows

  // Floats in front of `rows`.
  static int64_t Floats(const Shape& shape) {
    const int64_t width = RoundUp(shape.width, kSplitBlock);
    const int64_t rank = RoundUp(shape.rank, kSplitBlock);
    return RoundUp(shape.head_block * (width + rank + kTokenTile) +
                       2 * RoundUp(shape.head_block * shape.partial(), 16) + shape.decoded,
                   16);
  }

  template <class T>
  static Scratch Of(const ExecContext& context, int worker, const Shape& shape) {
    const int64_t width = RoundUp(shape.width, kSplitBlock);
    const int64_t rank = RoundUp(shape.rank, kSplitBlock);
    const int64_t partial = RoundUp(shape.head_block * shape.partial(), 16);
    const int64_t floats = Floats(shape);
    float* base = context.Scratch<float>(worker, 0, static_cast<size_t>(floats));
    Scratch scratch;
    scratch.query = base;
    scratch.values = scratch.query + shape.head_block * width;
    scratch.scores = scratch.values + shape.head_block * rank;
    scratch.partial = scratch.scores + shape.head_block * kTokenTile;
    scratch.merged = scratch.partial + partial;
    scratch.decoded = scratch.merged + partial;
    scratch.rows = context.Scratch<TileRows<T>>(worker, static_cast<size_t>(floats) * sizeof(float), 1);
    return scratch;
  }
};

// One chunk of one row's context for `heads` heads from `head` on. partial[i]: maximum, sum, unnormalised values.
template <class Q, class Cache>
void Chunk(const DecodeAttentionArgs& args, const View<const Q, 3>& query, const Cache& cache, const Shape& shape,
           int64_t r, int64_t head, int64_t heads, int64_t chunk, const Scratch& scratch, float* partial,
           int64_t partial_stride) {
  const int64_t width = RoundUp(shape.width, kSplitBlock);
  const int64_t rank = RoundUp(shape.rank, kSplitBlock);
  const int64_t tile_heads = RoundUp(heads, 4);
  using T = typename Cache::Element;
  const int64_t page_size = cache.page_size();
  const int64_t end = std::min<int64_t>(TokensOf(args, r), (chunk + 1) * kAttentionChunk);
  const int32_t* table = args.block_table.data + args.row_sequence(r) * args.block_table.stride[0];
  auto& rows = *static_cast<TileRows<T>*>(scratch.rows);

  for (int64_t h = 0; h < tile_heads; ++h) {
    float* to = scratch.query + h * width;
    if (h < heads) {
      ToSplit(query.data + r * query.stride[0] + (head + h) * query.stride[1], shape.width, to);
    } else {
      std::fill(to, to + width, 0.0f);
    }
  }
  std::fill(scratch.values, scratch.values + tile_heads * rank, 0.0f);
  float largest[kMostHeads];
  float sum[kMostHeads];
  for (int64_t h = 0; h < tile_heads; ++h) {
    largest[h] = -std::numeric_limits<float>::infinity();
    sum[h] = 0;
  }

  const bool short_width = shape.width % kSplitBlock != 0;
  const bool short_rank = shape.rank % kSplitBlock != 0;
  for (int64_t begin = chunk * kAttentionChunk; begin < end; begin += kTokenTile) {
    const int64_t tokens = std::min(kTokenTile, end - begin);
    const int64_t tile_tokens = RoundUp(tokens, 4);
    const auto find = [&](int64_t i) {
      const int64_t token = TokenAt(args, r, i);
      return std::pair<int64_t, int64_t>{table[token / page_size * args.block_table.stride[1]], token % page_size};
    };
    for (int64_t t = 0; t < tokens; ++t) {
      const auto [page, slot] = find(begin + t);
      rows.row[t] = cache.Read(page, slot, scratch.decoded + t * width);
    }
    const int64_t next_tokens = std::min(kTokenTile, std::max<int64_t>(0, end - begin - tokens));
    for (int64_t t = tokens; t < tile_tokens; ++t) rows.row[t] = rows.row[tokens - 1];

    const int64_t full_width = shape.width / kSplitBlock;
    if (short_width) rows.CopyShortBlock(full_width * kSplitBlock, shape.width % kSplitBlock, tile_tokens);
    for (int64_t t = 0; t < tile_tokens; t += 4) {
      for (int64_t i = t; i < std::min(t + 4, next_tokens); ++i) {
        const auto [page, slot] = find(begin + tokens + i);
        cache.Prefetch(page, slot);
      }
      for (int64_t h = 0; h < tile_heads; h += 4) {
        alignas(64) float product[16];
        DotTile(scratch.query + h * width, width, rows, t, full_width, short_width, product);
        for (int i = 0; i < 4; ++i) {
          float* to = scratch.scores + (h + i) * kTokenTile + t;
          for (int j = 0; j < 4; ++j) to[j] = product[4 * i + j] * args.softmax_scale;
        }
      }
    }

    for (int64_t h = 0; h < tile_heads; ++h) {
      const float factor = SoftmaxTile(scratch.scores + h * kTokenTile, tokens, &largest[h], &sum[h]);
      Scale(scratch.values + h * rank, rank, factor);
    }

    constexpr int kHeads = kParts == 1 ? 4 : 2;
    constexpr int kBlocks = kParts == 1 ? 2 : 1;
    const int64_t full_rank = shape.rank / kSplitBlock;
    int64_t block = 0;
    for (; block + kBlocks <= full_rank; block += kBlocks) {
      for (int64_t h = 0; h < tile_heads; h += kHeads) {
        WeightedTile<kHeads, kBlocks>(scratch.scores + h * kTokenTile, rows.row, block * kSplitBlock, tokens,
                                      scratch.values + h * rank + block * kSplitBlock, rank);
      }
    }
    const auto one_block = [&](const T* const* from, int64_t at) {
      for (int64_t h = 0; h < tile_heads; h += kHeads) {
        WeightedTile<kHeads, 1>(scratch.scores + h * kTokenTile, from, at, tokens,
                                scratch.values + h * rank + block * kSplitBlock, rank);
      }
    };
    for (; block < full_rank; ++block) one_block(rows.row, block * kSplitBlock);
    if (short_rank) {
      rows.CopyShortBlock(full_rank * kSplitBlock, shape.rank % kSplitBlock, tokens);
      const T* copy[kTokenTile];
      for (int64_t t = 0; t < tokens; ++t) copy[t] = rows.short_block[t];
      one_block(copy, 0);
    }
  }

  for (int64_t h = 0; h < heads; ++h) {
    float* to = partial + h * partial_stride;
    const float* values = scratch.values + h * rank;
    to[0] = largest[h];
    to[1] = sum[h];
    for (int64_t k = 0; k < shape.rank; ++k) to[2 + k] = values[SplitIndex(k)];
  }
}

// Adds a chunk's result to what earlier chunks gave. Its two callers must give the same bits, so the fused
// multiply-add is written, not left to the compiler.
void Merge(const float* partial /* (rank + 2) */, int64_t rank, float* merged /* (rank + 2) */) {
  const float largest = std::max(merged[0], partial[0]);
  const float old_factor = std::exp(merged[0] - largest);
  const float new_factor = std::exp(partial[0] - largest);
  merged[0] = largest;
  for (int64_t k = 1; k < rank + 2; ++k) {
    merged[k] = std::fma(merged[k], old_factor, partial[k] * new_factor);
  }
}

template <class Out>
void Finish(const float* merged /* (rank + 2) */, int64_t rank, Out* out /* (rank) */) {
  const float inverse = 1.0f / merged[1];
  for (int64_t k = 0; k < rank; ++k) out[k] = FromFloat<Out>(merged[2 + k] * inverse);
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
    const Scratch scratch = Scratch::Of<typename Cache::Element>(context, worker, shape);
    const int64_t stride = shape.partial();
    for (int64_t c = 0; c < chunks; ++c) {
      Chunk(args, query, cache, shape, r, head, heads, c, scratch, c == 0 ? scratch.merged : scratch.partial, stride);
      if (c == 0) continue;
      for (int64_t h = 0; h < heads; ++h) Merge(scratch.partial + h * stride, shape.rank, scratch.merged + h * stride);
    }
    for (int64_t h = 0; h < heads; ++h) {
      Out* to = out.data + r * out.stride[0] + (head + h) * out.stride[1];
      if (chunks == 0) {
        std::fill(to, to + shape.rank, Out{});
      } else {
        Finish(scratch.merged + h * stride, shape.rank, to);
      }
    }
  });
}

// Each task runs one chunk; its results lie in the shared workspace, (rows, heads, chunks, rank + 2).
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
  RunTasks(context, rows * shape.chunks * blocks, [&](int64_t task, int worker) {
    const int64_t head = task % blocks * shape.head_block;
    const int64_t chunk = task / blocks % shape.chunks;
    const int64_t r = task / blocks / shape.chunks;
    if (chunk >= Chunks(TokensOf(args, r))) return;
    const int64_t heads = std::min(shape.head_block, shape.heads - head);
    Chunk(args, query, cache, shape, r, head, heads, chunk,
          Scratch::Of<typename Cache::Element>(context, worker, shape), partial_at(r, head) + chunk * stride,
          shape.chunks * stride);
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
    for (int64_t c = 1; c < chunks; ++c) Merge(merged + c * stride, shape.rank, merged);
    Finish(merged, shape.rank, to);
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
        Shape shape{query.shape[1], args.kv_lora_rank, query.shape[2], Chunks(longest), DecodedFloats(args.kv_pages),
                    kMostHeads};
        // Split, also where threads are few, when several blocks of heads read each chunk: it then stays in the cache.
        const bool split = rows <= kSplitRows && shape.chunks > 1 &&
                           (shape.head_blocks() > 1 || rows * shape.head_blocks() < 4 * threads);
        // Fewer heads a task when the tasks would not go round; a head's result does not depend on its neighbours.
        const int64_t repeats = rows * (split ? shape.chunks : 1);
        while (shape.head_block > 4 && repeats * shape.head_blocks() < 2 * threads) shape.head_block /= 2;
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
  const int64_t chunks = Chunks(args.block_table.shape[1] * Extent(args.kv_pages, 1));
  const Shape shape{heads,
                    args.kv_lora_rank,
                    Extent(args.query, 2),
                    chunks,
                    DecodedFloats(args.kv_pages),
                    std::min(kMostHeads, RoundUp(heads, 4))};
  const int64_t rows = std::min(Extent(args.query, 0), kSplitRows);
  WorkspaceSize size;
  if (chunks > 1) size.shared = static_cast<size_t>(rows * heads * chunks * shape.partial()) * sizeof(float);
  size.per_worker = static_cast<size_t>(Scratch::Floats(shape)) * sizeof(float) + sizeof(TileRows<float>);
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
