// Choosing the next tokens from logits.
#pragma once

#include "core/view.h"
#include "ops/context.h"

namespace mxmla {

struct SamplingOptions {
  float temperature = 0;         // 0 is greedy
  int64_t top_k = 0;             // 0: all
  float top_p = 1;               // 1: all
  float min_p = 0;               // 0: all
  float repetition_penalty = 1;  // 1: none
  float presence_penalty = 0;
  float frequency_penalty = 0;
  int32_t top_logprobs = 0;  // the likeliest tokens wanted, 0 .. kMaxTopLogprobs
};

inline constexpr int64_t kMaxTopLogprobs = 20;

// Tokens of rows for which there is none to choose.
inline constexpr int32_t kNanLogits = -1;
inline constexpr int32_t kNothingAllowed = -2;

// Chooses a token a row. In this order, which is that of vLLM's V1 sampler (vllm/v1/sample/sampler.py):
//   1. mask: a token whose bit is clear gets the logit -inf;
//   2. bias: added to the logits of the tokens named, in the order given;
//   3. penalties of the tokens named: the logit is divided by repetition_penalty if it is positive, else multiplied by
//      it; then frequency_penalty * count is taken off, then presence_penalty if count > 0;
//   4. greedy (temperature 0): the largest logit; otherwise the logits are divided by the temperature;
//   5. min_p: tokens less likely than min_p times the likeliest are dropped;
//   6. top_k: all but the k largest are dropped;
//   7. top_p: the fewest of the largest of what is left whose probability among what is left reaches top_p are kept, at
//      least one;
//   8. the draw: the first token, in the order of ids, at which the sum of the kept probabilities exceeds uniform[r].
// Bias and penalties are each computed in double and rounded to float32. Wherever logits tie, the lower id counts as
// the larger.
//
// Log-probabilities are log_softmax of the logits after mask, bias and penalties, before temperature and steps 5 to 7.
// top_tokens are the largest of those logits in falling order. Only tokens of a logit above -inf are listed; the places
// past these, or past the row's top_logprobs, hold the token -1 and -inf.
//
// A row that holds NaN after step 3 gives the token kNanLogits; else one without a logit above -inf kNothingAllowed.
// Both give the log-probability NaN and list no token. In a row that holds +inf every other logit counts as -inf: the
// infinite ones share all probability.
//
// Adjustments are ragged: row r has the entries begin[r] .. begin[r + 1]. A token may be penalised once a row. Token
// ids are in the vocabulary: the caller has checked them. Each begin may be empty (no adjustments), and so may
// allowed_index (no masks), logprobs, and top_tokens with top_logprobs (not wanted).
struct SampleArgs {
  View<const float, 2> logits;             // (rows, vocab)
  View<const SamplingOptions, 1> options;  // (rows)
  View<const float, 1> uniform;            // (rows), in [0, 1)
  View<const int64_t, 1> penalty_begin;    // (rows + 1) or empty
  View<const int32_t, 1> penalty_tokens;   // (penalties)
  View<const int32_t, 1> penalty_counts;   // (penalties), how often in the output; 0: in the prompt only
  View<const int64_t, 1> bias_begin;       // (rows + 1) or empty
  View<const int32_t, 1> bias_tokens;      // (biases)
  View<const float, 1> bias_values;        // (biases)
  View<const int32_t, 1> allowed_index;    // (rows) or empty: a row of `allowed`, -1 for an unrestricted row
  View<const int32_t, 2> allowed;          // (masks, ceil(vocab / 32)), token t is bit t % 32 of word t / 32
  View<int32_t, 1> tokens;                 // (rows)
  View<float, 1> logprobs;                 // (rows) or empty
  View<int32_t, 2> top_tokens;             // (rows, N) or empty; N at least every row's top_logprobs
  View<float, 2> top_logprobs;             // (rows, N) or empty
};
void Sample(const ExecContext& context, const SampleArgs& args);

}  // namespace mxmla
