#include "text/tokenizer.h"

#include "fixture.h"
#include "text/utf8.h"

namespace mxmla {
namespace {

class TokenizerGolden : public testing::TestWithParam<const char*> {
 protected:
  TokenizerGolden() : tokenizer_(Tokenizer::Load(FixturePath(GetParam()))) {}

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(TokenizerGolden, IdsAreThoseOfTheReference) {
  const auto prefix = ReadFixture(std::string(GetParam()) + "/cases.json")["prefix"].get<std::vector<int32_t>>();
  for (const TextCase& c : ReadCases(GetParam())) {
    EXPECT_EQ(tokenizer_->Encode(c.input, false), c.ids) << c.input;
    std::vector<int32_t> with_special = prefix;
    with_special.insert(with_special.end(), c.ids.begin(), c.ids.end());
    EXPECT_EQ(tokenizer_->Encode(c.input, true), with_special) << c.input;
  }
}

TEST_P(TokenizerGolden, DecodesAsTheReference) {
  for (const TextCase& c : ReadCases(GetParam())) {
    EXPECT_EQ(ReplaceInvalidUtf8(tokenizer_->Decode(c.ids)), c.decoded) << c.input;
    EXPECT_EQ(tokenizer_->Decode(c.ids), ReplaceInvalidUtf8(c.input));
  }
}

TEST_P(TokenizerGolden, OrdinaryTextHasNoAddedTokens) {
  for (const TextCase& c : ReadCases(GetParam())) {
    const std::vector<int32_t> ids = tokenizer_->EncodeOrdinary(c.input);
    for (int32_t id : ids) EXPECT_FALSE(tokenizer_->IsSpecial(id)) << c.input;
    EXPECT_EQ(tokenizer_->Decode(ids), ReplaceInvalidUtf8(c.input));
  }
}

TEST_P(TokenizerGolden, EveryIdHasBytes) {
  for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) EXPECT_FALSE(tokenizer_->TokenBytes(id).empty()) << id;
  EXPECT_EQ(tokenizer_->TokenBytes(tokenizer_->vocab_size()), "");
  EXPECT_EQ(tokenizer_->TokenBytes(INT32_MAX), "");
}

TEST_P(TokenizerGolden, RefusesNegativeIds) {
  ExpectError(ErrorCode::kTokenRange, "-1", [&] { tokenizer_->TokenBytes(-1); });
  ExpectError(ErrorCode::kTokenRange, "-2", [&] { tokenizer_->Decode(std::vector<int32_t>{1, -2}); });
}

// Sizes at which quadratic time would show: a piece of 1 MB, and runs that expressions scan again and again.
TEST_P(TokenizerGolden, LongPiecesEnd) {
  const auto expect_round_trip = [&](const std::string& unit, const std::string& end, size_t size) {
    std::string text;
    while (text.size() < size) text += unit;
    text += end;
    EXPECT_EQ(tokenizer_->Decode(tokenizer_->Encode(text, false)), text) << unit;
  };
  expect_round_trip("a", "", 1 << 20);
  expect_round_trip(" ", "x", 1 << 20);
  for (const char* unit : {"=", "\n", "7", "aB", "中文", " a"}) expect_round_trip(unit, "x", 1 << 17);
}

TEST_P(TokenizerGolden, SpecialTokens) {
  ASSERT_TRUE(tokenizer_->bos_id().has_value());
  ASSERT_TRUE(tokenizer_->eos_id().has_value());
  const int32_t bos = *tokenizer_->bos_id();
  EXPECT_TRUE(tokenizer_->IsSpecial(bos));
  EXPECT_FALSE(tokenizer_->IsSpecial(-1));
  EXPECT_FALSE(tokenizer_->IsSpecial(tokenizer_->vocab_size()));
  EXPECT_EQ(tokenizer_->TokenId(tokenizer_->TokenBytes(bos)), bos);
  EXPECT_EQ(tokenizer_->AddedTokenId(tokenizer_->TokenBytes(bos)), bos);
  EXPECT_EQ(tokenizer_->TokenId("no such token"), std::nullopt);
  ASSERT_TRUE(tokenizer_->TokenId("a").has_value());
  EXPECT_EQ(tokenizer_->AddedTokenId("a"), std::nullopt);
  const std::vector<int32_t> ids = {bos, *tokenizer_->TokenId("a"), *tokenizer_->eos_id()};
  EXPECT_EQ(tokenizer_->Decode(ids, true), "a");
}

INSTANTIATE_TEST_SUITE_P(Models, TokenizerGolden, testing::Values("deepseek-v2", "deepseek-v3", "kimi-k2"));

TEST(Tokenizer, KimiCutsLongTexts) {
  const auto tokenizer = Tokenizer::Load(FixturePath("kimi-k2"));
  for (const nlohmann::json& c : ReadFixture("kimi-k2/long.json")) {
    std::string text;
    for (int i = 0; i < c["count"].get<int>(); ++i) text += c["unit"].get<std::string>();
    const std::vector<int32_t> ids = tokenizer->Encode(text, false);
    EXPECT_EQ(ids.size(), c["ids"].get<size_t>()) << c["unit"];
    uint64_t hash = 0;
    for (int32_t id : ids) hash = (hash * 1000003 + static_cast<uint64_t>(id)) & 0xffffffff;
    EXPECT_EQ(hash, c["hash"].get<uint64_t>()) << c["unit"];
    EXPECT_EQ(tokenizer->Decode(ids), text);
  }
}

TEST(Tokenizer, KimiReservesIdsBehindTheRanks) {
  const auto tokenizer = Tokenizer::Load(FixturePath("kimi-k2"));
  const int32_t first = *tokenizer->bos_id();
  EXPECT_EQ(tokenizer->vocab_size(), first + 256);
  EXPECT_EQ(tokenizer->AddedTokenId("<|reserved_token_" + std::to_string(first + 100) + "|>"), first + 100);
  EXPECT_TRUE(tokenizer->IsSpecial(first + 100));
  EXPECT_FALSE(tokenizer->IsSpecial(*tokenizer->AddedTokenId("<|tool_calls_section_begin|>")));
}

TEST(Tokenizer, BosFollowsTheFolder) {
  const nlohmann::json json = ReadFixture("deepseek-v3/tokenizer.json");
  const nlohmann::json config = ReadFixture("deepseek-v3/tokenizer_config.json");
  const auto ids = [&](const nlohmann::json& patch) {
    nlohmann::json patched = config;
    patched.merge_patch(patch);
    return LoadJson(json, patched)->Encode("", true);
  };
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(ids(nlohmann::json::object()), (Ids{0}));
  EXPECT_EQ(ids({{"add_bos_token", false}}), Ids{});
  EXPECT_EQ(ids({{"add_eos_token", true}}), (Ids{0, 1}));
  EXPECT_EQ(ids({{"bos_token", "<｜end▁of▁sentence｜>"}}), (Ids{1}));
  // Without the flag LlamaTokenizerFast adds it and the generic class leaves it to tokenizer.json.
  EXPECT_EQ(ids({{"add_bos_token", nullptr}, {"add_eos_token", nullptr}}), (Ids{0}));
  EXPECT_EQ(
      ids({{"add_bos_token", nullptr}, {"add_eos_token", nullptr}, {"tokenizer_class", "PreTrainedTokenizerFast"}}),
      Ids{});
  EXPECT_EQ(LoadJson(json)->Encode("", true), Ids{});
  EXPECT_EQ(LoadJson(json)->bos_id(), std::nullopt);
}

}  // namespace
}  // namespace mxmla
