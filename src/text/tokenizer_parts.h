// What a Tokenizer is made of; each kind of tokenizer file fills it in its way.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <vector>

#include "text/added_tokens.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/subword_model.h"
#include "text/token_decoder.h"
#include "text/vocabulary.h"

namespace mxmla {

struct TokenizerParts {
  Vocabulary vocabulary;
  AddedTokens added_tokens;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::unique_ptr<SubwordModel> model;
  TokenDecoder::LeadingSpace leading_space = TokenDecoder::LeadingSpace::kKept;
  std::vector<int32_t> prefix_ids;
  std::vector<int32_t> suffix_ids;
  std::optional<int32_t> bos_id;
  std::optional<int32_t> eos_id;
  // Kimi's tokenizer cuts a text by characters before it looks for anything in it.
  bool is_cut_like_kimi = false;
};

// `config` is of ReadTokenizerConfig.
std::unique_ptr<TokenizerParts> LoadTokenizerJson(const std::filesystem::path& path, const nlohmann::json& config);
// Mistral's tekken.json.
std::unique_ptr<TokenizerParts> LoadTekken(const std::filesystem::path& path);
std::unique_ptr<TokenizerParts> LoadTiktoken(const std::filesystem::path& path, const nlohmann::json& config);

}  // namespace mxmla
