#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "mxmla/mxmla.h"

namespace mxmla {
namespace {

std::string Fixture(const std::string& name) { return std::string(MXMLA_FIXTURES) + "/" + name; }

TEST(Api, GreedyGenerationFollowsTheLogits) {
  const Model model(Fixture("v3-mxfp4"));
  std::vector<int32_t> tokens = {1, 5, 9, 2};
  GenerateOptions options;
  options.max_tokens = 1;
  options.stop_at_eos = false;
  const std::vector<float> logits = model.Logits(tokens);
  ASSERT_EQ(static_cast<int64_t>(logits.size()), 4 * model.vocab_size());
  const auto last = logits.end() - model.vocab_size();
  const auto best = static_cast<int32_t>(std::max_element(last, logits.end()) - last);
  const Generation generation = model.Generate(tokens, options);
  EXPECT_EQ(generation.tokens, std::vector<int32_t>{best});
  EXPECT_EQ(generation.reason, EndReason::kLength);
}

TEST(Api, PenaltiesKeepTokensFromComingAgain) {
  const Model model(Fixture("v3-mxfp4"));
  const std::vector<int32_t> prompt = {1, 5, 9, 2};
  GenerateOptions options;
  options.max_tokens = 24;
  options.stop_at_eos = false;
  options.presence_penalty = 1000;
  const std::vector<int32_t> tokens = model.Generate(prompt, options).tokens;
  EXPECT_EQ(std::set(tokens.begin(), tokens.end()).size(), 24u);
}

TEST(Api, FailuresCarryTheExitStatus) {
  try {
    const Model model(Fixture("no-such-model"));
    FAIL();
  } catch (const Exception& error) {
    EXPECT_EQ(error.status(), 3);
    EXPECT_NE(std::string(error.what()).find("no-such-model"), std::string::npos);
  }
  EXPECT_THROW(Model(Fixture("v3-mxfp4"), {.v_layout = "sideways"}), Exception);
  EXPECT_THROW(Model(Fixture("v3-mxfp4")).Encode("no tokenizer here"), Exception);
}

TEST(Api, WhatACallbackThrowsArrivesAsAnException) {
  const Model model(Fixture("v3-mxfp4"));
  GenerateOptions options;
  options.on_token = [](int32_t) -> bool { throw 7; };
  EXPECT_THROW(model.Generate(std::vector<int32_t>{1, 5}, options), Exception);
  options.on_token = [](int32_t) -> bool { throw std::runtime_error("full"); };
  EXPECT_THROW(model.Generate(std::vector<int32_t>{1, 5}, options), Exception);
}

TEST(Api, StopStringsEndAGeneration) {
  const Model model(MXMLA_TINY_GSM);
  const std::vector<int32_t> prompt =
      model.Encode("Tom has 5 apples. He buys 7 more. How many apples does Tom have now?");
  const std::string whole = model.Decode(model.Generate(prompt).tokens);
  GenerateOptions options;
  options.stop_strings = {"###"};
  const Generation generation = model.Generate(prompt, options);
  EXPECT_EQ(generation.reason, EndReason::kStop);
  const std::string cut = model.Decode(generation.tokens);
  EXPECT_TRUE(whole.starts_with(cut));
  EXPECT_LT(cut.size(), whole.size());
  EXPECT_NE(cut.find("###"), std::string::npos);
}

TEST(Api, TextGoesThroughTheEmbeddedModel) {
  const Model model(MXMLA_TINY_GSM);
  const std::vector<int32_t> ids = model
                                       .Generate(model.Encode("Question: Tom has 5 apples. He buys 7 more. How many "
                                                              "apples does Tom have now?\nAnswer:"))
                                       .tokens;
  EXPECT_NE(model.Decode(ids).find("#### 12"), std::string::npos) << model.Decode(ids);
}

TEST(Api, TextMatchesWhatIsAskedFor) {
  const Model model(MXMLA_TINY_GSM);
  GenerateOptions options;
  options.max_tokens = 20;
  options.regex = "#### [0-9]{1,3}";
  const std::vector<int32_t> prompt = model.Encode("Tom has 5 apples. He buys 7 more.");
  try {
    const Generation generation = model.Generate(prompt, options);
    const std::string text = model.Decode(generation.tokens);
    EXPECT_EQ(generation.reason, EndReason::kStop);
    EXPECT_EQ(text.substr(0, 5), "#### ");
    EXPECT_EQ(text.find_first_not_of("0123456789", 5), std::string::npos) << text;
    EXPECT_GE(text.size(), 6u);
  } catch (const Exception& error) {
    if (std::string(error.what()).find("xgrammar") == std::string::npos) throw;
    GTEST_SKIP() << error.what();
  }
  options.choices = {"yes"};
  EXPECT_THROW(model.Generate(prompt, options), Exception);
}

}  // namespace
}  // namespace mxmla
