// Causal attention with expanded heads.
//
// A task takes one head and a block of rows of one segment. It walks over the context in tiles of 64 tokens at fixed
// positions: a tile's keys and values are expanded into scratch (so scratch does not grow with the context), then every
// row of the block that sees the tile takes it into its running softmax. What a row gets depends on its position and
// the context alone.
#include <algorithm>
#include <cmath>

#include "cpu/cache_rows.h"
#include "cpu/coded_matrix.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/softmax_tile.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

constexpr int64_t kMostRows = 512;  // rows of a task
constexpr int64_t kLeastRows = 32;
constexpr int64_t kRowTile = 8;     // rows that share a softmax step
constexpr int64_t kBlockTiles = 4;  // tiles of tokens expanded before the rows use them

struct Shape {
  int64_t nope;
  int64_t rope;
  int64_t value;    // v_head_dim
  int64_t rank;     // kv_lora_rank
  int64_t decoded;  // floats of a tile's decoded cache rows, DecodedFloats

  int64_t key() const { return nope + rope; }
  int64_t padded_nope() const { return RoundUp(nope, 4); }
  int64_t padded_key() const { return padded_nope() + rope; }
  int64_t padded_value() const { return RoundUp(value, 16); }
  int64_t padded_rank() const { return RoundUp(rank, kSplitBlock); }
};

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t SegmentRows(const PrefillAttentionArgs& args, int64_t segment) {
  return args.segment_begin(segment + 1) - args.segment_begin(segment);
}

// A task's scratch: floats of one worker.
struct Scratch {
  float* w_kc;     // (padded_nope, padded_rank), split rows
  float* w_vc;     // (padded_value, padded_rank), split rows
  float* keys;     // (kBlockTiles, padded_key, 64): a lane a token
  float* values;   // (kBlockTiles, 64, padded_value)
  float* sums;     // (kMostRows, padded_value): unnormalised results
  float* largest;  // (kMostRows)
  float* totals;   // (kMostRows)
  float* query;    // (kRowTile, key)
  float* scores;   // (kRowTile, 64)
  float* decoded;  // (64, kv_lora_rank + rope rounded up to 32), of an FP8 cache
  void* rows;      // TileRows

  static size_t Bytes(const Shape& shape, int64_t block_rows) {
    const int64_t floats = (shape.padded_nope() + shape.padded_value()) * shape.padded_rank() +
                           kBlockTiles * kTokenTile * (shape.padded_key() + shape.padded_value()) +
                           block_rows * (shape.padded_value() + 2) + kRowTile * (shape.key() + kTokenTile) +
                           shape.decoded + 10 * 16;
    return static_cast<size_t>(floats) * sizeof(float) + sizeof(TileRows<float>);
  }

  template <class T>
  static Scratch Of(const ExecContext& context, int worker, const Shape& shape, int64_t block_rows) {
    size_t offset = 0;
    const auto take = [&](int64_t count) {
      float* part = context.Scratch<float>(worker, offset, static_cast<size_t>(count));
      offset += static_cast<size_t>(RoundUp(count, 16)) * sizeof(float);
      return part;
    };
    Scratch scratch;
    scratch.w_kc = take(shape.padded_nope() * shape.padded_rank());
    scratch.w_vc = take(shape.padded_value() * shape.padded_rank());
    scratch.keys = take(kBlockTiles * shape.padded_key() * kTokenTile);
    scratch.values = take(kBlockTiles * shape.padded_value() * kTokenTile);
    scratch.sums = take(block_rows * shape.padded_value());
    scratch.largest = take(block_rows);
    scratch.totals = take(block_rows);
    scratch.query = take(kRowTile * shape.key());
    scratch.scores = take(kRowTile * kTokenTile);
    scratch.decoded = take(shape.decoded);
    scratch.rows = context.Scratch<TileRows<T>>(worker, offset, 1);
    return scratch;
  }
};

// c[i][0 .. 16 * kVectors) = (or +=, from a c already there) sum over d < depth of a[i][d] * b[d][..] for kRows rows.
template <int kRows, int kVectors, bool kAdd>
MXMLA_INLINE void MultiplyTile(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t depth,
                               float* c, int64_t c_stride) {
  F32x16 sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) sum[i][j] = kAdd ? Load(c + i * c_stride + 16 * j) : Zero();
  }
  for (int64_t d = 0; d < depth; ++d) {
    F32x16 row[kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) row[j] = Load(b + d * b_stride + 16 * j);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const F32x16 factor = Splat(a[i * a_stride + d]);
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) sum[i][j] = Fma(factor, row[j], sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) Store(c + i * c_stride + 16 * j, sum[i][j]);
  }
}

// The same for `rows` rows and `columns` columns, a multiple of 16, in tiles that fit the registers.
template <bool kAdd>
void Multiply(const float* a, int64_t a_stride, int64_t rows, const float* b, int64_t b_stride, int64_t columns,
              int64_t depth, float* c, int64_t c_stride) {
  constexpr int kRows = kParts == 1 ? 8 : kParts == 2 ? 4 : 2;
  constexpr int kVectors = kParts == 1 ? 2 : 1;
  int64_t j = 0;
  for (; j + 16 * kVectors <= columns; j += 16 * kVectors) {
    int64_t i = 0;
    for (; i + kRows <= rows; i += kRows) {
      MultiplyTile<kRows, kVectors, kAdd>(a + i * a_stride, a_stride, b + j, b_stride, depth, c + i * c_stride + j,
                                          c_stride);
    }
    for (; i < rows; ++i) {
      MultiplyTile<1, kVectors, kAdd>(a + i * a_stride, a_stride, b + j, b_stride, depth, c + i * c_stride + j,
                                      c_stride);
    }
  }
  for (; j < columns; j += 16) {
    int64_t i = 0;
    for (; i + kRows <= rows; i += kRows) {
      MultiplyTile<kRows, 1, kAdd>(a + i * a_stride, a_stride, b + j, b_stride, depth, c + i * c_stride + j, c_stride);
    }
    for (; i < rows; ++i) {
      MultiplyTile<1, 1, kAdd>(a + i * a_stride, a_stride, b + j, b_stride, depth, c + i * c_stride + j, c_stride);
    }
  }
}

// A head's weights as split rows of float32, zero rows up to `padded`.
void DecodeWeight(const HeadWeight& weight, int64_t h, int64_t padded, const Shape& shape, float* to) {
  const int64_t stride = shape.padded_rank();
  std::visit(
      [&](const auto& matrix) {
        const Stretch stretch{0, shape.rank / kBlock, shape.rank % kBlock};
        for (int64_t j = 0; j < weight.head_rows; ++j) {
          Pack(RowOf(matrix, j), stretch, to + j * stride, kBlock);
        }
      },
      weight.Head(h));
  std::fill(to + weight.head_rows * stride, to + padded * stride, 0.0f);
}

// Tokens begin .. begin + tokens <= 64 of the context: their keys (padded_key, 64) and values (64, padded_value).
template <class Cache>
void ExpandTile(const View<const int32_t, 1>& block_table, const Cache& cache, const Shape& shape, int64_t begin,
                int64_t tokens, const Scratch& scratch, float* keys, float* values) {
  auto& rows = *static_cast<TileRows<typename Cache::Element>*>(scratch.rows);
  const int64_t decoded_width = shape.decoded / kTokenTile;
  const int64_t tile_tokens = RoundUp(tokens, 4);
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t token = begin + t;
    rows.row[t] = cache.Read(block_table(token / cache.page_size()), token % cache.page_size(),
                             scratch.decoded + t * decoded_width);
  }
  for (int64_t t = tokens; t < tile_tokens; ++t) rows.row[t] = rows.row[tokens - 1];
  const int64_t full_blocks = shape.rank / kSplitBlock;
  const bool short_block = shape.rank % kSplitBlock != 0;
  if (short_block) rows.CopyShortBlock(full_blocks * kSplitBlock, shape.rank % kSplitBlock, tile_tokens);

  constexpr int64_t kTokens = 16;  // their latents stay in the first cache while all weights pass by
  for (int64_t t0 = 0; t0 < tile_tokens; t0 += kTokens) {
    const int64_t t1 = std::min(t0 + kTokens, tile_tokens);
    alignas(64) float product[16];
    for (int64_t j = 0; j < shape.padded_nope(); j += 4) {
      for (int64_t t = t0; t < t1; t += 4) {
        DotTile(scratch.w_kc + j * shape.padded_rank(), shape.padded_rank(), rows, t, full_blocks, short_block,
                product);
        for (int i = 0; i < 4; ++i) std::memcpy(keys + (j + i) * kTokenTile + t, product + 4 * i, 4 * sizeof(float));
      }
    }
    for (int64_t j = 0; j < shape.padded_value(); j += 4) {
      for (int64_t t = t0; t < t1; t += 4) {
        DotTile(scratch.w_vc + j * shape.padded_rank(), shape.padded_rank(), rows, t, full_blocks, short_block,
                product);
        for (int i = 0; i < 4; ++i) {
          for (int u = 0; u < 4; ++u) values[(t + u) * shape.padded_value() + j + i] = product[4 * i + u];
        }
      }
    }
  }
  float* rotated = keys + shape.nope * kTokenTile;
  for (int64_t i = 0; i < shape.rope; ++i) {
    for (int64_t t = 0; t < tile_tokens; ++t) {
      rotated[i * kTokenTile + t] = mxmla::ToFloat(rows.row[t][shape.rank + i]);
    }
  }
  // Lanes past the last token are multiplied and thrown away; they must not hold what takes long, such as subnormals.
  for (int64_t i = 0; i < shape.key() && tile_tokens < kTokenTile; ++i) {
    std::fill(keys + i * kTokenTile + tile_tokens, keys + (i + 1) * kTokenTile, 0.0f);
  }
}

// Takes a tile of tokens into the running softmax of `count` <= 8 rows, the first at position `position`.
void Attend(const Shape& shape, float softmax_scale, int64_t position, int64_t count, int64_t tile_begin,
            const float* keys, const float* values, const float* query, float* scores, float* largest, float* totals,
            float* sums) {
  const auto seen = [&](int64_t i) { return std::clamp<int64_t>(position + i + 1 - tile_begin, 0, kTokenTile); };
  const int64_t columns = RoundUp(seen(count - 1), 16);
  if (columns == 0) return;
  Multiply<false>(query, shape.key(), count, keys, kTokenTile, columns, shape.key(), scores, kTokenTile);
  for (int64_t i = 0; i < count; ++i) {
    if (seen(i) == 0) continue;
    float* row = scores + i * kTokenTile;
    for (int64_t k = 0; k < columns; k += 16) Store(row + k, Load(row + k) * Splat(softmax_scale));
    const float factor = SoftmaxTile(row, seen(i), &largest[i], &totals[i]);
    Scale(sums + i * shape.padded_value(), shape.padded_value(), factor);
  }
  // What all rows see, then each row's own rest: a row never touches a later token, not even with weight 0.
  const int64_t common = seen(0);
  Multiply<true>(scores, kTokenTile, count, values, shape.padded_value(), shape.padded_value(), common, sums,
                 shape.padded_value());
  for (int64_t i = 1; i < count; ++i) {
    if (seen(i) == common) continue;
    Multiply<true>(scores + i * kTokenTile + common, kTokenTile, 1, values + common * shape.padded_value(),
                   shape.padded_value(), shape.padded_value(), seen(i) - common, sums + i * shape.padded_value(),
                   shape.padded_value());
  }
}

// Rows row_begin .. row_end, all of one segment, of head h.
template <class Q, class Cache, class Out>
void HeadRows(const ExecContext& context, const PrefillAttentionArgs& args, const View<const Q, 3>& query,
              const Cache& cache, const View<Out, 3>& out, const Shape& shape, int64_t h, int64_t row_begin,
              int64_t row_end, int64_t block_rows, int worker) {
  const Scratch scratch = Scratch::Of<typename Cache::Element>(context, worker, shape, block_rows);
  const int64_t rows = row_end - row_begin;
  const int64_t padded_value = shape.padded_value();
  DecodeWeight(args.w_kc, h, shape.padded_nope(), shape, scratch.w_kc);
  DecodeWeight(args.w_vc, h, padded_value, shape, scratch.w_vc);
  std::fill(scratch.sums, scratch.sums + rows * padded_value, 0.0f);
  std::fill(scratch.largest, scratch.largest + rows, -std::numeric_limits<float>::infinity());
  std::fill(scratch.totals, scratch.totals + rows, 0.0f);

  const int64_t first = args.row_length(row_begin) - 1;      // position
  const int64_t context_end = args.row_length(row_end - 1);  // tokens that the last row sees
  const View<const int32_t, 1> block_table = args.block_table.Select(0, args.row_sequence(row_begin));
  constexpr int64_t kBlockTokens = kBlockTiles * kTokenTile;
  for (int64_t block = 0; block < context_end; block += kBlockTokens) {
    const int64_t block_end = std::min(block + kBlockTokens, context_end);
    const auto keys = [&](int64_t tile) { return scratch.keys + tile * shape.padded_key() * kTokenTile; };
    const auto values = [&](int64_t tile) { return scratch.values + tile * kTokenTile * padded_value; };
    for (int64_t begin = block, tile = 0; begin < block_end; begin += kTokenTile, ++tile) {
      ExpandTile(block_table, cache, shape, begin, std::min(kTokenTile, block_end - begin), scratch, keys(tile),
                 values(tile));
    }
    for (int64_t r = 0; r < rows; r += kRowTile) {
      const int64_t count = std::min(kRowTile, rows - r);
      if (first + r + count <= block) continue;
      for (int64_t i = 0; i < count; ++i) {
        const Q* from = query.data + (row_begin + r + i) * query.stride[0] + h * query.stride[1];  // (key)
        float* to = scratch.query + i * shape.key();
        for (int64_t k = 0; k < shape.key(); ++k) to[k] = mxmla::ToFloat(from[k]);
      }
      for (int64_t begin = block, tile = 0; begin < block_end; begin += kTokenTile, ++tile) {
        Attend(shape, args.softmax_scale, first + r, count, begin, keys(tile), values(tile), scratch.query,
               scratch.scores, scratch.largest + r, scratch.totals + r, scratch.sums + r * padded_value);
      }
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    Out* to = out.data + (row_begin + r) * out.stride[0] + h * out.stride[1];  // (v_head_dim)
    const float inverse = 1.0f / scratch.totals[r];
    for (int64_t k = 0; k < shape.value; ++k) to[k] = FromFloat<Out>(scratch.sums[r * padded_value + k] * inverse);
  }
}

Shape ShapeOf(const PrefillAttentionArgs& args) {
  const int64_t rank = ColumnCount(args.w_kc.tensor);
  return {args.w_kc.head_rows, Extent(args.kv_pages, 2) - rank, args.w_vc.head_rows, rank,
          DecodedFloats(args.kv_pages)};
}

void Run(const ExecContext& context, const PrefillAttentionArgs& args) {
  std::visit(
      [&](const auto& query, const auto& pages, const auto& out) {
        const int64_t heads = query.shape[1];
        const int64_t segments = args.segment_begin.shape[0] - 1;
        const int64_t rows = args.segment_begin(segments);
        if (context.profiler) {
          context.profiler->AddBytes(TokensRead(args.row_sequence.Rows(0, rows), args.row_length.Rows(0, rows)) *
                                     KvRowBytes(args.kv_pages));
        }
        const Shape shape = ShapeOf(args);
        // Every block of rows expands the context anew: more blocks than needed only where threads would stand idle.
        const int64_t wanted = (context.pool->threads() + heads - 1) / heads;
        const int64_t block_rows = std::clamp(RoundUp((rows + wanted - 1) / wanted, kRowTile), kLeastRows, kMostRows);
        int64_t blocks = 0;
        for (int64_t s = 0; s < segments; ++s) blocks += CeilDiv(SegmentRows(args, s), block_rows);
        RunTasks(context, heads * blocks, [&](int64_t task, int worker) {
          // A segment's last rows have the most to do and go first.
          int64_t block = blocks - 1 - task / heads;
          int64_t segment = 0;
          for (; block >= CeilDiv(SegmentRows(args, segment), block_rows); ++segment) {
            block -= CeilDiv(SegmentRows(args, segment), block_rows);
          }
          const int64_t begin = args.segment_begin(segment) + block * block_rows;
          const int64_t end = std::min<int64_t>(args.segment_begin(segment + 1), begin + block_rows);
          HeadRows(context, args, query, RowsOf(pages), out, shape, task % heads, begin, end,
                   std::min(rows, block_rows), worker);
        });
      },
      args.query, args.kv_pages, args.out);
}

WorkspaceSize WorkspaceFor(const PrefillAttentionArgs& args, int) {
  return {0, Scratch::Bytes(ShapeOf(args), std::min(kMostRows, Extent(args.query, 0)))};
}

}  // namespace

KernelTable<PrefillAttentionArgs> MakePrefillAttentionKernels() {
  return {{kKernelName,
           {{.operand = "query", .inner_stride_one = true},
            {.operand = "kv_pages", .inner_stride_one = true},
            {.operand = "w_kc", .inner_stride_one = true},
            {.operand = "w_vc", .inner_stride_one = true},
            {.operand = "out", .inner_stride_one = true}},
           &Run,
           &WorkspaceFor}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
