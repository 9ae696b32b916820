// Decode attention of one row (heads x context) and prefill attention, on the best instruction set of this machine (or
// MXMLA_ISA) and one thread or as many as the last argument says. Besides the time: bytes of the cache read once
// ("bytes_per_second") and floating-point operations ("FLOP/s").
#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <vector>

#include "cpu/backend.h"
#include "ops/backend.h"

namespace mxmla {
namespace {

constexpr int64_t kRank = 512;
constexpr int64_t kRope = 64;
constexpr int64_t kWidth = kRank + kRope;
constexpr int64_t kNope = 128;
constexpr int64_t kValue = 128;
constexpr int64_t kPage = 64;

std::vector<bf16> RandomValues(int64_t count, float scale) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<bf16> values(static_cast<size_t>(count));
  for (bf16& value : values) value = bf16::FromFloat(normal(random));
  return values;
}

// Threads, kernels and the workspace that `body(context)` asks for.
struct Machine {
  template <class Body>
  Machine(int threads, const Body& body) : backend(CpuKernels(DetectCpuIsa()), threads), context(backend.Context()) {
    workspace.Plan(context, backend, body);
  }

  HostBackend backend;
  WorkspaceMemory workspace;
  ExecContext context;
};

std::vector<int32_t> Pages(int64_t tokens) {
  std::vector<int32_t> pages(static_cast<size_t>((tokens + kPage - 1) / kPage));
  for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(pages.size() - 1 - i);
  return pages;
}

// The cache in bf16, or in FP8.
void DecodeAttention(benchmark::State& state) {
  const int64_t heads = state.range(0);
  const int64_t length = state.range(1);
  const std::vector<int32_t> table = Pages(length);
  const auto pages = static_cast<int64_t>(table.size());
  const std::vector<bf16> query = RandomValues(heads * kWidth, 1.0f);
  const bool fp8 = state.range(3) != 0;
  const std::vector<bf16> cache = RandomValues(fp8 ? 0 : pages * kPage * kWidth, 1.0f);
  std::vector<e4m3> fp8_cache(static_cast<size_t>(fp8 ? pages * kPage * Fp8KvRowStride(kRank, kRope) : 0));
  const Fp8Kv<e4m3, 3> fp8_pages = Fp8KvPages(fp8_cache.data(), fp8 ? pages : 0, kPage, kRank, kRope);
  for (int64_t token = 0; fp8 && token < pages * kPage; ++token) {
    for (int64_t i = 0; i < kRank; ++i) {
      fp8_pages.latent.values(token / kPage, token % kPage, i) = {static_cast<uint8_t>((token * 31 + i * 7) % 120)};
    }
    for (int64_t i = 0; i < kRank / kFp8Group; ++i) fp8_pages.latent.scales(token / kPage, token % kPage, i) = 0.01f;
    for (int64_t i = 0; i < kRope; ++i) fp8_pages.key(token / kPage, token % kPage, i) = bf16::FromFloat(0.5f);
  }
  std::vector<bf16> out(static_cast<size_t>(heads * kRank));
  const int32_t sequence = 0;
  const auto row_length = static_cast<int32_t>(length);
  DecodeAttentionArgs args;
  args.query = View<const bf16, 3>::Contiguous(query.data(), {1, heads, kWidth});
  args.kv_pages = View<const bf16, 3>::Contiguous(cache.data(), {pages, kPage, kWidth});
  if (fp8) args.kv_pages = Fp8Kv<const e4m3, 3>(fp8_pages);
  args.block_table = View<const int32_t, 2>::Contiguous(table.data(), {1, pages});
  args.row_sequence = View<const int32_t, 1>::Contiguous(&sequence, {1});
  args.row_length = View<const int32_t, 1>::Contiguous(&row_length, {1});
  args.kv_lora_rank = kRank;
  args.softmax_scale = 1.0f / std::sqrt(192.0f);
  args.out = View<bf16, 3>::Contiguous(out.data(), {1, heads, kRank});
  const Machine machine(static_cast<int>(state.range(2)),
                        [&](const ExecContext& context) { mxmla::DecodeAttention(context, args); });
  for (auto _ : state) mxmla::DecodeAttention(machine.context, args);
  state.SetBytesProcessed(state.iterations() * length * KvRowBytes(args.kv_pages));
  state.counters["FLOP/s"] = benchmark::Counter(static_cast<double>(2 * heads * length * (kWidth + kRank)),
                                                benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(DecodeAttention)
    ->ArgNames({"heads", "context", "threads", "fp8"})
    ->ArgsProduct({{16, 128}, {1024, 8192}, {1, 2}, {0, 1}})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

void PrefillAttention(benchmark::State& state) {
  const int64_t heads = state.range(0);
  const int64_t rows = state.range(1);
  const std::vector<int32_t> table = Pages(rows);
  const auto pages = static_cast<int64_t>(table.size());
  const std::vector<bf16> query = RandomValues(rows * heads * (kNope + kRope), 1.0f);
  const std::vector<bf16> cache = RandomValues(pages * kPage * kWidth, 1.0f);
  const std::vector<bf16> weight = RandomValues(heads * (kNope + kValue) * kRank, 0.05f);
  std::vector<bf16> out(static_cast<size_t>(rows * heads * kValue));
  const std::vector<int32_t> sequence(static_cast<size_t>(rows), 0), begin{0, static_cast<int32_t>(rows)};
  std::vector<int32_t> row_length(static_cast<size_t>(rows));
  for (size_t r = 0; r < row_length.size(); ++r) row_length[r] = static_cast<int32_t>(r + 1);
  PrefillAttentionArgs args;
  args.query = View<const bf16, 3>::Contiguous(query.data(), {rows, heads, kNope + kRope});
  args.kv_pages = View<const bf16, 3>::Contiguous(cache.data(), {pages, kPage, kWidth});
  args.block_table = View<const int32_t, 2>::Contiguous(table.data(), {1, pages});
  args.row_sequence = View<const int32_t, 1>::Contiguous(sequence.data(), {rows});
  args.row_length = View<const int32_t, 1>::Contiguous(row_length.data(), {rows});
  args.segment_begin = View<const int32_t, 1>::Contiguous(begin.data(), {2});
  const auto tensor = View<const bf16, 2>::Contiguous(weight.data(), {heads * (kNope + kValue), kRank});
  args.w_kc = {tensor, heads, kNope + kValue, 0, kNope};
  args.w_vc = {tensor, heads, kNope + kValue, kNope, kValue};
  args.softmax_scale = 1.0f / std::sqrt(192.0f);
  args.out = View<bf16, 3>::Contiguous(out.data(), {rows, heads, kValue});
  const Machine machine(static_cast<int>(state.range(2)),
                        [&](const ExecContext& context) { mxmla::PrefillAttention(context, args); });
  for (auto _ : state) mxmla::PrefillAttention(machine.context, args);
  // Expanding every token once, and the causal half of the scores and sums.
  const double flops = 2.0 * static_cast<double>(heads * rows) *
                       (static_cast<double>(kRank * (kNope + kValue)) +
                        static_cast<double>(rows + 1) / 2 * static_cast<double>(kNope + kRope + kValue));
  state.counters["FLOP/s"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(PrefillAttention)
    ->ArgNames({"heads", "rows", "threads"})
    ->ArgsProduct({{16}, {512}, {1, 2}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace mxmla

BENCHMARK_MAIN();
