#include <cmath>
#include <limits>

#include "ref/kernels.h"
#include "ref/product.h"
#include "ref/values.h"

namespace mxmla::ref {
namespace {

constexpr size_t AlignUp(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Hands out pieces of a worker's scratch memory.
class ScratchAllocator {
 public:
  ScratchAllocator(const ExecContext& context, int worker) : context_(context), worker_(worker) {}

  template <class T>
  T* Take(int64_t count) {
    T* piece = context_.Scratch<T>(worker_, used_, static_cast<size_t>(count));
    used_ += AlignUp(static_cast<size_t>(count) * sizeof(T));
    return piece;
  }

 private:
  const ExecContext& context_;
  int worker_;
  size_t used_ = 0;
};

// Elements begin .. begin+count of token t's cache row.
void LoadToken(const KvInput<3>& kv_pages, const View<const int32_t, 1>& block_table, int64_t t, int64_t begin,
               int64_t count, float* out) {
  const int64_t page_size = Extent(kv_pages, 1);
  LoadRow(kv_pages, block_table(t / page_size), t % page_size, begin, count, out);
}

}  // namespace

WorkspaceSize DecodeAttentionWorkspace(const DecodeAttentionArgs& args, int) {
  return {0, AlignUp(static_cast<size_t>(args.kv_lora_rank) * sizeof(double)) +
                 2 * AlignUp(static_cast<size_t>(Extent(args.query, 2)) * sizeof(float))};
}

// One (row, head) a task: the softmax is corrected, a token at a time, when a larger score turns up.
void DecodeAttention(const ExecContext& context, const DecodeAttentionArgs& args) {
  const int64_t heads = Extent(args.query, 1);
  const int64_t width = Extent(args.query, 2);
  const int64_t kv_lora_rank = args.kv_lora_rank;
  if (context.profiler) {
    context.profiler->AddBytes(TokensRead(args) * KvRowBytes(args.kv_pages));
  }
  const auto body = [&](int64_t task, int worker) {
    const int64_t r = task / heads;
    const int64_t h = task % heads;
    ScratchAllocator scratch(context, worker);
    auto* sum = scratch.Take<double>(kv_lora_rank);
    auto* query = scratch.Take<float>(width);
    auto* token = scratch.Take<float>(width);
    LoadRow(args.query, r, h, 0, width, query);
    std::fill_n(sum, kv_lora_rank, 0.0);
    const View<const int32_t, 1> block_table = args.block_table.Select(0, args.row_sequence(r));
    double maximum = -std::numeric_limits<double>::infinity();
    double total = 0;
    for (int64_t i = 0; i < TokensOf(args, r); ++i) {
      LoadToken(args.kv_pages, block_table, TokenAt(args, r, i), 0, width, token);
      const double score = static_cast<double>(args.softmax_scale) * Dot(query, token, width);
      if (!(score <= maximum)) {
        const double correction = std::exp(maximum - score);
        for (int64_t l = 0; l < kv_lora_rank; ++l) sum[l] *= correction;
        total *= correction;
        maximum = score;
      }
      const double p = std::exp(score - maximum);
      total += p;
      for (int64_t l = 0; l < kv_lora_rank; ++l) sum[l] += p * static_cast<double>(token[l]);
    }
    const double factor = args.row_length(r) > 0 ? 1.0 / total : 0.0;
    float* out = token;
    for (int64_t l = 0; l < kv_lora_rank; ++l) out[l] = static_cast<float>(sum[l] * factor);
    StoreRow(args.out, r, h, 0, kv_lora_rank, out);
  };
  ParallelFor(context, Extent(args.query, 0) * heads, body);
}

// Room for the longest context that the page table can name.
WorkspaceSize PrefillAttentionWorkspace(const PrefillAttentionArgs& args, int) {
  const auto length = static_cast<size_t>(args.block_table.shape[1] * Extent(args.kv_pages, 1));
  const auto qk_head_dim = static_cast<size_t>(Extent(args.query, 2));
  const auto v_head_dim = static_cast<size_t>(args.w_vc.head_rows);
  return {0, AlignUp(length * qk_head_dim * sizeof(float)) + AlignUp(length * v_head_dim * sizeof(float)) +
                 AlignUp(length * sizeof(double)) + AlignUp(qk_head_dim * sizeof(float)) +
                 AlignUp(v_head_dim * sizeof(double))};
}

// One head a task: its keys and values are expanded for all tokens, then every row attends.
static void AttendSegment(const ExecContext& context, const PrefillAttentionArgs& args, int64_t row_begin,
                          int64_t row_end) {
  const int64_t qk_head_dim = Extent(args.query, 2);
  const int64_t nope = args.w_kc.head_rows;
  const int64_t rope = qk_head_dim - nope;
  const int64_t v_head_dim = args.w_vc.head_rows;
  const int64_t kv_lora_rank = ColumnCount(args.w_kc.tensor);
  const int64_t length = args.row_length(row_end - 1);
  const View<const int32_t, 1> block_table = args.block_table.Select(0, args.row_sequence(row_begin));
  const auto body = [&](int64_t h, int worker) {
    ScratchAllocator scratch(context, worker);
    auto* keys = scratch.Take<float>(length * qk_head_dim);   // (length, qk_head_dim)
    auto* values = scratch.Take<float>(length * v_head_dim);  // (length, v_head_dim)
    auto* scores = scratch.Take<double>(length);              // (length)
    auto* query = scratch.Take<float>(qk_head_dim);
    auto* sum = scratch.Take<double>(v_head_dim);
    const auto expand = [&](const LinearWeight& weight, int64_t stride, float* to) {
      for (int64_t t0 = 0; t0 < length; t0 += kTileRows) {
        for (int64_t c0 = 0; c0 < RowCount(weight); c0 += kTileColumns) {
          ProductTile(
              std::min(kTileRows, length - t0), std::min(kTileColumns, RowCount(weight) - c0), kv_lora_rank,
              [&](int64_t t, int64_t begin, int64_t count, float* out) {
                LoadToken(args.kv_pages, block_table, t0 + t, begin, count, out);
              },
              [&](int64_t c, int64_t begin, int64_t count, float* out) {
                LoadWeight(weight, c0 + c, begin, count, out);
              },
              [&](int64_t t, int64_t c, float value) { to[(t0 + t) * stride + c0 + c] = value; });
        }
      }
    };
    expand(args.w_kc.Head(h), qk_head_dim, keys);
    expand(args.w_vc.Head(h), v_head_dim, values);
    for (int64_t t = 0; t < length; ++t) {
      LoadToken(args.kv_pages, block_table, t, kv_lora_rank, rope, keys + t * qk_head_dim + nope);
    }
    for (int64_t r = row_begin; r < row_end; ++r) {
      const int64_t visible = args.row_length(r);
      LoadRow(args.query, r, h, 0, qk_head_dim, query);
      double maximum = -std::numeric_limits<double>::infinity();
      for (int64_t t = 0; t < visible; ++t) {
        scores[t] = static_cast<double>(args.softmax_scale) * Dot(query, keys + t * qk_head_dim, qk_head_dim);
        maximum = std::max(maximum, scores[t]);
      }
      std::fill_n(sum, v_head_dim, 0.0);
      double total = 0;
      for (int64_t t = 0; t < visible; ++t) {
        const double p = std::exp(scores[t] - maximum);
        total += p;
        for (int64_t c = 0; c < v_head_dim; ++c) sum[c] += p * static_cast<double>(values[t * v_head_dim + c]);
      }
      for (int64_t c = 0; c < v_head_dim; ++c) {
        const auto value = static_cast<float>(sum[c] / total);
        StoreRow(args.out, r, h, c, 1, &value);
      }
    }
  };
  ParallelFor(context, Extent(args.query, 1), body);
}

void PrefillAttention(const ExecContext& context, const PrefillAttentionArgs& args) {
  const int64_t segments = args.segment_begin.shape[0] - 1;
  for (int64_t s = 0; s < segments; ++s) {
    if (args.segment_begin(s) < args.segment_begin(s + 1)) {
      AttendSegment(context, args, args.segment_begin(s), args.segment_begin(s + 1));
    }
  }
}

}  // namespace mxmla::ref
