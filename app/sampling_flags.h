// How tokens are chosen and where text ends: the flags that run and chat share.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/generation_config.h"
#include "engine/request.h"

namespace mxmla::app {

struct SamplingFlags {
  std::optional<float> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int64_t> top_k;
  std::vector<std::string> logit_bias;  // "ID=VALUE"
  int64_t seed = 0;                     // -1: a random one
  std::vector<std::string> stop_strings;

  // `defaults` says in the help text what holds without a flag: "" for greedy decoding.
  void AddTo(CLI::App& command, const std::string& defaults = {});

  // Whether a flag says how tokens are chosen; --seed alone does not.
  bool given() const;

  // Fills in sampling, logit_bias, seed and stop_strings, with what is suggested where no flag says otherwise. A random
  // seed is printed on stderr. Errors: kUsage for a --logit-bias that is not ID=VALUE, kTokenRange for an ID outside
  // the vocabulary.
  void ApplyTo(GenerateRequest* request, const SuggestedSampling& suggested, int64_t vocab_size) const;
};

}  // namespace mxmla::app
