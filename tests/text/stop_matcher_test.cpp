#include "text/stop_matcher.h"

#include <random>

#include "fixture.h"
#include "text/stream_decoder.h"
#include "text/utf8.h"

namespace mxmla {
namespace {

struct Found {
  std::string text;
  std::optional<size_t> stop;

  bool operator==(const Found&) const = default;
};

void PrintTo(const Found& found, std::ostream* out) {
  *out << '"' << found.text << "\" ended by " << (found.stop ? std::to_string(*found.stop) : "nothing");
}

// By definition: the shortest beginning of the text that ends with a stop string, and the longest such string.
Found Search(std::string_view text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<size_t> longest;
    for (size_t i = 0; i < stops.size(); ++i) {
      if (!text.substr(0, end).ends_with(stops[i])) continue;
      if (!longest || stops[i].size() > stops[*longest].size()) longest = i;
    }
    if (longest) return {std::string(text.substr(0, end - stops[*longest].size())), longest};
  }
  return {std::string(text), std::nullopt};
}

// The bytes at the end of `text` that a stop string could begin with.
size_t Undecided(std::string_view text, const std::vector<std::string>& stops) {
  size_t longest = 0;
  for (const std::string& stop : stops) {
    for (size_t bytes = 1; bytes < stop.size(); ++bytes) {
      if (text.ends_with(stop.substr(0, bytes))) longest = std::max(longest, bytes);
    }
  }
  return longest;
}

// Feeds the pieces; what is given back early must be all that is certain and no more.
Found Feed(const std::vector<std::string>& pieces, const std::vector<std::string>& stops) {
  StopMatcher matcher(stops);
  std::string fed, text;
  for (const std::string& piece : pieces) {
    fed += piece;
    text += matcher.Push(piece);
    const Found found = Search(fed, stops);
    EXPECT_EQ(matcher.found(), found.stop) << fed;
    EXPECT_EQ(text, found.stop ? found.text : fed.substr(0, fed.size() - Undecided(fed, stops))) << fed;
  }
  text += matcher.Flush();
  EXPECT_EQ(matcher.Flush(), "");
  return {text, matcher.found()};
}

TEST(StopMatcher, FindsTheSameWhereverTheTextIsCut) {
  const struct {
    std::string text;
    std::vector<std::string> stops;
    Found expected;
  } cases[] = {
      {"one two three", {"two"}, {"one ", 0}},
      {"one two three", {"four"}, {"one two three", std::nullopt}},
      {"one tw", {"two"}, {"one tw", std::nullopt}},
      {"aaab", {"aab"}, {"a", 0}},
      {"abababc", {"ababc"}, {"ab", 0}},
      {"abcd", {"abcd", "bc"}, {"a", 1}},      // complete first
      {"abcd", {"d", "cd", "bcd"}, {"a", 2}},  // together: the longest
      {"abcd", {"cd", "cd"}, {"ab", 0}},       // equal ones: the first
      {"stop", {"stop"}, {"", 0}},
      {"", {"stop"}, {"", std::nullopt}},
      {"no stops", {}, {"no stops", std::nullopt}},
      {"line\n\nnext", {"\n\n", "next"}, {"line", 0}},
      {"caf\xc3\xa8 caf\xc3\xa9!", {"\xc3\xa9"}, {"caf\xc3\xa8 caf", 0}},
      {"\xf0\x9f\x98\x80\xf0\x9f\x98\x81", {"\xf0\x9f\x98\x81"}, {"\xf0\x9f\x98\x80", 0}},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(Search(c.text, c.stops), c.expected);
    for (size_t first = 0; first <= c.text.size(); ++first) {
      for (size_t second = first; second <= c.text.size(); ++second) {
        EXPECT_EQ(Feed({c.text.substr(0, first), c.text.substr(first, second - first), c.text.substr(second)}, c.stops),
                  c.expected);
      }
    }
  }
}

// Few letters, so that almost every text is full of beginnings.
TEST(StopMatcher, FindsWhatTheDefinitionSaysInRandomTexts) {
  std::mt19937 random(11);
  const auto word = [&](size_t least, size_t most) {
    std::string text(least + random() % (most - least + 1), 'a');
    for (char& c : text) c = static_cast<char>('a' + random() % 2);
    return text;
  };
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops(random() % 4), pieces(random() % 8);
    for (std::string& stop : stops) stop = word(1, 7);
    for (std::string& piece : pieces) piece = word(0, 4);
    std::string text;
    for (const std::string& piece : pieces) text += piece;
    EXPECT_EQ(Feed(pieces, stops), Search(text, stops));
  }
}

TEST(StopMatcher, RefusesWhatNoTextCouldHold) {
  ExpectError(ErrorCode::kUsage, "stop string", [] { StopMatcher matcher({"fine", ""}); });
  ExpectError(ErrorCode::kUsage, "UTF-8", [] { StopMatcher matcher({"\xff"}); });
}

// Stop strings cut out of decoded texts, against searching the whole text.
TEST(TextOutput, EndsWhereTheDecodedTextHoldsAStopString) {
  const auto tokenizer = Tokenizer::Load(FixturePath("deepseek-v3"));
  std::mt19937 random(5);
  int across_tokens = 0;
  for (const TextCase& c : ReadCases("deepseek-v3")) {
    const std::string whole = ReplaceInvalidUtf8(tokenizer->Decode(c.ids));
    std::vector<std::string> characters;
    for (size_t at = 0; at < whole.size(); at += CodePointAt(whole, at).length) {
      characters.push_back(whole.substr(at, CodePointAt(whole, at).length));
    }
    if (characters.empty() || characters.size() > 2000) continue;
    const size_t begin = random() % characters.size();
    std::string stop;
    for (size_t i = begin; i < std::min(characters.size(), begin + 1 + random() % 6); ++i) stop += characters[i];
    TextOutput output(*tokenizer, {stop}, false);
    std::string text;
    for (size_t i = 0; i < c.ids.size() && !output.stopped_by(); ++i) text += output.Push(c.ids[i]);
    if (!output.stopped_by()) {
      // Only an unfinished character at the very end is decided by Flush.
      EXPECT_EQ(text + output.Flush(), whole);
      continue;
    }
    EXPECT_EQ(text + output.Flush(), whole.substr(0, whole.find(stop))) << "stop at " << stop;
    across_tokens += stop.size() > 4;
  }
  EXPECT_GT(across_tokens, 10);
}

}  // namespace
}  // namespace mxmla
