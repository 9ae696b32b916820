// Mistral's tekken.json: special tokens, then the ranks of a byte-level BPE.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <unordered_set>

#include "core/error.h"
#include "text/base64.h"
#include "text/bpe.h"
#include "text/json_fields.h"
#include "text/tokenizer_parts.h"

namespace mxmla {
namespace {

int64_t SizeField(const nlohmann::json& config, const char* name, const std::string& subject) {
  const int64_t size = IdField(Field(config, name, subject), subject + "." + name);
  if (size >= 0 && size <= Vocabulary::kLargestId + 1) return size;
  Fail(ErrorCode::kTokenizer, fmt::format("{}.{}", subject, name), fmt::format("0 to {}", Vocabulary::kLargestId + 1),
       fmt::format("{}", size));
}

const nlohmann::json& ArrayField(const nlohmann::json& json, const char* name, const std::string& file) {
  const nlohmann::json& array = Field(json, name, file);
  if (!array.is_array()) Fail(ErrorCode::kTokenizer, fmt::format("{}: {}", file, name), "an array", array.type_name());
  return array;
}

// The ids 0 to count - 1: those that the file names, and fillers for the rest, as mistral-common makes them.
std::vector<AddedToken> SpecialTokens(const nlohmann::json& json, int64_t count, const std::string& file) {
  const std::string subject = file + ": special_tokens";
  std::vector<AddedToken> tokens(static_cast<size_t>(count));
  if (HasField(json, "special_tokens")) {
    for (const nlohmann::json& entry : ArrayField(json, "special_tokens", file)) {
      const int64_t rank = IdField(Field(entry, "rank", subject), subject);
      if (rank < 0 || rank >= count) {
        Fail(ErrorCode::kTokenizer, subject, fmt::format("ranks from 0 to {}", count - 1), fmt::format("{}", rank));
      }
      tokens[static_cast<size_t>(rank)].content = StringField(entry, "token_str", subject);
    }
  } else {
    // Files of version 3 hold none: the first ones were these.
    constexpr const char* kNames[] = {"<unk>",
                                      "<s>",
                                      "</s>",
                                      "[INST]",
                                      "[/INST]",
                                      "[AVAILABLE_TOOLS]",
                                      "[/AVAILABLE_TOOLS]",
                                      "[TOOL_RESULTS]",
                                      "[/TOOL_RESULTS]",
                                      "[TOOL_CALLS]",
                                      "[IMG]",
                                      "<pad>",
                                      "[IMG_BREAK]",
                                      "[IMG_END]",
                                      "[PREFIX]",
                                      "[MIDDLE]",
                                      "[SUFFIX]",
                                      "[SYSTEM_PROMPT]",
                                      "[/SYSTEM_PROMPT]",
                                      "[TOOL_CONTENT]"};
    for (size_t i = 0; i < std::min(tokens.size(), std::size(kNames)); ++i) tokens[i].content = kNames[i];
  }
  std::unordered_set<std::string> seen;
  for (size_t id = 0; id < tokens.size(); ++id) {
    AddedToken& token = tokens[id];
    if (token.content.empty()) token.content = fmt::format("<SPECIAL_{}>", id);
    token.id = static_cast<int32_t>(id);
    token.is_special = true;
    if (!seen.insert(token.content).second) {
      Fail(ErrorCode::kTokenizer, subject, "each token once", fmt::format("\"{}\" twice", token.content));
    }
  }
  return tokens;
}

}  // namespace

std::unique_ptr<TokenizerParts> LoadTekken(const std::filesystem::path& path) {
  const std::string file = path.string();
  const nlohmann::json json = ReadJsonObject(path, ErrorCode::kTokenizer);
  const std::string subject = file + ": config";
  const nlohmann::json& config = Field(json, "config", file);
  const int64_t specials = SizeField(config, "default_num_special_tokens", subject);
  const int64_t size = SizeField(config, "default_vocab_size", subject);
  const nlohmann::json& vocab = ArrayField(json, "vocab", file);
  // The file may hold more ranks than the model uses.
  const int64_t ranks = size - specials;
  if (ranks < 256 || ranks > static_cast<int64_t>(vocab.size())) {
    Fail(ErrorCode::kTokenizer, subject + ".default_vocab_size",
         fmt::format("{} special tokens and 256 to {} ranks", specials, vocab.size()), fmt::format("{}", size));
  }
  std::vector<AddedToken> special = SpecialTokens(json, specials, file);
  std::vector<Vocabulary::Token> tokens;
  for (const AddedToken& token : special)
    tokens.push_back({token.id, token.content, Vocabulary::Kind::kSpecial, false});
  std::unordered_set<std::string> seen;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const std::string place = fmt::format("{}: vocab, entry {}", file, rank);
    const nlohmann::json& entry = vocab[static_cast<size_t>(rank)];
    Vocabulary::Token token{rank + specials, {}, Vocabulary::Kind::kOrdinary, true};
    const int64_t found = IdField(Field(entry, "rank", place), place);
    if (found != rank) Fail(ErrorCode::kTokenizer, place, fmt::format("rank {}", rank), fmt::format("{}", found));
    if (!DecodeBase64(StringField(entry, "token_bytes", place), &token.bytes)) {
      Fail(ErrorCode::kTokenizer, place, "token_bytes in base64", "another text");
    }
    if (!seen.insert(token.bytes).second) Fail(ErrorCode::kTokenizer, place, "each token once", "one twice");
    tokens.push_back(std::move(token));
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (!seen.contains(std::string(1, static_cast<char>(byte)))) {
      Fail(ErrorCode::kTokenizer, file, "a token for every single byte", fmt::format("none for byte {}", byte));
    }
  }
  auto parts = std::make_unique<TokenizerParts>();
  parts->vocabulary = Vocabulary(tokens, file);
  parts->added_tokens = AddedTokens(std::move(special));
  parts->pre_tokenizer = PreTokenizer::FromExpression(StringField(config, "pattern", subject), subject + ".pattern");
  parts->model = std::make_unique<RankBpe>(&parts->vocabulary);
  parts->bos_id = parts->added_tokens.Find("<s>");
  parts->eos_id = parts->added_tokens.Find("</s>");
  if (parts->bos_id) parts->prefix_ids = {*parts->bos_id};
  return parts;
}

}  // namespace mxmla
