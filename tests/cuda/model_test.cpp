// Whole models on the CUDA backend: the fixtures' golden logits, what must agree bit for bit, and requests side by
// side.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/scheduler.h"
#include "engine/session.h"
#include "gpu_test.h"

namespace mxmla {
namespace {

const std::string kFixtures = MXMLA_FIXTURES;

struct Matrix {
  int64_t rows = 0, columns = 0;
  std::vector<float> values;

  const float* Row(int64_t r) const { return values.data() + r * columns; }
};

// A C-ordered float32 .npy file of version 1.
Matrix ReadNpy(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  char magic[10];
  file.read(magic, sizeof(magic));
  std::string header(static_cast<unsigned char>(magic[8]) | static_cast<unsigned char>(magic[9]) << 8, ' ');
  file.read(header.data(), static_cast<std::streamsize>(header.size()));
  Matrix matrix;
  const size_t shape = header.find("'shape': (");
  if (!file || header.find("'<f4'") == std::string::npos ||
      std::sscanf(header.c_str() + shape, "'shape': (%ld, %ld)", &matrix.rows, &matrix.columns) != 2) {
    throw std::runtime_error(path + ": not a float32 matrix");
  }
  matrix.values.resize(static_cast<size_t>(matrix.rows * matrix.columns));
  file.read(reinterpret_cast<char*>(matrix.values.data()),
            static_cast<std::streamsize>(matrix.values.size() * sizeof(float)));
  if (!file) throw std::runtime_error(path + ": cut short");
  return matrix;
}

nlohmann::json ReadJson(const std::string& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

double Relative(const Matrix& found, const Matrix& golden) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < golden.values.size(); ++i) {
    const double g = static_cast<double>(golden.values[i]), d = static_cast<double>(found.values[i]) - g;
    difference += d * d;
    norm += g * g;
  }
  return std::sqrt(difference / norm);
}

// Every `every`-th row's logits of the fixture's own tokens, as `mxmla logits` computes them.
Matrix LogitsOf(const LoadedModel& model, const std::string& name, bool decode, ModelOptions options = {},
                const char* tokens_file = "/tokens.json") {
  const std::vector<int32_t> tokens = ReadJson(kFixtures + "/" + name + tokens_file);
  const int64_t every = ReadJson(kFixtures + "/" + name + "/golden.json")["every"];
  const auto count = static_cast<int64_t>(tokens.size());
  const int64_t step = decode ? 1 : count;
  options.max_context = count;
  options.max_batch_tokens = step;
  options.max_logit_rows = step;
  Session session(model, options);
  const int sequence = session.Add();
  Matrix logits{0, model.config.vocab_size, {}};
  for (int64_t begin = 0; begin < count; begin += step) {
    StepInput input{sequence, std::span(tokens).subspan(begin, step), {}, decode};
    for (int64_t r = (every - begin % every) % every; r < step; r += every) {
      input.logit_rows.push_back(static_cast<int32_t>(r));
    }
    const View<const float, 2> rows = session.Step({&input, 1});
    logits.rows += rows.shape[0];
    logits.values.insert(logits.values.end(), rows.data, rows.data + rows.size());
  }
  return logits;
}

LoadedModel Open(const std::string& name, const std::string& device = "cuda", bool batch_invariant = false) {
  return LoadedModel::Open(kFixtures + "/" + name, {device, 4, batch_invariant});
}

std::string TestName(std::string name) {
  std::ranges::replace(name, '-', '_');
  return name;
}

class CudaGolden : public testing::GpuTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(CudaGolden, LogitsAreNearTransformers) {
  const std::string name = GetParam();
  const LoadedModel model = Open(name);
  const Matrix golden = ReadNpy(kFixtures + "/" + name + "/logits.npy");
  double mean = 0, variance = 0;
  for (const float value : golden.values) mean += static_cast<double>(value);
  mean /= static_cast<double>(golden.values.size());
  for (const float value : golden.values)
    variance += (static_cast<double>(value) - mean) * (static_cast<double>(value) - mean);
  const double deviation = std::sqrt(variance / static_cast<double>(golden.values.size()));
  for (const bool decode : {false, true}) {
    SCOPED_TRACE(decode ? "decode" : "prefill");
    const Matrix found = LogitsOf(model, name, decode);
    ASSERT_EQ(found.rows, golden.rows);
    ASSERT_EQ(found.columns, golden.columns);
    EXPECT_LE(Relative(found, golden), 2e-2);
    int clear = 0;
    for (int64_t r = 0; r < golden.rows; ++r) {
      std::vector<float> row(golden.Row(r), golden.Row(r) + golden.columns);
      const int64_t best = std::max_element(row.begin(), row.end()) - row.begin();
      std::ranges::nth_element(row, row.begin() + 1, std::greater<>());
      if (static_cast<double>(row[0] - row[1]) <= 0.1 * deviation) continue;  // a near-tie
      ++clear;
      EXPECT_EQ(std::max_element(found.Row(r), found.Row(r) + found.columns) - found.Row(r), best) << "row " << r;
    }
    EXPECT_GT(clear, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, CudaGolden,
                         ::testing::Values("v2-bf16", "v2-groups", "v3-bf16", "kimi-yarn", "kimi-k25", "v3-fp8",
                                           "v3-mxfp4", "kimi-mxfp4", "v3-real-dims", "glm-lite", "glm-real-dims",
                                           "kimi-vl", "gigachat3", "youtu", "minicpm3", "sarvam", "axk1",
                                           "mistral-small4", "mistral-large3", "v32", "glm-dsa"),
                         [](const auto& test) { return TestName(test.param); });

class CudaModel : public testing::GpuTest {};

// In bf16 many codes fall otherwise than in float32, so only the size of the damage can be compared.
TEST_F(CudaModel, QuantisedActivationsDoTheDamageTheyShould) {
  const std::pair<const char*, ActivationFormat> kCases[] = {{"v3-fp8", ActivationFormat::kFp8},
                                                             {"v3-mxfp4", ActivationFormat::kMxfp4},
                                                             {"v3-mxfp4", ActivationFormat::kFp8},
                                                             {"kimi-mxfp4", ActivationFormat::kMxfp4},
                                                             {"v3-real-dims", ActivationFormat::kMxfp4}};
  for (const auto& [name, format] : kCases) {
    const std::string mode = format == ActivationFormat::kFp8 ? "fp8" : "mxfp4";
    SCOPED_TRACE(std::string(name) + " " + mode);
    const std::string folder = kFixtures + "/" + name;
    const Matrix exact = ReadNpy(folder + "/logits.npy"), golden = ReadNpy(folder + "/logits-" + mode + ".npy");
    ModelOptions options;
    options.activations = format;
    const double damage = Relative(golden, exact);
    const double found = Relative(LogitsOf(Open(name), name, false, options), exact);
    EXPECT_GE(found, 0.4 * damage);
    EXPECT_LE(found, 1.8 * damage + 0.02);
  }
}

TEST_F(CudaModel, VLayoutsAreBitIdentical) {
  for (const char* name : {"v3-bf16", "v3-fp8", "v3-mxfp4", "v3-real-dims"}) {
    const LoadedModel model = Open(name);
    for (const ActivationFormat format : {ActivationFormat::kPlain, ActivationFormat::kFp8, ActivationFormat::kMxfp4}) {
      if (format == ActivationFormat::kMxfp4 && std::string(name) == "v3-fp8") continue;  // widths of other multiples
      for (const bool decode : {false, true}) {
        SCOPED_TRACE(::testing::Message() << name << ", format " << static_cast<int>(format) << ", decode " << decode);
        ModelOptions options;
        options.activations = format;
        options.v_layout = VLayout::kFused;
        const Matrix fused = LogitsOf(model, name, decode, options);
        for (const VLayout layout : {VLayout::kStrided, VLayout::kCopy}) {
          options.v_layout = layout;
          EXPECT_EQ(std::memcmp(LogitsOf(model, name, decode, options).values.data(), fused.values.data(),
                                fused.values.size() * sizeof(float)),
                    0);
        }
      }
    }
  }
}

TEST_F(CudaModel, AnFp8CacheAndRequantisedHeadsCostLittle) {
  const Matrix golden = ReadNpy(kFixtures + "/v3-real-dims/logits.npy");
  for (const char* device : {"cuda", "cpu"}) {
    const LoadedModel model = Open("v3-real-dims", device);
    for (const bool decode : {false, true}) {
      SCOPED_TRACE(::testing::Message() << device << ", decode " << decode);
      ModelOptions options;
      options.kv_dtype = KvDType::kFp8;
      EXPECT_LE(Relative(LogitsOf(model, "v3-real-dims", decode, options), golden), 6e-2);
      options.kv_dtype = KvDType::kAuto;
      options.absorb_dtype = AbsorbDType::kBf16;
      EXPECT_LE(Relative(LogitsOf(model, "v3-real-dims", decode, options), golden), 2e-2);
    }
  }
}

TEST_F(CudaModel, ARequestsTokensDependOnNothingElse) {
  for (const char* name : {"v3-bf16", "v3-real-dims"}) {
    SCOPED_TRACE(name);
    const LoadedModel model = Open(name);
    const auto vocab = static_cast<uint32_t>(model.config.vocab_size);
    const auto options = [](int64_t sequences, int64_t batch_tokens, int64_t pages) {
      ModelOptions made;
      made.max_sequences = sequences;
      made.max_context = 48;
      made.max_batch_tokens = batch_tokens;
      made.prefill_chunk = 8;
      made.page_size = 8;
      made.kv_pages = pages;
      return made;
    };
    std::mt19937 random(5);
    std::vector<GenerateRequest> requests(24);
    for (GenerateRequest& request : requests) {
      const auto length = 1 + random() % 30, family = random() % 3;
      for (uint32_t t = 0; t < length; ++t) {
        request.prompt.push_back(static_cast<int32_t>(t < 20 ? (7 * t + family) % vocab : random() % vocab));
      }
      request.max_tokens = static_cast<int64_t>(1 + random() % 12);
      request.seed = random();
      if (random() % 2) request.sampling = {0.9f, 20, 0.95f};
      if (random() % 3 == 0) request.sampling.repetition_penalty = 1.3f;
    }
    std::vector<std::vector<int32_t>> together(requests.size()), alone(requests.size());
    Scheduler all(model, options(6, 20, 11));
    for (size_t i = 0; i < requests.size(); ++i) {
      all.Submit(requests[i], [&, i](RequestId, const GenerateResult& result) { together[i] = result.tokens; });
    }
    while (!all.idle()) all.Tick();
    EXPECT_GT(all.preemptions(), 0);
    Scheduler one(model, options(1, 8, 0));
    for (size_t i = 0; i < requests.size(); ++i) {
      one.Submit(requests[i], [&, i](RequestId, const GenerateResult& result) { alone[i] = result.tokens; });
      while (!one.idle()) one.Tick();
      EXPECT_EQ(static_cast<int64_t>(alone[i].size()), requests[i].max_tokens);
      EXPECT_THAT(together[i], ::testing::ElementsAreArray(alone[i])) << "request " << i;
    }
  }
}

// What is replayed is what was run, over several shapes and with the profiler in between.
TEST_F(CudaModel, ReplayedStepsGiveTheBitsOfThoseThatWereNot) {
  const LoadedModel model = Open("v3-real-dims");
  ModelOptions options;
  options.max_context = 96;
  options.max_sequences = 3;
  options.max_batch_tokens = 8;
  options.max_logit_rows = 8;
  const auto run = [&](bool replayed) {
    Profiler profiler;
    profiler.Pause(replayed);
    Session session(model, options, &profiler);
    std::vector<int> sequences;
    for (int i = 0; i < 3; ++i) sequences.push_back(session.Add());
    std::vector<float> all;
    std::mt19937 random(9);
    for (int step = 0; step < 24; ++step) {
      std::vector<int32_t> tokens(4);
      for (int32_t& token : tokens)
        token = static_cast<int32_t>(random() % static_cast<uint32_t>(model.config.vocab_size));
      std::vector<StepInput> inputs;
      const size_t count = 1 + random() % 3, rows = step < 18 ? 1 + random() % 4 : 1;
      for (size_t i = 0; i < (step < 18 ? count : 1); ++i) {
        inputs.push_back({sequences[i], std::span(tokens).first(i == 0 ? rows : 1), {0}, true});
      }
      const View<const float, 2> logits = session.Step(inputs);
      all.insert(all.end(), logits.data, logits.data + logits.size());
    }
    if (replayed) {
      EXPECT_GT(session.launches(), 0);
    } else {
      EXPECT_EQ(profiler.copies(), 0);
      for (const OpCost& cost : profiler.costs()) EXPECT_GT(cost.seconds, 0) << cost.name;
    }
    return all;
  };
  const std::vector<float> once = run(false), again = run(true);
  ASSERT_EQ(once.size(), again.size());
  EXPECT_EQ(std::memcmp(once.data(), again.data(), once.size() * sizeof(float)), 0);
}

TEST_F(CudaModel, RandomRowsOfTheCacheAreThoseOfTheHost) {
  for (const KvDType dtype : {KvDType::kBf16, KvDType::kFp8}) {
    GenerateResult results[2];
    for (const int device : {0, 1}) {
      const LoadedModel model = Open("v3-real-dims", device == 0 ? "cpu" : "cuda");
      ModelOptions options;
      options.kv_dtype = dtype;
      options.max_context = 210;
      options.max_batch_tokens = 8;
      Scheduler scheduler(model, options);
      GenerateRequest request;
      for (int32_t t = 0; t < 203; ++t) request.prompt.push_back(t % 47);
      request.random_rows = 200;
      request.max_tokens = 1;
      request.logprobs = true;
      request.sampling.top_logprobs = 10;
      scheduler.Submit(request, [&](RequestId, const GenerateResult& result) { results[device] = result; });
      while (!scheduler.idle()) scheduler.Tick();
    }
    ASSERT_EQ(results[1].logprobs.size(), 1u);
    for (size_t i = 0; i < 10; ++i) {
      EXPECT_NEAR(results[1].logprobs[0].top[i].logprob, results[0].logprobs[0].top[i].logprob, 0.05) << i;
    }
  }
}

TEST_F(CudaModel, WhatDoesNotFitIsRefusedWithTheNumbers) {
  const LoadedModel model = Open("v3-real-dims");
  ModelOptions options;
  options.max_context = 4096;
  options.max_sequences = 1 << 20;
  options.max_logit_rows = 1;
  options.max_batch_tokens = 1;
  try {
    model.Placed(CompleteOptions(model, options));
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kMemory);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("KV cache 9"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("GB free"));
  }
}

TEST_F(CudaModel, AGpuThatIsNotThereIsRefused) {
  try {
    OpenBackend({"cuda:99", 1});
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDevice);
  }
  EXPECT_EQ(OpenBackend({"auto", 1})->Name(), "cuda/sm_90a");
}

// Pieces of every size, side by side and cut, from memory that is not pinned.
TEST_F(CudaModel, UploadsArriveWhole) {
  const std::unique_ptr<Backend> backend = OpenBackend({"cuda", 5});
  std::vector<size_t> sizes = {1, 300, size_t{16} << 20, (size_t{40} << 20) + 5, 64, 1000003};
  for (int i = 0; i < 300; ++i) sizes.push_back(1 + rng_() % 100000);
  size_t total = 0;
  for (const size_t size : sizes) total += size;
  std::vector<std::byte> host(total);
  for (size_t i = 0; i + 8 <= total; i += 8) {
    const uint64_t word = rng_();
    std::memcpy(host.data() + i, &word, 8);
  }
  const Memory device = backend->Allocate(total + sizes.size(), Fill::kZero, "test", "");
  std::vector<Transfer> transfers;
  size_t from = 0, to = 0;
  for (const size_t size : sizes) {
    transfers.push_back({device.data() + to, host.data() + from, size});
    from += size;
    to += size + 1;  // a byte between them stays as it is
  }
  size_t last = 0;
  backend->UploadAll(transfers, [&](size_t done) { last = done; });
  EXPECT_EQ(last, total);
  const Memory back = backend->AllocateStaging(to, "test", "");
  backend->Download(back.data(), device.data(), to);
  from = to = 0;
  for (const size_t size : sizes) {
    ASSERT_EQ(std::memcmp(back.data() + to, host.data() + from, size), 0);
    ASSERT_EQ(back.data()[to + size], std::byte{0});
    from += size;
    to += size + 1;
  }
}

}  // namespace
}  // namespace mxmla
