// mxmla profile: where the time of decoding goes, and how many copies there are.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "bench_model.h"
#include "engine/session.h"
#include "output_file.h"

namespace mxmla::app {
namespace {

struct ProfileFlags {
  std::string model, prompt, tokens, json, trace;
  int64_t prompt_tokens = 64;
  int64_t steps = 32;
  CommonFlags common;
};

nlohmann::json OpsJson(const Profiler& profiler) {
  nlohmann::json ops = nlohmann::json::array();
  for (const OpCost& cost : profiler.costs()) {
    ops.push_back({{"name", cost.name},
                   {"calls", cost.calls},
                   {"seconds", cost.seconds},
                   {"bytes", cost.bytes},
                   {"repacked_bytes", cost.repacked}});
  }
  return ops;
}

void PrintTable(const Profiler& profiler, double wall) {
  std::vector<OpCost> costs = profiler.costs();
  std::sort(costs.begin(), costs.end(), [](const OpCost& a, const OpCost& b) { return a.seconds > b.seconds; });
  OpCost all{"total", 0, 0, 0, 0};
  fmt::print("{:<20}{:>8}{:>12}{:>12}{:>10}{:>8}{:>12}\n", "op", "calls", "time ms", "bytes", "GB/s", "share",
             "repacked");
  const auto row = [&](const OpCost& cost) {
    fmt::print("{:<20}{:>8}{:>12.3f}{:>12}{:>10.2f}{:>7.1f}%{:>12}\n", cost.name, cost.calls, cost.seconds * 1e3,
               HumanBytes(static_cast<double>(cost.bytes)), static_cast<double>(cost.bytes) / cost.seconds * 1e-9,
               100 * cost.seconds / wall, HumanBytes(static_cast<double>(cost.repacked)));
  };
  for (const OpCost& cost : costs) {
    row(cost);
    all.calls += cost.calls;
    all.seconds += cost.seconds;
    all.bytes += cost.bytes;
    all.repacked += cost.repacked;
  }
  row(all);
}

// The Trace Event Format that chrome://tracing and Perfetto read: complete events, in microseconds.
std::string ChromeTrace(const Profiler& profiler) {
  nlohmann::json events = nlohmann::json::array();
  for (const OpEvent& event : profiler.events()) {
    events.push_back({{"name", profiler.costs()[event.op].name},
                      {"cat", "op"},
                      {"ph", "X"},
                      {"pid", 1},
                      {"tid", 1},
                      {"ts", event.begin * 1e6},
                      {"dur", event.seconds * 1e6},
                      {"args", {{"bytes", event.bytes}}}});
  }
  return nlohmann::json{{"traceEvents", events}, {"displayTimeUnit", "ms"}}.dump() + "\n";
}

// Steps until a device replays what it recorded.
constexpr int64_t kRecordingSteps = 3;

// Seconds of a step that is replayed as a whole, without the profiler.
double ReplayedStep(Scheduler& scheduler, Profiler* profiler, int64_t steps) {
  profiler->Pause(true);
  for (int64_t step = 0; step < kRecordingSteps; ++step) scheduler.Tick();
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t step = 0; step < steps; ++step) scheduler.Tick();
  return SecondsSince(begin) / static_cast<double>(steps);
}

void Profile(const ProfileFlags& flags) {
  const std::string folder = ResolveModel(flags.model);
  std::unique_ptr<OutputFile> json_file, trace_file;
  if (!flags.json.empty()) json_file = std::make_unique<OutputFile>(flags.json);
  if (!flags.trace.empty()) trace_file = std::make_unique<OutputFile>(flags.trace);
  const LoadedModel model = OpenModel(folder, flags.common.device);
  const int64_t ticks = flags.steps + 2 + (model.backend->replays() ? kRecordingSteps + flags.steps : 0);
  std::vector<int32_t> prompt;
  if (!flags.tokens.empty()) {
    prompt = ParseTokens(flags.tokens);
  } else if (!flags.prompt.empty()) {
    prompt = OpenTokenizer(folder, model.config)->EncodePrompt(flags.prompt);
  } else {
    const int64_t room = std::max<int64_t>(1, model.config.max_position_embeddings - ticks);
    prompt = SyntheticTokens(std::min(flags.prompt_tokens, room), model.config.vocab_size);
  }
  CheckTokens(prompt, model.config.vocab_size);

  Profiler profiler;
  ModelOptions options = flags.common.ToModelOptions();
  options.max_context = static_cast<int64_t>(prompt.size()) + ticks;
  options.max_batch_tokens = std::min(model.backend->prefill_rows(), static_cast<int64_t>(prompt.size()));
  options.prefix_cache = false;
  Scheduler scheduler(model, options, &profiler);
  const auto start = std::chrono::steady_clock::now();
  Prefill(scheduler, 1, prompt);
  const double prefill_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  nlohmann::json json = {{"prompt_tokens", prompt.size()},
                         {"prefill",
                          {{"seconds", prefill_seconds},
                           {"copies", profiler.copies()},
                           {"copied_bytes", profiler.copied_bytes()},
                           {"ops", OpsJson(profiler)}}}};
  StartDecoding(scheduler, 1, prompt);
  profiler.Reset();
  profiler.KeepEvents(trace_file != nullptr);
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t step = 0; step < flags.steps; ++step) scheduler.Tick();
  const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double replayed = model.backend->replays() ? ReplayedStep(scheduler, &profiler, flags.steps) : 0;

  fmt::print("{} decode steps after a prompt of {} tokens; device {}, {} threads, --v-layout {}\n\n", flags.steps,
             prompt.size(), model.backend->Name(), model.backend->pool().threads(), flags.common.v_layout);
  PrintTable(profiler, wall);
  fmt::print("\nwall time {:.3f} ms, {:.1f} tokens/s; prefill {:.1f} tokens/s\n", wall * 1e3,
             static_cast<double>(flags.steps) / wall, static_cast<double>(prompt.size()) / prefill_seconds);
  if (replayed > 0) {
    fmt::print("the step as one graph: {:.1f} us, {} kernels, {:.1f} a layer\n", replayed * 1e6, scheduler.launches(),
               static_cast<double>(scheduler.launches()) / static_cast<double>(model.config.num_hidden_layers));
  }
  fmt::print("copies between kernels: {}, {}\n", profiler.copies(),
             HumanBytes(static_cast<double>(profiler.copied_bytes())));
  fmt::print("activations repacked inside products: {}\n", HumanBytes(static_cast<double>(profiler.repacked_bytes())));
  json.update({{"copies", profiler.copies()},
               {"copied_bytes", profiler.copied_bytes()},
               {"repacked_bytes", profiler.repacked_bytes()},
               {"steps", flags.steps},
               {"replayed_step_seconds", replayed},
               {"launches", scheduler.launches()},
               {"seconds", wall},
               {"ops", OpsJson(profiler)}});
  if (json_file) {
    json_file->Write(json.dump(2) + "\n");
    json_file->Commit();
  }
  if (trace_file) {
    trace_file->Write(ChromeTrace(profiler));
    trace_file->Commit();
  }
}

}  // namespace

void AddProfile(CLI::App& app) {
  auto flags = std::make_shared<ProfileFlags>();
  CLI::App* command = app.add_subcommand("profile", "Time every op of decoding, and count the copies");
  command->add_option("MODEL", flags->model, "model folder, or tiny-gsm")->required();
  command->add_option("--steps", flags->steps, "decode steps")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  CLI::Option* prompt = command->add_option("--prompt", flags->prompt, "the prompt's text");
  CLI::Option* tokens = command->add_option("--tokens", flags->tokens, "the prompt's token ids: 1,2,3 or @FILE");
  CLI::Option* length = command
                            ->add_option("--prompt-tokens", flags->prompt_tokens,
                                         "without --prompt or --tokens: this many synthetic tokens")
                            ->check(CLI::Range(1, 1 << 24))
                            ->capture_default_str();
  prompt->excludes(tokens);
  length->excludes(prompt);
  length->excludes(tokens);
  command->add_option("--json", flags->json, "write the figures to a JSON file");
  command->add_option("--trace", flags->trace, "write every op call as a Chrome trace (chrome://tracing, Perfetto)");
  flags->common.AddTo(*command);
  command->footer("Example:\n  mxmla profile tiny-gsm --steps 64 --trace trace.json");
  command->callback([flags] { Profile(*flags); });
}

}  // namespace mxmla::app
