#include "grammar/grammar_service.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <future>

#include "vocabulary.h"

namespace mxmla {
namespace {

using ::testing::HasSubstr;

GrammarOutcome Ask(GrammarService& service, const GrammarSource& source) {
  std::promise<GrammarOutcome> promise;
  EXPECT_TRUE(service.Compile(source, [&](const GrammarOutcome& outcome) { promise.set_value(outcome); }));
  return promise.get_future().get();
}

GrammarServiceOptions Options() {
  GrammarServiceOptions options;
  options.limits.seconds = 1;
  options.limits.memory_bytes = size_t{256} << 20;
  return options;
}

TEST(GrammarServiceTest, CompilesOnceAndKeeps) {
  GrammarService service(TinyCompiler, Options());
  const GrammarSource source{GrammarKind::kRegex, "[a-z]+"};
  const GrammarOutcome first = Ask(service, source);
  ASSERT_TRUE(first.grammar) << first.error;
  EXPECT_TRUE(Accepts(first.grammar, "abc"));
  EXPECT_EQ(Ask(service, source).grammar, first.grammar);
  EXPECT_EQ(service.hits(), 1);
  EXPECT_EQ(service.misses(), 1);
  EXPECT_NE(Ask(service, {GrammarKind::kEbnf, "root ::= \"[a-z]+\""}).grammar, first.grammar);
}

TEST(GrammarServiceTest, ForgetsTheLongestUnused) {
  GrammarServiceOptions options = Options();
  options.cache_entries = 2;
  GrammarService service(TinyCompiler, options);
  const auto ask = [&](const char* regex) { return Ask(service, {GrammarKind::kRegex, regex}); };
  ask("a");
  ask("b");
  ask("a");
  ask("c");  // b goes
  ask("a");
  EXPECT_EQ(service.misses(), 3);
  ask("b");
  EXPECT_EQ(service.misses(), 4);
}

TEST(GrammarServiceTest, HostileSourcesAreRefusedWithinTheirLimits) {
  GrammarService service(TinyCompiler, Options());
  std::string nested;
  for (int i = 0; i < 40'000; ++i) nested += '(';
  const std::vector<GrammarSource> hostile = {
      {GrammarKind::kRegex, "((((a{1,1000}){1,1000}){1,1000}){1,1000}b){1,1000}"},
      {GrammarKind::kRegex, nested},
      {GrammarKind::kEbnf, "root ::= " + nested},
      {GrammarKind::kEbnf, "root ::= root root | \"a\" | root"},
      {GrammarKind::kEbnf, "root ::= ((\"a\" | \"ab\"){0,100000} [b-z]{0,100000}){100000}"},
      {GrammarKind::kJsonSchema, R"({"type": "array", "minItems": 1000000000, "items": {"type": "string"}})"},
      {GrammarKind::kJsonSchema, R"({"type": "string", "minLength": 1000000000})"},
      {GrammarKind::kJsonSchema, R"({"$ref": "#"})"},
      {GrammarKind::kRegex, std::string(200'000, 'a')},
  };
  // Refused or carried out (lazily, by xgrammar), but neither late nor fatal.
  for (const GrammarSource& source : hostile) {
    const GrammarOutcome outcome = Ask(service, source);
    EXPECT_TRUE(outcome.grammar || outcome.code == ErrorCode::kUsage) << outcome.error;
    if (!outcome.grammar) {
      EXPECT_THAT(outcome.error, HasSubstr("expected"));
    }
  }
  EXPECT_FALSE(Ask(service, hostile.back()).grammar);
  EXPECT_TRUE(Ask(service, {GrammarKind::kRegex, "[a-z]+"}).grammar);
}

// Compiles, but takes its time: 40 s of a Zen 5.
GrammarSource Laborious() {
  std::string regex = "x";
  for (int i = 0; i < 2000; ++i) {
    regex += "|[a-z]{1," + std::to_string(i % 397 + 2) + "}[0-9]{2," + std::to_string(i % 389 + 3) + "}.*x";
  }
  return {GrammarKind::kRegex, regex};
}

TEST(GrammarServiceTest, TimeIsBounded) {
  GrammarServiceOptions options = Options();
  options.limits.memory_bytes = size_t{2} << 30;
  GrammarService service(TinyCompiler, options);
  const GrammarOutcome late = Ask(service, Laborious());
  EXPECT_FALSE(late.grammar);
  EXPECT_THAT(late.error, HasSubstr("within 1 s"));
}

GrammarSource ChainedReferences(int count) {
  std::string definitions = R"("d0": {"type": "integer"})";
  for (int i = 1; i <= count; ++i) {
    definitions += fmt::format(R"(, "d{}": {{"$ref": "#/$defs/d{}"}})", i, i - 1);
  }
  return {GrammarKind::kJsonSchema, fmt::format(R"({{"$defs": {{{}}}, "$ref": "#/$defs/d{}"}})", definitions, count)};
}

GrammarSource NestedLists(int levels) {
  std::string schema;
  for (int i = 1; i < levels; ++i) schema += R"({"type": "array", "items": )";
  return {GrammarKind::kJsonSchema,
          schema + R"({"type": "integer"})" + std::string(static_cast<size_t>(levels) - 1, '}')};
}

TEST(GrammarServiceTest, ReferencesAndDepthAreBounded) {
  GrammarService service(TinyCompiler, Options());
  const auto good = [&](const GrammarSource& source, const char* text) {
    const GrammarOutcome outcome = Ask(service, source);
    ASSERT_TRUE(outcome.grammar) << outcome.error;
    EXPECT_TRUE(Accepts(outcome.grammar, text));
  };
  const auto refused = [&](const GrammarSource& source, const char* expected) {
    const GrammarOutcome outcome = Ask(service, source);
    EXPECT_FALSE(outcome.grammar);
    EXPECT_EQ(outcome.code, ErrorCode::kUsage);
    EXPECT_THAT(outcome.error, HasSubstr(expected));
  };
  good(ChainedReferences(200), "17");
  refused(ChainedReferences(2500), "expected at most 1000 references ($ref), found 2501");
  good(NestedLists(50), (std::string(49, '[') + "17" + std::string(49, ']')).c_str());
  refused(NestedLists(101), "expected JSON nested at most 100 deep");
  const std::string tag = R"({"type": "structural_tag", "format": {"type": "json_schema", "json_schema": )";
  refused({GrammarKind::kStructuralTag, tag + ChainedReferences(1001).text + "}}"}, "at most 1000 references");
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// In a process of its own: the heaps of earlier tests would lend room.
TEST(GrammarServiceDeathTest, MemoryIsBounded) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto compile = [] {
    std::string values = "1";  // takes 16 MB
    for (int i = 2; i < 6000; ++i) values += ", \"value " + std::to_string(i) + "\"";
    GrammarServiceOptions options = Options();
    options.limits.memory_bytes = size_t{64} << 10;
    options.limits.seconds = 60;
    GrammarService service(TinyCompiler, options);
    const GrammarOutcome outcome = Ask(service, {GrammarKind::kJsonSchema, R"({"enum": [)" + values + "]}"});
    std::fputs(outcome.error.c_str(), stderr);
    std::exit(outcome.grammar ? 1 : 0);
  };
  EXPECT_EXIT(compile(), testing::ExitedWithCode(0), "memory");
}
#endif

TEST(GrammarServiceTest, StopRefusesWhatWaits) {
  GrammarServiceOptions options = Options();
  options.threads = 0;
  options.most_waiting = 1;
  GrammarService service(TinyCompiler, options);
  GrammarOutcome outcome;
  int calls = 0;
  const auto on_done = [&](const GrammarOutcome& told) {
    ++calls;
    outcome = told;
  };
  EXPECT_TRUE(service.Compile({GrammarKind::kRegex, "a"}, on_done));
  EXPECT_TRUE(service.Compile({GrammarKind::kRegex, "a"}, on_done));
  EXPECT_FALSE(service.Compile({GrammarKind::kRegex, "b"}, on_done));
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(service.open(), 2);
  service.Stop();
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(service.open(), 0);
  EXPECT_FALSE(outcome.grammar);
}

}  // namespace
}  // namespace mxmla
