#include "grammar/tool_grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "vocabulary.h"

namespace mxmla {
namespace {

using Json = nlohmann::ordered_json;

// The embedded model's tokenizer with the markers of all formats added, the first of them special.
class ToolGrammarTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("mxmla_tool_grammar." + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
    std::filesystem::copy(std::string(MXMLA_TINY_GSM) + "/tokenizer_config.json", folder_,
                          std::filesystem::copy_options::overwrite_existing);
    Json json = Json::parse(std::ifstream(std::string(MXMLA_TINY_GSM) + "/tokenizer.json"));
    int32_t id = 1536;
    for (const char* marker :
         {"<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>", "<|tool_call_end|>",
          "<|tool_call_argument_begin|>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>",
          "<｜tool▁call▁end｜>", "<｜tool▁sep｜>", "｜DSML｜", "<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>",
          "<arg_value>", "</arg_value>", "[TOOL_CALLS]", "[ARGS]"}) {
      json["added_tokens"].push_back({{"id", id},
                                      {"content", marker},
                                      {"single_word", false},
                                      {"lstrip", false},
                                      {"rstrip", false},
                                      {"normalized", false},
                                      {"special", id < 1541}});
      ++id;
    }
    std::ofstream(folder_ / "tokenizer.json") << json;
    tokenizer_ = Tokenizer::Load(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  ToolGrammar Calls(const std::string& format) const {
    ToolGrammar calls;
    calls.format = format;
    calls.tools = {{"get_weather", Json::parse(R"({"type": "object", "properties": {"city": {"type": "string"},
                                    "days": {"type": "integer", "minimum": 1, "maximum": 9},
                                    "unit": {"type": "string", "enum": ["C", "F"]}}, "required": ["city", "days"]})")},
                   {"now", Json::parse(R"({"type": "object", "properties": {}})")}};
    return calls;
  }

  bool AcceptsCalls(const ToolGrammar& calls, const std::string& text, bool spelled = false) const {
    const int32_t end = *tokenizer_->eos_id();
    const GrammarCompiler compiler(*tokenizer_, tokenizer_->vocab_size(), std::span(&end, 1));
    GrammarConstraint constraint(compiler.Compile(ToolCallGrammar(calls, *tokenizer_)));
    std::vector<int32_t> generated;
    std::vector<int32_t> tokens = spelled ? tokenizer_->EncodeOrdinary(text) : tokenizer_->Encode(text, false);
    tokens.push_back(end);
    for (const int32_t token : tokens) {
      std::vector<uint32_t> words(static_cast<size_t>((tokenizer_->vocab_size() + 31) / 32), ~0u);
      constraint(generated, words);
      if ((words[static_cast<size_t>(token / 32)] >> (token % 32) & 1) == 0) return false;
      generated.push_back(token);
    }
    return true;
  }

  std::filesystem::path folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

struct Sample {
  const char* format;
  std::string good, two, bad;
};

std::vector<Sample> Samples() {
  const std::string arguments = R"({"city": "Rome", "days": 3})", wrong = R"({"city": "Rome", "days": 30})";
  const auto v3 = [](const std::string& a) {
    return "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n" + a + "\n```<｜tool▁call▁end｜>";
  };
  const auto v31 = [](const std::string& a) {
    return "<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>" + a + "<｜tool▁call▁end｜>";
  };
  const std::string begin = "<｜tool▁calls▁begin｜>", end = "<｜tool▁calls▁end｜>";
  const auto kimi = [](const std::string& a) {
    return "<|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>" + a + "<|tool_call_end|>";
  };
  const std::string kimi_begin = "<|tool_calls_section_begin|>", kimi_end = "<|tool_calls_section_end|>";
  const auto glm = [](const std::string& days) {
    return "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Rome</arg_value><arg_key>days</"
           "arg_key><arg_value>" +
           days + "</arg_value></tool_call>";
  };
  const auto mistral = [](const std::string& a) { return "[TOOL_CALLS]get_weather[ARGS]" + a; };
  const auto v32 = [](const std::string& days) {
    return "<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" "
           "string=\"true\">Rome</｜DSML｜parameter>\n"
           "<｜DSML｜parameter name=\"days\" string=\"false\">" +
           days + "</｜DSML｜parameter>\n</｜DSML｜invoke>\n";
  };
  const std::string v32_begin = "<｜DSML｜function_calls>\n", v32_end = "</｜DSML｜function_calls>";
  return {{"deepseek_v3", begin + v3(arguments) + end, begin + v3(arguments) + "\n" + v3(arguments) + end,
           begin + v3(wrong) + end},
          {"deepseek_v31", begin + v31(arguments) + end, begin + v31(arguments) + v31(arguments) + end,
           begin + v31(wrong) + end},
          {"kimi_k2", kimi_begin + kimi(arguments) + kimi_end,
           kimi_begin + kimi(arguments) + kimi(arguments) + kimi_end, kimi_begin + kimi(wrong) + kimi_end},
          {"glm47", glm("3"), glm("3") + glm("4"), glm("\"3\"")},
          {"mistral", mistral(arguments), mistral(arguments) + mistral(arguments), mistral(wrong)},
          {"deepseek_v32", v32_begin + v32("3") + v32_end, v32_begin + v32("3") + v32("4") + v32_end,
           v32_begin + v32("0") + v32_end}};
}

TEST_F(ToolGrammarTest, CallsHaveTheFormAndTheSchema) {
  for (const Sample& sample : Samples()) {
    SCOPED_TRACE(sample.format);
    ToolGrammar calls = Calls(sample.format);
    EXPECT_TRUE(AcceptsCalls(calls, sample.good));
    EXPECT_TRUE(AcceptsCalls(calls, sample.two));
    EXPECT_FALSE(AcceptsCalls(calls, sample.bad));
    EXPECT_FALSE(AcceptsCalls(calls, "Let me see. " + sample.good));
    EXPECT_FALSE(AcceptsCalls(calls, ""));
    EXPECT_FALSE(AcceptsCalls(calls, sample.good, true)) << "markers are tokens, not their letters";
    calls.one_call = true;
    EXPECT_TRUE(AcceptsCalls(calls, sample.good));
    EXPECT_FALSE(AcceptsCalls(calls, sample.two));
  }
}

TEST_F(ToolGrammarTest, AmongTextCallsHaveTheSchema) {
  for (const Sample& sample : Samples()) {
    SCOPED_TRACE(sample.format);
    ToolGrammar calls = Calls(sample.format);
    calls.required = false;
    EXPECT_TRUE(AcceptsCalls(calls, "No call at all."));
    EXPECT_TRUE(AcceptsCalls(calls, "Let me see. " + sample.good));
    EXPECT_TRUE(AcceptsCalls(calls, sample.good));
    EXPECT_FALSE(AcceptsCalls(calls, "Let me see. " + sample.bad));
  }
}

TEST_F(ToolGrammarTest, WithoutStrictAnyArgumentsWillDo) {
  for (const Sample& sample : Samples()) {
    SCOPED_TRACE(sample.format);
    ToolGrammar calls = Calls(sample.format);
    for (ToolGrammar::Tool& tool : calls.tools) tool.strict = false;
    EXPECT_TRUE(AcceptsCalls(calls, sample.good));
    EXPECT_TRUE(AcceptsCalls(calls, sample.bad));
  }
}

TEST_F(ToolGrammarTest, RefusesWhatItDoesNotKnow) {
  EXPECT_THROW(ToolCallGrammar(Calls("other"), *tokenizer_), Error);
  ToolGrammar none;
  none.format = "glm47";
  EXPECT_THROW(ToolCallGrammar(none, *tokenizer_), Error);
}

}  // namespace
}  // namespace mxmla
