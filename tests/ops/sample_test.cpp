// Sampling: by hand on small rows, against ref on random ones, and the shares of its draws.
#include <algorithm>
#include <numeric>

#include "harness.h"

namespace mxmla::test {
namespace {

using SampleTest = BackendTest;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A call's operands; what a test does not set is absent.
struct Call {
  View<const float, 2> logits;
  OperandVector<SamplingOptions> options;
  OperandVector<float> uniform;
  OperandVector<int64_t> penalty_begin;
  OperandVector<int32_t> penalty_tokens, penalty_counts;
  OperandVector<int64_t> bias_begin;
  OperandVector<int32_t> bias_tokens;
  OperandVector<float> bias_values;
  OperandVector<int32_t> allowed_index, allowed;
  int64_t listed = 0;
  bool logprobs = true;
};

struct Found {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<int32_t> top_tokens;
  std::vector<float> top_logprobs;
};

template <class T>
auto AsView(const OperandVector<T>& x) {
  return View<const T, 1>::Contiguous(x.data(), {static_cast<int64_t>(x.size())});
}

Found RunSample(const Backend& backend, const Call& call, Rng& rng, int threads = 2) {
  const int64_t rows = call.logits.shape[0], vocab = call.logits.shape[1];
  Plane<int32_t, 1> tokens(rng, {rows});
  Plane<float, 1> logprobs(rng, {call.logprobs ? rows : 0});
  Plane<int32_t, 2> top_tokens(rng, {rows, call.listed});
  Plane<float, 2> top_logprobs(rng, {rows, call.listed});
  SampleArgs args;
  args.logits = call.logits;
  args.options = AsView(call.options);
  args.uniform = AsView(call.uniform);
  args.penalty_begin = AsView(call.penalty_begin);
  args.penalty_tokens = AsView(call.penalty_tokens);
  args.penalty_counts = AsView(call.penalty_counts);
  args.bias_begin = AsView(call.bias_begin);
  args.bias_tokens = AsView(call.bias_tokens);
  args.bias_values = AsView(call.bias_values);
  const int64_t words = (vocab + 31) / 32;
  args.allowed_index = AsView(call.allowed_index);
  args.allowed = View<const int32_t, 2>::Contiguous(call.allowed.data(),
                                                    {static_cast<int64_t>(call.allowed.size()) / words, words});
  args.tokens = tokens.view;
  args.logprobs = logprobs.view;
  args.top_tokens = top_tokens.view;
  args.top_logprobs = top_logprobs.view;
  Machine(backend, threads).Run([&](const ExecContext& context) { Sample(context, args); });
  EXPECT_TRUE(tokens.UntouchedOutside() && logprobs.UntouchedOutside());
  EXPECT_TRUE(top_tokens.UntouchedOutside() && top_logprobs.UntouchedOutside());
  return {tokens.Elements(), logprobs.Elements(), top_tokens.Elements(), top_logprobs.Elements()};
}

// Rows of the same options.
Call MakeCall(const OperandVector<float>& logits, int64_t vocab, SamplingOptions options, float uniform = 0.5f) {
  Call call;
  const int64_t rows = static_cast<int64_t>(logits.size()) / vocab;
  call.logits = View<const float, 2>::Contiguous(logits.data(), {rows, vocab});
  call.options.assign(rows, options);
  call.uniform.assign(rows, uniform);
  return call;
}

TEST_P(SampleTest, GreedyTiesNanAndMaskedRows) {
  const OperandVector<float> logits{1, 5,   5,          -1,         9,          2,          9,          9,
                                    0, NAN, 3,          2,          kInfinity,  0,          1,          2,
                                    0, 1,   -kInfinity, -kInfinity, -kInfinity, -kInfinity, -kInfinity, -kInfinity};
  for (float temperature : {0.0f, 1e-30f}) {
    SamplingOptions options;
    options.temperature = temperature;
    Call call = MakeCall(logits, 4, options, 0);
    call.listed = 2;
    for (SamplingOptions& row : call.options) row.top_logprobs = 2;
    const Found found = RunSample(backend(), call, rng_);
    EXPECT_EQ(found.tokens, (std::vector<int32_t>{1, 0, kNanLogits, 0, 1, kNothingAllowed}));
    EXPECT_EQ(found.top_tokens, (std::vector<int32_t>{1, 2, 0, 2, -1, -1, 0, -1, 1, 0, -1, -1}));
    EXPECT_TRUE(std::isnan(found.logprobs[2]) && std::isnan(found.logprobs[5]));
    EXPECT_EQ(found.logprobs[3], 0);
    EXPECT_NEAR(found.logprobs[4], -std::log(1 + std::exp(-1.0)), 1e-6);
    EXPECT_EQ(found.top_logprobs[5], -kInfinity);
  }
}

TEST_P(SampleTest, PenaltiesBiasAndMaskInTheirOrder) {
  const OperandVector<float> logits{4, 3, -1, 2};
  SamplingOptions options;
  options.repetition_penalty = 2;
  options.presence_penalty = 0.25f;
  options.frequency_penalty = 0.5f;
  options.top_logprobs = 4;
  Call call = MakeCall(logits, 4, options);
  call.listed = 4;
  call.penalty_begin = {0, 3};
  call.penalty_tokens = {0, 1, 2};
  call.penalty_counts = {3, 0, 1};  // 4 / 2 - 1.5 - 0.25, (3 + 1) / 2, -1 * 2 - 0.5 - 0.25
  call.bias_begin = {0, 2};
  call.bias_tokens = {1, 3};
  call.bias_values = {1, 100};
  call.allowed_index = {0};
  call.allowed = {0b0111};
  const Found found = RunSample(backend(), call, rng_);
  EXPECT_EQ(found.tokens[0], 1);
  EXPECT_EQ(found.top_tokens, (std::vector<int32_t>{1, 0, 2, -1}));
  const double sum = std::exp(0.25) + std::exp(2.0) + std::exp(-2.75);
  EXPECT_NEAR(found.logprobs[0], 2 - std::log(sum), 1e-6);
  EXPECT_NEAR(found.top_logprobs[1], 0.25 - std::log(sum), 1e-6);
  EXPECT_NEAR(found.top_logprobs[2], -2.75 - std::log(sum), 1e-6);
  call.allowed = {0};
  EXPECT_EQ(RunSample(backend(), call, rng_).tokens[0], kNothingAllowed);
}

// The probabilities that the definition gives six logits.
std::vector<double> Expected(const OperandVector<float>& logits, const SamplingOptions& options) {
  std::vector<int> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  const auto mass = [&](int v) {
    return std::exp((static_cast<double>(logits[v]) - static_cast<double>(logits[order[0]])) /
                    static_cast<double>(options.temperature));
  };
  std::erase_if(order, [&](int v) { return mass(v) < static_cast<double>(options.min_p); });
  if (options.top_k && options.top_k < static_cast<int64_t>(order.size())) order.resize(options.top_k);
  double total = 0, kept = 0;
  for (int v : order) total += mass(v);
  std::vector<double> expected(logits.size());
  for (int v : order) {
    if (kept >= static_cast<double>(options.top_p) * total) break;
    kept += expected[v] = mass(v);
  }
  for (double& share : expected) share /= kept;
  return expected;
}

constexpr SamplingOptions kTruncations[] = {{1},    {0.7f, 3},       {1.3f, 0, 0.8f},    {1, 4, 0.5f},
                                            {1, 1}, {1, 0, 1, 0.3f}, {2, 0, 0.7f, 0.2f}, {0.9f, 4, 0.9f, 0.1f}};

// With uniforms on a fine grid the share of each token is its probability.
TEST_P(SampleTest, SharesOfAGridAreTheProbabilities) {
  const OperandVector<float> logits{0.5f, 2.0f, -1.0f, 1.0f, 1.5f, -0.25f};
  for (const SamplingOptions& options : kTruncations) {
    Call call = MakeCall(logits, 6, options);
    call.logits = {logits.data(), {2000, 6}, {0, 1}};
    call.options.assign(2000, options);
    call.uniform.resize(2000);
    for (size_t i = 0; i < 2000; ++i) call.uniform[i] = (static_cast<float>(i) + 0.5f) / 2000;
    std::vector<double> found(logits.size());
    for (int32_t token : RunSample(backend(), call, rng_).tokens) found.at(token) += 1.0 / 2000;
    const std::vector<double> expected = Expected(logits, options);
    for (size_t v = 0; v < logits.size(); ++v) EXPECT_NEAR(found[v], expected[v], 0.0011) << "token " << v;
  }
}

TEST_P(SampleTest, RandomDrawsPassAChiSquareTest) {
  std::mt19937_64 random(7);
  OperandVector<float> logits(40);
  for (float& logit : logits) logit = std::normal_distribution<float>(0, 1)(random);
  const int64_t draws = 4000;  // each row has a workspace
  for (const SamplingOptions& options : kTruncations) {
    Call call = MakeCall(logits, 40, options);
    call.logits = {logits.data(), {draws, 40}, {0, 1}};
    call.options.assign(draws, options);
    call.uniform.resize(draws);
    for (float& u : call.uniform) u = static_cast<float>(random() >> 40) * 0x1p-24f;
    std::vector<double> found(logits.size());
    for (int32_t token : RunSample(backend(), call, rng_).tokens) found.at(token) += 1;
    const std::vector<double> expected = Expected(logits, options);
    double chi_square = 0;
    int freedom = -1;
    for (size_t v = 0; v < logits.size(); ++v) {
      if (expected[v] == 0) {
        EXPECT_EQ(found[v], 0);
        continue;
      }
      const double count = expected[v] * static_cast<double>(draws);
      chi_square += (found[v] - count) * (found[v] - count) / count;
      ++freedom;
    }
    EXPECT_LT(chi_square, freedom + 4 * std::sqrt(2.0 * freedom) + 1e-9);
  }
}

Call RandomCall(Rng& rng, const Plane<float, 2>& logits, double spread) {
  const int64_t rows = logits.view.shape[0], vocab = logits.view.shape[1];
  std::normal_distribution<float> normal(0, static_cast<float>(spread));
  const int64_t kind = Uniform(rng, 0, 3);
  logits.ForEach([&](float& v) {
    v = normal(rng);
    if (kind == 1) v = std::round(v);  // ties
    if (kind == 2 && Uniform(rng, 0, 3) == 0) v = -kInfinity;
  });
  Call call;
  call.logits = logits.view;
  call.listed = Uniform(rng, 0, 5);
  call.logprobs = Uniform(rng, 0, 3) > 0;
  const auto real = [&](double low, double high) {
    return static_cast<float>(std::uniform_real_distribution<double>(low, high)(rng));
  };
  const int64_t words = (vocab + 31) / 32;
  for (int64_t i = 0; i < 2 * words; ++i) call.allowed.push_back(static_cast<int32_t>(rng()));
  const bool masks = Uniform(rng, 0, 1) == 1, penalties = Uniform(rng, 0, 1) == 1, biases = Uniform(rng, 0, 1) == 1;
  if (penalties) call.penalty_begin.push_back(0);
  if (biases) call.bias_begin.push_back(0);
  for (int64_t r = 0; r < rows; ++r) {
    SamplingOptions options;
    if (Uniform(rng, 0, 5) > 0) options.temperature = real(0.3, 2);
    if (Uniform(rng, 0, 3) == 0) options.temperature = 1;
    if (Uniform(rng, 0, 1)) options.top_k = Uniform(rng, 1, Uniform(rng, 0, 1) ? 20 : vocab + 2);
    if (Uniform(rng, 0, 1)) options.top_p = real(0, 1);
    if (Uniform(rng, 0, 2) == 0) options.min_p = real(0, 0.2);
    options.repetition_penalty = real(0.8, 1.5);
    options.presence_penalty = real(-1, 1);
    options.frequency_penalty = real(-0.5, 0.5);
    options.top_logprobs = static_cast<int32_t>(Uniform(rng, 0, call.listed));
    call.options.push_back(options);
    call.uniform.push_back(static_cast<float>(rng() >> 40) * 0x1p-24f);
    if (masks) call.allowed_index.push_back(static_cast<int32_t>(Uniform(rng, -1, 1)));
    for (int64_t t = Uniform(rng, 0, 9); penalties && t < vocab; t += Uniform(rng, 1, 50)) {
      call.penalty_tokens.push_back(static_cast<int32_t>(t));
      call.penalty_counts.push_back(static_cast<int32_t>(Uniform(rng, 0, 4)));
    }
    if (penalties) call.penalty_begin.push_back(static_cast<int64_t>(call.penalty_tokens.size()));
    for (int64_t i = Uniform(rng, 0, 5); biases && i > 0; --i) {
      call.bias_tokens.push_back(static_cast<int32_t>(Uniform(rng, 0, vocab - 1)));
      call.bias_values.push_back(real(-5, 5));
    }
    if (biases) call.bias_begin.push_back(static_cast<int64_t>(call.bias_tokens.size()));
  }
  return call;
}

void ExpectNear(const std::vector<float>& expected, const std::vector<float>& found, size_t begin, size_t count) {
  for (size_t i = begin; i < begin + count; ++i) {
    if (std::isnan(expected[i])) {
      EXPECT_TRUE(std::isnan(found[i]));
    } else if (std::isinf(expected[i])) {
      EXPECT_EQ(found[i], expected[i]);
    } else {
      EXPECT_NEAR(found[i], expected[i], 1e-5 + 1e-6 * std::abs(static_cast<double>(expected[i])));
    }
  }
}

// `found` is what ref gives, but where rounding puts a sum on the other side of a limit.
void ExpectAgreement(const Call& call, const Found& found, Rng& rng) {
  const Backend ref = RefBackend();
  const Found expected = RunSample(ref, call, rng);
  ASSERT_EQ(found.top_tokens, expected.top_tokens);
  ExpectNear(expected.top_logprobs, found.top_logprobs, 0, expected.top_logprobs.size());
  for (size_t r = 0; r < found.tokens.size(); ++r) {
    if (found.tokens[r] == expected.tokens[r]) {
      if (call.logprobs) ExpectNear(expected.logprobs, found.logprobs, r, 1);
      continue;
    }
    // ref agrees for limits next to it.
    bool near = false;
    for (float du : {-1e-5f, 0.0f, 1e-5f}) {
      for (float dp : {-1e-5f, 0.0f, 1e-5f}) {
        Call other = call;
        other.uniform[r] = std::clamp(other.uniform[r] + du, 0.0f, 0.9999999f);
        if (other.options[r].top_p < 1) other.options[r].top_p += dp;
        near = near || RunSample(ref, other, rng).tokens[r] == found.tokens[r];
      }
    }
    EXPECT_TRUE(near) << "row " << r << " token " << found.tokens[r] << ", expected " << expected.tokens[r];
  }
}

TEST_P(SampleTest, AgreesWithRefWhateverTheThreads) {
  for (int round = 0; round < 150; ++round) {
    const int64_t rows = Uniform(rng_, 0, 6);
    const int64_t most[] = {1, 20, 300, 5000};
    const int64_t vocab = Uniform(rng_, 1, most[round % 4]);
    const Plane<float, 2> logits(rng_, {rows, vocab}, backend().AnyLayout());
    const Call call = RandomCall(rng_, logits, round % 3 == 0 ? 0.5 : 4);
    SCOPED_TRACE(testing::Message() << "round " << round << " vocab " << vocab);
    const Found found = RunSample(backend(), call, rng_);
    const Found one = RunSample(backend(), call, rng_, 1);
    ASSERT_EQ(found.tokens, one.tokens);
    ASSERT_EQ(found.top_tokens, one.top_tokens);
    ASSERT_NO_FATAL_FAILURE(ExpectAgreement(call, found, rng_));
  }
}

// A real vocabulary, the options that every request may have, and rows whose logits all but tie.
TEST_P(SampleTest, AgreesWithRefOnALargeVocabulary) {
  const int64_t vocab = 129280;
  const SamplingOptions each[] = {{0, 0, 1, 0, 1, 0, 0, 20},
                                  {1},
                                  {0.6f, 0, 0.95f},
                                  {0.7f, 50, 0.9f, 0, 1, 0, 0, 5},
                                  {1, 100000, 0.999f},
                                  {1.5f, 0, 0.8f, 0.001f, 1.2f, 0.5f, 0.1f, 1},
                                  {1, 0, 0.01f}};
  const auto rows = static_cast<int64_t>(std::size(each));
  for (int kind = 0; kind < 3; ++kind) {
    SCOPED_TRACE(testing::Message() << "kind " << kind);
    const Plane<float, 2> logits(rng_, {rows, vocab});
    std::normal_distribution<float> normal(0, 3);
    logits.ForEach([&](float& v) { v = kind == 0 ? normal(rng_) : kind == 1 ? std::round(normal(rng_)) : 0.25f; });
    Call call;
    call.logits = logits.view;
    call.options.assign(std::begin(each), std::end(each));
    call.listed = 20;
    for (int64_t r = 0; r < rows; ++r) call.uniform.push_back(static_cast<float>(rng_() >> 40) * 0x1p-24f);
    const Found found = RunSample(backend(), call, rng_);
    ASSERT_NO_FATAL_FAILURE(ExpectAgreement(call, found, rng_));
    // A row alone is the same.
    for (const int64_t r : {int64_t{2}, rows - 1}) {
      Call alone = call;
      alone.logits = alone.logits.Rows(r, 1);
      alone.options.assign(1, each[r]);
      alone.uniform.assign(1, call.uniform[r]);
      const Found one = RunSample(backend(), alone, rng_);
      EXPECT_EQ(one.tokens[0], found.tokens[r]);
      EXPECT_EQ(one.logprobs[0], found.logprobs[r]);
    }
  }
}

// Biases of more entries than a block has threads, tokens among them again and again; penalties of the same tokens.
TEST_P(SampleTest, ManyBiasesAreAddedInTheirOrder) {
  const int64_t vocab = 3000;
  const Plane<float, 2> logits(rng_, {2, vocab});
  logits.ForEach([&](float& v) { v = std::normal_distribution<float>(0, 1)(rng_); });
  Call call;
  call.logits = logits.view;
  call.options.assign(2, {0, 0, 1, 0, 1.3f, 0.2f, 0.1f, 20});
  call.uniform.assign(2, 0.5f);
  call.listed = 20;
  call.bias_begin = {0, 1300, 1300};
  for (int i = 0; i < 1300; ++i) {
    call.bias_tokens.push_back(static_cast<int32_t>(Uniform(rng_, 0, 40) * 71));
    // Values so different that another order gives other bits.
    call.bias_values.push_back(
        std::ldexp(1.0f + static_cast<float>(i) * 1e-3f, static_cast<int>(Uniform(rng_, -30, 5))));
  }
  call.penalty_begin = {0, 600, 1200};
  for (int i = 0; i < 1200; ++i) {
    call.penalty_tokens.push_back(static_cast<int32_t>(i % 600 * 5));
    call.penalty_counts.push_back(i % 4);
  }
  const Found found = RunSample(backend(), call, rng_);
  const Found expected = RunSample(RefBackend(), call, rng_);
  EXPECT_EQ(found.tokens, expected.tokens);
  EXPECT_EQ(found.top_tokens, expected.top_tokens);
  ExpectNear(expected.top_logprobs, found.top_logprobs, 0, expected.top_logprobs.size());
}

MXMLA_INSTANTIATE_BACKENDS(SampleTest);

}  // namespace
}  // namespace mxmla::test
