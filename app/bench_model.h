// The model that a benchmark or a profile runs, and the steps it takes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common.h"
#include "engine/scheduler.h"

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

// Computes the prompt for `count` requests, to the first token of each.
void Prefill(Scheduler& scheduler, int64_t count, const std::vector<int32_t>& prompt);
// Submits `count` requests, greedy and as long as scheduler.options().max_context allows, and runs them until each has
// decoded a token behind the prompt's; the next ticks decode one of each. `random_rows`: see GenerateRequest.
void StartDecoding(Scheduler& scheduler, int64_t count, const std::vector<int32_t>& prompt, int64_t random_rows);

void AddBenchModel(CLI::App& bench);  // decode, prefill, ops
void AddBenchScheduler(CLI::App& bench);
void AddBenchVproj(CLI::App& bench);

}  // namespace mxmla::app
