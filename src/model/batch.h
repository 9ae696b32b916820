// A ragged batch: some sequences prefill many tokens, others decode one. A single sequence is the case of one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/sample.h"

namespace mxmla {

inline constexpr int64_t kMaxBiases = 1024;  // of one row of logits

// Words of a mask of tokens.
constexpr int64_t MaskWords(int64_t vocab_size) { return (vocab_size + 31) / 32; }

// How a token is chosen from one row of logits (ops/sample.h). Token ids are in the vocabulary.
struct RowSampling {
  SamplingOptions options;
  float uniform = 0;                        // in [0, 1)
  bool logprobs = false;                    // of the chosen token, and of options.top_logprobs others
  std::span<const int32_t> penalty_tokens;  // distinct
  std::span<const int32_t> penalty_counts;  // of each, in the output
  std::span<const int32_t> bias_tokens;
  std::span<const float> bias_values;
  std::span<const uint32_t> allowed;  // MaskWords(vocab) words, bit t % 32 of word t / 32; empty: every token
};

// One sequence's part of a forward pass.
struct SequenceInput {
  // The new tokens, at positions first_position, first_position + 1, ...; t < 0 stands for the token that row -1 - t of
  // the last step's logits was sampled to.
  std::span<const int32_t> tokens;
  int64_t first_position = 0;            // tokens already in the cache
  std::span<const int32_t> block_table;  // the sequence's pages, enough for all its tokens
  std::vector<int32_t> logit_rows;       // which of the new tokens' logits are wanted, ascending
  bool absorbed = false;                 // attend in the latent space whatever the length (as decoding does)
  std::vector<RowSampling> sampling;     // one for each of logit_rows, or none: only the logits are wanted
};

// What of one sequence lies where in the batch's rows.
struct SequenceRows {
  int64_t input = 0;  // index into the inputs
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t first_position = 0;
};

// The order of the batch's rows: sequences that attend in the latent space first, so that their rows are one range;
// then those with expanded heads.
struct BatchPlan {
  std::vector<SequenceRows> sequences;
  int64_t rows = 0;
  int64_t absorbed_rows = 0;  // the first so many
};

struct AttentionCost {
  int64_t kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim;
  // With sparse attention, what a query attends to at most: a sequence that outgrows it stays in the latent space,
  // where rows are gathered. 0: no such limit.
  int64_t index_topk = 0;
};

// Whether expanded heads take fewer multiplications than the latent space for `rows` new tokens after `first_position`
// cached ones. Depends on this one sequence only, so a batch does not change a result.
bool ExpandedIsCheaper(const AttentionCost& cost, int64_t rows, int64_t first_position);

// `allow_expanded` false keeps every sequence in the latent space.
BatchPlan PlanBatch(std::span<const SequenceInput> inputs, const AttentionCost& cost, bool allow_expanded);

}  // namespace mxmla
