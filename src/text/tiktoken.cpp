// Kimi's tiktoken.model: a line a token, its bytes in base64 and its rank.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "core/error.h"
#include "text/base64.h"
#include "text/bpe.h"
#include "text/json_fields.h"
#include "text/special_tokens.h"
#include "text/tokenizer_parts.h"

namespace mxmla {
namespace {

// Kimi's splitting expression, as its tokenization_kimi.py publishes it.
constexpr std::string_view kKimiExpression =
    R"([\p{Han}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+)"
    R"(|\s+(?!\S))"
    R"(|\s+)";

// Ids behind the ranks that are special tokens, with a name of their own or not.
constexpr int64_t kReserved = 256;

std::vector<Vocabulary::Token> ReadRanks(std::string_view text, const std::string& file) {
  std::vector<Vocabulary::Token> tokens;
  std::unordered_set<std::string> seen;
  size_t number = 0;
  while (!text.empty()) {
    ++number;
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const auto refuse = [&](std::string_view found) {
      Fail(ErrorCode::kTokenizer, fmt::format("{}, line {}", file, number), "a token in base64, a space and its rank",
           fmt::format("{}: \"{}\"", found, line.substr(0, 120)));
    };
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) refuse("no space");
    Vocabulary::Token token{0, {}, Vocabulary::Kind::kOrdinary, true};
    if (!DecodeBase64(line.substr(0, space), &token.bytes)) refuse("no base64");
    const std::string_view rank = line.substr(space + 1);
    const auto [stop, error] = std::from_chars(rank.data(), rank.data() + rank.size(), token.id);
    if (error != std::errc() || stop != rank.data() + rank.size()) refuse("no rank");
    if (!seen.insert(token.bytes).second) refuse("a token for the second time");
    tokens.push_back(std::move(token));
  }
  const auto count = static_cast<int64_t>(tokens.size());
  for (const Vocabulary::Token& token : tokens) {
    if (token.id < 0 || token.id >= count) {
      Fail(ErrorCode::kTokenizer, file, fmt::format("the ranks 0 to {} of its {} tokens", count - 1, count),
           fmt::format("rank {}", token.id));
    }
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (!seen.contains(std::string(1, static_cast<char>(byte)))) {
      Fail(ErrorCode::kTokenizer, file, "a token for every single byte", fmt::format("none for byte {}", byte));
    }
  }
  return tokens;
}

// The special tokens by id: those that tokenizer_config.json names, and the others of the reserved range.
std::vector<AddedToken> ReadSpecialTokens(const nlohmann::json& config, int64_t first, const std::string& file) {
  const std::string subject = "tokenizer_config.json: added_tokens_decoder";
  const nlohmann::json& table = Field(config, "added_tokens_decoder", "tokenizer_config.json");
  if (!table.is_object()) Fail(ErrorCode::kTokenizer, subject, "an object", table.type_name());
  std::unordered_map<int64_t, AddedToken> named;
  for (const auto& [key, entry] : table.items()) {
    int64_t id = -1;
    const auto [stop, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || stop != key.data() + key.size() || id < first || id >= first + kReserved) {
      Fail(ErrorCode::kTokenizer, subject,
           fmt::format("ids from {} to {}, behind the ranks of {}", first, first + kReserved - 1, file),
           fmt::format("\"{}\"", key));
    }
    AddedToken token;
    token.content = StringField(entry, "content", subject);
    token.is_special = BoolField(entry, "special", false, subject);
    if (token.content.empty()) Fail(ErrorCode::kTokenizer, subject, "a content", fmt::format("none for id {}", id));
    named.emplace(id, std::move(token));
  }
  std::vector<AddedToken> tokens;
  std::unordered_set<std::string> seen;
  for (int64_t id = first; id < first + kReserved; ++id) {
    AddedToken token;
    const auto found = named.find(id);
    if (found != named.end()) {
      token = found->second;
    } else {
      token.content = fmt::format("<|reserved_token_{}|>", id);
      token.is_special = true;
    }
    token.id = static_cast<int32_t>(id);
    if (!seen.insert(token.content).second) {
      Fail(ErrorCode::kTokenizer, subject, "each content once", fmt::format("\"{}\" twice", token.content));
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// Tokens with a role are special, whatever their entries say.
void MarkNamed(const nlohmann::json& config, std::vector<AddedToken>* tokens) {
  for (const NamedToken& named : NamedSpecialTokens(config)) {
    const auto found = std::find_if(tokens->begin(), tokens->end(),
                                    [&](const AddedToken& token) { return token.content == named.token.content; });
    if (found == tokens->end()) {
      Fail(ErrorCode::kTokenizer, "tokenizer_config.json: " + named.role, "a token of added_tokens_decoder",
           fmt::format("\"{}\"", named.token.content));
    }
    found->is_special = true;
  }
}

std::optional<int32_t> NamedId(const nlohmann::json& config, const char* name, const AddedTokens& tokens) {
  const std::optional<std::string> content = TokenNameField(config, name, "tokenizer_config.json");
  if (!content) return std::nullopt;
  const std::optional<int32_t> id = tokens.Find(*content);
  if (!id) {
    Fail(ErrorCode::kTokenizer, fmt::format("tokenizer_config.json: {}", name), "a special token",
         fmt::format("\"{}\"", *content));
  }
  return id;
}

}  // namespace

std::unique_ptr<TokenizerParts> LoadTiktoken(const std::filesystem::path& path, const nlohmann::json& config) {
  const std::string file = path.string();
  if (HasField(config, "tokenizer_class")) {
    const std::string tokenizer_class = StringField(config, "tokenizer_class", "tokenizer_config.json");
    if (tokenizer_class != "TikTokenTokenizer") {
      Fail(ErrorCode::kTokenizer, "tokenizer_config.json: tokenizer_class", "TikTokenTokenizer for a tiktoken.model",
           tokenizer_class, "only Kimi's splitting of text is known");
    }
  }
  std::vector<Vocabulary::Token> tokens = ReadRanks(ReadTextFile(path, ErrorCode::kTokenizer, size_t{512} << 20), file);
  const auto first = static_cast<int64_t>(tokens.size());
  std::vector<AddedToken> special = ReadSpecialTokens(config, first, file);
  MarkNamed(config, &special);
  for (const AddedToken& token : special) {
    const auto kind = token.is_special ? Vocabulary::Kind::kSpecial : Vocabulary::Kind::kAdded;
    tokens.push_back({token.id, token.content, kind, false});
  }
  auto parts = std::make_unique<TokenizerParts>();
  parts->vocabulary = Vocabulary(tokens, file);
  parts->added_tokens = AddedTokens(std::move(special));
  parts->pre_tokenizer = PreTokenizer::FromExpression(kKimiExpression, file);
  parts->model = std::make_unique<RankBpe>(&parts->vocabulary);
  parts->bos_id = NamedId(config, "bos_token", parts->added_tokens);
  parts->eos_id = NamedId(config, "eos_token", parts->added_tokens);
  parts->is_cut_like_kimi = true;
  return parts;
}

}  // namespace mxmla
