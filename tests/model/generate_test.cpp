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
  const GenerateRequest request = Requests()[4];
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  constexpr int64_t kStep = 7;
  ASSERT_GT(prompt, 3 * kStep);
  Scheduler scheduler(model, Options(1, kStep));
  GenerateResult result;
  scheduler.Submit(request, [&](RequestId, const GenerateResult& done) { result = done; });
  // Each piece is as long as a step allows, and only the last gives a token.
  for (int64_t begin = 0; begin < prompt; begin += kStep) {
    const TickStats tick = scheduler.Tick();
    EXPECT_EQ(tick.prompt_tokens, std::min(kStep, prompt - begin));
    EXPECT_EQ(tick.new_tokens, begin + kStep >= prompt ? 1 : 0);
  }
  while (!scheduler.idle()) EXPECT_EQ(scheduler.Tick().prompt_tokens, 0);
  // Greedy tokens are the largest of the logits that a session gives with the same pieces.
  Session session(model, Options(1, kStep));
  const int sequence = session.Add();
  std::vector<int32_t> tokens = request.prompt;
  for (size_t begin = 0; result.tokens.size() > tokens.size() - request.prompt.size();) {
    const size_t rows = std::min<size_t>(kStep, tokens.size() - begin);
    StepInput input{sequence, std::span(tokens).subspan(begin, rows), {}, false};
    begin += rows;
    if (begin < tokens.size()) {
      session.Step({&input, 1});
      continue;
    }
    input.logit_rows.push_back(static_cast<int32_t>(rows - 1));
    const View<const float, 2> logits = session.Step({&input, 1});
    tokens.push_back(static_cast<int32_t>(std::max_element(logits.data, logits.data + logits.shape[1]) - logits.data));
  }
  EXPECT_THAT(result.tokens, ElementsAreArray(std::span(tokens).subspan(request.prompt.size())));
}

TEST(Generate, CancellingEndsEveryRequestWithWhatItHas) {
  const LoadedModel model = Load();
  const std::vector<GenerateRequest> requests = Requests();
  Scheduler scheduler(model, Options(2, 64));  // some of the five wait
  const std::vector<GenerateResult> whole = Generate(scheduler, requests);
  int steps = 0;
  const std::vector<GenerateResult> results = Generate(scheduler, requests, nullptr, {}, [&] { return ++steps > 3; });
  EXPECT_TRUE(scheduler.idle());
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(results[i].reason, FinishReason::kCancelled) << i;
    EXPECT_EQ(results[i].tokens.size(), i < 2 ? 3u : 0u) << i;
    EXPECT_TRUE(std::equal(results[i].tokens.begin(), results[i].tokens.end(), whole[i].tokens.begin())) << i;
  }
}

// tiny-gsm and its tokenizer: the fixtures have no text.
class TextGeneration : public testing::Test {
 protected:
  TextGeneration() {
    request_.prompt =
        tokenizer_->Encode("Tom has 3 apples. He buys 4 more apples. How many apples does Tom have now?", true);
    request_.max_tokens = 100;
    request_.tokenizer = tokenizer_.get();
    request_.stop_tokens = {static_cast<int32_t>(model_.config.eos_token_ids.at(0))};
    request_.on_text = [this](std::string_view piece) {
      EXPECT_FALSE(piece.empty());
      streamed_ += piece;
      return true;
    };
  }

  GenerateResult Run() {
    streamed_.clear();
    ModelOptions options = Options(1, 64);
    options.max_context = 256;
    Scheduler scheduler(model_, options);
    GenerateResult result = Generate(scheduler, {&request_, 1})[0];
    EXPECT_EQ(streamed_, request_.on_text ? result.text : "");
    return result;
  }

  LoadedModel model_ = LoadedModel::Open(MXMLA_TINY_GSM, {"cpu", 2});
  std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::Load(MXMLA_TINY_GSM);
  GenerateRequest request_;
  std::string streamed_;
};

TEST_F(TextGeneration, TextIsThatOfTheTokens) {
  const GenerateResult result = Run();
  EXPECT_EQ(result.text, tokenizer_->Decode(result.tokens));
  EXPECT_NE(result.text.find("#### 7"), std::string::npos);
  EXPECT_EQ(result.reason, FinishReason::kStop);
  EXPECT_EQ(result.stop_token, request_.stop_tokens[0]);
  EXPECT_EQ(result.stop_string, -1);
}

TEST_F(TextGeneration, EndsBeforeAStopStringWhereverItBegins) {
  const std::string whole = Run().text;
  for (size_t begin = 0; begin + 5 <= whole.size(); ++begin) {
    const std::string stop = whole.substr(begin, 5);
    request_.stop_strings = {"never said", stop};
    const GenerateResult result = Run();
    EXPECT_EQ(result.text, whole.substr(0, whole.find(stop))) << stop;
    EXPECT_EQ(result.reason, FinishReason::kStop);
    EXPECT_EQ(result.stop_string, 1);
    EXPECT_EQ(result.stop_token, -1);
  }
}

TEST_F(TextGeneration, WhatIsHeldBackComesWhenNothingFollows) {
  const std::string whole = Run().text;
  // Its beginning is the end of the text, or of what a limit or a callback leaves of it.
  request_.stop_strings = {whole.substr(whole.size() - 3) + "?"};
  EXPECT_EQ(Run().text, whole);
  request_.max_tokens = 4;
  const GenerateResult four = Run();
  request_.stop_strings = {four.text.substr(1) + "?"};
  EXPECT_EQ(Run().text, four.text);
  EXPECT_EQ(four.reason, FinishReason::kLength);
  request_.max_tokens = 100;
  request_.on_token = [count = 0](int32_t) mutable { return ++count < 4; };
  const GenerateResult ended = Run();
  EXPECT_EQ(ended.text, four.text);
  EXPECT_EQ(ended.reason, FinishReason::kStop);
  EXPECT_EQ(ended.stop_string, -1);
}

TEST_F(TextGeneration, ATextCallbackCanEndARequestAndFailIt) {
  request_.on_text = [this](std::string_view piece) { return (streamed_ += piece).size() < 10; };
  const GenerateResult ended = Run();
  EXPECT_EQ(ended.reason, FinishReason::kStop);
  EXPECT_LT(ended.tokens.size(), 10u);
  request_.on_text = [](std::string_view) -> bool { throw std::runtime_error("reader went away"); };
  EXPECT_THROW(Run(), std::runtime_error);
  // All of the text is held back, so that only the end hands it out.
  request_.on_text = {};
  const std::string whole = Run().text;
  request_.stop_strings = {whole + "?"};
  request_.on_text = [](std::string_view) -> bool { throw std::runtime_error("reader went away"); };
  EXPECT_THROW(Run(), std::runtime_error);
}

TEST_F(TextGeneration, StopStringsNeedATokenizerAndText) {
  request_.stop_strings = {""};
  EXPECT_THROW(Run(), Error);
  request_.stop_strings = {"fine"};
  request_.tokenizer = nullptr;
  EXPECT_THROW(Run(), Error);
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
