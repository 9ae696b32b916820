// The linear products of DeepSeek-V2-Lite: bytes of weights a second for a few rows (to be held against the memory's
// bandwidth, the first line), and operations a second for many. The weights are larger than the caches: each iteration
// takes the next of several matrices. MXMLA_BENCH_THREADS chooses the threads (1), MXMLA_ISA the instruction set.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "cpu/backend.h"
#include "ops/backend.h"

namespace mxmla {
namespace {

constexpr size_t kWeightBytes = size_t{256} << 20;

HostBackend& Device() {
  static HostBackend device(CpuKernels(DetectCpuIsa()), [] {
    const char* text = std::getenv("MXMLA_BENCH_THREADS");
    return text != nullptr ? std::max(1, std::atoi(text)) : 1;
  }());
  return device;
}

// Random bytes that are finite numbers in every format: the high bytes of bf16 stay small.
const std::vector<uint8_t>& WeightBytes() {
  static const std::vector<uint8_t> bytes = [] {
    std::mt19937_64 random(1);
    std::vector<uint8_t> result(kWeightBytes);
    for (size_t i = 0; i < result.size(); i += sizeof(uint64_t)) {
      const uint64_t word = random() & 0xbf77bf77bf77bf77u;
      std::memcpy(result.data() + i, &word, sizeof(word));
    }
    return result;
  }();
  return bytes;
}

void ReadBandwidth(benchmark::State& state) {
  const std::vector<uint8_t>& bytes = WeightBytes();
  const int parts = Device().pool().threads();
  std::vector<uint64_t> found(static_cast<size_t>(parts) * 8);
  for (auto _ : state) {
    Device().pool().ParallelFor(parts, [&](int64_t part, int) {
      typedef uint64_t Words __attribute__((vector_size(64), aligned(8), may_alias));
      const auto* words = reinterpret_cast<const Words*>(bytes.data());
      const int64_t count = static_cast<int64_t>(bytes.size() / sizeof(Words));
      Words a{};
      Words b{};
      for (int64_t i = count * part / parts; i + 2 <= count * (part + 1) / parts; i += 2) {
        a ^= words[i];
        b ^= words[i + 1];
      }
      a ^= b;
      found[static_cast<size_t>(part) * 8] = a[0];
    });
    benchmark::DoNotOptimize(found.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes.size()));
}
BENCHMARK(ReadBandwidth)->UseRealTime();

enum Format { kMxfp4, kFp8, kBf16 };

LinearWeight WeightAt(Format format, int64_t n, int64_t k, int64_t iteration) {
  static const std::vector<float> fp8_scales(size_t{128} * 128, 0.01f);
  const int64_t bytes = format == kMxfp4 ? n * k / 2 + n * k / 32 : format == kFp8 ? n * k : 2 * n * k;
  const int64_t matrices = static_cast<int64_t>(kWeightBytes) / bytes;
  const uint8_t* at = WeightBytes().data() + iteration % matrices * bytes;
  switch (format) {
    case kMxfp4:
      return Mxfp4<const e2m1x2, 2>{
          View<const e2m1x2, 2>::Contiguous(reinterpret_cast<const e2m1x2*>(at), {n, k / 2}),
          View<const e8m0, 2>::Contiguous(reinterpret_cast<const e8m0*>(at + n * k / 2), {n, k / 32})};
    case kFp8:
      return Fp8Block{View<const e4m3, 2>::Contiguous(reinterpret_cast<const e4m3*>(at), {n, k}),
                      View<const float, 2>::Contiguous(fp8_scales.data(), {(n + 127) / 128, (k + 127) / 128}), 0};
    case kBf16:
      break;
  }
  return View<const bf16, 2>::Contiguous(reinterpret_cast<const bf16*>(at), {n, k});
}

void LinearBench(benchmark::State& state, Format format, int64_t n, int64_t k) {
  const int64_t rows = state.range(0);
  ExecContext context = Device().Context();
  std::mt19937 random(2);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<bf16> x(static_cast<size_t>(rows * k));
  for (bf16& value : x) value = bf16::FromFloat(uniform(random));
  std::vector<bf16> out(static_cast<size_t>(rows * n));
  LinearArgs args;
  args.x = View<const bf16, 2>::Contiguous(x.data(), {rows, k});
  args.out = View<bf16, 2>::Contiguous(out.data(), {rows, n});
  int64_t iteration = 0;
  args.weight = WeightAt(format, n, k, 0);
  WorkspaceMemory workspace;
  workspace.Plan(context, Device(), [&](const ExecContext& planned) { Linear(planned, args); });
  for (auto _ : state) {
    args.weight = WeightAt(format, n, k, iteration++);
    Linear(context, args);
    benchmark::DoNotOptimize(out.data());
  }
  state.SetBytesProcessed(state.iterations() * ByteCount(args.weight));
  state.counters["FLOP/s"] = benchmark::Counter(
      static_cast<double>(2 * rows * n * k) * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

#define MXMLA_LINEAR_BENCH(name, format, n, k) \
  BENCHMARK_CAPTURE(LinearBench, name, format, n, k)->Arg(1)->Arg(4)->Arg(16)->Arg(512)->UseRealTime()

// o_proj (2048, 2048) and the dense layer's gate and up (21888, 2048) together.
MXMLA_LINEAR_BENCH(mxfp4_o_proj, kMxfp4, 2048, 2048);
MXMLA_LINEAR_BENCH(mxfp4_gate_up, kMxfp4, 21888, 2048);
MXMLA_LINEAR_BENCH(fp8_o_proj, kFp8, 2048, 2048);
MXMLA_LINEAR_BENCH(fp8_gate_up, kFp8, 21888, 2048);
MXMLA_LINEAR_BENCH(bf16_o_proj, kBf16, 2048, 2048);
MXMLA_LINEAR_BENCH(bf16_gate_up, kBf16, 21888, 2048);

}  // namespace
}  // namespace mxmla

BENCHMARK_MAIN();
