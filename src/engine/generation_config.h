// The sampling values that a model's publishers suggest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ops/sample.h"

namespace mxmla {

// What generation_config.json says of sampling; what it does not say is absent.
struct SuggestedSampling {
  std::optional<float> temperature;  // 0 (greedy) where do_sample is false, 1 where it is true and nothing else is said
  std::optional<int64_t> top_k;      // 0: all
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;

  // The options with what is suggested for those that are as SamplingOptions begins.
  SamplingOptions Applied() const;
  // The command line's flags for what differs from greedy decoding, such as "--temperature 0.6 --top-p 0.95"; empty
  // when nothing does.
  std::string Flags() const;
};

// Reads folder/generation_config.json; nothing is suggested where there is none. Throws an Error (kBadConfig) for a
// value of a wrong type or out of range.
SuggestedSampling ReadSuggestedSampling(const std::string& folder);

}  // namespace mxmla
