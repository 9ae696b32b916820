// The model that a benchmark or a profile runs, and the steps it takes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common.h"
#include "engine/session.h"

namespace mxmla::app {

// A model folder, or random weights in the precision and shape of a config.
struct BenchModelFlags {
  std::string model, dummy;
  int64_t layers = 0, experts = 0;  // with --dummy: 0 keeps the config's
  CommonFlags common;

  void AddTo(CLI::App& command);
  LoadedModel Load() const;
};

// The middle one, the upper of the two in the middle; of at least one.
double Median(std::vector<double> values);

// Distinct, reproducible token ids.
std::vector<int32_t> SyntheticTokens(int64_t count, int64_t vocab_size);

// Appends the tokens to every sequence, in chunks that fit a forward pass; logits of the last token only.
void Prefill(Session& session, const std::vector<int>& sequences, const std::vector<int32_t>& tokens);
// One step of one token a sequence.
void DecodeStep(Session& session, const std::vector<int>& sequences, int32_t token);

void AddBenchModel(CLI::App& bench);  // decode, prefill, ops
void AddBenchScheduler(CLI::App& bench);
void AddBenchVproj(CLI::App& bench);

}  // namespace mxmla::app
