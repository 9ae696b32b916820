// What a forward pass must not depend on: the layout of the V projection, the batch, the threads, and, up to rounding,
// whether a context was prefilled or decoded.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <ostream>
#include <random>

#include "engine/session.h"

namespace mxmla {
namespace {

struct Setup {
  std::string model;
  std::string device;

  friend void PrintTo(const Setup& setup, std::ostream* out) { *out << setup.model << " on " << setup.device; }
};

std::string Name(const testing::TestParamInfo<Setup>& info) {
  std::string name = info.param.model + "_" + info.param.device;
  for (char& c : name) {
    if (c == '-') c = '_';
  }
  return name;
}

class Forward : public testing::TestWithParam<Setup> {
 protected:
  LoadedModel Load(int threads = 2) const {
    return LoadedModel::Open(std::string(MXMLA_FIXTURES) + "/" + GetParam().model, {GetParam().device, threads});
  }

  static ModelOptions Options(int64_t sequences, int64_t context) {
    ModelOptions options;
    options.max_sequences = sequences;
    options.max_context = context;
    options.max_batch_tokens = sequences * context;
    options.max_logit_rows = sequences * context;
    return options;
  }

  static std::vector<int32_t> Tokens(const LoadedModel& model, int64_t count, int seed) {
    std::mt19937 random(seed);
    std::vector<int32_t> tokens(count);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random() % model.config.vocab_size);
    return tokens;
  }

  static std::vector<float> Copy(View<const float, 2> logits) { return {logits.data, logits.data + logits.size()}; }

  // The last token's logits.
  static std::vector<float> Append(Session& session, int sequence, std::span<const int32_t> tokens, bool absorbed) {
    StepInput input{sequence, tokens, {static_cast<int32_t>(tokens.size() - 1)}, absorbed};
    return Copy(session.Step({&input, 1}));
  }

  static double Distance(const std::vector<float>& a, const std::vector<float>& b) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
      norm += static_cast<double>(b[i]) * b[i];
    }
    return std::sqrt(difference / norm);
  }

  static bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  }

  // Prefills `batch` sequences of different lengths, then decodes one step of all of them.
  static std::vector<float> PrefillAndDecode(const LoadedModel& model, const ModelOptions& flags, int batch,
                                             bool all_absorbed = false) {
    ModelOptions options = Options(batch, 24);
    options.v_layout = flags.v_layout;
    options.activations = flags.activations;
    options.absorb_dtype = flags.absorb_dtype;
    options.kv_dtype = flags.kv_dtype;
    Session session(model, options);
    std::vector<std::vector<int32_t>> prompts;
    std::vector<StepInput> inputs;
    for (int b = 0; b < batch; ++b) prompts.push_back(Tokens(model, 3 + 2 * b, b));
    for (int b = 0; b < batch; ++b) {
      inputs.push_back(
          {session.Add(), prompts[b], {static_cast<int32_t>(prompts[b].size()) - 1}, all_absorbed || b % 2 == 0});
    }
    std::vector<float> logits = Copy(session.Step(inputs));
    const std::vector<int32_t> next = Tokens(model, batch, 99);
    for (int b = 0; b < batch; ++b) {
      inputs[b].tokens = std::span(next).subspan(b, 1);
      inputs[b].logit_rows = {0};
    }
    const std::vector<float> decoded = Copy(session.Step(inputs));
    logits.insert(logits.end(), decoded.begin(), decoded.end());
    return logits;
  }
};

TEST_P(Forward, VLayoutsAgreeBitForBit) {
  const LoadedModel model = Load();
  const bool quantized = IsQuantized(model.weights.layers[0].o_proj);
  std::vector<ActivationFormat> formats = {ActivationFormat::kPlain, ActivationFormat::kFp8};
  if (model.config.qk_nope_head_dim % 32 == 0 &&
      (model.config.num_attention_heads * model.config.v_head_dim) % 32 == 0) {
    formats.push_back(ActivationFormat::kMxfp4);
  }
  if (!quantized) formats.resize(1);
  for (const ActivationFormat format : formats) {
    for (int batch = 1; batch <= 9; ++batch) {
      ModelOptions options;
      options.activations = format;
      options.v_layout = VLayout::kFused;
      const std::vector<float> fused = PrefillAndDecode(model, options, batch);
      ASSERT_TRUE(std::isfinite(fused[0]));
      options.v_layout = VLayout::kStrided;
      EXPECT_TRUE(SameBits(fused, PrefillAndDecode(model, options, batch))) << "strided, batch " << batch;
      options.v_layout = VLayout::kCopy;
      EXPECT_TRUE(SameBits(fused, PrefillAndDecode(model, options, batch))) << "copy, batch " << batch;
    }
  }
}

TEST_P(Forward, ABatchEqualsItsSequencesAloneBitForBit) {
  const LoadedModel model = Load();
  constexpr int kBatch = 5;
  constexpr int kContext = 90;
  std::vector<std::vector<int32_t>> prompts;
  for (int b = 0; b < kBatch; ++b) prompts.push_back(Tokens(model, 1 + 17 * b, b));  // 1, 18, 35, 52, 69
  std::vector<float> alone;
  for (int b = 0; b < kBatch; ++b) {
    Session session(model, Options(1, kContext));
    const std::vector<float> logits = Append(session, session.Add(), prompts[b], false);
    alone.insert(alone.end(), logits.begin(), logits.end());
  }
  Session session(model, Options(kBatch, kContext));
  std::vector<StepInput> inputs;
  for (int b = 0; b < kBatch; ++b) {
    inputs.push_back({session.Add(), prompts[b], {static_cast<int32_t>(prompts[b].size()) - 1}, false});
  }
  EXPECT_TRUE(SameBits(alone, Copy(session.Step(inputs))));
}

TEST_P(Forward, TheThreadsDoNotMatter) {
  std::vector<float> first;
  for (const int threads : {1, 2, 3}) {
    const LoadedModel model = Load(threads);
    const std::vector<float> logits = PrefillAndDecode(model, {}, 3);
    if (first.empty()) first = logits;
    EXPECT_TRUE(SameBits(first, logits)) << threads << " threads";
  }
}

TEST_P(Forward, DecodingAfterAPrefillEqualsOneLongPrefill) {
  const LoadedModel model = Load();
  const std::vector<int32_t> tokens = Tokens(model, 80, 5);  // more than one page
  Session whole(model, Options(1, 80));
  const std::vector<float> expected = Append(whole, whole.Add(), tokens, false);

  // The same path in two pieces is the same sum.
  Session absorbed(model, Options(1, 80));
  int sequence = absorbed.Add();
  const std::vector<float> once = Append(absorbed, sequence, tokens, true);
  Session pieces(model, Options(1, 80));
  sequence = pieces.Add();
  Append(pieces, sequence, std::span(tokens).first(70), true);
  std::vector<float> decoded;
  for (int i = 70; i < 80; ++i) decoded = Append(pieces, sequence, std::span(tokens).subspan(i, 1), false);
  EXPECT_TRUE(SameBits(once, decoded));

  // Expanded heads are another sum of the same numbers.
  const double tolerance = model.backend->kernels().backend == "ref" ? 1e-5 : 2e-2;
  EXPECT_LT(Distance(decoded, expected), tolerance);
}

TEST_P(Forward, PagesAreReusedCleanly) {
  const LoadedModel model = Load();
  ModelOptions options = Options(2, 70);
  Session session(model, options);
  const std::vector<int32_t> tokens = Tokens(model, 66, 1);
  const int first = session.Add();
  const std::vector<float> expected = Append(session, first, tokens, false);
  const int second = session.Add();
  Append(session, second, Tokens(model, 70, 2), false);
  session.Remove(first);
  const int third = session.Add();
  EXPECT_TRUE(SameBits(expected, Append(session, third, tokens, false)));
}

// An FP8 cache is another model by a little, but the same one however its tokens come.
TEST_P(Forward, AnFp8CacheIsCloseAndDependsOnTheTokensAlone) {
  const LoadedModel model = Load();
  ModelOptions options;
  const std::vector<float> plain = PrefillAndDecode(model, options, 3);
  options.kv_dtype = KvDType::kFp8;
  const std::vector<float> fp8 = PrefillAndDecode(model, options, 3);
  EXPECT_GT(Distance(fp8, plain), 1e-4);
  EXPECT_LT(Distance(fp8, plain), 0.4);  // where a router of random weights chose other experts
  options.v_layout = VLayout::kCopy;
  EXPECT_TRUE(SameBits(fp8, PrefillAndDecode(model, options, 3)));

  ModelOptions sizes = Options(1, 80);
  sizes.kv_dtype = KvDType::kFp8;
  Session once(model, sizes), pieces(model, sizes);
  const std::vector<int32_t> tokens = Tokens(model, 80, 5);
  const std::vector<float> expected = Append(once, once.Add(), tokens, true);
  const int sequence = pieces.Add();
  Append(pieces, sequence, std::span(tokens).first(70), true);
  std::vector<float> decoded;
  for (int i = 70; i < 80; ++i) decoded = Append(pieces, sequence, std::span(tokens).subspan(i, 1), false);
  EXPECT_TRUE(SameBits(expected, decoded));
}

TEST_P(Forward, ABf16CacheIsWhatCpuHasAndOnRefARounding) {
  const LoadedModel model = Load();
  ModelOptions options;
  const std::vector<float> plain = PrefillAndDecode(model, options, 3);
  options.kv_dtype = KvDType::kBf16;
  const std::vector<float> bf16 = PrefillAndDecode(model, options, 3);
  if (model.backend->kernels().backend == "ref") {
    EXPECT_GT(Distance(bf16, plain), 1e-5);
    EXPECT_LT(Distance(bf16, plain), 2e-2);
  } else {
    EXPECT_TRUE(SameBits(bf16, plain));
  }
}

TEST_P(Forward, RequantisedAbsorptionRunsAndDiffers) {
  const LoadedModel model = Load();
  const ModelConfig& config = model.config;
  ModelOptions options;
  const std::vector<float> checkpoint = PrefillAndDecode(model, options, 2, true);
  options.absorb_dtype = AbsorbDType::kBf16;
  const std::vector<float> bf16 = PrefillAndDecode(model, options, 2);
  if (std::holds_alternative<Fp8Block>(model.weights.layers[0].kv_b_proj)) {
    EXPECT_LT(Distance(bf16, checkpoint), 2e-2);
  } else {
    EXPECT_TRUE(SameBits(bf16, checkpoint));  // BF16 as it is, MXFP4 exactly
  }
  options.absorb_dtype = AbsorbDType::kMxfp4;
  if (config.qk_nope_head_dim % 32 != 0 || config.kv_lora_rank % 32 != 0) {
    EXPECT_THROW(PrefillAndDecode(model, options, 2), Error);
    return;
  }
  const std::vector<float> mxfp4 = PrefillAndDecode(model, options, 2);
  EXPECT_GT(Distance(mxfp4, checkpoint), 1e-4);
  EXPECT_LT(Distance(mxfp4, checkpoint), 1.0);
}

INSTANTIATE_TEST_SUITE_P(Models, Forward,
                         testing::Values(Setup{"v2-bf16", "ref"}, Setup{"v2-bf16", "cpu"}, Setup{"v3-fp8", "ref"},
                                         Setup{"v3-fp8", "cpu"}, Setup{"v3-mxfp4", "ref"}, Setup{"v3-mxfp4", "cpu"},
                                         Setup{"kimi-yarn", "cpu"}, Setup{"kimi-mxfp4", "cpu"},
                                         Setup{"v3-real-dims", "cpu"}, Setup{"minicpm3", "ref"},
                                         Setup{"minicpm3", "cpu"}, Setup{"axk1", "ref"}, Setup{"axk1", "cpu"},
                                         Setup{"mistral-large3", "ref"}, Setup{"mistral-large3", "cpu"}),
                         Name);

}  // namespace
}  // namespace mxmla
