#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/generate.h"
#include "engine/session.h"

namespace mxmla {
namespace {

using testing::ElementsAreArray;

LoadedModel Load() { return LoadedModel::Open(std::string(MXMLA_FIXTURES) + "/v3-bf16", {"cpu", 2}); }

ModelOptions Options(int64_t sequences, int64_t batch_tokens) {
  ModelOptions options;
  options.max_sequences = sequences;
  options.max_context = 64;
  options.max_batch_tokens = batch_tokens;
  options.max_logit_rows = sequences;
  return options;
}

std::vector<GenerateRequest> Requests() {
  std::vector<GenerateRequest> requests(5);
  for (int i = 0; i < 5; ++i) {
    for (int t = 0; t <= 6 * i; ++t) requests[i].prompt.push_back((t * 7 + i) % 71);
    requests[i].max_tokens = 4 + i;
    requests[i].seed = static_cast<uint64_t>(i);
    if (i % 2) requests[i].sampling = {0.8f, 20, 0.9f};
  }
  return requests;
}

TEST(Generate, ABatchGivesWhatEachRequestGivesAlone) {
  const LoadedModel model = Load();
  const std::vector<GenerateRequest> requests = Requests();
  Scheduler together(model, Options(3, 64));
  GenerateStats stats;
  const std::vector<GenerateResult> results = Generate(together, requests, &stats);
  int64_t new_tokens = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    Scheduler alone(model, Options(1, 64));
    EXPECT_THAT(results[i].tokens, ElementsAreArray(Generate(alone, {&requests[i], 1})[0].tokens)) << i;
    EXPECT_EQ(static_cast<int64_t>(results[i].tokens.size()), requests[i].max_tokens);
    new_tokens += requests[i].max_tokens;
  }
  EXPECT_EQ(stats.new_tokens, new_tokens);
}

TEST(Generate, AStopTokenEndsARequestAndIsNotPartOfIt) {
  const LoadedModel model = Load();
  std::vector<GenerateRequest> requests(1, Requests()[2]);
  Scheduler session(model, Options(1, 64));
  const std::vector<int32_t> free = Generate(session, requests)[0].tokens;
  ASSERT_GE(free.size(), 3u);
  requests[0].stop_tokens = {free[2]};
  const GenerateResult stopped = Generate(session, requests)[0];
  EXPECT_TRUE(stopped.stopped());
  const auto end = std::find(free.begin(), free.end(), free[2]);
  EXPECT_THAT(stopped.tokens, ElementsAreArray(std::vector<int32_t>(free.begin(), end)));
}

TEST(Generate, TheCallbackSeesEveryTokenAndCanStop) {
  const LoadedModel model = Load();
  std::vector<GenerateRequest> requests(1, Requests()[4]);
  std::vector<int32_t> seen;
  requests[0].on_token = [&](int32_t token) {
    seen.push_back(token);
    return seen.size() < 3;
  };
  Scheduler session(model, Options(1, 64));
  const GenerateResult result = Generate(session, requests)[0];
  EXPECT_EQ(seen.size(), 3u);
  EXPECT_THAT(result.tokens, ElementsAreArray(seen));
}

TEST(Generate, PromptsLongerThanAStepAreTakenInPieces) {
  const LoadedModel model = Load();
  std::vector<GenerateRequest> requests(1, Requests()[4]);
  Scheduler session(model, Options(1, 7));
  EXPECT_EQ(static_cast<int64_t>(Generate(session, requests)[0].tokens.size()), requests[0].max_tokens);
}

TEST(Session, RefusesTokensOutsideTheVocabularyAndTooLongContexts) {
  const LoadedModel model = Load();
  Session session(model, Options(1, 64));
  const int sequence = session.Add();
  const auto code_of = [&](std::vector<int32_t> tokens) {
    StepInput input{sequence, tokens, {}, false};
    try {
      session.Step({&input, 1});
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(code_of({static_cast<int32_t>(model.config.vocab_size)}), ErrorCode::kTokenRange);
  EXPECT_EQ(code_of({-1}), ErrorCode::kTokenRange);
  EXPECT_EQ(code_of(std::vector<int32_t>(65, 1)), ErrorCode::kPromptTooLong);
  StepInput twice[2] = {{sequence, std::span<const int32_t>(), {}, false},
                        {sequence, std::span<const int32_t>(), {}, false}};
  EXPECT_THROW(session.Step(twice), Error);
  session.Remove(sequence);
  EXPECT_THROW(session.Step({twice, 1}), Error);
  EXPECT_THROW(session.Remove(sequence), Error);
  ModelOptions options = Options(1, 64);
  options.max_context = model.config.max_position_embeddings + 1;
  EXPECT_THROW(Session(model, options), Error);
}

}  // namespace
}  // namespace mxmla
