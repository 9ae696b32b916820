// The model that a benchmark or a profile runs, and the steps it takes.
#pragma once

#include <chrono>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "bandwidth.h"
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

double SecondsSince(std::chrono::steady_clock::time_point begin);
int64_t Bytes(const Profiler& profiler, std::string_view op = {});  // of all ops, or of the one called so

// The model and the device, for the JSON file of a benchmark, and that file; an empty path writes none.
nlohmann::json DescribeModel(const BenchModelFlags& flags, const LoadedModel& model);
void Finish(const nlohmann::json& json, const std::string& path);

// "27 layers of hidden 2048, ..."; and how a rate stands against the read bandwidth.
void PrintModel(const LoadedModel& model);
void PrintReadLimit(const ReadLimit& limit, double rate, double bytes);
void AddReadLimit(const ReadLimit& limit, nlohmann::json* json);

// The middle one, the upper of the two in the middle; of at least one.
double Median(std::vector<double> values);

// Distinct, reproducible token ids.
std::vector<int32_t> SyntheticTokens(int64_t count, int64_t vocab_size);

// Computes the prompt for `count` requests, to the first token of each.
void Prefill(Scheduler& scheduler, int64_t count, const std::vector<int32_t>& prompt);
// Submits `count` requests, greedy and as long as scheduler.options().max_context allows, and runs them until each has
// decoded a token behind the prompt's; the next ticks decode one of each.
void StartDecoding(Scheduler& scheduler, int64_t count, const std::vector<int32_t>& prompt);
// The same behind `rows` random rows of the cache instead of a prompt (GenerateRequest::random_rows), and a token of
// each request's own. LongestContext: for `ticks` of the next ticks.
void StartOnRandomRows(Scheduler& scheduler, int64_t count, int64_t rows, int64_t vocab_size);
int64_t LongestContext(int64_t context, int64_t ticks);

void AddBenchAttention(CLI::App& bench);
void AddBenchLinear(CLI::App& bench);
void AddBenchModel(CLI::App& bench);  // prefill, ops, and decode:
void AddBenchDecode(CLI::App& bench);
void AddBenchScheduler(CLI::App& bench);
void AddBenchServe(CLI::App& bench);
void AddBenchVproj(CLI::App& bench);

}  // namespace mxmla::app
