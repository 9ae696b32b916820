// mxmla bench decode: steps of one token a sequence, over batches, contexts and layouts of the V projection.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "bench_model.h"
#include "engine/option_names.h"

namespace mxmla::app {
namespace {

struct DecodeFlags {
  BenchModelFlags model;
  std::string json;
  std::vector<int64_t> contexts = {64};  // tokens in the cache before decoding
  std::vector<int64_t> batches = {1};    // sequences
  std::vector<std::string> layouts;      // --v-layout's unless given
  int64_t steps = 32;
  int64_t repeat = 3;
};

struct Run {
  int64_t batch, context;
  std::string layout;
};

class DecodeBench {
 public:
  DecodeBench(const DecodeFlags& flags, const LoadedModel& model)
      : flags_(flags), model_(model), replays_(model.backend->replays()), limit_(*model.backend) {}

  void Measure(const Run& run) {
    Profiler profiler;
    // Each run begins with a step that is not timed: it touches what a step reads, which the sample of the bandwidth
    // before it drove out of the caches. On a device that replays steps it counts the bytes of a step, op by op; three
    // more and the step is recorded, and the timed ones run as those of generation do.
    const int64_t warm_ups = replays_ ? 4 : 1;
    const int64_t steps = flags_.steps * flags_.repeat;
    const int64_t last_context = LongestContext(run.context, steps + flags_.repeat * warm_ups);
    ModelOptions options = flags_.model.common.ToModelOptions();
    options.v_layout = ParseVLayout(run.layout);
    options.max_context = last_context;
    options.max_sequences = options.max_batch_tokens = run.batch;
    options.prefix_cache = false;
    Scheduler scheduler(model_, options, &profiler);
    StartOnRandomRows(scheduler, run.batch, run.context, model_.config.vocab_size);
    std::vector<double> seconds, on_device;
    int64_t bytes = 0, expert_bytes = 0, copies = 0;
    for (int64_t r = 0; r < flags_.repeat; ++r) {
      limit_.Sample();
      profiler.Reset();
      profiler.Pause(false);
      scheduler.Tick();
      if (replays_) {
        bytes += Bytes(profiler) * flags_.steps;
        expert_bytes += Bytes(profiler, "experts") * flags_.steps;
        copies += profiler.copies() * flags_.steps;
        profiler.Pause(true);
        for (int64_t s = 1; s < warm_ups; ++s) scheduler.Tick();
      }
      profiler.Reset();
      const auto begin = std::chrono::steady_clock::now();
      for (int64_t s = 0; s < flags_.steps; ++s) scheduler.Tick();
      seconds.push_back(SecondsSince(begin) / static_cast<double>(flags_.steps));
      on_device.push_back(scheduler.device_seconds());
      bytes += Bytes(profiler);
      expert_bytes += Bytes(profiler, "experts");
      copies += profiler.copies();
    }
    limit_.Sample();
    const auto a_step = [&](int64_t all) { return static_cast<double>(all) / static_cast<double>(steps); };
    Report(run, last_context, {Median(seconds), Median(on_device)}, {a_step(bytes), a_step(expert_bytes)}, copies,
           scheduler.launches());
  }

  void Finish() const {
    nlohmann::json json = DescribeModel(flags_.model, model_);
    AddReadLimit(limit_, &json);
    json["runs"] = runs_;
    app::Finish(json, flags_.json);
  }

 private:
  struct StepSeconds {
    double all, on_device;
  };
  struct StepBytes {
    double all;
    double experts;  // of the products of the step's distinct experts, each one's weights once
  };

  void Report(const Run& run, int64_t last_context, StepSeconds seconds, StepBytes step_bytes, int64_t copies,
              int64_t launches) {
    const double bytes = step_bytes.all;
    const double step = seconds.all;
    const auto batch = static_cast<double>(run.batch);
    const double rate = bytes / step;
    fmt::print(
        "\ndecode       batch {}, context {} to {}, V layout {}; the first {} rows of the cache are random numbers\n",
        run.batch, run.context, last_context, run.layout, run.context);
    fmt::print("tokens/s     {:.2f} (median of {} runs of {} steps)\n", batch / step, flags_.repeat, flags_.steps);
    fmt::print("step         {:.1f} us", step * 1e6);
    if (launches > 0) {
      fmt::print(", {:.1f} us of them on the device; one graph of {} kernels, {:.1f} a layer", seconds.on_device * 1e6,
                 launches, static_cast<double>(launches) / static_cast<double>(model_.config.num_hidden_layers));
    }
    fmt::print("\nbytes/token  {}\n", HumanBytes(bytes / batch));
    if (step_bytes.experts > 0) {
      fmt::print("bytes/step   {}, {} of them for the experts that the step chose, each read once\n", HumanBytes(bytes),
                 HumanBytes(step_bytes.experts));
    }
    fmt::print("GB/s         {:.2f}\n", rate * 1e-9);
    PrintReadLimit(limit_, rate, bytes);
    runs_.push_back({{"batch", run.batch},
                     {"context", run.context},
                     {"v_layout", run.layout},
                     {"steps", flags_.steps * flags_.repeat},
                     {"step_seconds", step},
                     {"device_seconds", seconds.on_device},
                     {"tokens_per_second", batch / step},
                     {"bytes_per_token", bytes / batch},
                     {"expert_bytes_per_step", step_bytes.experts},
                     {"gb_per_second", rate * 1e-9},
                     {"share_of_bandwidth", rate / limit_.highest()},
                     {"copies", copies},
                     {"launches", launches}});
  }

  const DecodeFlags& flags_;
  const LoadedModel& model_;
  const bool replays_;
  ReadLimit limit_;
  nlohmann::json runs_ = nlohmann::json::array();
};

void BenchDecode(const DecodeFlags& flags) {
  const LoadedModel model = flags.model.Load();
  PrintModel(model);
  DecodeBench bench(flags, model);
  const std::vector<std::string> layouts =
      flags.layouts.empty() ? std::vector<std::string>{flags.model.common.v_layout} : flags.layouts;
  for (const int64_t context : flags.contexts) {
    for (const int64_t batch : flags.batches) {
      for (const std::string& layout : layouts) bench.Measure({batch, context, layout});
    }
  }
  bench.Finish();
}

}  // namespace

void AddBenchDecode(CLI::App& bench) {
  auto flags = std::make_shared<DecodeFlags>();
  CLI::App* command = bench.add_subcommand("decode", "Time decoding");
  flags->model.AddTo(*command);
  command
      ->add_option("--context", flags->contexts,
                   "rows in the cache before decoding, several values: random numbers, so that a long context takes no "
                   "prefill")
      ->check(CLI::Range(0, 1 << 24))
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--batch", flags->batches, "sequences, several values")
      ->check(CLI::Range(1, 1024))
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--layouts", flags->layouts, "layouts of the V projection to compare, instead of --v-layout")
      ->check(CLI::IsMember({"copy", "strided", "fused"}))
      ->delimiter(',');
  command->add_option("--steps", flags->steps, "decode steps a run")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--repeat", flags->repeat, "runs; the median is printed")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--json", flags->json, "write the figures to a JSON file");
  command->footer("Example:\n  mxmla bench decode --dummy configs/deepseek-v2-lite.json --context 512 --batch 1,8");
  command->callback([flags] {
    if (flags->model.model.empty() == flags->model.dummy.empty()) {
      throw CLI::ValidationError("MODEL", "give a model folder or --dummy CONFIG.json, one of the two");
    }
    BenchDecode(*flags);
  });
}

}  // namespace mxmla::app
