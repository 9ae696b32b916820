// Tokenizers that are not byte-level, normalizers, and Mistral's files, against the reference libraries
// (tools/golden/sentencepiece_fixtures.py).
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "fixture.h"
#include "text/normalizer.h"
#include "text/stream_decoder.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace mxmla {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<int32_t>;

TEST(SentencePiece, AreThoseOfTheReference) {
  const Json fixture = ReadFixture("sentencepiece.json");
  for (const Json& c : fixture["cases"]) {
    const auto tokenizer = LoadJson(c["tokenizer"]);
    for (size_t i = 0; i < c["rows"].size(); ++i) {
      const auto text = fixture["texts"][i].get<std::string>();
      SCOPED_TRACE(c["name"].get<std::string>() + ": " + text);
      const auto ids = c["rows"][i][0].get<Ids>();
      EXPECT_EQ(tokenizer->Encode(text, false), ids);
      const std::string decoded = tokenizer->Decode(ids);
      const Json& expected = c["rows"][i][1];
      EXPECT_EQ(ReplaceInvalidUtf8(decoded), expected.is_null() ? text : expected.get<std::string>());
      StreamDecoder stream(*tokenizer);
      std::string streamed;
      for (const int32_t id : ids) streamed += stream.Push(id);
      EXPECT_EQ(streamed + stream.Flush(), ReplaceInvalidUtf8(decoded));
    }
  }
}

TEST(Normalizers, AreThoseOfTheReference) {
  const Json fixture = ReadFixture("sentencepiece.json");
  size_t rows = 0;
  for (const Json& c : fixture["normalizers"]) {
    const Normalizer normalizer = Normalizer::FromJson(c["normalizer"], "normalizer");
    for (const Json& row : c["rows"]) {
      ++rows;
      EXPECT_EQ(normalizer.Apply(row[0].get<std::string>()), row[1].get<std::string>())
          << c["normalizer"].dump().substr(0, 80) << row[0];
    }
  }
  EXPECT_GT(rows, 100u);
}

// A text that is one run of marks in the wrong order takes no longer than others: a sort in quadratic time would not
// end.
TEST(Normalizers, OrderLongRunsOfMarks) {
  std::string text = "a", sorted = "a";
  constexpr int kCount = 200'000;
  for (int i = 0; i < kCount; ++i) text += "\u0315\u0323";  // classes 232 and 220
  for (int i = 0; i < kCount; ++i) sorted += "\u0323";
  for (int i = 0; i < kCount; ++i) sorted += "\u0315";
  EXPECT_EQ(Normalizer::FromJson({{"type", "NFD"}}, "normalizer").Apply(text), sorted);
}

TEST(Normalizers, RefuseWhatTheyDoNotKnow) {
  const auto refused = [](const char* part, const Json& json) {
    ExpectError(ErrorCode::kTokenizer, part, [&] { Normalizer::FromJson(json, "normalizer"); });
  };
  refused("BertNormalizer", {{"type", "BertNormalizer"}});
  refused("charsmap", {{"type", "Precompiled"}, {"precompiled_charsmap", "AAA="}});
  refused("charsmap", {{"type", "Precompiled"}, {"precompiled_charsmap", "/////w=="}});
  refused("base64", {{"type", "Precompiled"}, {"precompiled_charsmap", "?"}});
  refused("content", {{"type", "Replace"}, {"pattern", {{"String", "a"}}}});
  Json deep = {{"type", "NFC"}};
  for (int i = 0; i < 30; ++i) deep = {{"type", "Sequence"}, {"normalizers", Json::array({deep})}};
  refused("too deeply", deep);
}

// Content that spells a token stays text, whether the token is looked for before normalizing or behind it.
TEST(SentencePiece, ContentIsNoAddedToken) {
  const Json fixture = ReadFixture("sentencepiece.json");
  for (const Json& c : fixture["cases"]) {
    if (c["name"] != "metaspace") continue;
    const auto tokenizer = LoadJson(c["tokenizer"]);
    const std::string text = "a[X]b [y]";
    const auto count = [&](const Ids& ids) {
      return std::count(ids.begin(), ids.end(), *tokenizer->AddedTokenId("[X]")) +
             std::count(ids.begin(), ids.end(), *tokenizer->AddedTokenId("[y]"));
    };
    EXPECT_EQ(count(tokenizer->EncodeMixed(text, {})), 2);
    const Span all[] = {{0, text.size()}};
    EXPECT_EQ(count(tokenizer->EncodeMixed(text, all)), 0);
    EXPECT_EQ(count(tokenizer->EncodeOrdinary(text)), 0);
  }
}

class Tekken : public testing::Test {
 protected:
  static std::unique_ptr<Tokenizer> Load(const Json& file) {
    const ScratchFolder folder;
    folder.Write("tekken.json", file.dump());
    return Tokenizer::Load(folder.path());
  }
  static void ExpectRefused(const char* part, const std::function<void(Json&)>& change) {
    Json file = ReadFixture("mistral-tekken.json")["file"];
    change(file);
    ExpectError(ErrorCode::kTokenizer, part, [&] { Load(file); });
  }
};

TEST_F(Tekken, IsThatOfTheReference) {
  const Json fixture = ReadFixture("mistral-tekken.json");
  const auto tokenizer = Load(fixture["file"]);
  for (const Json& row : fixture["rows"]) {
    const auto text = row[0].get<std::string>();
    EXPECT_EQ(tokenizer->EncodeOrdinary(text), row[1].get<Ids>()) << text;
    EXPECT_EQ(tokenizer->Decode(row[1].get<Ids>()), text);
  }
  EXPECT_EQ(tokenizer->vocab_size(), fixture["file"]["config"]["default_vocab_size"].get<int32_t>());
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_EQ(tokenizer->Encode("[INST]", true), (Ids{1, 3}));
  EXPECT_EQ(tokenizer->AddedTokenId("<SPECIAL_11>"), 11);
  EXPECT_EQ(tokenizer->Decode(Ids{3, 12 + 'a'}, true), "a");
}

TEST_F(Tekken, OfVersion3HasTheNamesOfThatTime) {
  Json file = ReadFixture("mistral-tekken.json")["file"];
  file.erase("special_tokens");
  EXPECT_EQ(Load(file)->AddedTokenId("[TOOL_CALLS]"), 9);
}

TEST_F(Tekken, RefusesWhatIsMalformed) {
  ExpectRefused("default_vocab_size", [](Json& j) { j["config"]["default_vocab_size"] = 100000; });
  ExpectRefused("default_num_special_tokens", [](Json& j) { j["config"]["default_num_special_tokens"] = -1; });
  ExpectRefused("ranks from 0 to 11", [](Json& j) { j["special_tokens"][0]["rank"] = 12; });
  ExpectRefused("twice", [](Json& j) { j["special_tokens"][0]["token_str"] = "</s>"; });
  ExpectRefused("rank 7", [](Json& j) { j["vocab"][7]["rank"] = 8; });
  ExpectRefused("base64", [](Json& j) { j["vocab"][7]["token_bytes"] = "!"; });
  ExpectRefused("twice", [](Json& j) { j["vocab"][7]["token_bytes"] = j["vocab"][8]["token_bytes"]; });
  ExpectRefused("none for byte 7", [](Json& j) { j["vocab"][7]["token_bytes"] = "AAAA"; });
  ExpectRefused("pattern", [](Json& j) { j["config"]["pattern"] = "("; });
}

}  // namespace
}  // namespace mxmla
