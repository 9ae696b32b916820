#include "ops/attention.h"

#include <algorithm>

#include "ops/check.h"
#include "ops/kernel_set.h"

namespace mxmla {
namespace {

// An FP8 cache says itself where the latent ends.
void CheckKv(std::string_view op, const KvInput<3>& kv_pages, int64_t kv_lora_rank) {
  const auto* fp8 = std::get_if<Fp8Kv<const e4m3, 3>>(&kv_pages);
  if (!fp8) return;
  internal::CheckPlanes(op, "kv_pages", fp8->latent);
  CheckExtent(op, "kv_pages' latent extent 2 (kv_lora_rank)", kv_lora_rank, fp8->latent.extent(2));
  for (const int d : {0, 1}) {
    CheckExtent(op, fmt::format("kv_pages' key extent {} (of its latent)", d), fp8->latent.extent(d),
                fp8->key.shape[d]);
  }
}

}  // namespace

int64_t TokensRead(View<const int32_t, 1> row_sequence, View<const int32_t, 1> row_length) {
  int64_t tokens = 0;
  int64_t longest = 0;
  for (int64_t r = 0; r < row_length.shape[0]; ++r) {
    if (r > 0 && row_sequence(r) != row_sequence(r - 1)) {
      tokens += longest;
      longest = 0;
    }
    longest = std::max<int64_t>(longest, row_length(r));
  }
  return tokens + longest;
}

int64_t TokensRead(const DecodeAttentionArgs& args) {
  if (!args.chosen) return TokensRead(args.row_sequence, args.row_length);
  int64_t tokens = 0;
  for (int64_t r = 0; r < args.row_length.shape[0]; ++r) tokens += TokensOf(args, r);
  return tokens;
}

void DecodeAttention(const ExecContext& context, const DecodeAttentionArgs& args) {
  using namespace internal;
  const std::string_view kOp = args.chosen ? "sparse_attention" : "decode_attention";
  const int64_t rows = Extent(args.query, 0);
  const int64_t heads = Extent(args.query, 1);
  const int64_t width = Extent(args.query, 2);
  CheckExtent(kOp, "kv_pages extent 2 (width of query)", width, Extent(args.kv_pages, 2));
  CheckAtMost(kOp, "kv_lora_rank (up to the width of query)", width, args.kv_lora_rank);
  CheckKv(kOp, args.kv_pages, args.kv_lora_rank);
  CheckExtent(kOp, "row_sequence extent 0 (rows of query)", rows, args.row_sequence.shape[0]);
  CheckExtent(kOp, "row_length extent 0 (rows of query)", rows, args.row_length.shape[0]);
  CheckExtent(kOp, "out extent 0 (rows of query)", rows, Extent(args.out, 0));
  CheckExtent(kOp, "out extent 1 (heads of query)", heads, Extent(args.out, 1));
  CheckExtent(kOp, "out extent 2 (kv_lora_rank)", args.kv_lora_rank, Extent(args.out, 2));
  if (args.chosen) {
    CheckExtent(kOp, "chosen extent 0 (rows of query)", rows, args.chosen->shape[0]);
    CheckTrue(kOp, "chosen", args.chosen->shape[1] >= 1, "at least 1 token a row", "none");
  }
  if (rows == 0 || heads == 0) return;
  OperandList operands;
  operands.Add("query", args.query);
  operands.Add("kv_pages", args.kv_pages);
  operands.Add("block_table", args.block_table);
  operands.Add("row_sequence", args.row_sequence);
  operands.Add("row_length", args.row_length);
  operands.Add("out", args.out);
  if (args.chosen) operands.Add("chosen", *args.chosen);
  Dispatch(context, args.chosen ? context.kernels->sparse_attention : context.kernels->decode_attention, kOp, args,
           operands, Bytes(args.query) + Bytes(args.out) + Bytes(args.chosen));
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
  CheckKv(kOp, args.kv_pages, kv_lora_rank);
  CheckExtent(kOp, "query extent 2 (qk_nope_head_dim + qk_rope_head_dim)", args.w_kc.head_rows + width - kv_lora_rank,
              Extent(args.query, 2));
  CheckExtent(kOp, "out extent 0 (rows of query)", rows, Extent(args.out, 0));
  CheckExtent(kOp, "out extent 1 (heads of query)", heads, Extent(args.out, 1));
  CheckExtent(kOp, "out extent 2 (v_head_dim of w_vc)", args.w_vc.head_rows, Extent(args.out, 2));
  CheckExtent(kOp, "row_sequence extent 0 (rows of query)", rows, args.row_sequence.shape[0]);
  CheckExtent(kOp, "row_length extent 0 (rows of query)", rows, args.row_length.shape[0]);
  CheckTrue(kOp, "segment_begin", args.segment_begin.shape[0] >= 1, "segments + 1 elements", "none");
  if (rows == 0 || heads == 0) return;
  OperandList operands;
  operands.Add("query", args.query);
  operands.Add("kv_pages", args.kv_pages);
  operands.Add("block_table", args.block_table);
  operands.Add("row_sequence", args.row_sequence);
  operands.Add("row_length", args.row_length);
  operands.Add("segment_begin", args.segment_begin);
  operands.Add("w_kc", args.w_kc);
  operands.Add("w_vc", args.w_vc);
  operands.Add("out", args.out);
  Dispatch(context, context.kernels->prefill_attention, kOp, args, operands,
           Bytes(args.query) + Bytes(args.w_kc) + Bytes(args.w_vc) + Bytes(args.out));
}

}  // namespace mxmla
