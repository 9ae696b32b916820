// Runs a list of requests to their end.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "engine/scheduler.h"

namespace mxmla {

struct GenerateStats {
  int64_t prompt_tokens = 0;  // computed, not found in the cache
  int64_t cached_tokens = 0;
  int64_t new_tokens = 0;
  int64_t decode_tokens = 0;   // those made by steps that only decode
  double prefill_seconds = 0;  // steps that hold any prompt token
  double decode_seconds = 0;
};

// Returns the requests' results in order. When requests failed, the others still run to their end; then the first
// failure is thrown, such as an Error (kTensor) when logits are NaN; on_done has seen its result. Errors of
// Scheduler::Submit are thrown at once. `cancelled` is asked before every step; when it says true, all requests end
// with what they have (kCancelled).
std::vector<GenerateResult> Generate(Scheduler& scheduler, std::span<const GenerateRequest> requests,
                                     GenerateStats* stats = nullptr,
                                     const std::function<void(size_t request, const GenerateResult&)>& on_done = {},
                                     const std::function<bool()>& cancelled = {});

}  // namespace mxmla
