// Sparse attention in whole models: dense while the context is at most index_topk, and independent of everything else
// beyond it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>

#include "engine/scheduler.h"
#include "engine/session.h"

namespace mxmla {
namespace {

using testing::ElementsAreArray;
using Logits = std::vector<float>;

constexpr int64_t kContext = 60;

struct Setup {
  std::string model, device;
  friend void PrintTo(const Setup& setup, std::ostream* out) { *out << setup.model << " on " << setup.device; }
};

class Sparse : public testing::TestWithParam<Setup> {
 protected:
  static LoadedModel Load(int threads = 2) {
    return LoadedModel::Open(std::string(MXMLA_FIXTURES) + "/" + GetParam().model, {GetParam().device, threads});
  }
  // The same weights, every token attended to.
  static LoadedModel LoadDense() {
    LoadedModel model = Load();
    model.config.indexer.topk = 0;
    return model;
  }
  static ModelOptions Options(int64_t sequences, int64_t context = kContext) {
    ModelOptions options;
    options.max_sequences = sequences;
    options.max_context = context;
    options.max_batch_tokens = sequences * context;
    options.max_logit_rows = sequences * context;
    options.page_size = 8;
    return options;
  }
  static std::vector<int32_t> Tokens(int64_t count, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<int32_t> tokens(count);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 40);
    return tokens;
  }
  // The last token's logits.
  static Logits Append(Session& session, int sequence, std::span<const int32_t> tokens, bool absorbed = false) {
    const StepInput input{sequence, tokens, {static_cast<int32_t>(tokens.size() - 1)}, absorbed};
    const View<const float, 2> logits = session.Step({&input, 1});
    return {logits.data, logits.data + logits.size()};
  }
  static bool SameBits(const Logits& a, const Logits& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  }
};

TEST_P(Sparse, IsDenseWhileTheContextIsShort) {
  const LoadedModel model = Load(), dense = LoadDense();
  const int64_t topk = model.config.indexer.topk;
  ASSERT_LT(topk, kContext);
  const std::vector<int32_t> tokens = Tokens(kContext, 1);
  const std::span<const int32_t> all(tokens);
  Session a(model, Options(1)), b(dense, Options(1)), without(model, Options(1, topk));
  const int s = a.Add(), t = b.Add(), u = without.Add();
  // A prompt, then single tokens.
  for (int64_t at = 0; at < topk; at = at == 0 ? topk / 2 : at + 1) {
    const std::span<const int32_t> next = all.subspan(at, at == 0 ? topk / 2 : 1);
    const Logits expected = Append(b, t, next);
    EXPECT_TRUE(SameBits(Append(a, s, next), expected)) << "position " << at;
    EXPECT_TRUE(SameBits(Append(without, u, next), expected)) << "without room for the indexer, position " << at;
  }
  // One token is left out now.
  EXPECT_FALSE(SameBits(Append(a, s, all.subspan(topk, 1)), Append(b, t, all.subspan(topk, 1))));
  EXPECT_LT(without.buffer_bytes(), Session(dense, Options(1)).buffer_bytes());
}

TEST_P(Sparse, ALongPromptInPiecesIsTheSameAsTokenByToken) {
  const LoadedModel model = Load();
  const std::vector<int32_t> tokens = Tokens(kContext, 2);
  const std::span<const int32_t> all(tokens);
  Session session(model, Options(3));
  const int one = session.Add(), many = session.Add(), pieces = session.Add();
  Logits last;
  for (int64_t at = 0; at < kContext; ++at) last = Append(session, one, all.subspan(at, 1), true);
  EXPECT_TRUE(SameBits(Append(session, many, all, true), last));
  for (int64_t at = 0; at < 45; at += 15) Append(session, pieces, all.subspan(at, 15), true);
  EXPECT_TRUE(SameBits(Append(session, pieces, all.subspan(45), true), last));
}

TEST_P(Sparse, NothingElseMatters) {
  const std::vector<int64_t> lengths{50, 3, 20, 33};
  const auto run = [&](int threads, bool together, std::vector<int64_t> buckets) {
    const LoadedModel model = Load(threads);
    ModelOptions options = Options(4);
    options.row_buckets = std::move(buckets);
    Session session(model, options);
    std::vector<std::vector<int32_t>> prompts;
    std::vector<int> sequences;
    for (size_t i = 0; i < lengths.size(); ++i) {
      prompts.push_back(Tokens(lengths[i], static_cast<uint32_t>(10 + i)));
      sequences.push_back(session.Add());
    }
    std::vector<Logits> results;
    const std::vector<int32_t> next{5};
    for (int step = 0; step < 2; ++step) {
      std::vector<StepInput> inputs;
      for (size_t i = 0; i < lengths.size(); ++i) {
        const std::span<const int32_t> tokens = step == 0 ? std::span<const int32_t>(prompts[i]) : next;
        const StepInput input{sequences[i], tokens, {static_cast<int32_t>(tokens.size() - 1)}, false};
        if (together) {
          inputs.push_back(input);
          continue;
        }
        const View<const float, 2> logits = session.Step({&input, 1});
        results.emplace_back(logits.data, logits.data + logits.size());
      }
      if (!together) continue;
      const View<const float, 2> logits = session.Step(inputs);
      for (int64_t r = 0; r < logits.shape[0]; ++r)
        results.emplace_back(&logits(r, 0), &logits(r, 0) + logits.shape[1]);
    }
    return results;
  };
  const std::vector<Logits> alone = run(1, false, {});
  for (const auto& [threads, together] : {std::pair{1, true}, {2, false}, {3, true}}) {
    for (const std::vector<int64_t>& buckets : {std::vector<int64_t>{}, {1, 4, 16, 64, 240}}) {
      const std::vector<Logits> found = run(threads, together, buckets);
      ASSERT_EQ(found.size(), alone.size());
      for (size_t i = 0; i < found.size(); ++i) {
        EXPECT_TRUE(SameBits(found[i], alone[i])) << threads << " threads, together " << together << ", result " << i;
      }
    }
  }
}

// Prefixes that are shared, pages that run out: each request gets what it gets alone.
TEST_P(Sparse, RequestsShareBothCaches) {
  const LoadedModel model = Load();
  const auto options = [](int64_t sequences, int64_t pages) {
    ModelOptions o;
    o.max_sequences = sequences;
    o.max_context = 48;
    o.max_batch_tokens = 16;
    o.prefill_chunk = 8;
    o.page_size = 4;
    o.kv_pages = pages;
    return o;
  };
  std::mt19937 random(7);
  Scheduler scheduler(model, options(4, 18));
  std::map<RequestId, GenerateRequest> requests;
  std::map<RequestId, GenerateResult> results;
  for (int i = 0; i < 24; ++i) {
    GenerateRequest request;
    const auto length = static_cast<int64_t>(10 + random() % 28);
    for (int64_t t = 0; t < length; ++t) {
      request.prompt.push_back(static_cast<int32_t>(t < 24 ? (7 * t + i % 2) % 40 : random() % 40));
    }
    request.max_tokens = static_cast<int64_t>(4 + random() % 6);
    request.seed = random();
    request.sampling = {1.0f, 0, 1.0f};
    requests[scheduler.Submit(request, [&](RequestId id, const GenerateResult& r) { results[id] = r; })] = request;
  }
  for (int tick = 0; tick < 5000 && !scheduler.idle(); ++tick) scheduler.Tick();
  ASSERT_EQ(results.size(), requests.size());
  int64_t cached = 0;
  for (const auto& [id, request] : requests) {
    Scheduler alone(model, options(1, 0));
    std::vector<int32_t> tokens;
    alone.Submit(request, [&](RequestId, const GenerateResult& result) { tokens = result.tokens; });
    while (!alone.idle()) alone.Tick();
    EXPECT_THAT(results[id].tokens, ElementsAreArray(tokens)) << "request " << id;
    cached += results[id].cached_tokens;
  }
  EXPECT_GT(cached, 0);
  EXPECT_GT(scheduler.preemptions(), 0);
}

INSTANTIATE_TEST_SUITE_P(Models, Sparse,
                         testing::Values(Setup{"v32", "ref"}, Setup{"v32", "cpu"}, Setup{"glm-dsa", "ref"},
                                         Setup{"glm-dsa", "cpu"}),
                         [](const auto& test) {
                           std::string name = test.param.model + "_" + test.param.device;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace mxmla
