// What a body's fields mean, and which are refused.
#include "serve/request_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "core/error.h"
#include "core/json_file.h"
#include "serve/api_error.h"

namespace mxmla::serve {
namespace {

GenerationFields Read(const std::string& text, const SuggestedSampling& suggested = {}) {
  return ReadGenerationFields(Json::parse(text), suggested, 100);
}

TEST(RequestFields, DefaultsAreOpenAisOrTheModels) {
  const GenerationFields plain = Read("{}");
  EXPECT_EQ(plain.request.sampling.temperature, 1);
  EXPECT_EQ(plain.request.sampling.top_p, 1);
  EXPECT_EQ(plain.n, 1);
  EXPECT_FALSE(plain.stream || plain.max_tokens || plain.ignore_eos);
  SuggestedSampling suggested;
  suggested.temperature = 0.6f;
  suggested.top_p = 0.95f;
  const GenerationFields with = Read(R"({"top_p": 0.5})", suggested);
  EXPECT_EQ(with.request.sampling.temperature, 0.6f);
  EXPECT_EQ(with.request.sampling.top_p, 0.5f);
}

TEST(RequestFields, AreRead) {
  const GenerationFields fields = Read(R"({"temperature": 0.5, "top_k": -1, "min_p": 0.1, "repetition_penalty": 1.2,
      "presence_penalty": -1, "frequency_penalty": 2, "logit_bias": {"7": -5, "8": 2.5}, "seed": 9, "stop": ["a", "b"],
      "stop_token_ids": [3], "max_completion_tokens": 5, "max_tokens": 6, "n": 2, "stream": true,
      "stream_options": {"include_usage": true}, "ignore_eos": true, "user": "x", "tools": [], "top_p": null})");
  const SamplingOptions& sampling = fields.request.sampling;
  EXPECT_EQ(sampling.temperature, 0.5f);
  EXPECT_EQ(sampling.top_k, 0);
  EXPECT_EQ(sampling.min_p, 0.1f);
  EXPECT_EQ(sampling.repetition_penalty, 1.2f);
  EXPECT_EQ(sampling.presence_penalty, -1);
  EXPECT_EQ(sampling.frequency_penalty, 2);
  ASSERT_EQ(fields.request.logit_bias.size(), 2u);
  EXPECT_EQ(fields.request.logit_bias[0].token, 7);
  EXPECT_EQ(fields.request.logit_bias[1].value, 2.5f);
  EXPECT_EQ(fields.request.seed, 9u);
  EXPECT_THAT(fields.stop_strings, testing::ElementsAre("a", "b"));
  EXPECT_THAT(fields.request.stop_tokens, testing::ElementsAre(3));
  EXPECT_EQ(fields.max_tokens, 5);
  EXPECT_EQ(fields.n, 2);
  EXPECT_TRUE(fields.stream && fields.include_usage && fields.ignore_eos);
}

TEST(RequestFields, OfOtherTypesAreRefusedByName) {
  const std::vector<std::string> names = {
      "temperature", "top_p",          "top_k", "min_p",          "repetition_penalty",    "presence_penalty",
      "logit_bias",  "seed",           "stop",  "stop_token_ids", "max_completion_tokens", "max_tokens",
      "stream",      "stream_options", "n",     "ignore_eos",     "frequency_penalty",     "skip_special_tokens"};
  for (const std::string& name : names) {
    int refused = 0;
    for (const char* value : {"\"x\"", "[[]]", "{\"a\": []}", "1e300", "-1e300", "true", "18446744073709551615"}) {
      try {
        Read("{\"" + name + "\": " + value + "}");
      } catch (const ApiError& error) {
        ++refused;
        EXPECT_EQ(error.param, name);
        EXPECT_EQ(error.status, 400);
        EXPECT_NE(error.message.find(name), std::string::npos);
      }
    }
    EXPECT_GE(refused, 4) << name;
  }
}

TEST(RequestFields, ThatChangeTheAnswerAndAreNotCarriedOutAreRefused) {
  for (const char* body :
       {R"({"functions": [{}]})", R"({"response_format": {"type": "json_schema"}})", R"({"response_format": "text"})",
        R"({"best_of": 3})", R"({"guided_json": 3})", R"({"regex": "a", "ebnf": "b"})",
        R"({"regex": "a", "ignore_eos": true})", R"({"modalities": ["audio"]})"}) {
    EXPECT_THROW(Read(body), ApiError) << body;
  }
  EXPECT_NO_THROW(Read(R"({"response_format": {"type": "text"}, "best_of": 1, "regex": null})"));
}

TEST(RequestFields, OfOtherServersAreRefusedUnlessTheyAskForNothing) {
  const auto refused = [](const std::string& body) {
    try {
      Read(body);
    } catch (const ApiError& error) {
      return error.param;
    }
    return std::string();
  };
  for (const char* name : {"typical_p", "length_penalty", "tfs_z", "repeat_penalty", "num_beams"}) {
    EXPECT_EQ(refused("{\"" + std::string(name) + "\": 0.5}"), name);
    EXPECT_EQ(refused("{\"" + std::string(name) + "\": 1}"), "") << name;
    EXPECT_EQ(refused("{\"" + std::string(name) + "\": 1.0}"), "") << name;
  }
  for (const char* name : {"min_tokens", "mirostat", "dry_multiplier", "xtc_probability", "top_a", "n_probs"}) {
    EXPECT_EQ(refused("{\"" + std::string(name) + "\": 2}"), name);
    EXPECT_EQ(refused("{\"" + std::string(name) + "\": 0}"), "") << name;
  }
  for (const char* name : {"functions", "chat_template", "documents", "allowed_token_ids", "max_new_tokens", "lora"}) {
    EXPECT_EQ(refused("{\"" + std::string(name) + "\": [7]}"), name);
    EXPECT_EQ(refused("{\"" + std::string(name) + "\": null}"), "") << name;
    EXPECT_EQ(refused("{\"" + std::string(name) + "\": []}"), "") << name;
  }
  for (const char* name : {"include_reasoning", "separate_reasoning"}) {
    EXPECT_EQ(refused("{\"" + std::string(name) + "\": false}"), name);
    EXPECT_EQ(refused("{\"" + std::string(name) + "\": true}"), "") << name;
  }
  EXPECT_EQ(refused(R"({"suffix": ""})"), "");
  EXPECT_EQ(refused(R"({"suffix": "x"})"), "suffix");
}

TEST(OrderedJson, KeepsOrderAndIsBounded) {
  const auto parse = [](const std::string& text) { return ParseOrderedJsonObject(text, "body", ErrorCode::kData); };
  EXPECT_EQ(parse(R"({"b": 1, "a": {"z": 1, "y": 2}})").dump(), R"({"b":1,"a":{"z":1,"y":2}})");
  const auto keys = [](int count) {
    std::string text = "{";
    for (int i = 0; i < count; ++i) text += "\"k" + std::to_string(i) + "\":{},";
    text.back() = '}';
    return text;
  };
  EXPECT_EQ(parse(keys(4096)).size(), 4096u);
  EXPECT_THROW(parse(keys(4097)), Error);
  EXPECT_THROW(parse("{\"a\": " + keys(4097) + "}"), Error);
  EXPECT_NO_THROW(parse("{\"a\": " + keys(3000) + ", \"b\": " + keys(3000) + "}"));
  EXPECT_THROW(parse("[]"), Error);
  EXPECT_THROW(parse("{\"a\": " + std::string(70, '[') + std::string(70, ']') + "}"), Error);
}

}  // namespace
}  // namespace mxmla::serve
