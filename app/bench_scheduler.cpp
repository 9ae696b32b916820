// mxmla bench scheduler: what a step costs the host, with the ops' own work taken out.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "bench_model.h"
#include "engine/scheduler.h"
#include "output_file.h"

namespace mxmla::app {
namespace {

struct SchedulerFlags {
  BenchModelFlags model;
  std::vector<int64_t> batch = {1, 64};
  int64_t steps = 2000;
  bool sampled = false;
  std::string json;
};

template <class Args>
KernelTable<Args> Idle() {
  return {{"idle", {}, [](const ExecContext&, const Args&) {}}};
}

// Every op is called, checked and dispatched, and does nothing; each row's next token is 1.
KernelSet IdleKernels(DType activation_dtype) {
  KernelSet set;
  set.backend = "idle";
  set.activation_dtype = activation_dtype;
  set.rms_norm = Idle<RmsNormArgs>();
  set.linear = Idle<LinearArgs>();
  set.grouped_linear = Idle<GroupedLinearArgs>();
  set.query_absorb = Idle<QueryAbsorbArgs>();
  set.value_project = Idle<ValueProjectArgs>();
  set.quantize = Idle<QuantizeArgs>();
  set.flatten_quantize = Idle<FlattenQuantizeArgs>();
  set.copy = Idle<CopyArgs>();
  set.rope = Idle<RopeArgs>();
  set.rope_angles = Idle<RopeAnglesArgs>();
  set.decode_attention = Idle<DecodeAttentionArgs>();
  set.prefill_attention = Idle<PrefillAttentionArgs>();
  set.router = Idle<RouterArgs>();
  set.group_experts = Idle<GroupExpertsArgs>();
  set.silu_mul = Idle<SiluMulArgs>();
  set.combine_experts = Idle<CombineExpertsArgs>();
  set.embedding = Idle<EmbeddingArgs>();
  set.sample = {{"idle", {}, [](const ExecContext&, const SampleArgs& args) {
                   for (int64_t r = 0; r < args.tokens.shape[0]; ++r) args.tokens(r) = 1;
                 }}};
  return set;
}

// Seconds of each of `steps` ticks that decode a token of every request.
std::vector<double> TimeTicks(const LoadedModel& model, const SchedulerFlags& flags, int64_t batch) {
  constexpr int64_t kPrompt = 16, kWarmUp = 50;
  ModelOptions options = flags.model.common.ToModelOptions();
  options.max_sequences = batch;
  // While the last prompts are read, the first requests decode already.
  options.max_context = std::min(kPrompt + batch + kWarmUp + flags.steps + 1, model.config.max_position_embeddings);
  options.max_batch_tokens = std::max<int64_t>(batch, kPrompt);
  Scheduler scheduler(model, options);
  for (int64_t i = 0; i < batch; ++i) {
    GenerateRequest request;
    request.prompt.assign(static_cast<size_t>(kPrompt), static_cast<int32_t>(i % model.config.vocab_size));
    request.max_tokens = options.max_context - kPrompt;
    if (flags.sampled) {
      request.sampling.temperature = 1;
      request.sampling.top_p = 0.95f;
      request.sampling.repetition_penalty = 1.1f;
    }
    scheduler.Submit(std::move(request));
  }
  std::vector<double> seconds;
  for (int64_t decoding = 0; !scheduler.idle() && static_cast<int64_t>(seconds.size()) < flags.steps;) {
    const auto begin = std::chrono::steady_clock::now();
    const TickStats tick = scheduler.Tick();
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
    if (tick.decode_rows == batch && ++decoding > kWarmUp) seconds.push_back(passed.count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

void BenchScheduler(const SchedulerFlags& flags) {
  LoadedModel model = flags.model.Load();
  const KernelSet idle = IdleKernels(model.backend->kernels().activation_dtype);
  model.backend = std::make_unique<HostBackend>(idle, 1);
  fmt::print("{} layers; ops are called and do nothing; us a step\n", model.config.num_hidden_layers);
  fmt::print("{:>6}{:>10}{:>10}{:>10}{:>10}\n", "batch", "median", "p99", "fastest", "steps");
  nlohmann::json rows = nlohmann::json::array();
  for (const int64_t batch : flags.batch) {
    const std::vector<double> seconds = TimeTicks(model, flags, batch);
    if (seconds.empty()) {
      Fail(ErrorCode::kUsage, "bench scheduler", "a model whose context holds more than 66 tokens",
           fmt::format("{}", model.config.max_position_embeddings));
    }
    const double median = seconds[seconds.size() / 2] * 1e6;
    const double p99 = seconds[seconds.size() * 99 / 100] * 1e6;
    fmt::print("{:>6}{:>10.1f}{:>10.1f}{:>10.1f}{:>10}\n", batch, median, p99, seconds.front() * 1e6, seconds.size());
    rows.push_back({{"batch", batch}, {"median_us", median}, {"p99_us", p99}, {"steps", seconds.size()}});
  }
  if (flags.json.empty()) return;
  OutputFile file(flags.json);
  file.Write(nlohmann::json{{"layers", model.config.num_hidden_layers}, {"rows", rows}}.dump(2) + "\n");
  file.Commit();
}

}  // namespace

void AddBenchScheduler(CLI::App& bench) {
  auto flags = std::make_shared<SchedulerFlags>();
  CLI::App* command = bench.add_subcommand("scheduler", "Time a step's work on the host, with the ops' own taken out");
  flags->model.AddTo(*command);
  command->add_option("--batch", flags->batch, "requests that decode together, several values")
      ->check(CLI::Range(1, 1024))
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option("--steps", flags->steps,
                   "decode steps at most: the model's context may end them; the median is printed")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_flag("--sampled", flags->sampled, "requests sample with a repetition penalty instead of greedily");
  command->add_option("--json", flags->json, "write the figures to a JSON file");
  command->footer("Example:\n  mxmla bench scheduler tiny-gsm --batch 1,64");
  command->callback([flags] {
    if (flags->model.model.empty() == flags->model.dummy.empty()) {
      throw CLI::ValidationError("MODEL", "give a model folder or --dummy CONFIG.json, one of the two");
    }
    BenchScheduler(*flags);
  });
}

}  // namespace mxmla::app
