// Attention over the paged cache of latents. A cache row is (kv_lora_rank latent, then qk_rope_head_dim rotated key),
// shared by all heads, plain or in FP8 (core/kv_format.h). Token t of sequence s is row t % page_size of page
// block_table[s, t / page_size].
#pragma once

#include <algorithm>
#include <optional>

#include "core/kv_format.h"
#include "ops/context.h"

namespace mxmla {

// Paged MQA in the latent space ("absorbed"): for each row r and head h, over tokens t < row_length[r] of sequence
// row_sequence[r]:
//   p = softmax(softmax_scale * query[r, h, :] . kv[t, :]);  out[r, h, :] = sum over t of p[t] * kv[t, 0..kv_lora_rank)
// in float32. With `chosen`, a row that sees more than k tokens attends to its k chosen ones only, in their order: as
// if it saw no others. A row of length 0 gives zeros. Rows of one sequence may have different lengths: that is causal
// prefill. A kernel may split the context in chunks of a fixed number of tokens whose partial results are merged in
// order by their log-sum-exp; the result depends on neither the batch nor the threads. Refused: more tokens than a
// row's pages hold is for whoever fills row_length to prevent (model/step_plan.h); no value is read here.
struct DecodeAttentionArgs {
  FloatInput<3> query;                  // (rows, heads, kv_lora_rank + qk_rope_head_dim)
  KvInput<3> kv_pages;                  // (pages, page_size, kv_lora_rank + qk_rope_head_dim)
  View<const int32_t, 2> block_table;   // (sequences, max_pages)
  View<const int32_t, 1> row_sequence;  // (rows)
  View<const int32_t, 1> row_length;    // (rows), tokens: at most max_pages * page_size
  int64_t kv_lora_rank = 0;
  float softmax_scale = 0;
  FloatOutput<3> out;  // (rows, heads, kv_lora_rank); strides of rows and heads free
  // (rows, k): tokens, rising; read of rows that see more than k. What IndexTopK chose.
  std::optional<View<const int32_t, 2>> chosen = {};
};
void DecodeAttention(const ExecContext& context, const DecodeAttentionArgs& args);

// Row r attends to this many tokens; token i of them is TokenAt(args, r, i) of its sequence. These read values: for
// kernels whose memory is the host's.
inline int64_t TokensOf(const DecodeAttentionArgs& args, int64_t r) {
  const int64_t length = args.row_length(r);
  return args.chosen ? std::min(length, args.chosen->shape[1]) : length;
}
inline bool Gathers(const DecodeAttentionArgs& args, int64_t r) {
  return args.chosen && args.row_length(r) > args.chosen->shape[1];
}
inline int64_t TokenAt(const DecodeAttentionArgs& args, int64_t r, int64_t i) {
  return Gathers(args, r) ? (*args.chosen)(r, i) : i;
}

// Causal attention with expanded heads: keys [w_kc[h] . latent, rotated key] and values w_vc[h] . latent, expanded a
// head at a time into scratch. Segment s is rows segment_begin[s] .. segment_begin[s + 1]: consecutive positions of one
// sequence, whose lengths rise by one; a row sees every token up to and including itself. Rows behind the last segment
// are padding: their output is left as it is.
struct PrefillAttentionArgs {
  FloatInput<3> query;                   // (rows, heads, qk_nope_head_dim + qk_rope_head_dim), rotated
  KvInput<3> kv_pages;                   // (pages, page_size, kv_lora_rank + qk_rope_head_dim)
  View<const int32_t, 2> block_table;    // (sequences, max_pages)
  View<const int32_t, 1> row_sequence;   // (rows)
  View<const int32_t, 1> row_length;     // (rows), tokens that the row sees: its position + 1
  View<const int32_t, 1> segment_begin;  // (segments + 1), rising; the last at most rows
  HeadWeight w_kc;                       // heads of (qk_nope_head_dim, kv_lora_rank)
  HeadWeight w_vc;                       // heads of (v_head_dim, kv_lora_rank)
  float softmax_scale = 0;
  FloatOutput<3> out;  // (rows, heads, v_head_dim): o_proj's input, split
};
void PrefillAttention(const ExecContext& context, const PrefillAttentionArgs& args);

// Tokens of the cache that a call must read, for the profiler: rows of one sequence that follow one another read the
// same tokens. These read values: only kernels whose memory the host can read may call them.
int64_t TokensRead(View<const int32_t, 1> row_sequence, View<const int32_t, 1> row_length);
// The same of a call whose rows may have chosen their tokens: each such row reads its own.
int64_t TokensRead(const DecodeAttentionArgs& args);

}  // namespace mxmla
