#include "text/stream_decoder.h"

#include <random>

#include "fixture.h"
#include "text/utf8.h"

namespace mxmla {
namespace {

// Pushes the ids one by one and checks every part.
std::string Stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip_special_tokens = false) {
  StreamDecoder decoder(tokenizer, skip_special_tokens);
  std::string text;
  const auto add = [&](const std::string& part) {
    EXPECT_EQ(ReplaceInvalidUtf8(part), part) << "half a character";
    text += part;
  };
  for (int32_t id : ids) add(decoder.Push(id));
  add(decoder.Flush());
  EXPECT_EQ(decoder.Flush(), "");
  return text;
}

class Streaming : public testing::TestWithParam<const char*> {};

TEST_P(Streaming, EqualsDecoding) {
  const auto tokenizer = Tokenizer::Load(FixturePath(GetParam()));
  for (const TextCase& c : ReadCases(GetParam())) {
    EXPECT_EQ(Stream(*tokenizer, c.ids), c.decoded) << c.input;
    EXPECT_EQ(Stream(*tokenizer, c.ids, true), ReplaceInvalidUtf8(tokenizer->Decode(c.ids, true))) << c.input;
  }
}

// Tokens in any order: characters are torn and joined anew.
TEST_P(Streaming, EqualsDecodingForAnyTokens) {
  const auto tokenizer = Tokenizer::Load(FixturePath(GetParam()));
  std::mt19937 random(7);
  // The low ids are single bytes, so that most sequences break.
  for (int32_t range : {260, tokenizer->vocab_size() + 10}) {
    for (int round = 0; round < 500; ++round) {
      std::vector<int32_t> ids(random() % 20);
      for (int32_t& id : ids) id = static_cast<int32_t>(random() % static_cast<unsigned>(range));
      EXPECT_EQ(Stream(*tokenizer, ids), ReplaceInvalidUtf8(tokenizer->Decode(ids)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Streaming, testing::Values("deepseek-v2", "deepseek-v3", "kimi-k2"));

TEST(StreamDecoder, HoldsBackUntilTheCharacterIsWhole) {
  const auto tokenizer = Tokenizer::Load(FixturePath("kimi-k2"));
  const auto byte = [&](const char* b) { return *tokenizer->TokenId(b); };
  StreamDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.Push(byte("\xf0")), "");
  EXPECT_EQ(decoder.Push(byte("\x9f")), "");
  EXPECT_EQ(decoder.Push(byte("\x98")), "");
  EXPECT_EQ(decoder.Push(byte("\x80")), "\xf0\x9f\x98\x80");
  EXPECT_EQ(decoder.Push(byte("\xe4")), "");
  EXPECT_EQ(decoder.Push(byte("a")),
            "\xef\xbf\xbd"
            "a");
  EXPECT_EQ(decoder.Push(byte("\xe4")), "");
  EXPECT_EQ(decoder.Flush(), "\xef\xbf\xbd");
  ExpectError(ErrorCode::kTokenRange, "-5", [&] { decoder.Push(-5); });
}

}  // namespace
}  // namespace mxmla
