// mxmla bench linear: products of decode's linear layers, their weights read from memory, and the vendor's library
// beside them.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "bench_kernels.h"
#include "ops/linear.h"
#include "random_operands.h"

namespace mxmla::app {
namespace {

struct LinearFlags {
  std::vector<std::string> shapes = {"7168x8192", "2112x7168", "12288x1536"};
  std::vector<int64_t> batch = {1, 4, 16, 64, 128};
  std::vector<std::string> weights = {"mxfp4", "fp8", "bf16"};
  KernelBenchFlags common;
};

struct Shape {
  int64_t n = 0, k = 0;
};

// "7168x8192"; nothing where it is none, or not one whose k every format takes.
std::optional<Shape> ParseShape(const std::string& text) {
  Shape shape;
  int end = 0;
  if (std::sscanf(text.c_str(), "%ldx%ld%n", &shape.n, &shape.k, &end) != 2 ||
      static_cast<size_t>(end) != text.size()) {
    return std::nullopt;
  }
  constexpr int64_t kMost = 1 << 20;
  if (shape.n < 1 || shape.n > kMost || shape.k < 1 || shape.k > kMost || shape.k % kMxBlock != 0) return std::nullopt;
  return shape;
}

// The operands of one shape and format.
class Case {
 public:
  Case(Backend& backend, const Shape& shape, const std::string& format, int64_t sets, int64_t most_rows)
      : buffers_(backend), shape_(shape), weights_(&buffers_, format, sets, shape.n, shape.k) {
    x_ = buffers_.ReserveValues("x", most_rows * shape.k);
    out_ = buffers_.ReserveResult("out", most_rows * shape.n);
    buffers_.Allocate(backend);
  }

  void Run(const ExecContext& context, int64_t rows, int64_t set) const {
    LinearArgs args;
    args.x = AsActivation(buffers_.Floats<2>(x_, {rows, shape_.k}));
    args.weight = weights_.Get(set);
    args.out = buffers_.Floats<2>(out_, {rows, shape_.n});
    Linear(context, args);
  }

  // Of a case whose weights are bf16.
  void RunVendor(VendorProducts& vendor, int64_t rows, int64_t set) const {
    vendor.Multiply({View<const bf16, 3>::Contiguous(buffers_.Get<bf16>(x_), {1, rows, shape_.k}),
                     std::get<View<const bf16, 2>>(weights_.Get(set)).Split(0, 1, shape_.n),
                     View<bf16, 3>::Contiguous(buffers_.Get<bf16>(out_), {1, rows, shape_.n})});
  }

 private:
  RandomBuffers buffers_;
  Shape shape_;
  RandomMatrices weights_;
  int x_ = -1, out_ = -1;
};

std::vector<Chart> Charts(const LinearFlags& flags, const nlohmann::json& rows) {
  std::vector<Chart> charts;
  for (const std::string& shape : flags.shapes) {
    Chart chart{shape + ", us", {}};
    std::vector<std::string> names = flags.weights;
    names.emplace_back("library");
    for (const std::string& name : names) {
      ChartLine line{name, {}};
      for (const nlohmann::json& row : rows) {
        if (row["shape"] != shape) continue;
        if (row["weights"] == name) line.values.push_back(row["us"]);
        if (name == "library" && row["weights"] == flags.weights[0] && row.contains("library_us")) {
          line.values.push_back(row["library_us"]);
        }
      }
      if (!line.values.empty()) chart.lines.push_back(std::move(line));
    }
    charts.push_back(std::move(chart));
  }
  return charts;
}

void BenchLinear(const LinearFlags& flags) {
  KernelBench bench(flags.common);
  const int64_t most_rows = *std::ranges::max_element(flags.batch);
  fmt::print("linear layers, device {}; us a product, medians\n", bench.Describe());
  fmt::print(
      "of read: the bytes of weights, x and result at the highest read bandwidth measured so far, over the time\n");
  bench.OpenVendor("bf16 weights");
  fmt::print("\n{:>14}{:>7}{:>8}{:>10}{:>10}{:>9}", "n x k", "batch", "weights", "us", "GB/s", "of read");
  if (bench.vendor()) fmt::print("{:>10}{:>13}", "library", "us/library");
  fmt::print("\n");
  for (const std::string& name : flags.shapes) {
    const Shape shape = *ParseShape(name);
    std::vector<double> library(flags.batch.size());
    if (bench.vendor()) {
      const int64_t sets = bench.Sets(RandomMatrices::Bytes("bf16", shape.n, shape.k), 100);
      const Case operands(bench.backend(), shape, "bf16", sets, most_rows);
      for (size_t b = 0; b < flags.batch.size(); ++b) {
        library[b] = bench.Microseconds(
            1, sets, [&](int, int64_t set) { operands.RunVendor(*bench.vendor(), flags.batch[b], set); })[0];
      }
    }
    for (const std::string& format : flags.weights) {
      const int64_t weight_bytes = RandomMatrices::Bytes(format, shape.n, shape.k);
      const int64_t sets = bench.Sets(weight_bytes, 100);
      const Case operands(bench.backend(), shape, format, sets, most_rows);
      bench.limit().Sample();
      for (size_t b = 0; b < flags.batch.size(); ++b) {
        const int64_t rows = flags.batch[b];
        bench.Plan([&](const ExecContext& planned) { operands.Run(planned, rows, 0); });
        const double us =
            bench.Microseconds(1, sets, [&](int, int64_t set) { operands.Run(bench.context(), rows, set); })[0];
        const int64_t element = bench.backend().kernels().activation_dtype == DType::kF32 ? 4 : 2;
        const auto bytes = static_cast<double>(weight_bytes + rows * (shape.n + shape.k) * element);
        const double rate = bytes / us * 1e6;
        fmt::print("{:>14}{:>7}{:>8}{:>10.2f}{:>10.1f}{:>8.1f}%", name, rows, format, us, rate * 1e-9,
                   100 * rate / bench.limit().highest());
        nlohmann::json row = {{"shape", name}, {"batch", rows},  {"weights", format},
                              {"us", us},      {"bytes", bytes}, {"of_read", rate / bench.limit().highest()}};
        if (bench.vendor()) {
          fmt::print("{:>10.2f}{:>13.3f}", library[b], us / library[b]);
          row["library_us"] = library[b];
        }
        fmt::print("\n");
        bench.AddRow(std::move(row));
      }
    }
  }
  bench.Finish("batch", Names(flags.batch), [&](const nlohmann::json& rows) { return Charts(flags, rows); });
}

}  // namespace

void AddBenchLinear(CLI::App& bench) {
  auto flags = std::make_shared<LinearFlags>();
  CLI::App* command = bench.add_subcommand("linear", "Time linear layers whose weights come from memory");
  command->add_option("--shapes", flags->shapes, "shapes of weights, outputs x inputs")
      ->delimiter(',')
      ->check([](const std::string& text) {
        return ParseShape(text) ? std::string()
                                : fmt::format("expected N x K such as 7168x8192, K a multiple of 32, found {}", text);
      })
      ->capture_default_str();
  AddNumbers(*command, "--batch", "numbers of tokens", 4096, &flags->batch);
  AddFormats(*command, "--weights", "the weights' formats: mxfp4, fp8, bf16", &flags->weights);
  flags->common.AddTo(*command);
  command->footer("Example:\n  mxmla bench linear --shapes 7168x8192 --batch 1,16 --weights mxfp4");
  command->callback([flags] { BenchLinear(*flags); });
}

}  // namespace mxmla::app
