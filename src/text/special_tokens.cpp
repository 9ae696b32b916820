#include "text/special_tokens.h"

#include <nlohmann/json.hpp>
#include <unordered_set>

#include "text/json_fields.h"

namespace mxmla {
namespace {

constexpr const char* kRoles[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};
constexpr const char* kLists[] = {"additional_special_tokens", "extra_special_tokens"};

// A token as text, or as an object with its flags.
AddedToken ReadToken(const nlohmann::json& value, const std::string& subject) {
  AddedToken token;
  token.is_special = true;
  if (value.is_string()) {
    token.content = value.get<std::string>();
    return token;
  }
  token.content = StringField(value, "content", subject);
  ReadTokenFlags(value, subject, &token);
  return token;
}

// The roles that special_tokens_map.json names and `config` does not.
void AddRoles(const std::filesystem::path& path, nlohmann::json* config) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return;
  const nlohmann::json map = ReadJsonObject(path, ErrorCode::kTokenizer);
  const auto add = [&](const char* name) {
    if (HasField(map, name) && !HasField(*config, name)) (*config)[name] = map[name];
  };
  for (const char* name : kRoles) add(name);
  for (const char* name : kLists) add(name);
}

// added_tokens.json, an older form of the field added_tokens_decoder.
void AddTokenFile(const std::filesystem::path& path, nlohmann::json* config) {
  std::error_code error;
  if (HasField(*config, "added_tokens_decoder") || !std::filesystem::exists(path, error)) return;
  nlohmann::json table = nlohmann::json::object();
  const nlohmann::json ids = ReadJsonObject(path, ErrorCode::kTokenizer);
  for (const auto& [content, id] : ids.items()) {
    const std::string key = std::to_string(IdField(id, path.string()));
    if (table.contains(key)) Fail(ErrorCode::kTokenizer, path.string(), "each id once", key + " twice");
    table[key] = {{"content", content}};
  }
  (*config)["added_tokens_decoder"] = std::move(table);
}

}  // namespace

nlohmann::json ReadTokenizerConfig(const std::filesystem::path& folder, bool required) {
  std::error_code error;
  nlohmann::json config = nlohmann::json::object();
  const std::filesystem::path config_path = folder / "tokenizer_config.json";
  if (required || std::filesystem::exists(config_path, error)) {
    config = ReadJsonObject(config_path, ErrorCode::kTokenizer);
  }
  AddRoles(folder / "special_tokens_map.json", &config);
  AddTokenFile(folder / "added_tokens.json", &config);
  return config;
}

void ReadTokenFlags(const nlohmann::json& entry, const std::string& subject, AddedToken* token) {
  token->is_normalized = BoolField(entry, "normalized", !token->is_special, subject);
  token->strips_left = BoolField(entry, "lstrip", false, subject);
  token->strips_right = BoolField(entry, "rstrip", false, subject);
  token->is_single_word = BoolField(entry, "single_word", false, subject);
}

std::vector<NamedToken> NamedSpecialTokens(const nlohmann::json& config) {
  std::vector<NamedToken> tokens;
  std::unordered_set<std::string> seen;
  const auto add = [&](const char* role, const nlohmann::json& value, bool in_order) {
    AddedToken token = ReadToken(value, std::string("tokenizer_config.json: ") + role);
    if (!token.content.empty() && seen.insert(token.content).second) {
      tokens.push_back({role, std::move(token), in_order});
    }
  };
  for (const char* role : kRoles) {
    if (HasField(config, role)) add(role, config[role], true);
  }
  for (const char* role : kLists) {
    if (!HasField(config, role)) continue;
    // A list, or an object from roles of the model's own to tokens.
    const nlohmann::json& list = config[role];
    if (!list.is_array() && !list.is_object()) {
      Fail(ErrorCode::kTokenizer, std::string("tokenizer_config.json: ") + role, "an array or object of tokens",
           list.type_name());
    }
    for (const nlohmann::json& value : list) add(role, value, list.is_array() || list.size() == 1);
  }
  return tokens;
}

}  // namespace mxmla
