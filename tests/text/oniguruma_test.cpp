#include "text/oniguruma.h"

#include "fixture.h"
#include "text/regex.h"

namespace mxmla {
namespace {

std::vector<std::string> Matches(const std::string& pattern, const std::string& text) {
  const Regex regex(TranslateOniguruma(pattern, "test"), "test");
  std::vector<Span> spans;
  regex.FindAll(text, &spans);
  std::vector<std::string> found;
  for (const Span& span : spans) found.push_back(text.substr(span.begin, span.end - span.begin));
  return found;
}

using Strings = std::vector<std::string>;

TEST(Oniguruma, AnchorsMatchAtLines) {
  EXPECT_EQ(Matches("a$", "a\na"), (Strings{"a", "a"}));
  EXPECT_EQ(Matches("^a", "a\na\n"), (Strings{"a", "a"}));
  EXPECT_EQ(Matches(R"(a\z)", "a\na"), (Strings{"a"}));
  EXPECT_EQ(Matches(".", "a\nb"), (Strings{"a", "b"}));
}

TEST(Oniguruma, TrailingSpaceIsFoundAtEveryLineEnd) {
  // The group keeps the second pattern from the special case.
  EXPECT_EQ(Matches(R"(\s+$)", "a  \n b \t"), Matches(R"((?:\s+)$)", "a  \n b \t"));
  EXPECT_EQ(Matches(R"(\s+$)", " \n\n x\n"), Matches(R"((?:\s+)$)", " \n\n x\n"));
  EXPECT_EQ(Matches(R"(\s+$)", "x   "), (Strings{"   "}));
  // Quadratic if every start of the run were tried.
  EXPECT_EQ(Matches(R"(\s+$)", std::string(1 << 20, ' ').append("x")), Strings{});
}

TEST(Oniguruma, SpaceIsUnicodeWhiteSpace) {
  EXPECT_EQ(Matches(R"(\s)", "\u0085\u00a0\u3000\u180e\u200b").size(), 3u);
  EXPECT_EQ(Matches(R"(\S)", "\u0085\u00a0\u3000\u180e\u200b").size(), 2u);
  EXPECT_EQ(Matches(R"([^\s])", " a\u180e"), (Strings{"a", "\u180e"}));
  EXPECT_EQ(Matches(R"([\Sx])", " a\u00a0b"), (Strings{"a", "b"}));
}

TEST(Oniguruma, ScriptsAreScriptsOnly) {
  // U+3001 is of Han's script extensions, not of its script.
  EXPECT_EQ(Matches(R"(\p{Han}+)", "中、文"), (Strings{"中", "文"}));
  EXPECT_EQ(Matches(R"(\P{Han})", "中a"), (Strings{"a"}));
  EXPECT_EQ(Matches(R"(\p{^Han})", "中a"), (Strings{"a"}));
}

TEST(Oniguruma, ClassesIntersectAndNest) {
  EXPECT_EQ(Matches(R"([\p{Lo}\p{M}&&[^\p{Han}]]+)", "中ก่文א"), (Strings{"ก่", "א"}));
  EXPECT_EQ(Matches("[a-z&&[^aeiou]]+", "hello"), (Strings{"h", "ll"}));
  EXPECT_EQ(Matches("[a-z&&aeiou]+", "hello"), (Strings{"e", "o"}));
  EXPECT_EQ(Matches("[^a-z&&[aeiou]]+", "hello"), (Strings{"h", "ll"}));
  EXPECT_EQ(Matches("[a[0-9]]+", "a1b2"), (Strings{"a1", "2"}));
  EXPECT_EQ(Matches(R"([\[\]\-^a-c\x41\u0042]+)", "[]-^bAB!"), (Strings{"[]-^bAB"}));
}

TEST(Oniguruma, RubySpellings) {
  EXPECT_EQ(Matches(R"(\h+)", "xyzAF09g"), (Strings{"AF09"}));
  EXPECT_EQ(Matches("a{,2}b", "aaab"), (Strings{"aab"}));
  EXPECT_EQ(Matches("a{2}", "aaa"), (Strings{"aa"}));
  EXPECT_EQ(Matches("a{x", "a{x"), (Strings{"a{x"}));
  EXPECT_EQ(Matches(R"(\bab\b)", "ab xab ab"), (Strings{"ab", "ab"}));
  EXPECT_EQ(Matches(R"(\w+)", "e\u0301a_1 \u00b2"), (Strings{"e\u0301a_1"}));
  EXPECT_EQ(Matches("(?i:'s|'LL)", "'S'll"), (Strings{"'S", "'ll"}));
  EXPECT_EQ(Matches("[\U00010400-\U0001044f]+", "a\U00010401\U00010420"), (Strings{"\U00010401\U00010420"}));
}

TEST(Oniguruma, EmptyMatchesCutTheText) {
  const Regex regex("(?=b)|c", "test");
  std::vector<Span> spans;
  regex.FindAll("abcb", &spans);
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(spans[0].begin, 1u);
  EXPECT_EQ(spans[0].end, 1u);
  EXPECT_EQ(spans[1].begin, 2u);
  EXPECT_EQ(spans[1].end, 3u);
}

TEST(Oniguruma, RefusesWhatItDoesNotCarryOver) {
  for (const char* pattern :
       {R"(\1)",   R"(\k<a>)",   R"(\G)",     R"(\K)",     R"(\R)",     R"(\X)",   R"(\N)",         "(?<a>b)",
        "(?#c)",   "(*UTF)",     "a(?i)b",    "(?m:.)",    "a{2}+",     "a{2}?",   "[[:alpha:]]",   R"([\W])",
        "[a[^b]]", "[]",         "[b-a]",     "[a",        "[a[b[c]]]", R"(\xff)", R"(\x{110000})", R"(\p{)",
        R"(\pL)",  R"(\p{a-b})", R"([a-\d])", R"([\d-a])", "\\",        "[\\",     "[&&a]",         R"(\u12)"}) {
    ExpectError(ErrorCode::kTokenizer, "test", [&] { TranslateOniguruma(pattern, "test"); });
  }
}

TEST(Oniguruma, RefusesWhatPcre2Refuses) {
  for (const char* pattern : {"(", ")", "a**", "*", R"(\p{NoSuchScript})", "(?<=a+)b"}) {
    ExpectError(ErrorCode::kTokenizer, "test", [&] { Matches(pattern, ""); });
  }
}

TEST(Oniguruma, CatastrophicBacktrackingIsAnError) {
  ExpectError(ErrorCode::kTokenizer, "backtracks too much",
              [] { Matches("(a+)+$", std::string(60, 'a').append("b")); });
}

}  // namespace
}  // namespace mxmla
