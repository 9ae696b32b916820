// Whole models with quantised activations against `ref`, where `ref` rounds its activations to bf16 as the device does,
// before they are quantised too: then only the order of sums differs, and hardly a code falls otherwise.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/float_view.h"
#include "engine/loaded_model.h"
#include "engine/session.h"
#include "hip/backend.h"
#include "ref/backend.h"

namespace mxmla {
namespace {

const std::string kFixtures = MXMLA_FIXTURES;

// `quantised` as its plain result in bf16, then quantised.
void QuantiseBf16(const ExecContext& context, const View<bf16, 2>& plain, const QuantizedOutput<2>& quantised,
                  ScaleMode mode) {
  const int64_t rows = plain.shape[0];
  RefKernels().quantize.front().run(
      context, {FloatInput<3>(View<const bf16, 3>(plain.Split(0, rows, 1))), SplitRows(quantised, rows, 1), mode});
}

void RmsNormInBf16(const ExecContext& context, const RmsNormArgs& args) {
  RmsNormArgs plain = args;
  plain.quantized.reset();
  std::vector<bf16> memory;
  if (args.quantized && !args.out) {
    const int64_t rows = args.row_index ? args.row_index->shape[0] : Extent(args.x, 0), n = Extent(args.x, 1);
    memory.resize(static_cast<size_t>(rows * n));
    plain.out = View<bf16, 2>::Contiguous(memory.data(), {rows, n});
  }
  RefKernels().rms_norm.front().run(context, plain);
  if (args.quantized) QuantiseBf16(context, std::get<View<bf16, 2>>(*plain.out), *args.quantized, args.scale_mode);
}

void SiluMulInBf16(const ExecContext& context, const SiluMulArgs& args) {
  const auto quantised = std::visit(
      [](const auto& out) -> std::optional<QuantizedOutput<2>> {
        if constexpr (requires { out.scales; }) return out;
        return std::nullopt;
      },
      args.out);
  if (!quantised) return RefKernels().silu_mul.front().run(context, args);
  const int64_t rows = Extent(args.gate, 0), n = Extent(args.gate, 1);
  std::vector<bf16> memory(static_cast<size_t>(rows * n));
  SiluMulArgs plain = args;
  const auto values = View<bf16, 2>::Contiguous(memory.data(), {rows, n});
  plain.out = values;
  RefKernels().silu_mul.front().run(context, plain);
  QuantiseBf16(context, values, *quantised, args.scale_mode);
}

const KernelSet& RefInBf16() {
  static const KernelSet set = [] {
    KernelSet made = RefKernels();
    made.activation_dtype = DType::kBf16;
    made.rms_norm = {{"ref", {}, RmsNormInBf16}};
    made.silu_mul = {{"ref", {}, SiluMulInBf16}};
    return made;
  }();
  return set;
}

struct Case {
  const char* model;
  ActivationFormat format;
  // Of the fixture's. The kernels for 512 latents round attention's weights to bf16: over more tokens than these, codes
  // of its result fall otherwise.
  size_t tokens = 40;
};

class HipModel : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const std::string why = hip::WhyUnusable(0); !why.empty()) GTEST_SKIP() << why;
  }

  // Logits of each of the fixture's own tokens, `step` tokens at a time.
  static std::vector<float> LogitsOf(const LoadedModel& model, const Case& c, bool decode) {
    std::ifstream file(kFixtures + "/" + c.model + "/tokens.json");
    std::vector<int32_t> tokens = nlohmann::json::parse(file);
    tokens.resize(std::min(tokens.size(), c.tokens));
    const auto count = static_cast<int64_t>(tokens.size()), step = decode ? int64_t{1} : count;
    ModelOptions options;
    options.activations = c.format;
    // What `ref` quantises in its V projection has not been rounded; on the device all layouts are the same bits.
    if (model.backend->kernels().backend == "ref") options.v_layout = VLayout::kStrided;
    options.max_context = count;
    options.max_batch_tokens = step;
    options.max_logit_rows = step;
    Session session(model, options);
    const int sequence = session.Add();
    std::vector<float> logits;
    for (int64_t begin = 0; begin < count; begin += step) {
      StepInput input{
          sequence, std::span(tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(step)), {}, decode};
      for (int32_t r = 0; r < step; ++r) input.logit_rows.push_back(r);
      const View<const float, 2> rows = session.Step({&input, 1});
      logits.insert(logits.end(), rows.data, rows.data + rows.size());
    }
    return logits;
  }
  static double Relative(const std::vector<float>& found, const std::vector<float>& expected) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const double e = static_cast<double>(expected[i]), d = static_cast<double>(found[i]) - e;
      difference += d * d;
      norm += e * e;
    }
    return std::sqrt(difference / norm);
  }
};

TEST_P(HipModel, QuantisedActivationsAreRefs) {
  const Case& c = GetParam();
  LoadedModel on_ref = LoadedModel::Open(kFixtures + "/" + c.model, {"ref", 2});
  on_ref.backend = std::make_unique<HostBackend>(RefInBf16(), 2);
  const LoadedModel on_device = LoadedModel::Open(kFixtures + "/" + c.model, {"hip", 2});
  for (const bool decode : {false, true}) {
    SCOPED_TRACE(decode ? "decode" : "prefill");
    const std::vector<float> expected = LogitsOf(on_ref, c, decode), found = LogitsOf(on_device, c, decode);
    ASSERT_EQ(expected.size(), found.size());
    const double damage = Relative(expected, LogitsOf(on_ref, {c.model, ActivationFormat::kPlain, c.tokens}, decode));
    EXPECT_LE(Relative(found, expected), 0.1 * damage) << "of a damage of " << damage;
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, HipModel,
                         testing::Values(Case{"v3-mxfp4", ActivationFormat::kMxfp4},
                                         Case{"kimi-mxfp4", ActivationFormat::kMxfp4},
                                         Case{"v3-real-dims", ActivationFormat::kMxfp4, 3},
                                         Case{"v3-fp8", ActivationFormat::kFp8}),
                         [](const auto& test) {
                           std::string name = test.param.model;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace mxmla
