// Token embedding.
#pragma once

#include "core/scaled.h"
#include "ops/context.h"

namespace mxmla {

// out[r] = scale * table[tokens[r]]; a token t < 0 stands for previous[-1 - t], what row -1 - t of the last step
// sampled, so that a step can be queued before the host has seen the tokens of the one before. Tokens were checked
// against the vocabulary when the step was planned; a sampled -1 (a row of NaN) gives zeros.
struct EmbeddingArgs {
  View<const int32_t, 1> tokens;         // (rows)
  LinearWeight table;                    // (vocab, hidden)
  FloatOutput<2> out;                    // (rows, hidden)
  View<const int32_t, 1> previous = {};  // (sampled rows), or empty where no token is below 0
  float scale = 1;
};
void Embedding(const ExecContext& context, const EmbeddingArgs& args);

}  // namespace mxmla
