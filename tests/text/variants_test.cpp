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
