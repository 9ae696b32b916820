// Generating tokens: prefill in chunks, then one token a step, any number of requests at once.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/session.h"
#include "ops/embedding.h"

namespace mxmla {

struct GenerateRequest {
  std::vector<int32_t> prompt;  // at least one token
  int64_t max_tokens = 0;       // new tokens at most
  SamplingOptions sampling;
  uint64_t seed = 0;
  std::vector<int32_t> stop_tokens;  // end the request; not part of its result
  // Called with each new token as it is chosen; false ends the request. May be empty.
  std::function<bool(int32_t token)> on_token;
};

struct GenerateResult {
  std::vector<int32_t> tokens;
  bool stopped = false;  // by a stop token or on_token, not by max_tokens
};

struct GenerateStats {
  int64_t prompt_tokens = 0;
  int64_t new_tokens = 0;
  int64_t decode_tokens = 0;   // those made by steps that only decode
  double prefill_seconds = 0;  // steps that hold any prompt token
  double decode_seconds = 0;
};

// Runs the requests to their end, up to the session's max_sequences at a time, and returns their results in order.
// A request's tokens do not depend on what else runs. An Error (kTensor) when logits are NaN.
std::vector<GenerateResult> Generate(Session& session, std::span<const GenerateRequest> requests,
                                     GenerateStats* stats = nullptr,
                                     const std::function<void(size_t request, const GenerateResult&)>& on_done = {});

}  // namespace mxmla
