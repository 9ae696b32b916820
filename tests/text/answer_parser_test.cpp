// Answers as their parts: calls that models' own templates wrote, hand-made and random ones, cut at every place.
#include "text/output/answer_parser.h"

#include <gtest/gtest.h>

#include <random>

#include "core/json_file.h"
#include "fixture.h"
#include "marker_tokenizer.h"
#include "streamed_parts.h"
#include "text/output/template_forms.h"

namespace mxmla {
namespace {

using Kind = AnswerPart::Kind;

std::string Show(const std::vector<AnswerPart>& parts) {
  std::string shown;
  for (const AnswerPart& part : parts) {
    if (part.kind == Kind::kToolCall) {
      shown += "[call " + part.call.id + " " + part.call.name + " " + part.call.arguments + "]";
    } else {
      shown += (part.kind == Kind::kReasoning ? "[thought " : "[text ") + part.text + "]";
    }
  }
  return shown;
}

class AnswerParserTest : public testing::Test {
 protected:
  AnswerFormat Format(const std::string& tools, const std::string& reasoning = "think") const {
    return FormatOf(*tokenizer_, tools, reasoning);
  }
  static AnswerFormat FormatOf(const Tokenizer& tokenizer, const std::string& tools, const std::string& reasoning) {
    static const ChatTemplate chat = ChatTemplate::FromText("x", "template");
    return {FindReasoningFormat(reasoning, tokenizer, chat), FindToolFormat(tools, tokenizer, {})};
  }
  static AnswerParserOptions Options() {
    AnswerParserOptions options;
    options.reads_reasoning = options.reads_tools = true;
    return options;
  }
  static std::vector<AnswerPart> Parse(const Tokenizer& tokenizer, const AnswerFormat& format,
                                       const std::vector<int32_t>& tokens, const AnswerParserOptions& options,
                                       bool is_whole = true) {
    AnswerParser parser(tokenizer, format, options);
    std::vector<AnswerPart> parts;
    for (const int32_t token : tokens) {
      for (AnswerPart& part : parser.Push(token)) JoinPart(std::move(part), &parts);
      if (parser.is_done()) break;
    }
    for (AnswerPart& part : parser.Flush(is_whole)) JoinPart(std::move(part), &parts);
    return parts;
  }
  std::string ParseText(const std::string& tools, const std::string& text, bool is_whole = true) const {
    return Show(Parse(*tokenizer_, Format(tools), tokenizer_->Encode(text, false), Options(), is_whole));
  }
  MarkedText Units(const std::vector<int32_t>& tokens, const AnswerFormat& format) const {
    std::vector<int32_t> markers;
    if (format.reasoning) markers = format.reasoning->marker_tokens;
    if (format.tools) {
      markers.insert(markers.end(), format.tools->marker_tokens.begin(), format.tools->marker_tokens.end());
    }
    OutputDecoder decoder(*tokenizer_, markers, {}, true);
    MarkedText units;
    for (const int32_t token : tokens) units += decoder.Push(token);
    return units + decoder.Flush();
  }

  // The parts of the units pushed in pieces that end at `cuts`.
  static std::string Split(const AnswerFormat& format, MarkedView units, std::vector<size_t> cuts, bool is_whole) {
    AnswerSplitter splitter(format, Options());
    std::vector<AnswerPart> streamed, parts;
    const auto take = [&](std::vector<AnswerPart> more) {
      for (AnswerPart& part : more) {
        streamed.push_back(part);
        JoinPart(std::move(part), &parts);
      }
    };
    cuts.push_back(units.size());
    size_t begin = 0;
    for (const size_t cut : cuts) {
      std::vector<AnswerPart> more;
      splitter.Push(units.substr(begin, cut - begin), &more);
      take(std::move(more));
      begin = cut;
    }
    std::vector<AnswerPart> more;
    splitter.Flush(is_whole, &more);
    take(std::move(more));
    EXPECT_EQ(StreamFault(streamed), "") << BytesOf(units);
    return Show(parts);
  }
  static void ExpectSameAtEverySplit(const AnswerFormat& format, const MarkedText& units) {
    for (const bool is_whole : {true, false}) {
      const std::string whole = Split(format, units, {}, is_whole);
      std::vector<size_t> all;
      for (size_t cut = 0; cut <= units.size(); ++cut) {
        EXPECT_EQ(Split(format, units, {cut}, is_whole), whole) << BytesOf(units) << "\ncut at " << cut;
        all.push_back(cut);
      }
      EXPECT_EQ(Split(format, units, all, is_whole), whole) << BytesOf(units);
    }
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = MakeMarkerTokenizer();
};

const nlohmann::ordered_json& ReadTurns() {
  static const nlohmann::ordered_json turns = ParseOrderedJsonObject(
      ReadTextFile(FixturePath("tool_calls.json"), ErrorCode::kData), "fixture", ErrorCode::kData);
  return turns;
}

// Whatever a template wrote is read back as what it was made of.
TEST_F(AnswerParserTest, ReadsWhatTemplatesWrite) {
  const auto fixture = ReadTurns();
  AnswerParserOptions options = Options();
  for (const auto& [name, schema] : fixture["schemas"].items()) options.schemas[name] = schema;
  for (const auto& c : fixture["cases"]) {
    const auto turn = c["turn"].get<std::string>();
    SCOPED_TRACE(c["template"].get<std::string>() + ": " + turn);
    const AnswerFormat format = Format(c["format"].get<std::string>());
    const auto parts = Parse(*tokenizer_, format, tokenizer_->Encode(turn, false), options);
    std::string reasoning, text;
    std::vector<ToolCall> calls;
    for (const AnswerPart& part : parts) {
      if (part.kind == Kind::kReasoning) reasoning += part.text;
      if (part.kind == Kind::kText) text += part.text;
      if (part.kind == Kind::kToolCall) calls.push_back(part.call);
    }
    EXPECT_EQ(reasoning, c["reasoning"].is_null() ? "" : c["reasoning"].get<std::string>());
    EXPECT_EQ(text, c["content"].is_null() ? "" : c["content"].get<std::string>());
    ASSERT_EQ(calls.size(), c["arguments"].size());
    for (size_t i = 0; i < calls.size(); ++i) {
      EXPECT_EQ(calls[i].name, "lookup");
      EXPECT_EQ(nlohmann::ordered_json::parse(calls[i].arguments), c["arguments"][i]);
      if (c["format"] == "kimi_k2") {
        EXPECT_EQ(calls[i].id, "functions.lookup:" + std::to_string(i));
      }
    }
    ExpectSameAtEverySplit(format, Units(tokenizer_->Encode(turn, false), format));
  }
}

TEST_F(AnswerParserTest, MalformedCallsAreText) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"deepseek_v3", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": \n```<｜tool▁call▁end｜>"},
      {"deepseek_v3", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n[1]\n```<｜tool▁call▁end｜>"},
      {"deepseek_v3", "<｜tool▁call▁begin｜>function f {}<｜tool▁call▁end｜>"},
      {"deepseek_v31", "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{'a': 1}<｜tool▁call▁end｜>"},
      {"deepseek_v31", "<｜tool▁call▁begin｜>two words<｜tool▁sep｜>{}<｜tool▁call▁end｜>"},
      {"deepseek_v31", "<｜tool▁call▁begin｜><｜tool▁sep｜>{}<｜tool▁call▁end｜>"},
      {"kimi_k2", "<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{\"a\": 1}}<|tool_call_end|>"},
      {"kimi_k2", "<|tool_call_begin|>functions.f:0{}<|tool_call_end|>"},
      {"glm47", "<tool_call>f<arg_key>a</arg_key></tool_call>"},
      {"glm47", "<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value>x</tool_call>"},
      {"glm47",
       "<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value><arg_key>a</arg_key><arg_value>2</arg_value></"
       "tool_call>"},
      {"deepseek_v32",
       "<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"a\">1</｜DSML｜parameter>\n</｜DSML｜invoke>"},
      {"deepseek_v32",
       "<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"a\" string=\"false\">x "
       "y</｜DSML｜parameter>\n</｜DSML｜invoke>"},
      {"deepseek_v32", "<｜DSML｜invoke name=\"\">\n</｜DSML｜invoke>"},
      {"mistral", "[TOOL_CALLS]f[ARGS]{\"a\": 1"},
      {"mistral", "[TOOL_CALLS][{\"name\": \"f\"}]"},
      {"mistral", "[TOOL_CALLS][1]"},
      {"mistral", "[TOOL_CALLS]f"},
  };
  for (const auto& [format, call] : cases) {
    EXPECT_EQ(ParseText(format, "a\n\n" + call + " b"), "[text a\n\n" + call + " b]") << format;
  }
}

// The name goes out with the arguments' beginning; of these, everything but what may yet belong to an end.
TEST_F(AnswerParserTest, ArgumentsComeAsTheyAreWritten) {
  const auto come = [&](const std::string& format, const std::string& written) {
    AnswerParserOptions options = Options();
    options.schemas["f"] = nlohmann::ordered_json::parse(R"({"properties": {"s": {"type": "string"}}})");
    const AnswerFormat answer = Format(format);
    AnswerParser parser(*tokenizer_, answer, options);
    std::vector<AnswerPart> parts;
    for (const int32_t token : tokenizer_->Encode(written, false)) {
      for (AnswerPart& part : parser.Push(token)) JoinPart(std::move(part), &parts);
    }
    return Show(parts);
  };
  const std::string v31 = "<｜tool▁call▁begin｜>f<｜tool▁sep｜>";
  EXPECT_EQ(come("deepseek_v31", v31), "");
  EXPECT_EQ(come("deepseek_v31", v31 + "{\"a\": [1, 2"), "[call  f {\"a\": [1, 2]");
  EXPECT_EQ(come("deepseek_v31", v31 + "{\"a\": [1, 2]}"), "[call  f {\"a\": [1, 2]]");
  EXPECT_EQ(come("deepseek_v31", v31 + "{\"a\": \"}\\\"}"), "[call  f {\"a\": \"}\\\"}]");
  EXPECT_EQ(come("deepseek_v31", v31 + "{\"a\": 1}<｜tool▁call▁end｜>"), "[call  f {\"a\": 1}]");
  EXPECT_EQ(come("deepseek_v3", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": \"x"),
            "[call  f {\"a\": \"x]");
  EXPECT_EQ(come("kimi_k2", "<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{\"a"),
            "[call functions.f:0 f {\"a]");
  EXPECT_EQ(come("mistral", "[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{\"a"), "[call abcdefghi f {\"a]");
  EXPECT_EQ(come("mistral", "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a"), "");
  const std::string glm = "<tool_call>f<arg_key>s</arg_key><arg_value>";
  EXPECT_EQ(come("glm47", "<tool_call>f<arg_key>s</arg_key>"), "");
  EXPECT_EQ(come("glm47", glm + "1 \"a\n"), "[call  f {\"s\": \"1 \\\"a\\n]");
  EXPECT_EQ(come("glm47", glm + "</arg_value><arg_key>x</arg_key><arg_value>[1,"), "[call  f {\"s\": \"\"]");
  EXPECT_EQ(come("glm47", glm + "é</arg_value><arg_key>x</arg_key><arg_value>[1]</arg_value>"),
            "[call  f {\"s\": \"é\", \"x\": [1]]");
  const std::string dsml =
      "<｜DSML｜function_calls><｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"k\" string=\"";
  EXPECT_EQ(come("deepseek_v32", dsml + "true\">one tw"), "[call  f {\"k\": \"one tw]");
  EXPECT_EQ(come("deepseek_v32", dsml + "false\">[1]"), "");
  EXPECT_EQ(come("deepseek_v32", dsml + "false\">[1]</｜DSML｜parameter>"), "[call  f {\"k\": [1]]");
}

TEST_F(AnswerParserTest, ThoughtsWithinACallBreakIt) {
  const std::string call = "<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value>";
  EXPECT_EQ(ParseText("glm47", call + "<think>hm</think>\n</tool_call>yes"),
            "[text " + call + "][thought hm][text yes]");
}

// A call cut off by max_tokens must not look like a whole one.
TEST_F(AnswerParserTest, UnfinishedCallsAreText) {
  for (const auto& c : ReadTurns()["cases"]) {
    const auto turn = c["turn"].get<std::string>();
    const std::vector<int32_t> tokens = tokenizer_->Encode(turn, false);
    const AnswerFormat format = Format(c["format"].get<std::string>());
    const size_t calls = c["arguments"].size();
    for (size_t length = 0; length < tokens.size(); ++length) {
      const auto parts = Parse(*tokenizer_, format, {tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(length)},
                               Options(), false);
      size_t found = 0;
      for (const AnswerPart& part : parts) {
        if (part.kind != Kind::kToolCall) continue;
        ++found;
        EXPECT_TRUE(nlohmann::json::parse(part.call.arguments).is_object());
        EXPECT_EQ(part.call.name, "lookup");
      }
      EXPECT_LE(found, calls);
    }
  }
}

TEST_F(AnswerParserTest, OnlyTokensAreMarkers) {
  for (const auto& c : ReadTurns()["cases"]) {
    const auto turn = c["turn"].get<std::string>();
    const AnswerFormat format = Format(c["format"].get<std::string>());
    EXPECT_EQ(Show(Parse(*tokenizer_, format, tokenizer_->EncodeOrdinary(turn), Options())), "[text " + turn + "]");
  }
  // Spelled inside of a call it is an argument.
  const std::string head = "<tool_call>f<arg_key>a</arg_key><arg_value>", spelled = "</arg_value></tool_call>";
  const std::string text = head + spelled + spelled;
  const std::vector<Span> ordinary = {{head.size(), head.size() + spelled.size()}};
  EXPECT_EQ(Show(Parse(*tokenizer_, Format("glm47"), tokenizer_->EncodeMixed(text, ordinary), Options())),
            "[call  f {\"a\": \"</arg_value></tool_call>\"}]");
}

TEST_F(AnswerParserTest, AVocabularyWithoutTheTokensSpellsThem) {
  const auto plain = MakeMarkerTokenizer(false);
  for (const auto& c : ReadTurns()["cases"]) {
    const auto turn = c["turn"].get<std::string>();
    const auto name = c["format"].get<std::string>();
    const auto parts = Parse(*plain, FormatOf(*plain, name, "think"), plain->Encode(turn, false), Options());
    size_t calls = 0;
    for (const AnswerPart& part : parts) calls += part.kind == Kind::kToolCall ? 1 : 0;
    EXPECT_EQ(calls, c["arguments"].size()) << turn;
  }
  // Behind the first word <think> is about thinking.
  const AnswerFormat format = FormatOf(*plain, "glm47", "think");
  EXPECT_EQ(Show(Parse(*plain, format, plain->Encode("Write <think> and </think> or </tool_call>.", false), Options())),
            "[text Write <think> and </think> or </tool_call>.]");
  EXPECT_EQ(Show(Parse(*plain, format, plain->Encode("\n<think>\nhm\n</think>\n\nyes", false), Options())),
            "[thought hm][text yes]");
}

TEST_F(AnswerParserTest, Thoughts) {
  const auto parse = [&](const std::string& text, bool open, bool is_whole = true) {
    AnswerParserOptions options = Options();
    options.starts_in_reasoning = open;
    return Show(Parse(*tokenizer_, Format("kimi_k2"), tokenizer_->Encode(text, false), options, is_whole));
  };
  EXPECT_EQ(parse("yes", false), "[text yes]");
  EXPECT_EQ(parse("\n yes", false), "[text \n yes]");
  EXPECT_EQ(parse(" \n", false), "[text  \n]");
  EXPECT_EQ(parse("hm</think>yes", true), "[thought hm][text yes]");
  EXPECT_EQ(parse("\nhm\n\nso\n</think>\n\nyes\n", true), "[thought hm\n\nso][text yes\n]");
  EXPECT_EQ(parse("<think>hm</think>yes", true), "[thought hm][text yes]");
  EXPECT_EQ(parse("<think>hm</think>yes", false), "[thought hm][text yes]");
  EXPECT_EQ(parse("<think></think>yes", false), "[text yes]");
  EXPECT_EQ(parse("</think>yes", false), "[text yes]");
  EXPECT_EQ(parse("never ends", true, false), "[thought never ends]");
  EXPECT_EQ(parse("a<think>b</think>c", false), "[text a][thought b][text c]");
  // A call ends a thought that forgot its end.
  EXPECT_EQ(parse("hm <|tool_calls_section_begin|><|tool_call_begin|>functions.f:3<|tool_call_argument_begin|>{}"
                  "<|tool_call_end|><|tool_calls_section_end|>",
                  true),
            "[thought hm ][call functions.f:3 f {}]");
  EXPECT_EQ(
      Show(Parse(*tokenizer_, Format("mistral", "mistral"), tokenizer_->Encode("[THINK]a[/THINK]b", false), Options())),
      "[thought a][text b]");
}

TEST_F(AnswerParserTest, LenienceAndWhiteSpace) {
  EXPECT_EQ(
      ParseText("kimi_k2", "Well. \n<|tool_call_begin|>f:1<|tool_call_argument_begin|> <|tool_call_end|>\n then \n"),
      "[text Well.][call f:1 f {}][text then \n]");
  EXPECT_EQ(ParseText("kimi_k2", "<|tool_calls_section_begin|><|tool_calls_section_end|>x"), "[text x]");
  // A missing end, and something between the calls.
  EXPECT_EQ(
      ParseText("deepseek_v31",
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁begin｜>g<｜tool▁sep｜>{}"
                "<｜tool▁call▁end｜>and<｜tool▁calls▁end｜>"),
      "[call  f {}][call  g {}][text and]");
  EXPECT_EQ(ParseText("deepseek_v3", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n{\"a\": 1}<｜tool▁call▁end｜>"),
            "[call  f {\"a\": 1}]");
  EXPECT_EQ(ParseText("mistral", "x[TOOL_CALLS]f{\"a\": 1}[TOOL_CALLS]g[ARGS]{}"),
            "[text x][call  f {\"a\": 1}][call  g {}]");
  EXPECT_EQ(ParseText("mistral",
                      "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": \"{}\"}, {\"name\": \"g\", \"arguments\": {}}]"),
            "[call  f {}][call  g {}]");
  // Without an end only the model's own end makes it whole.
  EXPECT_EQ(ParseText("mistral", "[TOOL_CALLS]f[ARGS]{}", false), "[text [TOOL_CALLS]f[ARGS]{}]");
}

TEST_F(AnswerParserTest, GlmValuesFollowTheirSchema) {
  AnswerParserOptions options = Options();
  options.schemas["f"] = nlohmann::ordered_json::parse(R"({"properties": {"s": {"type": "string"},
      "i": {"type": "integer"}, "n": {"type": ["string", "null"]}, "e": {"enum": ["1", "2"]},
      "o": {"anyOf": [{"type": "object"}, {"type": "string"}]}, "x": {}}})");
  const auto parse = [&](const std::string& key, const std::string& value) {
    const std::string text =
        "<tool_call>f<arg_key>" + key + "</arg_key><arg_value>" + value + "</arg_value></tool_call>";
    return Show(Parse(*tokenizer_, Format("glm47"), tokenizer_->Encode(text, false), options));
  };
  EXPECT_EQ(parse("s", "12"), "[call  f {\"s\": \"12\"}]");
  EXPECT_EQ(parse("s", " a\n"), "[call  f {\"s\": \" a\\n\"}]");
  EXPECT_EQ(parse("i", "12"), "[call  f {\"i\": 12}]");
  EXPECT_EQ(parse("i", "twelve"), "[call  f {\"i\": \"twelve\"}]");
  EXPECT_EQ(parse("i", "123456789012345678901234567890"), "[call  f {\"i\": 123456789012345678901234567890}]");
  EXPECT_EQ(parse("n", "null"), "[call  f {\"n\": null}]");
  EXPECT_EQ(parse("n", "1"), "[call  f {\"n\": \"1\"}]");
  EXPECT_EQ(parse("e", "1"), "[call  f {\"e\": \"1\"}]");
  EXPECT_EQ(parse("o", "{\"a\": 1}"), "[call  f {\"o\": {\"a\": 1}}]");
  EXPECT_EQ(parse("o", "{\"a\""), "[call  f {\"o\": \"{\\\"a\\\"\"}]");
  EXPECT_EQ(parse("x", "[1]"), "[call  f {\"x\": [1]}]");
  EXPECT_EQ(parse("unknown", "1, 2"), "[call  f {\"unknown\": \"1, 2\"}]");
}

TEST_F(AnswerParserTest, OneCallAndStopStrings) {
  AnswerParserOptions options = Options();
  options.only_one_call = true;
  const std::vector<int32_t> calls = tokenizer_->Encode("<tool_call>f</tool_call><tool_call>g</tool_call>more", false);
  EXPECT_EQ(Show(Parse(*tokenizer_, Format("glm47"), calls, options)), "[call  f {}]");
  options = Options();
  options.stop_strings = {"two", "ee</t"};
  AnswerParser parser(*tokenizer_, Format("glm47"), options);
  std::vector<AnswerPart> parts;
  for (const int32_t token : tokenizer_->Encode("<think>one three</think>two", false)) {
    for (AnswerPart& part : parser.Push(token)) JoinPart(std::move(part), &parts);
  }
  for (AnswerPart& part : parser.Flush(true)) JoinPart(std::move(part), &parts);
  EXPECT_EQ(Show(parts), "[thought one thr]");
  EXPECT_EQ(parser.stopped_by(), 1u);
}

TEST_F(AnswerParserTest, WithoutAFormatTokensAreTextAsEver) {
  const std::string text = "<think>a</think><tool_call>f</tool_call><|end|>";
  AnswerParserOptions options = Options();
  EXPECT_EQ(Show(Parse(*tokenizer_, {}, tokenizer_->Encode(text, false), options)),
            "[text <think>a</think><tool_call>f</tool_call>]");
  options.skip_special_tokens = false;
  EXPECT_EQ(Show(Parse(*tokenizer_, {}, tokenizer_->Encode(text, false), options)), "[text " + text + "]");
  options = Options();
  options.reads_tools = false;  // none were offered
  EXPECT_EQ(Show(Parse(*tokenizer_, Format("glm47"), tokenizer_->Encode(text, false), options)),
            "[thought a][text <tool_call>f</tool_call>]");
}

// Random rows of markers, spelled markers, JSON and characters of several bytes.
TEST_F(AnswerParserTest, RandomAnswersAreTheSameAtEverySplit) {
  std::mt19937_64 random(20261130);
  std::vector<std::string> pieces = {"a",
                                     " ",
                                     "\n",
                                     "ü",
                                     "😀",
                                     "{",
                                     "}",
                                     "{}",
                                     "\"k\": 1",
                                     "```json\n",
                                     "```",
                                     "f",
                                     "functions.f:0",
                                     "<",
                                     "</",
                                     "<｜DSML｜function_calls>",
                                     "</｜DSML｜function_calls>",
                                     "<｜DSML｜invoke name=\"f\">",
                                     "</｜DSML｜invoke>",
                                     "<｜DSML｜parameter name=\"k\" string=\"true\">",
                                     "</｜DSML｜parameter>"};
  for (const std::string& name : MarkerTokenNames()) pieces.push_back(name);
  for (const char* call : {"<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜>", "<tool_call>f</tool_call>",
                           "<|tool_call_begin|>f<|tool_call_argument_begin|>{}<|tool_call_end|>",
                           "[TOOL_CALLS]f[ARGS]{}", "<｜DSML｜invoke name=\"f\"></｜DSML｜invoke>"}) {
    pieces.emplace_back(call);
  }
  const std::vector<std::string> formats = ToolFormatNames();
  int calls = 0;
  for (int round = 0; round < 300; ++round) {
    const AnswerFormat format =
        Format(formats[static_cast<size_t>(round) % formats.size()], round % 3 ? "think" : "mistral");
    std::vector<int32_t> tokens;
    for (uint64_t n = random() % 24; n > 0; --n) {
      const std::string& piece = pieces[random() % pieces.size()];
      const auto more = random() % 8 ? tokenizer_->Encode(piece, false) : tokenizer_->EncodeOrdinary(piece);
      tokens.insert(tokens.end(), more.begin(), more.end());
    }
    const MarkedText units = Units(tokens, format);
    ExpectSameAtEverySplit(format, units);
    for (const AnswerPart& part : Parse(*tokenizer_, format, tokens, Options())) {
      if (part.kind != Kind::kToolCall) continue;
      ++calls;
      EXPECT_TRUE(nlohmann::json::parse(part.call.arguments).is_object());
    }
  }
  EXPECT_GT(calls, 10);
}

}  // namespace
}  // namespace mxmla
