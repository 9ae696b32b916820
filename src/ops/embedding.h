// Token embedding and sampling: the two ends of a step.
#pragma once

#include "core/scaled.h"
#include "ops/context.h"

namespace mxmla {

// out[r] = table[tokens[r]]; a token t < 0 stands for previous[-1 - t], what row -1 - t of the last step sampled, so
// that a step can be queued before the host has seen the tokens of the one before. Tokens were checked against the
// vocabulary when the step was planned; a sampled -1 (a row of NaN) gives zeros.
struct EmbeddingArgs {
  View<const int32_t, 1> tokens;         // (rows)
  LinearWeight table;                    // (vocab, hidden), float32 or bf16
  FloatOutput<2> out;                    // (rows, hidden)
  View<const int32_t, 1> previous = {};  // (sampled rows), or empty where no token is below 0
};
void Embedding(const ExecContext& context, const EmbeddingArgs& args);

struct SamplingOptions {
  float temperature = 0;  // 0 is greedy
  int64_t top_k = 0;      // 0: all
  float top_p = 1;        // 1: all
};

// Chooses a token a row. Greedy: the largest logit, the lowest id on a tie. Otherwise softmax(logits / temperature)
// over the top_k largest, cut to the smallest set whose probability reaches top_p, and drawn with uniform[r] in [0, 1).
// A row that holds NaN gives token -1.
struct SampleArgs {
  View<const float, 2> logits;             // (rows, vocab)
  View<const SamplingOptions, 1> options;  // (rows)
  View<const float, 1> uniform;            // (rows)
  View<int32_t, 1> order;                  // (vocab), scratch
  View<int32_t, 1> tokens;                 // (rows)
};
void Sample(const ExecContext& context, const SampleArgs& args);

}  // namespace mxmla
