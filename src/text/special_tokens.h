// The special tokens that a folder names beside its tokenizer.json or tiktoken.model.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "text/added_tokens.h"

namespace mxmla {

// tokenizer_config.json (needed where `required`, else an empty object in its place), with the names that
// special_tokens_map.json and added_tokens.json give where the former gives none, as transformers reads them. Throws
// kTokenizer for what is malformed, kMissingFile where a needed file is missing.
nlohmann::json ReadTokenizerConfig(const std::filesystem::path& folder, bool required);

// The flags normalized (by itself the opposite of is_special, which is set already), lstrip, rstrip and single_word of
// an object that describes a token. Throws kTokenizer for one that is no truth value.
void ReadTokenFlags(const nlohmann::json& entry, const std::string& subject, AddedToken* token);

struct NamedToken {
  std::string role;  // the field of tokenizer_config.json
  AddedToken token;  // without id
  bool in_order;     // false: one of an object's, whose order is not known
};

// The tokens that `config` names by their roles: bos_token, eos_token, unk_token, sep_token, pad_token, cls_token,
// mask_token, additional_special_tokens and extra_special_tokens; each content once. A token given as text
// alone strips nothing and is not normalized. Throws kTokenizer for one that is neither text nor an object with it.
std::vector<NamedToken> NamedSpecialTokens(const nlohmann::json& config);

}  // namespace mxmla
