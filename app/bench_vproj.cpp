// mxmla bench vproj: the three layouts of the V projection side by side, from attention output to o_proj's input.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>

#include "bandwidth.h"
#include "bench_model.h"
#include "core/buffers.h"
#include "core/float_view.h"
#include "ops/head_product.h"
#include "ops/quantize.h"
#include "output_file.h"

namespace mxmla::app {
namespace {

struct VprojFlags {
  std::vector<int64_t> heads = {16, 64, 128};
  std::vector<int64_t> batch = {1, 8, 32};
  std::vector<std::string> formats = {"bf16", "mxfp4", "fp8"};
  std::string weights = "mxfp4";
  std::string json;
  int64_t kv_lora_rank = 512, v_head_dim = 128;
  int64_t repeat = 9;
  DeviceOptions device;
};

// Weight sets are visited in turn, so that each call's weights come from memory, as a layer's do.
constexpr int64_t kWeightBytes = 96 << 20;

// The operands of one (heads, batch): `sets` layers' weights, one attention output, one buffer of each layout.
class Case {
 public:
  Case(const VprojFlags& flags, DType activation, int64_t heads, int64_t batch)
      : latent_(flags.kv_lora_rank), v_(flags.v_head_dim), heads_(heads), batch_(batch), activation_(activation) {
    const int64_t rows = heads * v_;
    const int64_t set_bytes = flags.weights == "mxfp4" ? rows * latent_ * 17 / 32
                              : flags.weights == "fp8" ? rows * latent_
                                                       : rows * latent_ * 2;
    sets_ = std::clamp<int64_t>(kWeightBytes / set_bytes, 1, 61);
    if (flags.weights == "mxfp4") {
      codes_ = plan_.Reserve<e2m1x2>("codes", sets_ * rows * latent_ / 2);
      scales_ = plan_.Reserve<e8m0>("scales", sets_ * rows * latent_ / kMxBlock);
    } else if (flags.weights == "fp8") {
      fp8_ = plan_.Reserve<e4m3>("weights", sets_ * rows * latent_);
      fp8_scales_ = plan_.Reserve<float>("scales", sets_ * Blocks(rows) * Blocks(latent_));
    } else {
      bf16_ = plan_.Reserve<bf16>("weights", sets_ * rows * latent_);
    }
    attention_ = ReserveFloat("attention", batch * heads * latent_);
    token_major_ = ReserveFloat("token_major", batch * heads * v_);
    head_major_ = ReserveFloat("head_major", batch * heads * v_);
    quantized_ = plan_.Reserve<e2m1x2>("mxfp4", batch * heads * v_ / 2);
    quantized_scales_ = plan_.Reserve<e8m0>("mxfp4_scales", batch * heads * v_ / kMxBlock);
    fp8_out_ = plan_.Reserve<e4m3>("fp8", batch * heads * v_);
    fp8_out_scales_ = plan_.Reserve<float>("fp8_scales", batch * Blocks(heads * v_));
    plan_.Allocate();
    Fill();
  }

  int64_t sets() const { return sets_; }

  void Run(const ExecContext& context, int64_t set, VLayout layout, const std::string& format) const {
    ValueProjectArgs project;
    project.attn = AsActivation(Split(Float(attention_, {batch_, heads_ * latent_}), 1, heads_, latent_));
    project.w_vc = {Weight(set), heads_, v_, 0, v_};
    const FloatOutput<2> flat = Float(token_major_, {batch_, heads_ * v_});
    const FloatOutput<3> token_major = Split(flat, 1, heads_, v_);
    const bool quantize = format != "bf16";
    if (layout == VLayout::kFused) {
      project.out = quantize ? AsDestination(Quantized(format)) : AsDestination(flat);
      ValueProject(context, project);
      return;
    }
    if (layout == VLayout::kStrided) {
      project.out = token_major;
      ValueProject(context, project);
    } else {
      const FloatOutput<3> head_major =
          Permute<3>(Split(Float(head_major_, {heads_, batch_ * v_}), 1, batch_, v_), {1, 0, 2});
      project.out = head_major;
      ValueProject(context, project);
      Copy(context, {AsInput(head_major), token_major});
    }
    if (quantize) FlattenQuantize(context, {AsInput(token_major), Quantized(format)});
  }

 private:
  static int64_t Blocks(int64_t n) { return (n + kFp8Block - 1) / kFp8Block; }

  int ReserveFloat(const char* name, int64_t count) {
    return activation_ == DType::kF32 ? plan_.Reserve<float>(name, count) : plan_.Reserve<bf16>(name, count);
  }

  FloatOutput<2> Float(int id, std::array<int64_t, 2> dims) const {
    if (activation_ == DType::kF32) return View<float, 2>::Contiguous(plan_.Get<float>(id), dims);
    return View<bf16, 2>::Contiguous(plan_.Get<bf16>(id), dims);
  }

  QuantizedOutput<2> Quantized(const std::string& format) const {
    const int64_t columns = heads_ * v_;
    if (format == "fp8") {
      return Fp8Group<e4m3, 2>{
          View<e4m3, 2>::Contiguous(plan_.Get<e4m3>(fp8_out_), {batch_, columns}),
          View<float, 2>::Contiguous(plan_.Get<float>(fp8_out_scales_), {batch_, Blocks(columns)})};
    }
    return Mxfp4<e2m1x2, 2>{
        View<e2m1x2, 2>::Contiguous(plan_.Get<e2m1x2>(quantized_), {batch_, columns / 2}),
        View<e8m0, 2>::Contiguous(plan_.Get<e8m0>(quantized_scales_), {batch_, columns / kMxBlock})};
  }

  LinearWeight Weight(int64_t set) const {
    const int64_t rows = heads_ * v_;
    if (codes_ >= 0) {
      return Mxfp4<const e2m1x2, 2>{
          View<const e2m1x2, 2>::Contiguous(plan_.Get<e2m1x2>(codes_) + set * rows * latent_ / 2, {rows, latent_ / 2}),
          View<const e8m0, 2>::Contiguous(plan_.Get<e8m0>(scales_) + set * rows * latent_ / kMxBlock,
                                          {rows, latent_ / kMxBlock})};
    }
    if (fp8_ >= 0) {
      return Fp8Block{
          View<const e4m3, 2>::Contiguous(plan_.Get<e4m3>(fp8_) + set * rows * latent_, {rows, latent_}),
          View<const float, 2>::Contiguous(plan_.Get<float>(fp8_scales_) + set * Blocks(rows) * Blocks(latent_),
                                           {Blocks(rows), Blocks(latent_)}),
          0};
    }
    return View<const bf16, 2>::Contiguous(plan_.Get<bf16>(bf16_) + set * rows * latent_, {rows, latent_});
  }

  void Fill() {
    std::mt19937_64 random(1);
    std::normal_distribution<float> normal;
    const int64_t rows = heads_ * v_;
    const int64_t count = sets_ * rows * latent_;
    for (int64_t i = 0; codes_ >= 0 && i < count / 2; ++i)
      plan_.Get<e2m1x2>(codes_)[i].bits = static_cast<uint8_t>(random());
    for (int64_t i = 0; codes_ >= 0 && i < count / kMxBlock; ++i) {
      plan_.Get<e8m0>(scales_)[i].bits = static_cast<uint8_t>(118 + random() % 4);
    }
    for (int64_t i = 0; fp8_ >= 0 && i < count; ++i) {
      plan_.Get<e4m3>(fp8_)[i].bits = static_cast<uint8_t>((random() & 0x80) | (random() % 0x78));
    }
    for (int64_t i = 0; fp8_ >= 0 && i < sets_ * Blocks(rows) * Blocks(latent_); ++i) {
      plan_.Get<float>(fp8_scales_)[i] = 1e-3f;
    }
    for (int64_t i = 0; bf16_ >= 0 && i < count; ++i)
      plan_.Get<bf16>(bf16_)[i] = bf16::FromFloat(0.02f * normal(random));
    for (int64_t i = 0; i < batch_ * heads_ * latent_; ++i) {
      if (activation_ == DType::kF32) {
        plan_.Get<float>(attention_)[i] = normal(random);
      } else {
        plan_.Get<bf16>(attention_)[i] = bf16::FromFloat(normal(random));
      }
    }
  }

  BufferPlan plan_;
  int64_t latent_, v_, heads_, batch_, sets_ = 1;
  DType activation_;
  int codes_ = -1, scales_ = -1, fp8_ = -1, fp8_scales_ = -1, bf16_ = -1;
  int attention_ = -1, token_major_ = -1, head_major_ = -1;
  int quantized_ = -1, quantized_scales_ = -1, fp8_out_ = -1, fp8_out_scales_ = -1;
};

void BenchVproj(const VprojFlags& flags) {
  if (flags.v_head_dim % kMxBlock != 0 || flags.kv_lora_rank % kMxBlock != 0) {
    Fail(ErrorCode::kUsage, "bench vproj", "dimensions that are multiples of 32",
         fmt::format("kv_lora_rank {} and v_head_dim {}", flags.kv_lora_rank, flags.v_head_dim));
  }
  const std::unique_ptr<Backend> backend = OpenBackend(flags.device);
  if (!backend->reads_host_memory()) {
    Fail(ErrorCode::kDevice, "bench vproj", "a device whose kernels read the host's memory", backend->Name(),
         "the CUDA kernels have a benchmark of their own: vproj_cuda, built with MXMLA_BENCH");
  }
  ReadLimit limit(*backend);
  ExecContext context = backend->Context();

  constexpr std::pair<const char*, VLayout> kLayouts[] = {
      {"copy", VLayout::kCopy}, {"strided", VLayout::kStrided}, {"fused", VLayout::kFused}};
  fmt::print("V projection ({} -> {}) with {} weights, device {}, {} threads; us a layer, medians\n",
             flags.kv_lora_rank, flags.v_head_dim, flags.weights, backend->Name(), backend->pool().threads());
  fmt::print("weight floor: the weights' bytes at the highest read bandwidth measured so far\n\n");
  fmt::print("{:>6}{:>7}{:>8}{:>11}{:>11}{:>11}{:>13}{:>14}\n", "heads", "batch", "output", "copy", "strided", "fused",
             "copy/fused", "weight floor");
  nlohmann::json rows = nlohmann::json::array();
  for (const int64_t heads : flags.heads) {
    for (const int64_t batch : flags.batch) {
      limit.Sample();
      const Case operands(flags, backend->kernels().activation_dtype, heads, batch);
      const double bytes =
          static_cast<double>(heads * flags.v_head_dim * flags.kv_lora_rank) * (flags.weights == "mxfp4" ? 17.0 / 32
                                                                                : flags.weights == "fp8" ? 1
                                                                                                         : 2);
      for (const std::string& format : flags.formats) {
        WorkspaceMemory workspace;
        workspace.Plan(context, *backend, [&](const ExecContext& planned) {
          for (const auto& layout : kLayouts) operands.Run(planned, 0, layout.second, format);
        });
        std::vector<double> seconds[3];
        // The layouts take turns, so that a change of the machine's speed meets all three.
        for (int64_t r = 0; r <= flags.repeat; ++r) {
          for (int l = 0; l < 3; ++l) {
            const auto begin = std::chrono::steady_clock::now();
            for (int64_t set = 0; set < operands.sets(); ++set) operands.Run(context, set, kLayouts[l].second, format);
            const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
            if (r > 0) seconds[l].push_back(elapsed.count() / static_cast<double>(operands.sets()));
          }
        }
        const double copy = Median(seconds[0]), strided = Median(seconds[1]), fused = Median(seconds[2]);
        fmt::print("{:>6}{:>7}{:>8}{:>11.2f}{:>11.2f}{:>11.2f}{:>13.3f}{:>14.2f}\n", heads, batch, format, copy * 1e6,
                   strided * 1e6, fused * 1e6, copy / fused, bytes / limit.highest() * 1e6);
        rows.push_back({{"heads", heads},
                        {"batch", batch},
                        {"output", format},
                        {"copy_us", copy * 1e6},
                        {"strided_us", strided * 1e6},
                        {"fused_us", fused * 1e6},
                        {"floor_us", bytes / limit.highest() * 1e6}});
      }
    }
  }
  limit.Sample();
  fmt::print("\nread limit {}\n", limit.Describe());
  if (flags.json.empty()) return;
  OutputFile file(flags.json);
  file.Write(nlohmann::json{{"device", backend->kernels().backend},
                            {"isa", backend->kernels().isa},
                            {"threads", backend->pool().threads()},
                            {"weights", flags.weights},
                            {"read_bandwidth_gb_per_second", limit.highest() * 1e-9},
                            {"lowest_read_bandwidth_gb_per_second", limit.lowest() * 1e-9},
                            {"rows", rows}}
                 .dump(2) +
             "\n");
  file.Commit();
}

}  // namespace

void AddBenchVproj(CLI::App& bench) {
  auto flags = std::make_shared<VprojFlags>();
  CLI::App* command = bench.add_subcommand("vproj", "Time the three layouts of the V projection side by side");
  command->add_option("--heads", flags->heads, "numbers of heads")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_option("--batch", flags->batch, "numbers of tokens")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_option("--output", flags->formats, "formats of o_proj's input: bf16, mxfp4, fp8")
      ->delimiter(',')
      ->check(CLI::IsMember({"bf16", "mxfp4", "fp8"}))
      ->capture_default_str();
  command->add_option("--weights", flags->weights, "w_vc's format: mxfp4, fp8 or bf16")
      ->check(CLI::IsMember({"mxfp4", "fp8", "bf16"}))
      ->capture_default_str();
  command->add_option("--kv-lora-rank", flags->kv_lora_rank, "contracted axis")
      ->check(CLI::Range(32, 1 << 16))
      ->capture_default_str();
  command->add_option("--v-head-dim", flags->v_head_dim, "columns a head")
      ->check(CLI::Range(32, 1 << 12))
      ->capture_default_str();
  command->add_option("--repeat", flags->repeat, "runs; the median is printed")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  AddDevice(*command, &flags->device);
  command->add_option("--threads", flags->device.threads, "threads; 0 uses every available processor")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->add_option("--json", flags->json, "write the figures to a JSON file");
  command->footer("Example:\n  mxmla bench vproj --heads 16,64 --batch 1,8 --output bf16,mxfp4");
  command->callback([flags] { BenchVproj(*flags); });
}

}  // namespace mxmla::app
