// mxmla bench prefill and ops: a whole model, or a part of one with random weights.
#include "bench_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "bandwidth.h"
#include "output_file.h"

namespace mxmla::app {
namespace {

struct BenchFlags {
  BenchModelFlags model;
  std::string json;
  int64_t context = 64;  // tokens in the cache before decoding
  int64_t steps = 32;    // decode steps
  int64_t batch = 1;     // sequences
  int64_t prompt = 512;  // tokens of a prefill
  int64_t repeat = 3;
};

nlohmann::json Describe(const BenchFlags& flags, const LoadedModel& model) {
  nlohmann::json json = DescribeModel(flags.model, model);
  json["v_layout"] = flags.model.common.v_layout;
  json["batch"] = flags.batch;
  return json;
}

ModelOptions SchedulerOptions(const BenchFlags& flags, int64_t context, int64_t rows) {
  ModelOptions options = flags.model.common.ToModelOptions();
  options.max_context = context;
  options.max_sequences = flags.batch;
  options.max_batch_tokens = std::max(rows, flags.batch);
  options.prefix_cache = false;
  return options;
}

// Of a prefill that gives a token: at most what the model's context holds.
int64_t PromptTokens(const BenchFlags& flags, const LoadedModel& model) {
  return std::min(flags.prompt, model.config.max_position_embeddings - 1);
}

void BenchPrefill(const BenchFlags& flags) {
  const LoadedModel model = flags.model.Load();
  ReadLimit limit(*model.backend);
  limit.Sample();
  Profiler profiler;
  const int64_t prompt = PromptTokens(flags, model);
  const int64_t rows = std::min<int64_t>(prompt * flags.batch, model.backend->prefill_rows());
  Scheduler scheduler(model, SchedulerOptions(flags, prompt + 1, rows), &profiler);
  const std::vector<int32_t> tokens = SyntheticTokens(prompt, model.config.vocab_size);
  std::vector<double> seconds;
  // The first run warms up. On a device that replays steps it counts the bytes, and two more let it record them.
  const bool replays = model.backend->replays();
  const int64_t warm_ups = replays ? 3 : 1;
  double bytes_per_pass = 0;
  for (int64_t r = 0; r < warm_ups + flags.repeat; ++r) {
    if (r == 1) {
      bytes_per_pass = static_cast<double>(Bytes(profiler));
      profiler.Pause(replays);
    }
    const auto begin = std::chrono::steady_clock::now();
    Prefill(scheduler, flags.batch, tokens);
    if (r >= warm_ups) seconds.push_back(SecondsSince(begin));
    limit.Sample();
  }
  const double pass = Median(seconds);
  const double all_tokens = static_cast<double>(prompt * flags.batch);
  const double rate = bytes_per_pass / pass;
  // Two operations a parameter that a token uses; attention's own products are left out.
  const double flops =
      2 * static_cast<double>(SummarizeWeights(model.weights, model.config).decode_parameters) * all_tokens / pass;
  PrintModel(model);
  fmt::print("prefill      {} tokens, batch {}\n", prompt, flags.batch);
  fmt::print("tokens/s     {:.2f} (median of {} runs)\n", all_tokens / pass, flags.repeat);
  fmt::print("GFLOP/s      {:.1f} (2 operations an active parameter and token)\n", flops * 1e-9);
  fmt::print("bytes/token  {}\n", HumanBytes(bytes_per_pass / all_tokens));
  fmt::print("GB/s         {:.2f}\n", rate * 1e-9);
  PrintReadLimit(limit, rate, bytes_per_pass);
  nlohmann::json json = Describe(flags, model);
  json.update({{"tokens_per_second", all_tokens / pass},
               {"gflops", flops * 1e-9},
               {"bytes_per_token", bytes_per_pass / all_tokens},
               {"gb_per_second", rate * 1e-9},
               {"share_of_bandwidth", rate / limit.highest()},
               {"prompt", prompt},
               {"copies", profiler.copies()}});
  AddReadLimit(limit, &json);
  Finish(json, flags.json);
}

struct OpPart {
  std::string title;
  std::vector<OpCost> costs;
};

nlohmann::json OpTable(const OpPart& part, double bandwidth) {
  fmt::print("\n{}\n{:<20}{:>8}{:>12}{:>14}{:>10}{:>10}\n", part.title, "op", "calls", "us a call", "bytes a call",
             "GB/s", "of limit");
  nlohmann::json ops = nlohmann::json::array();
  for (const OpCost& cost : part.costs) {
    const auto calls = static_cast<double>(cost.calls);
    const double rate = static_cast<double>(cost.bytes) / cost.seconds;
    fmt::print("{:<20}{:>8}{:>12.2f}{:>14}{:>10.2f}{:>9.1f}%\n", cost.name, cost.calls, cost.seconds / calls * 1e6,
               HumanBytes(static_cast<double>(cost.bytes) / calls), rate * 1e-9, 100 * rate / bandwidth);
    ops.push_back({{"name", cost.name}, {"calls", cost.calls}, {"seconds", cost.seconds}, {"bytes", cost.bytes}});
  }
  return ops;
}

void BenchOps(BenchFlags flags) {
  if (flags.model.model.empty() && flags.model.dummy.empty()) {
    flags.model.dummy = "configs/deepseek-v2-lite.json";
    flags.model.layers = 3;
  }
  const LoadedModel model = flags.model.Load();
  ReadLimit limit(*model.backend);
  limit.Sample();
  Profiler profiler;
  OpPart decode{fmt::format("decode, batch {}, context {} of random rows", flags.batch, flags.context), {}};
  {
    Scheduler scheduler(model, SchedulerOptions(flags, LongestContext(flags.context, flags.steps), 1), &profiler);
    StartOnRandomRows(scheduler, flags.batch, flags.context, model.config.vocab_size);
    profiler.Reset();
    for (int64_t s = 0; s < flags.steps; ++s) scheduler.Tick();
    decode.costs = profiler.costs();
  }
  limit.Sample();
  const int64_t prompt = PromptTokens(flags, model);
  OpPart prefill{fmt::format("prefill, {} tokens", prompt), {}};
  {
    Scheduler scheduler(model, SchedulerOptions(flags, prompt + 1, std::min(prompt, model.backend->prefill_rows())),
                        &profiler);
    profiler.Reset();
    Prefill(scheduler, 1, SyntheticTokens(prompt, model.config.vocab_size));
    prefill.costs = profiler.costs();
  }
  limit.Sample();
  PrintModel(model);
  fmt::print("read limit {}\n", limit.Describe());
  nlohmann::json json = Describe(flags, model);
  AddReadLimit(limit, &json);
  json["decode"] = OpTable(decode, limit.highest());
  json["prefill"] = OpTable(prefill, limit.highest());
  Finish(json, flags.json);
}

void AddModelBench(CLI::App& bench, const char* name, const char* help, const char* example, bool model_required,
                   void (*run)(const BenchFlags&), bool decode, bool prefill) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* command = bench.add_subcommand(name, help);
  flags->model.AddTo(*command);
  if (decode) {
    command
        ->add_option("--context", flags->context,
                     "rows in the cache before decoding: random numbers, so that a long context takes no prefill")
        ->check(CLI::Range(1, 1 << 24))
        ->capture_default_str();
    command->add_option("--steps", flags->steps, "decode steps a run")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
  }
  if (prefill) {
    command->add_option("--prompt", flags->prompt, "tokens of the prompt")
        ->check(CLI::Range(1, 1 << 24))
        ->capture_default_str();
  }
  command->add_option("--batch", flags->batch, "sequences")->check(CLI::Range(1, 1024))->capture_default_str();
  command->add_option("--repeat", flags->repeat, "runs; the median is printed")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--json", flags->json, "write the figures to a JSON file");
  command->footer(std::string("Example:\n  ") + example);
  command->callback([flags, run, model_required] {
    if (model_required && flags->model.model.empty() == flags->model.dummy.empty()) {
      throw CLI::ValidationError("MODEL", "give a model folder or --dummy CONFIG.json, one of the two");
    }
    run(*flags);
  });
}

}  // namespace

void BenchModelFlags::AddTo(CLI::App& command) {
  command.add_option("MODEL", model, "model folder, or tiny-gsm");
  command.add_option("--dummy", dummy, "random weights in the shape and precision of this config.json");
  command.add_option("--layers", layers, "with --dummy: only the first N layers")->check(CLI::NonNegativeNumber);
  command.add_option("--experts", experts, "with --dummy: only N experts a layer")->check(CLI::NonNegativeNumber);
  common.AddTo(command);
}

LoadedModel BenchModelFlags::Load() const {
  if (dummy.empty()) {
    if (layers > 0 || experts > 0) {
      Fail(ErrorCode::kUsage, "--layers and --experts", "--dummy CONFIG.json beside them", "a checkpoint",
           "a checkpoint is run whole");
    }
    return OpenModel(ResolveModel(model), common.device);
  }
  const std::string path = ResolveConfigFile(dummy);
  if (std::error_code error; !std::filesystem::exists(path, error)) {
    Fail(ErrorCode::kMissingFile, "--dummy " + dummy, "a config.json", "no such file", "configs/ has published shapes");
  }
  ModelConfig config = LoadConfigFile(path);
  const auto at_most = [](const char* flag, int64_t value, int64_t most) {
    if (value > most)
      Fail(ErrorCode::kUsage, flag, fmt::format("at most the config's {}", most), fmt::format("{}", value));
  };
  at_most("--layers", layers, config.num_hidden_layers);
  at_most("--experts", experts, config.n_routed_experts);
  if (layers > 0) config.num_hidden_layers = layers;
  if (experts > 0) {
    config.n_routed_experts = experts;
    // Fewer experts than groups need no groups.
    config.n_group = 1;
    config.topk_group = 1;
    config.num_experts_per_tok = std::min(config.num_experts_per_tok, config.n_routed_experts);
  }
  ValidateConfig(config, path + " with --layers and --experts");
  LoadedModel random = LoadedModel::Dummy(config, 1, common.device);
  ShowUploads(&random);
  return random;
}

double SecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

int64_t Bytes(const Profiler& profiler, std::string_view op) {
  int64_t bytes = 0;
  for (const OpCost& cost : profiler.costs()) {
    if (op.empty() || cost.name == op) bytes += cost.bytes;
  }
  return bytes;
}

nlohmann::json DescribeModel(const BenchModelFlags& flags, const LoadedModel& model) {
  return {{"model", flags.dummy.empty() ? flags.model : flags.dummy},
          {"dummy", !flags.dummy.empty()},
          {"layers", model.config.num_hidden_layers},
          {"experts", model.config.n_routed_experts},
          {"device", model.backend->kernels().backend},
          {"isa", model.backend->kernels().isa},
          {"threads", model.backend->pool().threads()}};
}

void Finish(const nlohmann::json& json, const std::string& path) {
  if (path.empty()) return;
  OutputFile file(path);
  file.Write(json.dump(2) + "\n");
  file.Commit();
}

int64_t LongestContext(int64_t context, int64_t ticks) { return context + 1 + ticks + 2; }

void PrintModel(const LoadedModel& model) {
  fmt::print("{} layers of hidden {}, {} heads; device {}, {} threads\n", model.config.num_hidden_layers,
             model.config.hidden_size, model.config.num_attention_heads, model.backend->Name(),
             model.backend->pool().threads());
}

void PrintReadLimit(const ReadLimit& limit, double rate, double bytes) {
  fmt::print("read limit   {}; {}\n", limit.Describe(), limit.Share(rate, bytes));
}

void AddReadLimit(const ReadLimit& limit, nlohmann::json* json) {
  (*json)["read_bandwidth_gb_per_second"] = limit.highest() * 1e-9;
  (*json)["lowest_read_bandwidth_gb_per_second"] = limit.lowest() * 1e-9;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::vector<int32_t> SyntheticTokens(int64_t count, int64_t vocab_size) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>((i * 7919 + 17) % vocab_size));
  return tokens;
}

namespace {

// A request that fails ends the benchmark.
void Submit(Scheduler& scheduler, GenerateRequest request) {
  scheduler.Submit(std::move(request), [](RequestId, const GenerateResult& result) {
    if (result.error) std::rethrow_exception(result.error);
  });
}

void SubmitLong(Scheduler& scheduler, std::vector<int32_t> prompt, int64_t random_rows) {
  GenerateRequest request;
  request.max_tokens = scheduler.options().max_context - static_cast<int64_t>(prompt.size());
  request.prompt = std::move(prompt);
  request.random_rows = random_rows;
  Submit(scheduler, std::move(request));
}

void RunUntilDecoding(Scheduler& scheduler, int64_t count) {
  while (scheduler.Tick().decode_rows < count) {
    if (scheduler.idle()) {
      Fail(ErrorCode::kInternal, "decoding", "room for a token of every request", "requests that ended before");
    }
  }
}

}  // namespace

void Prefill(Scheduler& scheduler, int64_t count, const std::vector<int32_t>& prompt) {
  for (int64_t i = 0; i < count; ++i) {
    GenerateRequest request;
    request.prompt = prompt;
    request.max_tokens = 1;
    Submit(scheduler, std::move(request));
  }
  while (!scheduler.idle()) scheduler.Tick();
}

void StartOnRandomRows(Scheduler& scheduler, int64_t count, int64_t rows, int64_t vocab_size) {
  const std::vector<int32_t> tokens = SyntheticTokens(rows + count, vocab_size);
  for (int64_t i = 0; i < count; ++i) {
    std::vector<int32_t> prompt(tokens.begin(), tokens.begin() + rows);
    prompt.push_back(tokens[static_cast<size_t>(rows + i)]);  // another for each, or all would choose the same experts
    SubmitLong(scheduler, std::move(prompt), rows);
  }
  RunUntilDecoding(scheduler, count);
}

void StartDecoding(Scheduler& scheduler, int64_t count, const std::vector<int32_t>& prompt) {
  for (int64_t i = 0; i < count; ++i) SubmitLong(scheduler, prompt, 0);
  RunUntilDecoding(scheduler, count);
}

void AddBenchModel(CLI::App& bench) {
  AddModelBench(
      bench, "ops", "Time every op of a decode step and of a prefill",
      "mxmla bench ops --dummy configs/kimi-k2-mxfp4.json --layers 2 --experts 16", false,
      [](const BenchFlags& flags) { BenchOps(flags); }, true, true);
  AddBenchDecode(bench);
  AddModelBench(bench, "prefill", "Time prefilling", "mxmla bench prefill tiny-gsm --prompt 256", true, BenchPrefill,
                false, true);
}

}  // namespace mxmla::app
