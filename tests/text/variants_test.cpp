// Tokenizers whose parts differ from the published ones: Split behaviors, flags of added tokens, templates.
#include "fixture.h"
#include "text/utf8.h"

namespace mxmla {
namespace {

TEST(Variants, AreThoseOfTheReference) {
  const nlohmann::json base = ReadFixture("variants-base.json");
  for (const nlohmann::json& variant : ReadFixture("variants.json")) {
    nlohmann::json json = base;
    for (const auto& [key, value] : variant["patch"].items()) {
      if (key == "model") {
        json[key].update(value);
      } else {
        json[key] = value;
      }
    }
    const auto tokenizer = LoadJson(json);
    for (const nlohmann::json& row : variant["rows"]) {
      const auto text = row[0].get<std::string>();
      const std::string what = text + " with " + variant["patch"].dump();
      EXPECT_EQ(tokenizer->Encode(text, false), row[1].get<std::vector<int32_t>>()) << what;
      const auto with_special = row[2].get<std::vector<int32_t>>();
      EXPECT_EQ(tokenizer->Encode(text, true), with_special) << what;
      EXPECT_EQ(ReplaceInvalidUtf8(tokenizer->Decode(with_special, true)), row[3].get<std::string>()) << what;
    }
  }
}

// Tokens that the files beside tokenizer.json name: found in texts, with the ids and flags that transformers gives
// them.
TEST(Variants, SpecialTokensOfOtherFilesAreThoseOfTheReference) {
  const nlohmann::json base = ReadFixture("variants-base.json");
  for (const nlohmann::json& variant : ReadFixture("special-tokens.json")) {
    nlohmann::json json = base;
    json["added_tokens"] = variant["added_tokens"];
    const ScratchFolder folder;
    folder.Write("tokenizer.json", json.dump());
    folder.Write("tokenizer_config.json", variant["config"].dump());
    if (!variant["map"].is_null()) folder.Write("special_tokens_map.json", variant["map"].dump());
    if (variant.contains("older")) folder.Write("added_tokens.json", variant["older"].dump());
    const auto tokenizer = Tokenizer::Load(folder.path());
    for (const nlohmann::json& row : variant["rows"]) {
      const auto text = row[0].get<std::string>();
      const std::string what = text + " with " + variant["config"].dump() + variant["map"].dump();
      const auto ids = row[1].get<std::vector<int32_t>>();
      EXPECT_EQ(tokenizer->Encode(text, false), ids) << what;
      EXPECT_EQ(tokenizer->Decode(ids, true), row[2].get<std::string>()) << what;
    }
  }
}

TEST(Variants, MergesMayBePairs) {
  nlohmann::json json = ReadFixture("deepseek-v3/tokenizer.json");
  nlohmann::json& merges = json["model"]["merges"];
  const bool are_pairs = merges.front().is_array();
  for (nlohmann::json& merge : merges) {
    if (are_pairs) {
      merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
    } else {
      const auto text = merge.get<std::string>();
      merge = {text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)};
    }
  }
  const auto tokenizer = LoadJson(json);
  for (const TextCase& c : ReadCases("deepseek-v3")) EXPECT_EQ(tokenizer->Encode(c.input, false), c.ids) << c.input;
}

}  // namespace
}  // namespace mxmla
