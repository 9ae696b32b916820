#include "text/gguf_vocabulary.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "text/utf8.h"

namespace mxmla {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kPrefix = "tokenizer.ggml.";

enum TokenType : int64_t { kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5 };

template <class T>
const T& Require(const GgufHeader& header, std::string_view key, std::string_view expected,
                 const std::string& subject) {
  std::string full(kPrefix);
  full += key;
  if (const T* value = header.Find<T>(full)) return *value;
  Fail(ErrorCode::kTokenizer, subject + ": " + full, expected,
       header.metadata.contains(full) ? "another type" : "none");
}

void RequireUtf8(const std::vector<std::string_view>& texts, std::string_view key, const std::string& subject) {
  for (size_t i = 0; i < texts.size(); ++i) {
    if (ReplaceInvalidUtf8(texts[i]) == texts[i]) continue;
    Fail(ErrorCode::kTokenizer, fmt::format("{}: {}{}", subject, kPrefix, key), "texts in UTF-8",
         fmt::format("other bytes in text {}", i));
  }
}

Json Split(std::string_view expression) {
  return {{"type", "Split"}, {"pattern", {{"Regex", expression}}}, {"behavior", "Isolated"}, {"invert", false}};
}

Json Sequence(std::initializer_list<std::string_view> expressions, bool digits) {
  Json steps = Json::array();
  for (std::string_view expression : expressions) steps.push_back(Split(expression));
  if (digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  steps.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}});
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

// The expressions of the models' own tokenizer files, by llama.cpp's names for them.
Json PreTokenizerNamed(std::string_view name, const std::string& subject) {
  // GPT-4's, with which Llama 3 and GLM-4 split too.
  constexpr std::string_view kGpt4 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  if (name == "deepseek-v3" || name == "hunyuan-dense" || name == "joyai-llm") {
    return Sequence({R"(\p{N}{1,3})", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
                     "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
                     "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"},
                    false);
  }
  if (name == "deepseek-llm") {
    return Sequence({"[\r\n]",
                     "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af"
                     "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5"
                     "\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba"
                     "\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45"
                     "\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-"
                     "\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107"
                     "\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f"
                     "\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d"
                     "\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17"
                     "\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb"
                     "\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]+",
                     "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", "\\s+$",
                     "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"},
                    true);
  }
  if (name == "glm4" || name == "chatglm-bpe" || name == "llama-bpe") return Sequence({kGpt4}, false);
  if (name == "kimi-k2") {
    return Sequence(
        {R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
        false);
  }
  if (name == "gpt-2" || name == "gpt2") {
    return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  }
  Fail(ErrorCode::kTokenizer, subject + ": tokenizer.ggml.pre", "deepseek-v3, deepseek-llm, glm4, kimi-k2 or gpt-2",
       std::string(name), "run --tokens, logits and inspect work without a tokenizer");
}

}  // namespace

bool IsKimiVocabulary(const GgufHeader& header) {
  const auto* pre = header.Find<std::string_view>("tokenizer.ggml.pre");
  return pre && *pre == "kimi-k2";
}

Json GgufAsTokenizerJson(const GgufHeader& header, const std::string& subject) {
  const auto model = Require<std::string_view>(header, "model", "gpt2, byte-level BPE", subject);
  if (model != "gpt2") {
    Fail(ErrorCode::kTokenizer, subject + ": tokenizer.ggml.model", "gpt2, byte-level BPE", std::string(model));
  }
  const auto& tokens = Require<std::vector<std::string_view>>(header, "tokens", "a list of texts", subject);
  const auto& merges = Require<std::vector<std::string_view>>(header, "merges", "a list of texts", subject);
  const auto pre = Require<std::string_view>(header, "pre", "the pre-tokenizer's name", subject);
  const auto* types = header.Find<std::vector<int64_t>>("tokenizer.ggml.token_type");
  if (types && types->size() != tokens.size()) {
    Fail(ErrorCode::kTokenizer, subject + ": tokenizer.ggml.token_type", fmt::format("{} types", tokens.size()),
         fmt::format("{}", types->size()));
  }
  RequireUtf8(tokens, "tokens", subject);
  RequireUtf8(merges, "merges", subject);
  Json vocab = Json::object();
  Json added = Json::array();
  for (size_t id = 0; id < tokens.size(); ++id) {
    const int64_t type = types ? (*types)[id] : 1;
    if (type == kUnused) continue;
    if (type == kControl || type == kUserDefined || type == kUnknown) {
      added.push_back({{"id", id},
                       {"content", tokens[id]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", type != kUserDefined}});
    } else if (!vocab.emplace(std::string(tokens[id]), id).second) {
      Fail(ErrorCode::kTokenizer, subject + ": tokenizer.ggml.tokens", "each token once",
           fmt::format("token {} twice", id));
    }
  }
  return {{"version", "1.0"},
          {"added_tokens", std::move(added)},
          {"normalizer", nullptr},
          {"pre_tokenizer", PreTokenizerNamed(pre, subject)},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", std::move(vocab)}, {"merges", merges}}}};
}

Json GgufAsTokenizerConfig(const GgufHeader& header, const std::string& subject) {
  Json config = Json::object();
  const auto* tokens = header.Find<std::vector<std::string_view>>("tokenizer.ggml.tokens");
  for (const char* role : {"bos", "eos", "padding", "unknown"}) {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", role);
    const auto* id = header.Find<int64_t>(key);
    if (!id || !tokens) continue;
    if (*id < 0 || *id >= static_cast<int64_t>(tokens->size())) {
      Fail(ErrorCode::kTokenizer, subject + ": " + key, fmt::format("an id below {}", tokens->size()),
           fmt::format("{}", *id));
    }
    const std::string_view name = role == std::string_view("padding")   ? "pad"
                                  : role == std::string_view("unknown") ? "unk"
                                                                        : role;
    config[std::string(name) + "_token"] = (*tokens)[static_cast<size_t>(*id)];
  }
  for (const char* key : {"add_bos_token", "add_eos_token"}) {
    const auto* adds = header.Find<bool>(std::string(kPrefix) + key);
    config[key] = adds && *adds;
  }
  const auto* whole = header.Find<std::string_view>("tokenizer.chat_template");
  const auto* names = header.Find<std::vector<std::string_view>>("tokenizer.chat_templates");
  if (!names) {
    if (whole) config["chat_template"] = *whole;
    return config;
  }
  Json templates = Json::array();
  if (whole) templates.push_back({{"name", "default"}, {"template", *whole}});
  for (std::string_view name : *names) {
    const auto* text = header.Find<std::string_view>(fmt::format("tokenizer.chat_template.{}", name));
    if (text) templates.push_back({{"name", name}, {"template", *text}});
  }
  if (!templates.empty()) config["chat_template"] = templates;
  return config;
}

}  // namespace mxmla
