// Tokenizer files that are damaged, hostile or beyond what is carried out.
#include "fixture.h"

namespace mxmla {
namespace {

using Json = nlohmann::json;

class MalformedJson : public testing::Test {
 protected:
  MalformedJson()
      : json_(ReadFixture("deepseek-v3/tokenizer.json")), config_(ReadFixture("deepseek-v3/tokenizer_config.json")) {}

  void ExpectRefused(const std::string& part, const std::function<void(Json&)>& change) const {
    Json json = json_;
    change(json);
    ExpectError(ErrorCode::kTokenizer, part, [&] { LoadJson(json, config_); });
  }

  void ExpectConfigRefused(const std::string& part, const Json& patch) const {
    Json config = config_;
    config.update(patch);
    ExpectError(ErrorCode::kTokenizer, part, [&] { LoadJson(json_, config); });
  }

  Json json_;
  Json config_;
};

TEST_F(MalformedJson, UnchangedLoads) { EXPECT_NE(LoadJson(json_, config_), nullptr); }

TEST_F(MalformedJson, NotJson) {
  for (const std::string& text :
       std::vector<std::string>{"", "{", "[]", "null", "\xff\xfe", "{\"model\": \"\\ud800\"}", std::string(200000, '['),
                                "{\"a\":" + std::string(5000, '{')}) {
    const ScratchFolder folder;
    folder.Write("tokenizer.json", text);
    ExpectError(ErrorCode::kTokenizer, "tokenizer.json", [&] { Tokenizer::Load(folder.path()); });
  }
}

// Cuts the file off here and there; no cut may crash.
TEST_F(MalformedJson, Truncated) {
  const std::string text = json_.dump();
  for (size_t length = 0; length < text.size(); length += text.size() / 60) {
    const ScratchFolder folder;
    folder.Write("tokenizer.json", text.substr(0, length));
    ExpectError(ErrorCode::kTokenizer, "a JSON object", [&] { Tokenizer::Load(folder.path()); });
  }
}

// Each part in turn replaced by values of other types: an error or a tokenizer, never anything else.
TEST_F(MalformedJson, OtherTypesEverywhere) {
  for (const Json& value : {Json(nullptr), Json(-3), Json("x"), Json::array({1}), Json{{"type", "Sequence"}}}) {
    for (const char* pointer : {"/model",
                                "/model/type",
                                "/model/vocab",
                                "/model/merges",
                                "/model/merges/0",
                                "/model/byte_fallback",
                                "/model/dropout",
                                "/model/unk_token",
                                "/model/continuing_subword_prefix",
                                "/model/ignore_merges",
                                "/added_tokens",
                                "/added_tokens/0",
                                "/added_tokens/0/id",
                                "/added_tokens/0/content",
                                "/added_tokens/0/special",
                                "/normalizer",
                                "/normalizer/normalizers",
                                "/pre_tokenizer",
                                "/pre_tokenizer/pretokenizers",
                                "/pre_tokenizer/pretokenizers/0",
                                "/pre_tokenizer/pretokenizers/0/pattern",
                                "/pre_tokenizer/pretokenizers/0/pattern/Regex",
                                "/pre_tokenizer/pretokenizers/0/behavior",
                                "/pre_tokenizer/pretokenizers/0/invert",
                                "/post_processor",
                                "/decoder"}) {
      Json json = json_;
      json[Json::json_pointer(pointer)] = value;
      try {
        LoadJson(json, config_)->Encode("text", true);
      } catch (const Error&) {
      }
    }
    for (const char* name : {"bos_token", "eos_token", "add_bos_token", "tokenizer_class", "added_tokens_decoder",
                             "additional_special_tokens", "extra_special_tokens", "pad_token"}) {
      Json config = config_;
      config[name] = value;
      try {
        LoadJson(json_, config)->Encode("text", true);
      } catch (const Error&) {
      }
    }
  }
}

TEST_F(MalformedJson, Vocabulary) {
  ExpectRefused("\"vocab\"", [](Json& j) { j["model"].erase("vocab"); });
  ExpectRefused("id -1", [](Json& j) { j["model"]["vocab"]["q"] = -1; });
  ExpectRefused("id 4194304", [](Json& j) { j["model"]["vocab"]["q"] = 4194304; });
  ExpectRefused("id 9223372036854775807", [](Json& j) { j["model"]["vocab"]["q"] = UINT64_MAX; });
  ExpectRefused("a whole number", [](Json& j) { j["model"]["vocab"]["q"] = 1.5; });
  ExpectRefused("one token an id", [](Json& j) { j["model"]["vocab"]["another"] = 7; });
}

TEST_F(MalformedJson, Merges) {
  ExpectRefused("\"nowhere\"", [](Json& j) { j["model"]["merges"].push_back({"nowhere", "a"}); });
  ExpectRefused("\"nowhere\"", [](Json& j) { j["model"]["merges"].push_back("a nowhere"); });
  ExpectRefused("\"zq\"", [](Json& j) { j["model"]["merges"].push_back("z q"); });
  for (const Json& merge : {Json("a"), Json("a b c"), Json(""), Json::array({"a"}), Json::array({"a", 1}), Json(1)}) {
    ExpectRefused("two tokens", [&](Json& j) { j["model"]["merges"].push_back(merge); });
  }
}

TEST_F(MalformedJson, AddedTokens) {
  const auto token = [](const char* content, Json id) { return Json{{"content", content}, {"id", std::move(id)}}; };
  ExpectRefused("id -7", [&](Json& j) { j["added_tokens"].push_back(token("<x>", -7)); });
  ExpectRefused("a whole number", [&](Json& j) { j["added_tokens"].push_back(token("<x>", "1")); });
  ExpectRefused("id 1099511627776", [&](Json& j) { j["added_tokens"].push_back(token("<x>", int64_t{1} << 40)); });
  ExpectRefused("one token an id", [&](Json& j) { j["added_tokens"].push_back(token("<x>", 9)); });
  ExpectRefused("as in the vocabulary", [&](Json& j) { j["added_tokens"].push_back(token("a", 5000)); });
  ExpectRefused("twice", [&](Json& j) { j["added_tokens"].push_back(j["added_tokens"][0]); });
}

TEST_F(MalformedJson, BeyondWhatIsCarriedOut) {
  ExpectRefused("Unigram", [](Json& j) { j["model"]["type"] = "Unigram"; });
  ExpectRefused("byte_fallback", [](Json& j) { j["model"]["byte_fallback"] = true; });
  ExpectRefused("dropout", [](Json& j) { j["model"]["dropout"] = 0.1; });
  ExpectRefused("unk_token", [](Json& j) { j["model"]["unk_token"] = "<unk>"; });
  ExpectRefused("end_of_word_suffix", [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; });
  ExpectRefused("BertNormalizer", [](Json& j) { j["normalizer"] = {{"type", "BertNormalizer"}}; });
  ExpectRefused("Nmt", [](Json& j) { j["normalizer"]["normalizers"].push_back({{"type", "Nmt"}}); });
  ExpectRefused("replacement", [](Json& j) { j["pre_tokenizer"] = {{"type", "Metaspace"}}; });
  ExpectRefused("BertPreTokenizer", [](Json& j) { j["pre_tokenizer"] = {{"type", "BertPreTokenizer"}}; });
  ExpectRefused("ByteLevel", [](Json& j) { j["pre_tokenizer"] = nullptr; });
  ExpectRefused("Digits behind it", [](Json& j) {
    j["pre_tokenizer"]["pretokenizers"].push_back({{"type", "Digits"}});
  });
  ExpectRefused("RobertaProcessing", [](Json& j) { j["post_processor"] = {{"type", "RobertaProcessing"}}; });
  ExpectRefused("WordPiece", [](Json& j) { j["decoder"] = {{"type", "WordPiece"}}; });
  ExpectRefused("MergedSideways",
                [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "MergedSideways"; });
}

TEST_F(MalformedJson, Expressions) {
  for (const char* pattern : {"(", "[", "\\", "[z-a]", "(?<n>a)", "\\p{Klingon}", "(?<=a*)b"}) {
    ExpectRefused("pre_tokenizer", [&](Json& j) {
      j["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {{"Regex", pattern}};
    });
  }
  ExpectRefused("not empty", [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {{"String", ""}}; });
}

TEST_F(MalformedJson, CatastrophicExpressionFailsWhenSearched) {
  Json json = json_;
  json["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {{"Regex", "(?:a|aa)+$"}};
  const auto tokenizer = LoadJson(json);
  EXPECT_FALSE(tokenizer->Encode("harmless", false).empty());
  ExpectError(ErrorCode::kTokenizer, "backtracks", [&] { tokenizer->Encode(std::string(300, 'a') + "b", false); });
}

TEST_F(MalformedJson, DeeplyNestedSequence) {
  Json nested = {{"type", "ByteLevel"}};
  for (int i = 0; i < 25; ++i) nested = {{"type", "Sequence"}, {"pretokenizers", Json::array({nested})}};
  ExpectRefused("too deeply", [&](Json& j) { j["pre_tokenizer"] = nested; });
}

TEST_F(MalformedJson, TemplateProcessing) {
  const auto with = [](Json single, Json special) {
    return [=](Json& j) {
      j["post_processor"] = {{"type", "TemplateProcessing"}, {"single", single}, {"special_tokens", special}};
    };
  };
  const Json text = {{"Sequence", {{"id", "A"}}}};
  const Json bos = {{"SpecialToken", {{"id", "b"}}}};
  ExpectRefused("\"b\"", with(Json::array({bos, text}), Json::object()));
  ExpectRefused("ids of the vocabulary", with(Json::array({bos, text}), {{"b", {{"ids", {999999}}}}}));
  ExpectRefused("ids of the vocabulary", with(Json::array({bos, text}), {{"b", {{"ids", {-1}}}}}));
  ExpectRefused("twice", with(Json::array({text, text}), Json::object()));
  ExpectRefused("the text", with(Json::array(), Json::object()));
}

TEST_F(MalformedJson, Config) {
  ExpectConfigRefused("bos_token", {{"bos_token", "<unknown>"}});
  ExpectConfigRefused("bos_token", {{"bos_token", nullptr}});
  ExpectConfigRefused("bos_token", {{"bos_token", Json::object()}});
  ExpectConfigRefused("add_bos_token", {{"add_bos_token", "yes"}});
  ExpectConfigRefused("added_tokens_decoder", {{"added_tokens_decoder", Json::array()}});
  ExpectConfigRefused("<new>", {{"added_tokens_decoder", {{"5000", {{"content", "<new>"}}}}}});
  ExpectConfigRefused("\"<b>\"", {{"extra_special_tokens", {{"one", "<b>"}, {"two", "<c>"}}}});
  ExpectConfigRefused("pad_token", {{"pad_token", 7}});
  ExpectConfigRefused("additional_special_tokens", {{"additional_special_tokens", "x"}});
  const ScratchFolder folder;
  folder.Write("tokenizer.json", json_.dump());
  folder.Write("tokenizer_config.json", "{]");
  ExpectError(ErrorCode::kTokenizer, "tokenizer_config.json", [&] { Tokenizer::Load(folder.path()); });
}

TEST(MissingFiles, AreNamed) {
  const ScratchFolder folder;
  ExpectError(ErrorCode::kMissingFile, "tokenizer.json, tekken.json or tiktoken.model",
              [&] { Tokenizer::Load(folder.path()); });
  ExpectError(ErrorCode::kMissingFile, "none of them", [&] { Tokenizer::Load(folder.path() / "nowhere"); });
  folder.Write("tiktoken.model", "YQ== 0\n");
  ExpectError(ErrorCode::kMissingFile, "tokenizer_config.json", [&] { Tokenizer::Load(folder.path()); });
  std::filesystem::create_directory(folder.path() / "tokenizer.json");
  ExpectError(ErrorCode::kMissingFile, "tokenizer.json", [&] { Tokenizer::Load(folder.path()); });
}

class MalformedTiktoken : public testing::Test {
 protected:
  MalformedTiktoken() : config_(ReadFixture("kimi-k2/tokenizer_config.json")) {
    std::filesystem::copy(FixturePath("kimi-k2/tiktoken.model"), folder_.path());
    std::filesystem::copy(FixturePath("kimi-k2/tokenizer_config.json"), folder_.path());
  }

  void ExpectRefused(const std::string& part) const {
    ExpectError(ErrorCode::kTokenizer, part, [&] { Tokenizer::Load(folder_.path()); });
  }

  void ExpectConfigRefused(const std::string& part, const std::function<void(Json&)>& change) const {
    Json config = config_;
    change(config);
    folder_.Write("tokenizer_config.json", config.dump());
    ExpectRefused(part);
  }

  ScratchFolder folder_;
  Json config_;
};

TEST_F(MalformedTiktoken, UnchangedLoads) { EXPECT_NE(Tokenizer::Load(folder_.path()), nullptr); }

TEST_F(MalformedTiktoken, Lines) {
  for (const char* text : {"YQ==", "YQ==0", "YQ= 0", "YQ 0", "Y*== 0", "=YQ= 0", "==== 0", " 0", "YQ== ", "YQ== x",
                           "YQ== 0x", "YQ==  0", "YQ== 99999999999999999999", "YQ== 0\nYQ== 1"}) {
    folder_.Write("tiktoken.model", text);
    ExpectRefused("tiktoken.model, line");
  }
}

TEST_F(MalformedTiktoken, Ranks) {
  for (const char* text : {"YQ== -1", "YQ== 1", "YQ== 0\nYg== 5"}) {
    folder_.Write("tiktoken.model", text);
    ExpectRefused("the ranks");
  }
  folder_.Write("tiktoken.model", "YQ== 0\r\n\r\nYg== 1\r\n");
  ExpectRefused("every single byte");
  folder_.Write("tiktoken.model", "");
  ExpectRefused("every single byte");
}

TEST_F(MalformedTiktoken, SpecialTokens) {
  ExpectConfigRefused("added_tokens_decoder", [](Json& c) { c.erase("added_tokens_decoder"); });
  ExpectConfigRefused("\"3\"", [](Json& c) { c["added_tokens_decoder"]["3"] = {{"content", "x"}}; });
  ExpectConfigRefused("\"-3\"", [](Json& c) { c["added_tokens_decoder"]["-3"] = {{"content", "x"}}; });
  ExpectConfigRefused("\"x\"", [](Json& c) { c["added_tokens_decoder"]["x"] = {{"content", "x"}}; });
  ExpectConfigRefused("\"99999999999999999999\"", [](Json& c) {
    c["added_tokens_decoder"]["99999999999999999999"] = {{"content", "x"}};
  });
  ExpectConfigRefused("a content", [](Json& c) { c["added_tokens_decoder"].begin().value()["content"] = ""; });
  ExpectConfigRefused("twice", [](Json& c) {
    for (Json& entry : c["added_tokens_decoder"]) entry["content"] = "same";
  });
  ExpectConfigRefused("bos_token", [](Json& c) { c["bos_token"] = "<unknown>"; });
  ExpectConfigRefused("QWenTokenizer", [](Json& c) { c["tokenizer_class"] = "QWenTokenizer"; });
}

}  // namespace
}  // namespace mxmla
