#include "grammar/grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>

#include "core/error.h"
#include "vocabulary.h"

namespace mxmla {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

std::shared_ptr<const CompiledGrammar> Compile(GrammarKind kind, const std::string& text) {
  return TinyCompiler()->Compile({kind, text});
}

// A text of the grammar: tokens drawn at random, the end only where nothing else may follow or by chance.
std::string Draw(const std::shared_ptr<const CompiledGrammar>& grammar, std::mt19937& random, size_t longest) {
  GrammarConstraint constraint(grammar);
  std::vector<int32_t> generated;
  for (;;) {
    const std::vector<int32_t> allowed = Allowed(constraint, generated);
    if (allowed.empty()) ADD_FAILURE() << "nothing may follow " << TinyTokenizer().Decode(generated);
    const int32_t end = *TinyTokenizer().eos_id();
    if (Contains(allowed, end) && (allowed.size() == 1 || generated.size() > longest || random() % 4 == 0)) break;
    int32_t token = end;
    while (token == end) token = allowed[random() % allowed.size()];
    // A long string is ended by the shortest tokens, such as its quote.
    if (generated.size() > longest / 2) {
      for (const int32_t other : allowed) {
        if (other != end && TinyTokenizer().TokenBytes(other) == "\"") token = other;
      }
    }
    generated.push_back(token);
    if (generated.size() > 20 * longest) {
      ADD_FAILURE() << "no end in sight of " << TinyTokenizer().Decode(generated);
      break;
    }
  }
  return TinyTokenizer().Decode(generated);
}

constexpr const char* kPerson = R"({
  "type": "object",
  "properties": {
    "name": {"type": "string", "maxLength": 8},
    "age": {"type": "integer", "minimum": 0, "maximum": 120},
    "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3},
    "friend": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/friend"}]}
  },
  "required": ["name", "age", "tags", "friend"],
  "$defs": {"friend": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 4}},
                       "required": ["name"]}}
})";

TEST(Grammar, JsonSchemaAcceptsWhatFitsAndNothingElse) {
  const auto grammar = Compile(GrammarKind::kJsonSchema, kPerson);
  const std::string good = R"({"name": "Tom", "age": 5, "tags": ["a"], "friend": null})";
  EXPECT_TRUE(Accepts(grammar, good));
  EXPECT_TRUE(Accepts(grammar, R"({"name":"","age":120,"tags":["b","a","b"],"friend":{"name":"Sam"}})"));
  EXPECT_TRUE(Accepts(grammar, "{\n  \"name\": \"größer\",\n  \"age\": 0, \"tags\": [\"a\"], \"friend\": null\n}"));
  EXPECT_FALSE(Accepts(grammar, good.substr(0, good.size() - 1)));
  EXPECT_FALSE(Accepts(grammar, good + "x"));
  for (const char* bad : {R"({"name": "Tom", "age": 121, "tags": ["a"], "friend": null})",
                          R"({"name": "Tom", "age": -1, "tags": ["a"], "friend": null})",
                          R"({"name": "Tom", "age": 5.5, "tags": ["a"], "friend": null})",
                          R"({"name": "too long a name", "age": 5, "tags": ["a"], "friend": null})",
                          R"({"name": "Tom", "age": 5, "tags": [], "friend": null})",
                          R"({"name": "Tom", "age": 5, "tags": ["a", "a", "a", "a"], "friend": null})",
                          R"({"name": "Tom", "age": 5, "tags": ["c"], "friend": null})",
                          R"({"name": "Tom", "age": 5, "tags": ["a"], "friend": {}})",
                          R"({"name": "Tom", "age": 5, "tags": ["a"], "friend": null, "more": 1})", "[]", "null"}) {
    EXPECT_FALSE(Accepts(grammar, bad)) << bad;
  }
  // White space ends, or a model may write it for ever.
  EXPECT_TRUE(Accepts(grammar, "{\n" + std::string(16, ' ') + good.substr(1)));
  EXPECT_FALSE(Accepts(grammar, "{" + std::string(200, ' ') + good.substr(1)));
}

TEST(Grammar, StringsOfSchemasAreJson) {
  const auto plain = Compile(GrammarKind::kJsonSchema, R"({"type": "string"})");
  const auto bounded = Compile(GrammarKind::kJsonSchema, R"({"type": "string", "maxLength": 9})");
  for (const auto& grammar : {plain, bounded}) {
    EXPECT_TRUE(Accepts(grammar, "\"größer\""));
    for (const char* bad : {"\"a\tb\"", "\"a\x1c\"", "\"a\n\"", "\"a\"b\"", "\"\\x\""})
      EXPECT_FALSE(Accepts(grammar, bad));
  }
  EXPECT_TRUE(Accepts(plain, R"("a\n\u00e9\"b")"));
}

TEST(Grammar, DrawnTextsFitTheSchema) {
  const auto grammar = Compile(GrammarKind::kJsonSchema, kPerson);
  std::mt19937 random(7);
  for (int i = 0; i < 20; ++i) {
    const std::string text = Draw(grammar, random, 40);
    const auto json = nlohmann::json::parse(text);
    ASSERT_TRUE(json.is_object()) << text;
    ASSERT_EQ(json.size(), 4u) << text;
    EXPECT_TRUE(json["name"].is_string());
    EXPECT_TRUE(json["age"].is_number_integer() && json["age"] >= 0 && json["age"] <= 120) << text;
    EXPECT_TRUE(json["tags"].is_array() && !json["tags"].empty() && json["tags"].size() <= 3) << text;
    for (const auto& tag : json["tags"]) EXPECT_TRUE(tag == "a" || tag == "b");
    EXPECT_TRUE(json["friend"].is_null() || json["friend"]["name"].is_string()) << text;
  }
}

TEST(Grammar, DrawnTextsMatchTheExpression) {
  std::mt19937 random(8);
  for (const char* pattern : {"[a-c]{2,5}", "(yes|no|perhaps)( indeed)?", "[0-9]{1,3}(\\.[0-9]{1,3}){3}",
                              "#### -?(0|[1-9][0-9]{0,5})", "\"[^\"\\\\]{0,10}\"", "a*b+c?", "\\d\\w\\s\\D"}) {
    const auto grammar = Compile(GrammarKind::kRegex, pattern);
    for (int i = 0; i < 10; ++i) {
      const std::string text = Draw(grammar, random, 20);
      // std::regex counts bytes: texts with more than ASCII are for the other tests.
      if (std::any_of(text.begin(), text.end(), [](char c) { return c < 0; })) continue;
      EXPECT_TRUE(std::regex_match(text, std::regex(pattern))) << pattern << ": " << text;
    }
  }
}

// The masks are computed in another way than what a single token leads to.
TEST(Grammar, MasksAllowWhatCanBeAcceptedAndNothingElse) {
  for (const auto& [kind, source, text] :
       {std::tuple{GrammarKind::kJsonSchema, kPerson, R"({"name": "To)"},
        std::tuple{GrammarKind::kJsonSchema, kPerson, R"({"name": "Tom", "age": 1)"},
        std::tuple{GrammarKind::kEbnf, "root ::= (\"a\" | \"apples\" | \"apple pie\") \" \"* [^x]", "a"},
        std::tuple{GrammarKind::kRegex, "[a-z ]{3,12}\\n(one|two)", "he b"}}) {
    GrammarConstraint constraint(Compile(kind, source));
    std::vector<int32_t> generated = TinyTokenizer().EncodeOrdinary(text);
    const std::vector<int32_t> allowed = Allowed(constraint, generated);
    EXPECT_FALSE(allowed.empty());
    for (int32_t token = 3; token < TinyTokenizer().vocab_size(); ++token) {
      GrammarConstraint copy(constraint);
      generated.push_back(token);
      bool accepted = true;
      try {
        Allowed(copy, generated);
      } catch (const Error&) {
        accepted = false;
      }
      generated.pop_back();
      EXPECT_EQ(accepted, Contains(allowed, token)) << text << " + " << TinyTokenizer().TokenBytes(token);
    }
  }
}

TEST(Grammar, ChoicesAreTakenLetterByLetter) {
  const std::vector<std::string> choices = {"yes", "no", "no \"way\" \\n", "two\nlines\t", "größer 1 €", "[a-z]*"};
  const auto grammar = TinyCompiler()->Compile(ChoiceGrammar(choices));
  for (const std::string& choice : choices) EXPECT_TRUE(Accepts(grammar, choice)) << choice;
  for (const char* other : {"", "ye", "yess", "no ", "abc", "no \"way\" \n"}) EXPECT_FALSE(Accepts(grammar, other));
  EXPECT_THROW(ChoiceGrammar({}), Error);
  EXPECT_THROW(ChoiceGrammar(std::vector<std::string>{"a", ""}), Error);
}

TEST(Grammar, AnyJsonObject) {
  const auto grammar = TinyCompiler()->Compile(JsonObjectGrammar());
  EXPECT_TRUE(Accepts(grammar, "{}"));
  EXPECT_TRUE(Accepts(grammar, R"({"a": {"b": [1, -2.5e3, "x", true, null]}, "c": {}})"));
  for (const char* bad : {"[]", "1", "{\"a\"}", "{\"a\": 01}", "{'a': 1}", "{\"a\": 1,}"}) {
    EXPECT_FALSE(Accepts(grammar, bad)) << bad;
  }
}

TEST(Grammar, StructuralTags) {
  const auto grammar = Compile(GrammarKind::kStructuralTag, R"({"type": "structural_tag", "format": {
    "type": "sequence", "elements": [
      {"type": "const_string", "value": "call "},
      {"type": "tag", "begin": "<f>", "content": {"type": "json_schema", "json_schema": {
         "type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}, "end": "</f>"}]}})");
  EXPECT_TRUE(Accepts(grammar, "call <f>{\"x\": 12}</f>"));
  EXPECT_FALSE(Accepts(grammar, "call <f>{\"x\": \"12\"}</f>"));
  EXPECT_FALSE(Accepts(grammar, "call <f>{\"x\": 12}"));
}

TEST(Grammar, SpecialAndPaddingTokensAreNoText) {
  const auto grammar = Compile(GrammarKind::kRegex, "[\\s\\S]*");
  GrammarConstraint constraint(grammar);
  const std::vector<int32_t> allowed = Allowed(constraint, {});
  EXPECT_FALSE(Contains(allowed, *TinyTokenizer().bos_id()));
  EXPECT_TRUE(Contains(allowed, *TinyTokenizer().eos_id()));
  for (int64_t t = TinyTokenizer().vocab_size(); t < TinyVocabulary(); ++t) {
    EXPECT_FALSE(Contains(allowed, static_cast<int32_t>(t)));
  }
}

TEST(Grammar, ThoughtsAreFreeUntilTheirEnd) {
  const auto grammar = TinyCompiler()->Compile(ChoiceGrammar(std::vector<std::string>{"7"}));
  const int32_t seven = TinyTokenizer().EncodeOrdinary("7")[0];
  GrammarConstraint open(grammar, {.begin = 100, .end = 101, .open = true});
  EXPECT_EQ(Allowed(open, {}).size(), static_cast<size_t>(TinyVocabulary()));
  EXPECT_EQ(Allowed(open, {50, 60}).size(), static_cast<size_t>(TinyVocabulary()));
  EXPECT_THAT(Allowed(open, {50, 60, 101}), ElementsAre(seven));
  EXPECT_THAT(Allowed(open, {50, 60, 101, seven}), ElementsAre(*TinyTokenizer().eos_id()));

  const ThinkingTokens may{.begin = 100, .end = 101, .may_open = true};
  GrammarConstraint straight(grammar, may);
  EXPECT_THAT(Allowed(straight, {}), UnorderedElementsAre(seven, 100));
  EXPECT_THAT(Allowed(straight, {seven}), ElementsAre(*TinyTokenizer().eos_id()));
  GrammarConstraint thinks(straight);  // a copy starts anew
  EXPECT_THAT(Allowed(thinks, {}), UnorderedElementsAre(seven, 100));
  EXPECT_EQ(Allowed(thinks, {100}).size(), static_cast<size_t>(TinyVocabulary()));
  EXPECT_THAT(Allowed(thinks, {100, 5, 101}), ElementsAre(seven));
}

TEST(Grammar, WhatCannotBeCarriedOutIsRefusedInOneLine) {
  for (const auto& [kind, text] :
       {std::pair{GrammarKind::kRegex, "(a"}, std::pair{GrammarKind::kRegex, "a{5,2}"},
        std::pair{GrammarKind::kEbnf, "start ::= \"a\""}, std::pair{GrammarKind::kEbnf, "root ::= \"a"},
        std::pair{GrammarKind::kEbnf, "root ::= other"}, std::pair{GrammarKind::kJsonSchema, "{"},
        std::pair{GrammarKind::kJsonSchema, "3"}, std::pair{GrammarKind::kJsonSchema, R"({"type": "nothing"})"},
        std::pair{GrammarKind::kJsonSchema, R"({"$ref": "#/$defs/none"})"},
        std::pair{GrammarKind::kJsonSchema, R"({"type": "integer", "minimum": 5, "maximum": 3})"},
        std::pair{GrammarKind::kEbnf, "root ::= root"},
        std::pair{GrammarKind::kEbnf, "root ::= a | b\na ::= a\nb ::= a b"},
        std::pair{GrammarKind::kStructuralTag, R"({"type": "structural_tag"})"}}) {
    try {
      Compile(kind, text);
      ADD_FAILURE() << "not refused: " << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage) << text;
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
      EXPECT_THAT(error.what(), HasSubstr("expected")) << text;
    }
  }
}

}  // namespace
}  // namespace mxmla
