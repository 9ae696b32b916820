// Sampling 16 rows of DeepSeek-V3's vocabulary. MXMLA_BENCH_THREADS chooses the threads (1), MXMLA_ISA the instruction
// set.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdlib>
#include <random>
#include <vector>

#include "cpu/backend.h"
#include "ops/backend.h"

namespace mxmla {
namespace {

constexpr int64_t kRows = 16;
constexpr int64_t kVocab = 129280;

HostBackend& Device() {
  static HostBackend device(CpuKernels(DetectCpuIsa()), [] {
    const char* text = std::getenv("MXMLA_BENCH_THREADS");
    return text != nullptr ? std::max(1, std::atoi(text)) : 1;
  }());
  return device;
}

// Flat: normal(0, spread). Peaked: the same, and some tokens that fall off from far above it, as models' logits do.
std::vector<float> Logits(float spread, bool peaked) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(static_cast<size_t>(kRows * kVocab));
  for (float& logit : logits) logit = normal(random);
  for (int64_t i = 0; peaked && i < kRows * 100; ++i) {
    logits[static_cast<size_t>(i % kRows * kVocab + random() % kVocab)] =
        8 * spread - 2 * std::log(1 + static_cast<float>(i / kRows));
  }
  return logits;
}

void SampleBench(benchmark::State& state, float spread, bool peaked, SamplingOptions options, bool logprobs) {
  const std::vector<float> logits = Logits(spread, peaked);
  const std::vector<SamplingOptions> all(kRows, options);
  std::vector<float> uniform(kRows);
  std::vector<int32_t> tokens(kRows);
  std::vector<float> found(kRows);
  for (int64_t r = 0; r < kRows; ++r) uniform[r] = (static_cast<float>(r) + 0.5f) / kRows;
  ExecContext context = Device().Context();
  SampleArgs args;
  args.logits = View<const float, 2>::Contiguous(logits.data(), {kRows, kVocab});
  args.options = View<const SamplingOptions, 1>::Contiguous(all.data(), {kRows});
  args.uniform = View<const float, 1>::Contiguous(uniform.data(), {kRows});
  args.tokens = View<int32_t, 1>::Contiguous(tokens.data(), {kRows});
  if (logprobs) args.logprobs = View<float, 1>::Contiguous(found.data(), {kRows});
  WorkspaceMemory workspace;
  workspace.Plan(context, Device(), [&](const ExecContext& planned) { Sample(planned, args); });
  for (auto _ : state) {
    Sample(context, args);
    benchmark::DoNotOptimize(tokens.data());
  }
}

SamplingOptions Options(float temperature, int64_t top_k, float top_p) {
  SamplingOptions options;
  options.temperature = temperature;
  options.top_k = top_k;
  options.top_p = top_p;
  return options;
}

#define MXMLA_SAMPLE_BENCH(name, ...) \
  BENCHMARK_CAPTURE(SampleBench, name, __VA_ARGS__)->UseRealTime()->Unit(benchmark::kMillisecond)

MXMLA_SAMPLE_BENCH(greedy, 1, true, Options(0, 0, 1), false);
MXMLA_SAMPLE_BENCH(greedy_logprobs, 1, true, Options(0, 0, 1), true);
MXMLA_SAMPLE_BENCH(temperature, 1, true, Options(1, 0, 1), true);
MXMLA_SAMPLE_BENCH(top_p_normal_1, 1, false, Options(1, 0, 0.95f), true);
MXMLA_SAMPLE_BENCH(top_p_normal_3, 3, false, Options(1, 0, 0.95f), true);
MXMLA_SAMPLE_BENCH(top_p_peaked, 2, true, Options(1, 0, 0.95f), true);
MXMLA_SAMPLE_BENCH(top_p_cool, 2, true, Options(0.6f, 0, 0.95f), true);
MXMLA_SAMPLE_BENCH(top_k_50_top_p, 2, true, Options(0.6f, 50, 0.95f), true);
MXMLA_SAMPLE_BENCH(top_k_1000_top_p, 2, true, Options(0.6f, 1000, 0.95f), true);

}  // namespace
}  // namespace mxmla

BENCHMARK_MAIN();
