// mxmla bench vproj: the three layouts of the V projection side by side, from attention output to o_proj's input, and
// the vendor's library beside them.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "bench_kernels.h"
#include "core/float_view.h"
#include "ops/head_product.h"
#include "ops/quantize.h"
#include "random_operands.h"

namespace mxmla::app {
namespace {

struct VprojFlags {
  std::vector<int64_t> heads = {16, 64, 128};
  std::vector<int64_t> batch = {1, 8, 32};
  std::vector<std::string> outputs = {"bf16", "mxfp4", "fp8"};
  std::vector<std::string> weights = {"mxfp4"};
  int64_t kv_lora_rank = 512, v_head_dim = 128;
  KernelBenchFlags common;
};

// The operands of `heads` heads: `sets` layers' weights, one attention output, one buffer of each layout.
class Case {
 public:
  Case(Backend& backend, const VprojFlags& flags, const std::string& weights, int64_t heads, int64_t sets,
       bool for_vendor)
      : buffers_(backend),
        latent_(flags.kv_lora_rank),
        v_(flags.v_head_dim),
        heads_(heads),
        weights_(&buffers_, weights, sets, heads * v_, latent_) {
    if (for_vendor) vendor_weights_.emplace(&buffers_, "bf16", sets, heads * v_, latent_);
    const int64_t most = *std::ranges::max_element(flags.batch), columns = heads * v_;
    attention_ = buffers_.ReserveValues("attention", most * heads * latent_);
    token_major_ = buffers_.ReserveResult("token_major", most * columns);
    head_major_ = buffers_.ReserveResult("head_major", most * columns);
    mxfp4_ = buffers_.Reserve<e2m1x2>("mxfp4", most * columns / 2, 0, 0);
    mxfp4_scales_ = buffers_.Reserve<e8m0>("mxfp4_scales", most * columns / kMxBlock, 0, 0);
    fp8_ = buffers_.Reserve<e4m3>("fp8", most * columns, 0, 0);
    fp8_scales_ = buffers_.Reserve<float>("fp8_scales", most * Groups(columns), 0, 0);
    buffers_.Allocate(backend);
  }

  void Run(const ExecContext& context, int64_t batch, int64_t set, VLayout layout, const std::string& output) const {
    ValueProjectArgs project;
    project.attn = AsActivation(Split(buffers_.Floats<2>(attention_, {batch, heads_ * latent_}), 1, heads_, latent_));
    project.w_vc = {weights_.Get(set), heads_, v_, 0, v_};
    const FloatOutput<2> flat = buffers_.Floats<2>(token_major_, {batch, heads_ * v_});
    const FloatOutput<3> token_major = Split(flat, 1, heads_, v_);
    const bool quantize = output != "bf16";
    if (layout == VLayout::kFused) {
      project.out = quantize ? AsDestination(Quantized(batch, output)) : AsDestination(flat);
      ValueProject(context, project);
      return;
    }
    if (layout == VLayout::kStrided) {
      project.out = token_major;
      ValueProject(context, project);
    } else {
      const FloatOutput<3> head_major =
          Permute<3>(Split(buffers_.Floats<2>(head_major_, {heads_, batch * v_}), 1, batch, v_), {1, 0, 2});
      project.out = head_major;
      ValueProject(context, project);
      Copy(context, {AsInput(head_major), token_major});
    }
    if (quantize) FlattenQuantize(context, {AsInput(token_major), Quantized(batch, output)});
  }

  // The library's product written token-major, and the quantising kernel behind it.
  void RunVendor(const ExecContext& context, VendorProducts& vendor, int64_t batch, int64_t set,
                 const std::string& output) const {
    const auto x = View<const bf16, 3>::Contiguous(buffers_.Get<bf16>(attention_), {batch, heads_, latent_});
    const auto out = View<bf16, 3>::Contiguous(buffers_.Get<bf16>(token_major_), {batch, heads_, v_});
    const auto weight = std::get<View<const bf16, 2>>(vendor_weights_->Get(set)).Split(0, heads_, v_);
    vendor.Multiply({x.Permute({1, 0, 2}), weight, out.Permute({1, 0, 2})});
    if (output != "bf16") FlattenQuantize(context, {FloatInput<3>(View<const bf16, 3>(out)), Quantized(batch, output)});
  }

 private:
  static int64_t Groups(int64_t n) { return (n + kFp8Block - 1) / kFp8Block; }

  QuantizedOutput<2> Quantized(int64_t batch, const std::string& output) const {
    const int64_t columns = heads_ * v_;
    if (output == "fp8") {
      return Fp8Group<e4m3, 2>{View<e4m3, 2>::Contiguous(buffers_.Get<e4m3>(fp8_), {batch, columns}),
                               View<float, 2>::Contiguous(buffers_.Get<float>(fp8_scales_), {batch, Groups(columns)})};
    }
    return Mxfp4<e2m1x2, 2>{View<e2m1x2, 2>::Contiguous(buffers_.Get<e2m1x2>(mxfp4_), {batch, columns / 2}),
                            View<e8m0, 2>::Contiguous(buffers_.Get<e8m0>(mxfp4_scales_), {batch, columns / kMxBlock})};
  }

  RandomBuffers buffers_;
  int64_t latent_, v_, heads_;
  RandomMatrices weights_;
  std::optional<RandomMatrices> vendor_weights_;
  int attention_ = -1, token_major_ = -1, head_major_ = -1;
  int mxfp4_ = -1, mxfp4_scales_ = -1, fp8_ = -1, fp8_scales_ = -1;
};

constexpr VLayout kLayouts[] = {VLayout::kCopy, VLayout::kStrided, VLayout::kFused};
constexpr int kFused = 2, kVendor = 3;  // a way's number behind the layouts'

void PrintHeader(const VprojFlags& flags, KernelBench& bench) {
  fmt::print("V projection ({} -> {}), device {}; us a layer, medians\n", flags.kv_lora_rank, flags.v_head_dim,
             bench.Describe());
  fmt::print("weight floor: the weights' bytes at the highest read bandwidth measured so far\n");
  bench.OpenVendor("bf16 weights, written token-major, and then quantised");
  fmt::print("\n{:>6}{:>7}{:>8}{:>8}{:>11}{:>11}{:>11}{:>13}{:>14}", "heads", "batch", "weights", "output", "copy",
             "strided", "fused", "copy/fused", "weight floor");
  if (bench.vendor()) fmt::print("{:>12}{:>15}", "library", "fused/library");
  fmt::print("\n");
}

std::vector<Chart> Charts(const VprojFlags& flags, const nlohmann::json& rows) {
  std::vector<Chart> charts;
  for (const int64_t heads : flags.heads) {
    Chart chart{fmt::format("{} heads, {} to {}, us a layer", heads, flags.weights[0], flags.outputs.front()), {}};
    for (const char* const way : {"copy", "strided", "fused", "library"}) {
      ChartLine line{way, {}};
      for (const nlohmann::json& row : rows) {
        if (row["heads"] != heads || row["weights"] != flags.weights[0] || row["output"] != flags.outputs.front()) {
          continue;
        }
        if (const std::string key = fmt::format("{}_us", way); row.contains(key)) line.values.push_back(row[key]);
      }
      if (!line.values.empty()) chart.lines.push_back(std::move(line));
    }
    charts.push_back(std::move(chart));
  }
  return charts;
}

void BenchVproj(const VprojFlags& flags) {
  if (flags.v_head_dim % kMxBlock != 0 || flags.kv_lora_rank % kMxBlock != 0) {
    Fail(ErrorCode::kUsage, "bench vproj", "dimensions that are multiples of 32",
         fmt::format("kv_lora_rank {} and v_head_dim {}", flags.kv_lora_rank, flags.v_head_dim));
  }
  KernelBench bench(flags.common);
  PrintHeader(flags, bench);
  for (const int64_t heads : flags.heads) {
    for (const std::string& weights : flags.weights) {
      const int64_t layer_bytes = RandomMatrices::Bytes(weights, heads * flags.v_head_dim, flags.kv_lora_rank);
      const int64_t sets = bench.backend().replays() ? 61 : bench.Sets(layer_bytes, 61);
      const Case operands(bench.backend(), flags, weights, heads, sets, bench.vendor() != nullptr);
      for (const int64_t batch : flags.batch) {
        bench.limit().Sample();
        for (const std::string& output : flags.outputs) {
          bench.Plan([&](const ExecContext& planned) {
            for (const VLayout layout : kLayouts) operands.Run(planned, batch, 0, layout, output);
          });
          const auto us = bench.Microseconds(bench.vendor() ? 4 : 3, sets, [&](int way, int64_t set) {
            if (way == kVendor) {
              operands.RunVendor(bench.context(), *bench.vendor(), batch, set, output);
            } else {
              operands.Run(bench.context(), batch, set, kLayouts[way], output);
            }
          });
          const double floor = static_cast<double>(layer_bytes) / bench.limit().highest() * 1e6;
          fmt::print("{:>6}{:>7}{:>8}{:>8}{:>11.2f}{:>11.2f}{:>11.2f}{:>13.3f}{:>14.2f}", heads, batch, weights, output,
                     us[0], us[1], us[kFused], us[0] / us[kFused], floor);
          if (bench.vendor()) fmt::print("{:>12.2f}{:>15.3f}", us[kVendor], us[kFused] / us[kVendor]);
          fmt::print("\n");
          nlohmann::json row = {{"heads", heads},         {"batch", batch},   {"weights", weights},
                                {"output", output},       {"copy_us", us[0]}, {"strided_us", us[1]},
                                {"fused_us", us[kFused]}, {"floor_us", floor}};
          if (bench.vendor()) row["library_us"] = us[kVendor];
          bench.AddRow(std::move(row));
        }
      }
    }
  }
  bench.Finish("batch", Names(flags.batch), [&](const nlohmann::json& rows) { return Charts(flags, rows); });
}

}  // namespace

void AddBenchVproj(CLI::App& bench) {
  auto flags = std::make_shared<VprojFlags>();
  CLI::App* command = bench.add_subcommand("vproj", "Time the three layouts of the V projection side by side");
  AddNumbers(*command, "--heads", "numbers of heads", 4096, &flags->heads);
  AddNumbers(*command, "--batch", "numbers of tokens", 4096, &flags->batch);
  AddFormats(*command, "--output", "formats of o_proj's input: bf16, mxfp4, fp8", &flags->outputs);
  AddFormats(*command, "--weights", "w_vc's formats: mxfp4, fp8, bf16", &flags->weights);
  command->add_option("--kv-lora-rank", flags->kv_lora_rank, "contracted axis")
      ->check(CLI::Range(32, 1 << 16))
      ->capture_default_str();
  command->add_option("--v-head-dim", flags->v_head_dim, "columns a head")
      ->check(CLI::Range(32, 1 << 12))
      ->capture_default_str();
  flags->common.AddTo(*command);
  command->footer("Example:\n  mxmla bench vproj --heads 16,64 --batch 1,8 --output bf16,mxfp4");
  command->callback([flags] { BenchVproj(*flags); });
}

}  // namespace mxmla::app
