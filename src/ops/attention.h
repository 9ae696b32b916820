// Attention over the paged cache of latents. A cache row is (kv_lora_rank latent, then qk_rope_head_dim rotated key),
// shared by all heads. Token t of sequence s is row t % page_size of page block_table[s, t / page_size].
#pragma once

#include "core/scaled.h"
#include "ops/context.h"

namespace mxmla {

// Paged MQA in the latent space ("absorbed"): for each row r and head h, over tokens t < row_length[r] of sequence
// row_sequence[r]:
//   p = softmax(softmax_scale * query[r, h, :] . kv[t, :]);  out[r, h, :] = sum over t of p[t] * kv[t, 0..kv_lora_rank)
// in float32. A row of length 0 gives zeros. Rows of one sequence may have different lengths: that is causal prefill.
// The context is split in chunks of a fixed number of tokens whose partial results are merged in order by their
// log-sum- exp, so the result depends on neither the batch nor the threads.
struct DecodeAttentionArgs {
  FloatInput<3> query;                  // (rows, heads, kv_lora_rank + qk_rope_head_dim)
  FloatInput<3> kv_pages;               // (pages, page_size, kv_lora_rank + qk_rope_head_dim)
  View<const int32_t, 2> block_table;   // (sequences, max_pages)
  View<const int32_t, 1> row_sequence;  // (rows)
  View<const int32_t, 1> row_length;    // (rows), tokens
  int64_t max_length = 0;               // an upper bound of row_length
  int64_t kv_lora_rank = 0;
  float softmax_scale = 0;
  FloatOutput<3> out;  // (rows, heads, kv_lora_rank); strides of rows and heads free
  // Room for partial results, DecodeAttentionPartials(...) floats for each row when chunks are to run in parallel; may
  // be empty, then a row's chunks run one after the other, with the same result.
  View<float, 1> partials;
};
void DecodeAttention(const ExecContext& context, const DecodeAttentionArgs& args);

// Tokens in a chunk of the split context.
inline constexpr int64_t kAttentionChunk = 512;
// Floats of `partials` for one row: each (head, chunk) holds its maximum, its sum and its kv_lora_rank weighted values.
int64_t DecodeAttentionPartials(int64_t heads, int64_t kv_lora_rank, int64_t max_length);
size_t DecodeAttentionScratchBytes(int64_t heads, int64_t kv_lora_rank, int64_t qk_rope_head_dim);

// Causal attention of one sequence's rows with expanded heads: keys [w_kc[h] . latent, rotated key] and values
// w_vc[h] . latent, expanded a head at a time into scratch. Row r is at position first_position + r and sees every
// token up to and including itself.
struct PrefillAttentionArgs {
  FloatInput<3> query;                 // (rows, heads, qk_nope_head_dim + qk_rope_head_dim), rotated
  FloatInput<3> kv_pages;              // (pages, page_size, kv_lora_rank + qk_rope_head_dim)
  View<const int32_t, 1> block_table;  // (max_pages) of this sequence
  int64_t first_position = 0;
  HeadWeight w_kc;  // heads of (qk_nope_head_dim, kv_lora_rank)
  HeadWeight w_vc;  // heads of (v_head_dim, kv_lora_rank)
  float softmax_scale = 0;
  FloatOutput<3> out;  // (rows, heads, v_head_dim): o_proj's input, split
};
void PrefillAttention(const ExecContext& context, const PrefillAttentionArgs& args);

// Worker scratch for contexts up to max_length tokens.
size_t PrefillAttentionScratchBytes(int64_t max_length, int64_t qk_head_dim, int64_t v_head_dim, int64_t kv_lora_rank);

}  // namespace mxmla
