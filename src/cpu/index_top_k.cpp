// The indexer's scores, and the tokens whose scores are largest.
//
// A token costs 2 bytes x n to read and heads x 2n operations: 256 bytes and 16384 operations for DeepSeek-V3.2, so
// that the multiply-adds are the limit. Scores become integers of the same order, among which a radix selection finds
// the k-th largest in three passes.
#include <cmath>

#include "cpu/attention_tile.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "ops/attention.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

constexpr int64_t kScoreTokens = 512;  // of a task, where a row's tokens are shared among the threads
constexpr int64_t kSplitRows = 4;      // rows whose tokens are; more keep the threads busy themselves
constexpr int kRadixBits = 11;
constexpr int64_t kBins = int64_t{1} << kRadixBits;

struct Shape {
  int64_t heads, n;
  int64_t context;  // tokens that the page table can name

  int64_t padded_heads() const { return RoundUp(heads, 4); }
  int64_t padded_n() const { return RoundUp(n, kSplitBlock); }
  int64_t query_floats() const { return padded_heads() * padded_n(); }
};

Shape ShapeOf(const IndexTopKArgs& args) {
  return {Extent(args.query, 1), Extent(args.query, 2), args.block_table.shape[1] * Extent(args.key_pages, 1)};
}

size_t ScratchBytes(const Shape& shape, bool with_scores) {
  return static_cast<size_t>(RoundUp(shape.query_floats(), 16)) * sizeof(float) + sizeof(TileRows<float>) +
         static_cast<size_t>(kBins) * sizeof(uint32_t) +
         (with_scores ? static_cast<size_t>(shape.context) * sizeof(uint32_t) : 0);
}

struct Scratch {
  float* query;     // (padded_heads, padded_n), split
  void* rows;       // TileRows
  uint32_t* bins;   // (kBins)
  uint32_t* order;  // (context), with scores

  template <class T>
  static Scratch Of(const ExecContext& context, int worker, const Shape& shape, bool with_scores) {
    Scratch scratch;
    size_t offset = 0;
    scratch.query = context.Scratch<float>(worker, offset, static_cast<size_t>(shape.query_floats()));
    offset += static_cast<size_t>(RoundUp(shape.query_floats(), 16)) * sizeof(float);
    scratch.rows = context.Scratch<TileRows<T>>(worker, offset, 1);
    offset += sizeof(TileRows<float>);
    scratch.bins = context.Scratch<uint32_t>(worker, offset, kBins);
    offset += static_cast<size_t>(kBins) * sizeof(uint32_t);
    scratch.order =
        with_scores ? context.Scratch<uint32_t>(worker, offset, static_cast<size_t>(shape.context)) : nullptr;
    return scratch;
  }
};

// Rises with the score; -0 and 0 are one, NaN is above all others.
uint32_t Ordered(float score) {
  if (std::isnan(score)) return ~0u;
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

template <class Q>
void SplitQuery(const View<const Q, 3>& query, const Shape& shape, int64_t r, float* to) {
  for (int64_t h = 0; h < shape.heads; ++h) {
    ToSplit(query.data + r * query.stride[0] + h * query.stride[1], shape.n, to + h * shape.padded_n());
  }
  std::fill(to + shape.heads * shape.padded_n(), to + shape.query_floats(), 0.0f);
}

// The scores of tokens begin .. end of row r, as integers of their order. Both ways of sharing the work call this one
// function, so that a score's bits are the same.
template <class T>
[[gnu::noinline]] void Score(const IndexTopKArgs& args, const View<const T, 3>& pages, const Shape& shape, int64_t r,
                             int64_t begin, int64_t end, const float* query, TileRows<T>& rows,
                             uint32_t* order /* (end - begin) */) {
  const int64_t page_size = pages.shape[1];
  const int64_t width = shape.padded_n();
  const int64_t full_blocks = shape.n / kSplitBlock;
  const bool short_block = shape.n % kSplitBlock != 0;
  const int32_t* table = args.block_table.data + args.row_sequence(r) * args.block_table.stride[0];
  for (int64_t first = begin; first < end; first += kTokenTile) {
    const int64_t tokens = std::min(kTokenTile, end - first);
    const int64_t tile_tokens = RoundUp(tokens, 4);
    for (int64_t i = 0; i < tile_tokens; ++i) {
      const int64_t t = first + std::min(i, tokens - 1);
      rows.row[i] = pages.data + table[t / page_size * args.block_table.stride[1]] * pages.stride[0] +
                    t % page_size * pages.stride[1];
    }
    if (short_block) rows.CopyShortBlock(full_blocks * kSplitBlock, shape.n % kSplitBlock, tile_tokens);
    for (int64_t t = 0; t < tile_tokens; t += 4) {
      float score[4] = {};
      for (int64_t h = 0; h < shape.padded_heads(); h += 4) {
        alignas(64) float product[16];
        DotTile(query + h * width, width, rows, t, full_blocks, short_block, product);
        for (int64_t i = 0; i < std::min<int64_t>(4, shape.heads - h); ++i) {
          const float weight = args.weights(r, h + i);
          for (int j = 0; j < 4; ++j) score[j] += weight * std::max(product[4 * i + j], 0.0f);
        }
      }
      for (int64_t j = 0; j < std::min<int64_t>(4, tokens - t); ++j) order[first - begin + t + j] = Ordered(score[j]);
    }
  }
}

// The k largest of `length` > k numbers, of equal ones the first; in the order of their places.
void Choose(const uint32_t* order /* (length) */, int64_t length, int64_t k, uint32_t* bins,
            const View<int32_t, 1>& chosen /* (k) */) {
  uint32_t known = 0;  // the k-th largest's leading bits
  int64_t wanted = k;  // of the numbers that begin so
  int shift = 32;
  while (shift > 0) {
    const int bits = std::min(kRadixBits, shift);
    const uint32_t mask = shift == 32 ? 0 : ~0u << shift;
    shift -= bits;
    std::fill(bins, bins + kBins, 0u);
    for (int64_t i = 0; i < length; ++i) {
      if ((order[i] & mask) == known) ++bins[(order[i] >> shift) & ((1u << bits) - 1)];
    }
    int64_t bin = (int64_t{1} << bits) - 1;
    for (; static_cast<int64_t>(bins[bin]) < wanted; --bin) wanted -= static_cast<int64_t>(bins[bin]);
    known |= static_cast<uint32_t>(bin) << shift;
  }
  int64_t at = 0;
  for (int64_t i = 0; at < k; ++i) {
    if (order[i] < known || (order[i] == known && wanted == 0)) continue;
    if (order[i] == known) --wanted;
    chosen(at++) = static_cast<int32_t>(i);
  }
}

template <class Q, class T>
void RunRows(const ExecContext& context, const IndexTopKArgs& args, const View<const Q, 3>& query,
             const View<const T, 3>& pages, const Shape& shape) {
  const int64_t k = args.chosen.shape[1];
  RunTasks(context, query.shape[0], [&](int64_t r, int worker) {
    const int64_t length = args.row_length(r);
    if (length <= k) return;
    const Scratch scratch = Scratch::Of<T>(context, worker, shape, true);
    SplitQuery(query, shape, r, scratch.query);
    Score(args, pages, shape, r, 0, length, scratch.query, *static_cast<TileRows<T>*>(scratch.rows), scratch.order);
    Choose(scratch.order, length, k, scratch.bins, args.chosen.Select(0, r));
  });
}

// Each task scores one stretch of a row's tokens into the shared workspace, (rows, context).
template <class Q, class T>
void RunSplit(const ExecContext& context, const IndexTopKArgs& args, const View<const Q, 3>& query,
              const View<const T, 3>& pages, const Shape& shape, int64_t longest) {
  const int64_t k = args.chosen.shape[1];
  const int64_t rows = query.shape[0];
  const int64_t stretches = (longest + kScoreTokens - 1) / kScoreTokens;
  auto* order = context.SharedScratch<uint32_t>(0, static_cast<size_t>(rows * shape.context));
  RunTasks(context, rows * stretches, [&](int64_t task, int worker) {
    const int64_t r = task / stretches;
    const int64_t begin = task % stretches * kScoreTokens;
    const int64_t length = args.row_length(r);
    if (length <= k || begin >= length) return;
    const Scratch scratch = Scratch::Of<T>(context, worker, shape, false);
    SplitQuery(query, shape, r, scratch.query);
    Score(args, pages, shape, r, begin, std::min(length, begin + kScoreTokens), scratch.query,
          *static_cast<TileRows<T>*>(scratch.rows), order + r * shape.context + begin);
  });
  RunTasks(context, rows, [&](int64_t r, int worker) {
    const int64_t length = args.row_length(r);
    if (length <= k) return;
    Choose(order + r * shape.context, length, k, Scratch::Of<T>(context, worker, shape, false).bins,
           args.chosen.Select(0, r));
  });
}

void Run(const ExecContext& context, const IndexTopKArgs& args) {
  std::visit(
      [&](const auto& query, const auto& pages) {
        const Shape shape = ShapeOf(args);
        const int64_t rows = query.shape[0];
        int64_t longest = 0;
        for (int64_t r = 0; r < rows; ++r) longest = std::max<int64_t>(longest, args.row_length(r));
        if (longest <= args.chosen.shape[1]) return;
        if (context.profiler) {
          context.profiler->AddBytes(TokensRead(args.row_sequence, args.row_length) * shape.n *
                                     static_cast<int64_t>(sizeof(*pages.data)));
        }
        if (rows <= kSplitRows && context.pool->threads() > rows) {
          RunSplit(context, args, query, pages, shape, longest);
        } else {
          RunRows(context, args, query, pages, shape);
        }
      },
      args.query, args.key_pages);
}

WorkspaceSize WorkspaceFor(const IndexTopKArgs& args, int) {
  const Shape shape = ShapeOf(args);
  const int64_t rows = std::min(Extent(args.query, 0), kSplitRows);
  return {static_cast<size_t>(rows * shape.context) * sizeof(uint32_t), ScratchBytes(shape, true)};
}

}  // namespace

KernelTable<IndexTopKArgs> MakeIndexTopKKernels() {
  return {{kKernelName,
           {{.operand = "query", .inner_stride_one = true}, {.operand = "key_pages", .inner_stride_one = true}},
           &Run,
           &WorkspaceFor}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
