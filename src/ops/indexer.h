// The indexer of sparse attention (DeepSeek-V3.2, arXiv 2512.02556, section 2.1): small heads that choose, for each
// query, the tokens that attention then reads. It has a key for each token, shared by its heads, in pages of its own
// beside the latents': token t of sequence s is row t % page_size of page block_table[s, t / page_size].
#pragma once

#include "core/scaled.h"
#include "ops/context.h"

namespace mxmla {

// A token's key: y = weight * (x - mean) / sqrt(variance + eps) + bias, a layer norm of each row, whose first
// 2 * cos.shape[1] elements are then rotated as Rope does. In float32 (or better), rounded once. Row r is written to
// row out_index[r] of `out`.
struct IndexKeyArgs {
  FloatInput<2> x;              // (rows, n): wk's product
  View<const float, 1> weight;  // (n)
  View<const float, 1> bias;    // (n)
  float eps = 0;
  View<const float, 2> cos;  // (rows, rotated / 2), rotated at most n
  View<const float, 2> sin;  // (rows, rotated / 2)
  bool interleaved = false;
  FloatOutput<2> out;                // (any rows, n)
  View<const int64_t, 1> out_index;  // (rows)
};
void IndexKey(const ExecContext& context, const IndexKeyArgs& args);

// For each row r that sees more than k tokens, the k of them whose scores
//   sum over h of weights[r, h] * max(0, query[r, h, :] . key[t, :])
// are largest, in rising order of t; of equal scores the lower t counts as larger. Factors that all scores share do not
// matter and are left out. In float32, in an order that depends on neither the batch nor the threads. Rows that see at
// most k tokens attend to all of them: their row of `chosen` is left as it is. No value is checked here: whoever fills
// row_length prevents more tokens than a row's pages hold (model/step_plan.h).
struct IndexTopKArgs {
  FloatInput<3> query;                  // (rows, heads, n), rotated
  View<const float, 2> weights;         // (rows, heads)
  FloatInput<3> key_pages;              // (pages, page_size, n)
  View<const int32_t, 2> block_table;   // (sequences, max_pages)
  View<const int32_t, 1> row_sequence;  // (rows)
  View<const int32_t, 1> row_length;    // (rows), tokens that the row sees: at most max_pages * page_size
  View<int32_t, 2> chosen;              // (rows, k), k at least 1
};
void IndexTopK(const ExecContext& context, const IndexTopKArgs& args);

}  // namespace mxmla
