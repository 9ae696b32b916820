// What a request gets must not depend on what else the scheduler runs.
#include "engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>

#include "engine/session.h"

namespace mxmla {
namespace {

using testing::ElementsAreArray;

class SchedulerTest : public testing::Test {
 protected:
  static const LoadedModel& Model() {
    static const LoadedModel model = LoadedModel::Open(std::string(MXMLA_FIXTURES) + "/v3-bf16", {"cpu", 2});
    return model;
  }

  static ModelOptions Options(int64_t sequences, int64_t batch_tokens, int64_t pages = 0) {
    ModelOptions options;
    options.max_sequences = sequences;
    options.max_context = 48;
    options.max_batch_tokens = batch_tokens;
    options.prefill_chunk = 8;
    options.page_size = 4;
    options.kv_pages = pages;
    return options;
  }

  static GenerateRequest Request(std::mt19937& random) {
    GenerateRequest request;
    // Few first tokens, so that prompts share prefixes.
    const auto length = static_cast<int64_t>(1 + random() % 30);
    const auto family = static_cast<int32_t>(random() % 3);
    for (int64_t t = 0; t < length; ++t) {
      request.prompt.push_back(t < 20 ? static_cast<int32_t>((7 * t + family) % 71)
                                      : static_cast<int32_t>(random() % 71));
    }
    request.max_tokens = static_cast<int64_t>(1 + random() % 12);
    request.seed = random();
    if (random() % 2) request.sampling = {0.9f, 20, 0.95f};
    if (random() % 3 == 0) {
      request.sampling.repetition_penalty = 1.3f;
      request.sampling.frequency_penalty = 0.4f;
    }
    return request;
  }

  static std::vector<int32_t> Alone(const GenerateRequest& request) {
    GenerateRequest copy = request;
    copy.on_token = {};
    Scheduler scheduler(Model(), Options(1, 8));
    std::vector<int32_t> tokens;
    scheduler.Submit(copy, [&](RequestId, const GenerateResult& result) { tokens = result.tokens; });
    while (!scheduler.idle()) scheduler.Tick();
    return tokens;
  }
};

TEST_F(SchedulerTest, DecodingRowsTakeTurnsWhenAStepIsTooSmallForAll) {
  Scheduler scheduler(Model(), Options(5, 2));
  std::vector<GenerateRequest> requests(5);
  std::vector<std::vector<int32_t>> results(5);
  std::mt19937 random(1);
  int ended = 0;
  for (int i = 0; i < 5; ++i) {
    requests[i] = Request(random);
    requests[i].max_tokens = 10;
    scheduler.Submit(requests[i], [&, i](RequestId, const GenerateResult& result) {
      results[i] = result.tokens;
      ++ended;
    });
  }
  int ticks = 0;
  for (; !scheduler.idle() && ticks < 1000; ++ticks) EXPECT_LE(scheduler.Tick().decode_rows, 2);
  EXPECT_EQ(ended, 5);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(results[i].size(), 10u) << i;
}

// Who asks for much waits for its own requests, and not others for them.
TEST_F(SchedulerTest, ClientsTakeTurns) {
  std::mt19937 random(8);
  for (const int64_t sequences : {1, 2}) {
    Scheduler scheduler(Model(), Options(sequences, 16));
    std::vector<uint64_t> ended;
    std::vector<std::vector<int32_t>> alone, found(9);
    for (size_t i = 0; i < 9; ++i) {
      GenerateRequest request = Request(random);
      request.max_tokens = 4;
      request.client = i < 6 ? 1 : i == 6 ? 2 : 3;
      alone.push_back(Alone(request));
      scheduler.Submit(request, [&ended, &found, i, client = request.client](RequestId, const GenerateResult& result) {
        ended.push_back(client);
        found[i] = result.tokens;
      });
    }
    while (!scheduler.idle()) scheduler.Tick();
    EXPECT_EQ(found, alone);
    ASSERT_EQ(ended.size(), 9u);
    if (sequences == 1) {
      EXPECT_THAT(ended, testing::ElementsAre(1, 2, 3, 1, 3, 1, 1, 1, 1));
    }
  }
}

TEST_F(SchedulerTest, AStepTakesFurtherPiecesOfAPrompt) {
  GenerateRequest request;
  for (int t = 0; t < 30; ++t) request.prompt.push_back((5 * t) % 71);
  request.max_tokens = 6;
  request.sampling = {1.0f, 0, 1.0f};
  const std::vector<int32_t> alone = Alone(request);
  for (const int64_t batch_tokens : {8, 17, 32}) {
    Scheduler scheduler(Model(), Options(2, batch_tokens));
    std::vector<std::vector<int32_t>> results;
    const auto done = [&](RequestId, const GenerateResult& result) { results.push_back(result.tokens); };
    scheduler.Submit(request, done);
    EXPECT_EQ(scheduler.Tick().prompt_tokens, std::min<int64_t>(batch_tokens / 8 * 8, 30));
    while (scheduler.Tick().decode_rows == 0) {
    }
    // Beside a row that decodes: a piece in any case, and others where they leave the row its place.
    request.prompt[0] += 1;
    scheduler.Submit(request, done);
    const TickStats both = scheduler.Tick();
    EXPECT_EQ(both.decode_rows, 1);
    EXPECT_EQ(both.prompt_tokens, batch_tokens == 8 ? 8 : batch_tokens == 17 ? 16 : 30);
    request.prompt[0] -= 1;
    while (!scheduler.idle()) scheduler.Tick();
    ASSERT_EQ(results.size(), 2u);
    EXPECT_EQ(results[0], alone);
  }
}

TEST_F(SchedulerTest, APrefixIsFoundAndChangesNothing) {
  Scheduler scheduler(Model(), Options(2, 16));
  GenerateRequest request;
  for (int t = 0; t < 30; ++t) request.prompt.push_back((5 * t) % 71);
  request.max_tokens = 6;
  request.sampling = {1.0f, 0, 1.0f};
  std::vector<GenerateResult> results;
  for (int i = 0; i < 2; ++i) {
    scheduler.Submit(request, [&](RequestId, const GenerateResult& result) { results.push_back(result); });
    while (!scheduler.idle()) scheduler.Tick();
  }
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].cached_tokens, 0);
  EXPECT_EQ(results[1].cached_tokens, 24);  // three whole chunks of 8; the rest is less than one
  EXPECT_THAT(results[1].tokens, ElementsAreArray(results[0].tokens));
}

TEST_F(SchedulerTest, RandomRowsAreAttendedToAndNeverShared) {
  Scheduler scheduler(Model(), Options(2, 16));
  GenerateRequest request;
  for (int t = 0; t < 30; ++t) request.prompt.push_back((5 * t) % 71);
  request.max_tokens = 6;
  const std::vector<int32_t> alone = Alone(request);
  GenerateRequest random = request;
  random.random_rows = 29;
  int64_t computed = 0;
  std::vector<GenerateResult> results;
  for (const GenerateRequest& next : {random, random, request}) {
    scheduler.Submit(next, [&](RequestId, const GenerateResult& result) { results.push_back(result); });
    while (!scheduler.idle()) computed += scheduler.Tick().prompt_tokens;
  }
  ASSERT_EQ(results.size(), 3u);
  EXPECT_EQ(computed, 1 + 1 + 30);
  EXPECT_NE(results[0].tokens, alone);
  for (const GenerateResult& result : results) EXPECT_EQ(result.cached_tokens, 0);
  EXPECT_THAT(results[2].tokens, ElementsAreArray(alone));
  random.random_rows = 30;
  EXPECT_THROW(scheduler.Submit(random), Error);
}

// Steps that are queued ahead change no token, and end with the requests.
TEST_F(SchedulerTest, TheNextStepIsQueuedBeforeItsTokensAreKnown) {
  ModelOptions options = Options(3, 24);
  GenerateRequest request;
  for (int t = 0; t < 9; ++t) request.prompt.push_back((5 * t) % 71);
  request.max_tokens = 12;
  request.sampling = {1.0f, 0, 1.0f};
  request.logprobs = true;
  const std::vector<int32_t> alone = Alone(request);
  const auto run = [&](bool ahead, const GenerateRequest& asked, std::vector<GenerateResult>* results) {
    options.queues_ahead = ahead;
    Scheduler scheduler(Model(), options);
    int64_t ticks = 0, queued_next = 0;
    for (int round = 0; round < 2; ++round) {
      for (int i = 0; i < 3; ++i) {
        GenerateRequest next = asked;
        next.max_tokens -= 2 * i;
        scheduler.Submit(next, [&](RequestId, const GenerateResult& result) { results->push_back(result); });
      }
      for (; !scheduler.idle(); ++ticks) queued_next += scheduler.Tick().queued_next;
      EXPECT_EQ(scheduler.pool().used_pages(), 0);
    }
    return std::pair(ticks, queued_next);
  };
  std::vector<GenerateResult> plain, ahead;
  const auto [plain_ticks, never] = run(false, request, &plain);
  const auto [ticks, queued_next] = run(true, request, &ahead);
  EXPECT_EQ(ticks, plain_ticks);
  EXPECT_EQ(never, 0);
  // All but those of prompts that are not computed to their end, and the last.
  EXPECT_EQ(queued_next, 2 * 11);
  ASSERT_EQ(plain.size(), ahead.size());
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_THAT(ahead[i].tokens, ElementsAreArray(plain[i].tokens));
    for (size_t t = 0; t < plain[i].tokens.size(); ++t) {
      EXPECT_EQ(ahead[i].logprobs[t].chosen, plain[i].logprobs[t].chosen);
    }
  }
  // A token that ends a request while its next row is queued.
  request.stop_tokens = {alone[4]};
  const size_t stop = static_cast<size_t>(std::ranges::find(alone, alone[4]) - alone.begin());
  ahead.clear();
  run(true, request, &ahead);
  ASSERT_EQ(ahead.size(), 6u);
  for (const GenerateResult& result : ahead) {
    EXPECT_EQ(result.reason, FinishReason::kStop);
    EXPECT_THAT(result.tokens, ElementsAreArray(std::span(alone).first(stop)));
  }
  // What the next token may be is asked with all tokens before it.
  request.stop_tokens.clear();
  request.restrict_tokens = [](std::span<const int32_t>, std::span<uint32_t>) {};
  ahead.clear();
  EXPECT_EQ(run(true, request, &ahead).second, 0);
  EXPECT_THAT(ahead.back().tokens, ElementsAreArray(alone));
}

TEST_F(SchedulerTest, CancelEndsARequestWithWhatItHas) {
  Scheduler scheduler(Model(), Options(2, 16));
  std::mt19937 random(3);
  GenerateRequest request = Request(random);
  request.max_tokens = 12;
  GenerateResult ended;
  const RequestId id = scheduler.Submit(request, [&](RequestId, const GenerateResult& result) { ended = result; });
  const RequestId queued = scheduler.Submit(request);
  while (scheduler.Tick().new_tokens == 0) {
  }
  EXPECT_TRUE(scheduler.Cancel(id));
  EXPECT_TRUE(scheduler.Cancel(queued));
  EXPECT_FALSE(scheduler.Cancel(id));
  scheduler.Tick();
  EXPECT_TRUE(scheduler.idle());
  EXPECT_EQ(ended.reason, FinishReason::kCancelled);
  EXPECT_GE(ended.tokens.size(), 1u);
  EXPECT_EQ(scheduler.pool().used_pages(), 0);
}

TEST_F(SchedulerTest, RefusesWhatCanNeverRun) {
  Scheduler scheduler(Model(), Options(1, 16, /*pages=*/3));
  GenerateRequest request;
  EXPECT_THROW(scheduler.Submit(request), Error);
  request.prompt.assign(10, 1);
  request.max_tokens = 3;  // 13 tokens, the cache holds 12
  EXPECT_THROW(scheduler.Submit(request), Error);
  request.max_tokens = 39;  // beyond max_context
  EXPECT_THROW(scheduler.Submit(request), Error);
  request.prompt = {100000};
  request.max_tokens = 1;
  EXPECT_THROW(scheduler.Submit(request), Error);
  EXPECT_TRUE(scheduler.idle());
}

TEST_F(SchedulerTest, SamplingReachesEveryTokenOfARequest) {
  GenerateRequest request;
  request.prompt = {1, 2, 3};
  request.max_tokens = 10;
  const auto run = [&] {
    Scheduler scheduler(Model(), Options(2, 16));
    GenerateResult found;
    scheduler.Submit(request, [&](RequestId, const GenerateResult& result) { found = result; });
    while (!scheduler.idle()) scheduler.Tick();
    return found;
  };
  const std::vector<int32_t> greedy = run().tokens;

  // A bias beyond any logit decides every token; a large penalty of what was seen forbids to repeat it.
  request.logit_bias = {{9, 1e6f}, {10, 1e6f - 1000}, {11, 1e6f - 2000}};
  EXPECT_THAT(run().tokens, ElementsAreArray(std::vector<int32_t>(10, 9)));
  request.sampling.presence_penalty = 1e5f;
  EXPECT_EQ(run().tokens[0], 9);
  EXPECT_EQ(run().tokens[1], 10);
  EXPECT_EQ(run().tokens[2], 11);
  request.sampling.presence_penalty = 0;
  request.sampling.frequency_penalty = 600;  // 9, 9 (600 off), then 10
  std::vector<int32_t> penalised = run().tokens;
  penalised.resize(3);
  EXPECT_THAT(penalised, testing::ElementsAre(9, 9, 10));
  request.sampling.frequency_penalty = 0;
  request.logit_bias = {{3, 1e6f}, {4, 7e5f}};
  EXPECT_EQ(run().tokens[0], 3);
  request.sampling.repetition_penalty = 2;  // 3 is in the prompt: half of it is less than 4's
  EXPECT_EQ(run().tokens[0], 4);

  request = {};
  request.prompt = {1, 2, 3};
  request.max_tokens = 10;
  request.logprobs = true;
  request.sampling.top_logprobs = 2;
  const GenerateResult result = run();
  EXPECT_THAT(result.tokens, ElementsAreArray(greedy));
  ASSERT_EQ(result.logprobs.size(), result.tokens.size());
  for (size_t i = 0; i < result.tokens.size(); ++i) {
    ASSERT_EQ(result.logprobs[i].top.size(), 2u);
    EXPECT_EQ(result.logprobs[i].top[0].token, result.tokens[i]);
    EXPECT_EQ(result.logprobs[i].top[0].logprob, result.logprobs[i].chosen);
    EXPECT_LE(result.logprobs[i].top[1].logprob, result.logprobs[i].chosen);
    EXPECT_LT(result.logprobs[i].chosen, 0);
  }

  // Even tokens only, then an error of the callback's own.
  int calls = 0;
  request.restrict_tokens = [&](std::span<const int32_t> generated, std::span<uint32_t> allowed) {
    EXPECT_EQ(generated.size(), static_cast<size_t>(calls));
    if (++calls == 5) throw std::runtime_error("no more");
    for (uint32_t& word : allowed) word &= 0x55555555u;
  };
  const GenerateResult even = run();
  EXPECT_EQ(even.reason, FinishReason::kError);
  ASSERT_EQ(even.tokens.size(), 4u);
  for (const int32_t token : even.tokens) EXPECT_EQ(token % 2, 0);
  request.restrict_tokens = [&](std::span<const int32_t>, std::span<uint32_t> allowed) {
    std::ranges::fill(allowed, 0u);
  };
  EXPECT_EQ(run().reason, FinishReason::kError);
}

TEST_F(SchedulerTest, RefusesSamplingOptionsOutsideTheirRanges) {
  Scheduler scheduler(Model(), Options(1, 16));
  const auto refused = [&](const auto& change) {
    GenerateRequest request;
    request.prompt = {1};
    request.max_tokens = 1;
    change(request);
    EXPECT_THROW(scheduler.Submit(request), Error);
  };
  refused([](GenerateRequest& r) { r.sampling.temperature = -1; });
  refused([](GenerateRequest& r) { r.sampling.temperature = std::numeric_limits<float>::quiet_NaN(); });
  refused([](GenerateRequest& r) { r.sampling.top_p = 1.5f; });
  refused([](GenerateRequest& r) { r.sampling.top_k = -1; });
  refused([](GenerateRequest& r) { r.sampling.min_p = 2; });
  refused([](GenerateRequest& r) { r.sampling.repetition_penalty = 0; });
  refused([](GenerateRequest& r) { r.sampling.presence_penalty = std::numeric_limits<float>::infinity(); });
  refused([](GenerateRequest& r) { r.sampling.top_logprobs = 21; });
  refused([](GenerateRequest& r) { r.logit_bias = {{100000, 1}}; });
  refused([](GenerateRequest& r) { r.logit_bias.resize(kMaxBiases + 1); });
  EXPECT_TRUE(scheduler.idle());
}

// Random arrivals, cancellations, a cache that is too small, and callbacks that throw, against each request run alone.
TEST_F(SchedulerTest, ARequestsTokensDependOnNothingElse) {
  int64_t preemptions = 0, cached = 0, thrown = 0, cancelled = 0, whole = 0, stopped = 0, queued_next = 0;
  for (const uint32_t seed : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u}) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    // Room for one long request and a bit, so that pages are always short.
    ModelOptions options = Options(4, 8 + random() % 28, /*pages=*/14);
    options.queues_ahead = seed > 4;
    Scheduler scheduler(Model(), options);
    std::map<RequestId, GenerateRequest> requests;
    std::map<RequestId, GenerateResult> results;
    const auto done = [&](RequestId id, const GenerateResult& result) {
      EXPECT_TRUE(results.emplace(id, result).second) << "on_done twice";
    };
    for (int tick = 0; tick < 400; ++tick) {
      if (random() % 6 == 0) {
        GenerateRequest request = Request(random);
        if (random() % 3 == 0) request.stop_tokens = {static_cast<int32_t>(random() % 71)};
        if (random() % 5 == 0) {
          request.on_token = [left = static_cast<int>(random() % 4)](int32_t) mutable {
            if (left-- == 0) throw std::runtime_error("no more");
            return true;
          };
        }
        requests[scheduler.Submit(request, done)] = request;
      }
      if (!requests.empty() && random() % 25 == 0) scheduler.Cancel(std::prev(requests.end())->first);
      queued_next += scheduler.Tick().queued_next;
      ASSERT_NO_THROW(scheduler.pool().Check());
    }
    for (int tick = 0; tick < 5000 && !scheduler.idle(); ++tick) scheduler.Tick();
    ASSERT_TRUE(scheduler.idle());
    EXPECT_EQ(scheduler.pool().used_pages(), 0);
    ASSERT_EQ(results.size(), requests.size());
    preemptions += scheduler.preemptions();
    for (const auto& [id, request] : requests) {
      const GenerateResult& result = results.at(id);
      const std::vector<int32_t> alone = Alone(request);
      cached += result.cached_tokens;
      cancelled += result.reason == FinishReason::kCancelled;
      thrown += result.reason == FinishReason::kError;
      stopped += result.reason == FinishReason::kStop;
      if (result.reason == FinishReason::kLength) {
        ++whole;
        EXPECT_THAT(result.tokens, ElementsAreArray(alone)) << "request " << id;
      } else {
        ASSERT_LE(result.tokens.size(), alone.size());
        EXPECT_TRUE(std::equal(result.tokens.begin(), result.tokens.end(), alone.begin())) << "request " << id;
      }
    }
  }
  // The test is worth something only where all of this happened.
  EXPECT_GT(preemptions, 0);
  EXPECT_GT(cached, 0);
  EXPECT_GT(thrown, 0);
  EXPECT_GT(cancelled, 0);
  EXPECT_GT(stopped, 0);
  EXPECT_GT(queued_next, 40);
  EXPECT_GT(whole, 80);
}

// Steps padded to buckets give the same bits as unpadded ones.
class PaddedSteps : public testing::TestWithParam<std::pair<std::string, std::string>> {};

TEST_P(PaddedSteps, GiveTheSameBits) {
  const auto [name, device] = GetParam();
  const LoadedModel model = LoadedModel::Open(std::string(MXMLA_FIXTURES) + "/" + name, {device, 2});
  const auto run = [&](std::vector<int64_t> buckets) {
    ModelOptions options;
    options.max_sequences = 5;
    options.max_context = 40;
    options.max_batch_tokens = 64;
    options.max_logit_rows = 8;
    options.row_buckets = std::move(buckets);
    Session session(model, options);
    std::vector<float> all;
    std::vector<int> sequences;
    std::mt19937 random(5);
    for (int i = 0; i < 3; ++i) sequences.push_back(session.Add());
    const auto step = [&](const std::vector<std::vector<int32_t>>& tokens, bool absorbed) {
      std::vector<StepInput> inputs;
      for (size_t i = 0; i < tokens.size(); ++i) {
        inputs.push_back(
            {sequences[i], tokens[i], {static_cast<int32_t>(tokens[i].size()) - 1}, absorbed && i % 2 == 0});
      }
      const View<const float, 2> logits = session.Step(inputs);
      all.insert(all.end(), logits.data, logits.data + logits.size());
    };
    const auto some = [&](size_t count) {
      std::vector<int32_t> tokens(count);
      for (int32_t& token : tokens)
        token = static_cast<int32_t>(random() % static_cast<uint32_t>(model.config.vocab_size));
      return tokens;
    };
    step({some(5), some(11), some(18)}, true);
    step({some(1), some(1), some(1)}, false);
    step({some(1), some(3), some(1)}, false);
    return all;
  };
  const std::vector<float> exact = run({});
  ASSERT_FALSE(exact.empty());
  const std::vector<float> padded = run({8, 24, 64});
  ASSERT_EQ(exact.size(), padded.size());
  EXPECT_EQ(std::memcmp(exact.data(), padded.data(), exact.size() * sizeof(float)), 0);
}

INSTANTIATE_TEST_SUITE_P(Models, PaddedSteps,
                         testing::Values(std::pair{"v3-mxfp4", "ref"}, std::pair{"v3-mxfp4", "cpu"},
                                         std::pair{"v2-bf16", "ref"}, std::pair{"v2-bf16", "cpu"},
                                         std::pair{"kimi-yarn", "cpu"}, std::pair{"axk1", "cpu"},
                                         std::pair{"minicpm3", "cpu"}, std::pair{"mistral-large3", "ref"},
                                         std::pair{"mistral-large3", "cpu"}),
                         [](const auto& test) {
                           std::string name = test.param.first + "_" + test.param.second;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace mxmla
