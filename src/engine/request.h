// What is asked of the scheduler, and what it answers.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <vector>

#include "ops/sample.h"

namespace mxmla {

struct GenerateRequest {
  std::vector<int32_t> prompt;  // at least one token
  int64_t max_tokens = 0;       // new tokens at most
  SamplingOptions sampling;
  uint64_t seed = 0;
  std::vector<int32_t> stop_tokens;  // end the request; not part of its result
  // Called with each new token as it is chosen; false ends the request. What it throws ends this request alone. May be
  // empty.
  std::function<bool(int32_t token)> on_token;
};

enum class FinishReason {
  kStop,       // a stop token, or on_token said so
  kLength,     // max_tokens
  kCancelled,  // Scheduler::Cancel
  kError,      // see GenerateResult::error
};

struct GenerateResult {
  std::vector<int32_t> tokens;
  FinishReason reason = FinishReason::kLength;
  int64_t cached_tokens = 0;  // of the prompt, found in the cache
  std::exception_ptr error;   // kError only

  bool stopped() const { return reason == FinishReason::kStop; }
};

}  // namespace mxmla
