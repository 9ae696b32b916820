// mxmla bench attention: MLA decode attention over a paged cache that comes from memory.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "bench_kernels.h"
#include "ops/attention.h"
#include "random_operands.h"

namespace mxmla::app {
namespace {

struct AttentionFlags {
  std::vector<int64_t> heads = {16, 64, 128};
  std::vector<int64_t> batch = {1, 16, 64, 128};
  std::vector<int64_t> contexts = {1024, 4096, 16384};
  std::string kv_dtype = "bf16";
  int64_t query_tokens = 1, page_size = 64;
  KernelBenchFlags common;
};

constexpr int64_t kLatent = 512, kRope = 64, kWidth = kLatent + kRope;  // DeepSeek's and Kimi's

// One query, one block table, and `sets` layers' caches of `sequences` sequences of `context` tokens each.
class Case {
 public:
  Case(Backend& backend, const AttentionFlags& flags, int64_t heads, int64_t sequences, int64_t context, int64_t sets)
      : buffers_(backend),
        heads_(heads),
        rows_(sequences * flags.query_tokens),
        page_size_(flags.page_size),
        sequences_(sequences),
        pages_((context + page_size_ - 1) / page_size_),
        sets_(sets),
        fp8_(flags.kv_dtype == "fp8") {
    const int64_t tokens = sets * sequences * pages_ * page_size_;
    if (fp8_) {
      // Bits that are no NaN as FP8, bf16 or float32.
      kv_ = buffers_.Reserve<e4m3>("kv", tokens * Fp8KvRowStride(kLatent, kRope), 0x8f0f8f0fu, 0x30303030u);
    } else {
      kv_ = buffers_.ReserveValues("kv", tokens * kWidth);
    }
    query_ = buffers_.ReserveValues("query", rows_ * heads * kWidth);
    out_ = buffers_.ReserveResult("out", rows_ * heads * kLatent);
    std::vector<int32_t> table, sequence, length;
    const int64_t count = sequences * pages_;
    for (int64_t i = 0; i < count; ++i) table.push_back(static_cast<int32_t>(i * PageStep(count) % count));
    for (int64_t r = 0; r < rows_; ++r) {
      sequence.push_back(static_cast<int32_t>(r / flags.query_tokens));
      length.push_back(static_cast<int32_t>(context - flags.query_tokens + 1 + r % flags.query_tokens));
    }
    table_ = buffers_.ReserveIndices("block_table", table);
    sequence_ = buffers_.ReserveIndices("row_sequence", sequence);
    length_ = buffers_.ReserveIndices("row_length", length);
    buffers_.Allocate(backend);
  }

  void Run(const ExecContext& context, int64_t set) const {
    DecodeAttentionArgs args;
    const int64_t pages = sequences_ * pages_, first = set * pages * page_size_;
    if (fp8_) {
      args.kv_pages = Fp8KvPages(buffers_.Get<e4m3>(kv_) + first * Fp8KvRowStride(kLatent, kRope), pages, page_size_,
                                 kLatent, kRope);
    } else {
      const int64_t all = sets_ * pages;
      args.kv_pages = std::visit(
          [&](const auto& kv) -> KvInput<3> {
            using Element = typename std::decay_t<decltype(kv)>::Element;
            return View<const Element, 3>(kv.Rows(set * pages, pages));
          },
          buffers_.Floats<3>(kv_, {all, page_size_, kWidth}));
    }
    args.query = AsInput(buffers_.Floats<3>(query_, {rows_, heads_, kWidth}));
    args.out = buffers_.Floats<3>(out_, {rows_, heads_, kLatent});
    args.block_table = View<const int32_t, 2>::Contiguous(buffers_.Get<int32_t>(table_), {sequences_, pages_});
    args.row_sequence = View<const int32_t, 1>::Contiguous(buffers_.Get<int32_t>(sequence_), {rows_});
    args.row_length = View<const int32_t, 1>::Contiguous(buffers_.Get<int32_t>(length_), {rows_});
    args.kv_lora_rank = kLatent;
    args.softmax_scale = 0.05f;
    DecodeAttention(context, args);
  }

 private:
  // A step without a common divisor, so that neighbouring pages of a sequence lie apart.
  static int64_t PageStep(int64_t count) {
    int64_t step = 40503;
    while (std::gcd(step, count) != 1) step += 2;
    return step;
  }

  RandomBuffers buffers_;
  int64_t heads_, rows_, page_size_, sequences_, pages_, sets_;
  bool fp8_;
  int kv_ = -1, query_ = -1, out_ = -1, table_ = -1, sequence_ = -1, length_ = -1;
};

std::vector<Chart> Charts(const AttentionFlags& flags, const nlohmann::json& rows) {
  std::vector<Chart> charts;
  for (const int64_t heads : flags.heads) {
    Chart chart{fmt::format("{} heads, % of the read bandwidth", heads), {}};
    for (const int64_t batch : flags.batch) {
      ChartLine line{fmt::format("batch {}", batch), {}};
      for (const nlohmann::json& row : rows) {
        if (row["heads"] == heads && row["batch"] == batch) line.values.push_back(100 * row["of_read"].get<double>());
      }
      chart.lines.push_back(std::move(line));
    }
    charts.push_back(std::move(chart));
  }
  return charts;
}

void BenchAttention(const AttentionFlags& flags) {
  const int64_t shortest = *std::ranges::min_element(flags.contexts);
  if (flags.query_tokens > shortest) {
    Fail(ErrorCode::kUsage, "--query-tokens", fmt::format("at most the shortest context, {}", shortest),
         fmt::format("{}", flags.query_tokens));
  }
  KernelBench bench(flags.common);
  const bool plain = bench.backend().kernels().activation_dtype == DType::kF32;
  const int64_t row_bytes = flags.kv_dtype == "fp8" ? Fp8KvRowStride(kLatent, kRope) : kWidth * (plain ? 4 : 2);
  fmt::print(
      "decode attention, latents of {} and {} rotated columns, {} query tokens a sequence, pages of {}, cache in {}\n",
      kLatent, kRope, flags.query_tokens, flags.page_size, flags.kv_dtype);
  fmt::print("device {}; us a layer, medians; GB/s count the cache once, query and result\n\n", bench.Describe());
  fmt::print("{:>6}{:>7}{:>9}{:>11}{:>11}{:>11}{:>9}{:>11}\n", "heads", "batch", "context", "floor, us", "us", "GB/s",
             "of read", "TFLOP/s");
  for (const int64_t heads : flags.heads) {
    for (const int64_t batch : flags.batch) {
      bench.limit().Sample();
      for (const int64_t context : flags.contexts) {
        const int64_t cache = batch * context * row_bytes;
        const int64_t sets = bench.Sets(cache, 61);
        const Case operands(bench.backend(), flags, heads, batch, context, sets);
        bench.Plan([&](const ExecContext& planned) { operands.Run(planned, 0); });
        // With one set, what a cache keeps of it from run to run is counted as read.
        const double us = bench.Microseconds(1, sets, [&](int, int64_t set) { operands.Run(bench.context(), set); })[0];
        const int64_t rows = batch * flags.query_tokens;
        const auto bytes = static_cast<double>(cache + rows * heads * (kWidth + kLatent) * (plain ? 4 : 2));
        const double operations = 2.0 * static_cast<double>(rows * context * heads * (kWidth + kLatent));
        const double rate = bytes / us * 1e6;
        fmt::print("{:>6}{:>7}{:>9}{:>11.2f}{:>11.2f}{:>11.1f}{:>8.1f}%{:>11.1f}\n", heads, batch, context,
                   bytes / bench.limit().highest() * 1e6, us, rate * 1e-9, 100 * rate / bench.limit().highest(),
                   operations / us * 1e-6);
        bench.AddRow({{"heads", heads},
                      {"batch", batch},
                      {"context", context},
                      {"us", us},
                      {"bytes", bytes},
                      {"of_read", rate / bench.limit().highest()},
                      {"tflops", operations / us * 1e-6}});
      }
    }
  }
  bench.Finish("context", Names(flags.contexts), [&](const nlohmann::json& rows) { return Charts(flags, rows); });
}

}  // namespace

void AddBenchAttention(CLI::App& bench) {
  auto flags = std::make_shared<AttentionFlags>();
  CLI::App* command = bench.add_subcommand("attention", "Time MLA decode attention over a paged cache");
  AddNumbers(*command, "--heads", "numbers of heads", 4096, &flags->heads);
  AddNumbers(*command, "--batch", "numbers of sequences", 4096, &flags->batch);
  AddNumbers(*command, "--context", "tokens that each sequence sees", 1 << 20, &flags->contexts);
  command->add_option("--kv-dtype", flags->kv_dtype, "what the cache holds: bf16 (ref: float32) or fp8")
      ->check(CLI::IsMember({"bf16", "fp8"}))
      ->capture_default_str();
  command->add_option("--query-tokens", flags->query_tokens, "rows of one sequence, each seeing a token more")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_option("--page-size", flags->page_size, "tokens a page")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  flags->common.AddTo(*command);
  command->footer("Example:\n  mxmla bench attention --heads 16 --batch 1,8 --context 1024,4096");
  command->callback([flags] { BenchAttention(*flags); });
}

}  // namespace mxmla::app
