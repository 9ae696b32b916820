#include "ops/attention.h"

#include <algorithm>

#include "ops/check.h"
#include "ops/kernel_set.h"

namespace mxmla {
namespace {

// Tokens that must be read: rows of one sequence that follow one another read the same tokens.
int64_t TokensRead(const DecodeAttentionArgs& args) {
  int64_t tokens = 0;
  int64_t longest = 0;
  for (int64_t r = 0; r < args.row_length.shape[0]; ++r) {
    if (r > 0 && args.row_sequence(r) != args.row_sequence(r - 1)) {
      tokens += longest;
      longest = 0;
    }
    longest = std::max<int64_t>(longest, args.row_length(r));
  }
  return tokens + longest;
}

int64_t RoundUp(int64_t n, int64_t step) { return internal::CeilDiv(n, step) * step; }
size_t RoundUp64(int64_t bytes) { return static_cast<size_t>(internal::CeilDiv(bytes, 64) * 64); }

}  // namespace

void DecodeAttention(const ExecContext& context, const DecodeAttentionArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "decode_attention";
  const int64_t rows = Extent(args.query, 0);
  const int64_t heads = Extent(args.query, 1);
  const int64_t width = Extent(args.query, 2);
  const int64_t page_size = Extent(args.kv_pages, 1);
  CheckExtent(kOp, "kv_pages extent 2 (width of query)", width, Extent(args.kv_pages, 2));
  CheckAtMost(kOp, "kv_lora_rank (up to the width of query)", width, args.kv_lora_rank);
  CheckExtent(kOp, "row_sequence extent 0 (rows of query)", rows, args.row_sequence.shape[0]);
  CheckExtent(kOp, "row_length extent 0 (rows of query)", rows, args.row_length.shape[0]);
  CheckExtent(kOp, "out extent 0 (rows of query)", rows, Extent(args.out, 0));
  CheckExtent(kOp, "out extent 1 (heads of query)", heads, Extent(args.out, 1));
  CheckExtent(kOp, "out extent 2 (kv_lora_rank)", args.kv_lora_rank, Extent(args.out, 2));
  CheckAtMost(kOp, "max_length (tokens of block_table)", args.block_table.shape[1] * page_size, args.max_length);
  if (rows == 0 || heads == 0) return;
  for (int64_t r = 0; r < rows; ++r) {
    CheckAtMost(kOp, "row_length (up to max_length)", args.max_length, args.row_length(r));
    CheckAtMost(kOp, "row_sequence (sequences of block_table)", args.block_table.shape[0] - 1, args.row_sequence(r));
  }
  const int64_t partials = rows * DecodeAttentionPartials(heads, args.kv_lora_rank, args.max_length);
  CheckTrue(kOp, "partials", args.partials.empty() || args.partials.size() >= partials,
            "none, or DecodeAttentionPartials floats a row", "fewer");
  OperandList operands;
  operands.Add("query", args.query);
  operands.Add("kv_pages", args.kv_pages);
  operands.Add("block_table", args.block_table);
  operands.Add("row_sequence", args.row_sequence);
  operands.Add("row_length", args.row_length);
  operands.Add("out", args.out);
  operands.Add("partials", args.partials);
  Dispatch(context, context.kernels->decode_attention, kOp, args, operands,
           Bytes(args.query) + TokensRead(args) * width * ElementSize(args.kv_pages) + Bytes(args.out));
}

int64_t DecodeAttentionPartials(int64_t heads, int64_t kv_lora_rank, int64_t max_length) {
  return heads * std::max<int64_t>(1, internal::CeilDiv(max_length, kAttentionChunk)) * (kv_lora_rank + 2);
}

size_t DecodeAttentionScratchBytes(int64_t heads, int64_t kv_lora_rank, int64_t qk_rope_head_dim) {
  constexpr int64_t kTile = 64;  // cache rows that a kernel may unpack at a time
  const int64_t width = kv_lora_rank + qk_rope_head_dim;
  const int64_t query = heads * width;
  const int64_t values = 2 * heads * kv_lora_rank;
  const int64_t scores = 2 * heads * kAttentionChunk;
  const auto element = static_cast<int64_t>(sizeof(float));
  const size_t all_heads = RoundUp64(query * element) + RoundUp64(values * element) + RoundUp64(scores * element) +
                           RoundUp64(kTile * width * element) + 256;
  // A kernel that takes up to 16 heads at a time, in rows padded to blocks of 32.
  constexpr int64_t kHeads = 16;
  const int64_t padded = RoundUp(width, 32) + 3 * RoundUp(kv_lora_rank + 2, 32) + kTile;
  const size_t head_block = RoundUp64(kHeads * padded * element) + RoundUp64(kTile * (32 * element + 8)) + 256;
  return std::max(all_heads, head_block);
}

void PrefillAttention(const ExecContext& context, const PrefillAttentionArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "prefill_attention";
  const int64_t rows = Extent(args.query, 0);
  const int64_t heads = Extent(args.query, 1);
  const int64_t kv_lora_rank = ColumnCount(args.w_kc.tensor);
  const int64_t width = Extent(args.kv_pages, 2);
  CheckHeadWeight(kOp, "w_kc", args.w_kc);
  CheckHeadWeight(kOp, "w_vc", args.w_vc);
  CheckExtent(kOp, "w_kc heads (heads of query)", heads, args.w_kc.heads);
  CheckExtent(kOp, "w_vc heads (heads of query)", heads, args.w_vc.heads);
  CheckExtent(kOp, "w_vc columns (kv_lora_rank of w_kc)", kv_lora_rank, ColumnCount(args.w_vc.tensor));
  CheckAtMost(kOp, "w_kc columns (up to the width of kv_pages)", width, kv_lora_rank);
  CheckExtent(kOp, "query extent 2 (qk_nope_head_dim + qk_rope_head_dim)", args.w_kc.head_rows + width - kv_lora_rank,
              Extent(args.query, 2));
  CheckExtent(kOp, "out extent 0 (rows of query)", rows, Extent(args.out, 0));
  CheckExtent(kOp, "out extent 1 (heads of query)", heads, Extent(args.out, 1));
  CheckExtent(kOp, "out extent 2 (v_head_dim of w_vc)", args.w_vc.head_rows, Extent(args.out, 2));
  CheckAtMost(kOp, "first_position + rows (tokens of block_table)",
              args.block_table.shape[0] * Extent(args.kv_pages, 1), args.first_position + rows);
  CheckTrue(kOp, "first_position", args.first_position >= 0, "at least 0", "less");
  if (rows == 0 || heads == 0) return;
  OperandList operands;
  operands.Add("query", args.query);
  operands.Add("kv_pages", args.kv_pages);
  operands.Add("block_table", args.block_table);
  operands.Add("w_kc", args.w_kc);
  operands.Add("w_vc", args.w_vc);
  operands.Add("out", args.out);
  Dispatch(context, context.kernels->prefill_attention, kOp, args, operands,
           Bytes(args.query) + (args.first_position + rows) * width * ElementSize(args.kv_pages) + Bytes(args.w_kc) +
               Bytes(args.w_vc) + Bytes(args.out));
}

size_t PrefillAttentionScratchBytes(int64_t max_length, int64_t qk_head_dim, int64_t v_head_dim, int64_t kv_lora_rank) {
  const auto element = static_cast<int64_t>(sizeof(float));
  const int64_t expanded = max_length * (qk_head_dim + v_head_dim);  // one head's keys and values
  const int64_t scores = 2 * max_length;
  const int64_t rows = 2 * (qk_head_dim + v_head_dim + kv_lora_rank);
  const size_t whole_context =
      RoundUp64(expanded * element) + RoundUp64(scores * element) + RoundUp64(rows * element) + 512;
  // A kernel that expands 256 tokens at a time for up to 512 rows: both weights, keys and values, the rows' sums, and a
  // tile of 8 rows by 64 tokens.
  const int64_t key = RoundUp(qk_head_dim + 3, 16);
  const int64_t value = RoundUp(v_head_dim, 16);
  const int64_t tiled = (key + value) * RoundUp(kv_lora_rank, 32) + 256 * (key + value) + 512 * (value + 2) +
                        8 * (key + 64) + 64 * (32 + 2);
  return std::max(whole_context, RoundUp64(tiled * element) + 1024);
}

}  // namespace mxmla
