// The tokenizers library's tokenizer.json.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "core/error.h"
#include "text/bpe.h"
#include "text/byte_level.h"
#include "text/json_fields.h"
#include "text/special_tokens.h"
#include "text/tokenizer_parts.h"
#include "text/unigram.h"

namespace mxmla {
namespace {

constexpr int kDeepest = 16;

using Ids = std::unordered_map<std::string, int64_t>;

// Fields of a BPE model that change what it does in ways that no known model uses.
void CheckBpe(const nlohmann::json& model, bool is_byte_level, const std::string& subject) {
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (HasField(model, name) && !StringField(model, name, subject).empty()) {
      Fail(ErrorCode::kTokenizer, subject, fmt::format("no {}", name), StringField(model, name, subject));
    }
  }
  for (const char* name : {"dropout", "unk_token"}) {
    if (name == std::string_view("unk_token") && !is_byte_level) continue;
    if (HasField(model, name) && model[name] != 0) {
      Fail(ErrorCode::kTokenizer, subject, fmt::format("no {}", name), model[name].dump().substr(0, 60));
    }
  }
  if (is_byte_level && BoolField(model, "byte_fallback", false, subject)) {
    Fail(ErrorCode::kTokenizer, subject, "byte_fallback false", "true", "the byte-level alphabet has every byte");
  }
}

Ids ReadVocab(const nlohmann::json& model, const std::string& subject) {
  const nlohmann::json& vocab = Field(model, "vocab", subject);
  if (!vocab.is_object()) Fail(ErrorCode::kTokenizer, subject, "an object in \"vocab\"", vocab.type_name());
  Ids ids;
  ids.reserve(vocab.size());
  for (const auto& [token, id] : vocab.items()) {
    const int64_t value = IdField(id, subject);
    if (value < 0 || value > Vocabulary::kLargestId) {
      Fail(ErrorCode::kTokenizer, subject, fmt::format("token ids from 0 to {}", Vocabulary::kLargestId),
           fmt::format("id {} for token \"{}\"", value, token));
    }
    ids.emplace(token, value);
  }
  return ids;
}

std::pair<std::string, std::string> ReadPair(const nlohmann::json& merge, size_t rank, const std::string& subject) {
  if (merge.is_string()) {
    const auto& text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  Fail(ErrorCode::kTokenizer, fmt::format("{}, merge {}", subject, rank), "two tokens", merge.dump().substr(0, 200));
}

std::vector<Merge> ReadMerges(const nlohmann::json& model, const Ids& ids, const std::string& subject) {
  const nlohmann::json& merges = Field(model, "merges", subject);
  if (!merges.is_array()) Fail(ErrorCode::kTokenizer, subject, "an array in \"merges\"", merges.type_name());
  std::vector<Merge> read;
  read.reserve(merges.size());
  const auto id_of = [&](const std::string& token, size_t rank) {
    const auto found = ids.find(token);
    if (found == ids.end()) {
      Fail(ErrorCode::kTokenizer, fmt::format("{}, merge {}", subject, rank), "tokens of the vocabulary",
           fmt::format("\"{}\", which is not in it", token));
    }
    return static_cast<int32_t>(found->second);
  };
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    // A version line that an old merges.txt left behind.
    if (merges[rank].is_string() && merges[rank].get_ref<const std::string&>().starts_with("#version")) continue;
    const auto [left, right] = ReadPair(merges[rank], rank, subject);
    read.push_back({id_of(left, rank), id_of(right, rank), id_of(left + right, rank)});
  }
  return read;
}

std::vector<AddedToken> ReadAddedTokens(const nlohmann::json& json, const Ids& ids, const std::string& subject) {
  std::vector<AddedToken> tokens;
  if (!HasField(json, "added_tokens")) return tokens;
  const nlohmann::json& entries = json["added_tokens"];
  if (!entries.is_array()) Fail(ErrorCode::kTokenizer, subject, "an array", entries.type_name());
  std::unordered_map<std::string, int64_t> seen;
  for (const nlohmann::json& entry : entries) {
    AddedToken token;
    token.content = StringField(entry, "content", subject);
    const int64_t id = IdField(Field(entry, "id", subject), subject);
    token.is_special = BoolField(entry, "special", false, subject);
    ReadTokenFlags(entry, subject, &token);
    if (token.content.empty()) continue;
    if (id < 0 || id > Vocabulary::kLargestId) {
      Fail(ErrorCode::kTokenizer, subject, fmt::format("token ids from 0 to {}", Vocabulary::kLargestId),
           fmt::format("id {} for \"{}\"", id, token.content));
    }
    const auto in_vocab = ids.find(token.content);
    if (in_vocab != ids.end() && in_vocab->second != id) {
      Fail(ErrorCode::kTokenizer, subject,
           fmt::format("id {}, as in the vocabulary, for \"{}\"", in_vocab->second, token.content),
           fmt::format("{}", id));
    }
    if (!seen.emplace(token.content, id).second) {
      Fail(ErrorCode::kTokenizer, subject, "each token once", fmt::format("\"{}\" twice", token.content));
    }
    token.id = static_cast<int32_t>(id);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// The added tokens of tokenizer.json and those that tokenizer_config.json adds or changes.
class AddedTokenTable {
 public:
  AddedTokenTable(const Ids& ids, std::vector<AddedToken> tokens) : ids_(ids), tokens_(std::move(tokens)) {
    next_ = static_cast<int64_t>(ids.size());
    for (size_t i = 0; i < tokens_.size(); ++i) {
      by_content_.emplace(tokens_[i].content, i);
      next_ = std::max<int64_t>(next_, tokens_[i].id + 1);
    }
  }

  // added_tokens_decoder repeats the tokens, and its flags then count; where it adds one, it is the next, since
  // transformers numbers the new ones so whatever is written.
  void ApplyDecoder(const nlohmann::json& config) {
    const std::string subject = "tokenizer_config.json: added_tokens_decoder";
    if (!HasField(config, "added_tokens_decoder")) return;
    const nlohmann::json& table = config["added_tokens_decoder"];
    if (!table.is_object()) Fail(ErrorCode::kTokenizer, subject, "an object", table.type_name());
    std::vector<std::pair<int64_t, AddedToken>> entries;
    for (const auto& [key, entry] : table.items()) {
      AddedToken token;
      token.content = StringField(entry, "content", subject);
      token.is_special = BoolField(entry, "special", false, subject);
      ReadTokenFlags(entry, subject, &token);
      int64_t id = -1;
      const auto [stop, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || stop != key.data() + key.size() || id < 0) {
        Fail(ErrorCode::kTokenizer, subject, "token ids", fmt::format("\"{}\"", key));
      }
      entries.emplace_back(id, std::move(token));
    }
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (auto& [id, token] : entries) {
      const std::string content = token.content;
      const int64_t found = content.empty() ? id : Put(std::move(token));
      if (found != id) {
        Fail(ErrorCode::kTokenizer, subject, fmt::format("id {} for \"{}\"", found, content), fmt::format("{}", id),
             "tokenizer.json or the order of its additions gives it this id");
      }
    }
  }

  // Tokens with a role are special, whether or not tokenizer.json says so. A begin- or end-of-text token that has no id
  // gets none: no model was trained with it.
  void ApplyNamed(const nlohmann::json& config) {
    const auto begin = TokenNameField(config, "bos_token", "tokenizer_config.json");
    const auto end = TokenNameField(config, "eos_token", "tokenizer_config.json");
    for (const auto& [role, token, in_order] : NamedSpecialTokens(config)) {
      const auto known = by_content_.find(token.content);
      if (known != by_content_.end()) {
        tokens_[known->second].is_special = true;
      } else if (ids_.contains(token.content)) {
        Put(token);
      } else if (token.content != begin && token.content != end) {
        if (!in_order) {
          Fail(ErrorCode::kTokenizer, "tokenizer_config.json: " + role, "tokens of tokenizer.json",
               fmt::format("\"{}\"", token.content), "add it to tokenizer.json, which gives it an id");
        }
        Put(token);
      }
    }
  }

  std::vector<AddedToken> Take() { return std::move(tokens_); }

 private:
  // Adds the token, or gives the flags to the one of its content. Its id: the one that it has, in the vocabulary too,
  // else the next.
  int64_t Put(AddedToken token) {
    const auto known = by_content_.find(token.content);
    if (known != by_content_.end()) {
      token.id = tokens_[known->second].id;
      tokens_[known->second] = std::move(token);
      return tokens_[known->second].id;
    }
    const auto in_vocab = ids_.find(token.content);
    const int64_t id = in_vocab != ids_.end() ? in_vocab->second : next_++;
    token.id = static_cast<int32_t>(id);
    by_content_.emplace(token.content, tokens_.size());
    tokens_.push_back(std::move(token));
    return id;
  }

  const Ids& ids_;
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, size_t> by_content_;
  int64_t next_ = 0;
};

// A token's bytes as the decoder has them, and whether a text of these bytes can be asked for by them: a token spelt
// outside the byte-level alphabet is not text, and neither is a byte that the model falls back to.
bool BytesOf(const std::string& spelling, const TokenDecoder& decoder, std::string* bytes) {
  *bytes = spelling;
  if (decoder.is_byte_level()) return ByteLevelDecode(spelling, bytes);
  *bytes = decoder.Bytes(spelling);
  return !decoder.IsByte(spelling) && spelling.find(' ') == std::string::npos;
}

Vocabulary MakeVocabulary(const Ids& ids, const std::vector<AddedToken>& added, const TokenDecoder& decoder,
                          const std::string& subject) {
  std::vector<Vocabulary::Token> tokens;
  tokens.reserve(ids.size() + added.size());
  std::unordered_map<std::string_view, Vocabulary::Kind> kinds;
  for (const AddedToken& token : added) {
    const auto kind = token.is_special ? Vocabulary::Kind::kSpecial : Vocabulary::Kind::kAdded;
    kinds.emplace(token.content, kind);
    if (ids.contains(token.content)) continue;
    std::string bytes;
    BytesOf(token.content, decoder, &bytes);
    tokens.push_back({token.id, std::move(bytes), kind, false});
  }
  for (const auto& [spelling, id] : ids) {
    std::string bytes;
    const bool is_text = BytesOf(spelling, decoder, &bytes);
    const auto kind = kinds.find(spelling);
    tokens.push_back({id, std::move(bytes), kind == kinds.end() ? Vocabulary::Kind::kOrdinary : kind->second, is_text});
  }
  return Vocabulary(tokens, subject);
}

// The ids of <0x00> to <0xFF>; none where one is missing.
std::optional<std::array<int32_t, 256>> FallbackBytes(const Ids& ids, const nlohmann::json& model,
                                                      const std::string& subject) {
  if (!BoolField(model, "byte_fallback", false, subject)) return std::nullopt;
  std::array<int32_t, 256> bytes;
  for (size_t byte = 0; byte < bytes.size(); ++byte) {
    const std::string spelling = fmt::format("<0x{:02X}>", byte);
    const auto found = ids.find(spelling);
    if (found == ids.end()) Fail(ErrorCode::kTokenizer, subject, "a token for each byte", "none for " + spelling);
    bytes[byte] = static_cast<int32_t>(found->second);
  }
  return bytes;
}

std::unique_ptr<SubwordModel> MakeByteLevelBpe(const nlohmann::json& model, const Ids& ids,
                                               const Vocabulary& vocabulary, const std::string& subject) {
  std::array<int32_t, 256> byte_ids;
  for (size_t byte = 0; byte < byte_ids.size(); ++byte) {
    const auto found = ids.find(std::string(ByteLevelCharacter(static_cast<unsigned char>(byte))));
    byte_ids[byte] = found == ids.end() ? -1 : static_cast<int32_t>(found->second);
  }
  return std::make_unique<MergeListBpe>(&vocabulary, byte_ids, ReadMerges(model, ids, subject),
                                        BoolField(model, "ignore_merges", false, subject));
}

std::unique_ptr<SubwordModel> MakeCharacterBpe(const nlohmann::json& model, const Ids& ids,
                                               const std::string& subject) {
  CharacterBpe::Options options;
  for (const auto& [spelling, id] : ids) options.tokens.emplace(spelling, static_cast<int32_t>(id));
  options.byte_ids = FallbackBytes(ids, model, subject);
  if (HasField(model, "unk_token")) {
    const std::string unknown = StringField(model, "unk_token", subject);
    const auto found = ids.find(unknown);
    if (found == ids.end()) Fail(ErrorCode::kTokenizer, subject, "an unk_token of the vocabulary", unknown);
    options.unknown = static_cast<int32_t>(found->second);
  }
  options.fuses_unknown = BoolField(model, "fuse_unk", false, subject);
  options.ignore_merges = BoolField(model, "ignore_merges", false, subject);
  return std::make_unique<CharacterBpe>(std::move(options), ReadMerges(model, ids, subject));
}

// A Unigram's vocabulary: pairs of a text and its score, in order of ids.
std::vector<Unigram::Token> ReadScores(const nlohmann::json& model, const std::string& subject) {
  const nlohmann::json& vocab = Field(model, "vocab", subject);
  if (!vocab.is_array()) Fail(ErrorCode::kTokenizer, subject, "an array in \"vocab\"", vocab.type_name());
  std::vector<Unigram::Token> tokens;
  for (const nlohmann::json& entry : vocab) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      Fail(ErrorCode::kTokenizer, fmt::format("{}, token {}", subject, tokens.size()), "a text and its score",
           entry.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).substr(0, 200));
    }
    tokens.push_back({entry[0].get<std::string>(), entry[1].get<double>()});
  }
  if (tokens.empty() || static_cast<int64_t>(tokens.size()) > Vocabulary::kLargestId + 1) {
    Fail(ErrorCode::kTokenizer, subject, fmt::format("1 to {} tokens", Vocabulary::kLargestId + 1),
         fmt::format("{}", tokens.size()));
  }
  return tokens;
}

Ids IdsOf(const std::vector<Unigram::Token>& tokens, const std::string& subject) {
  Ids ids;
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (!ids.emplace(tokens[id].text, static_cast<int64_t>(id)).second) {
      Fail(ErrorCode::kTokenizer, subject, "each token once", fmt::format("\"{}\" twice", tokens[id].text));
    }
  }
  return ids;
}

std::unique_ptr<SubwordModel> MakeUnigram(const nlohmann::json& model, std::vector<Unigram::Token> tokens,
                                          const Ids& ids, const std::string& subject) {
  const int64_t unknown = IdField(Field(model, "unk_id", subject), subject + ".unk_id");
  if (unknown < 0 || unknown >= static_cast<int64_t>(tokens.size())) {
    Fail(ErrorCode::kTokenizer, subject + ".unk_id", "an id of the vocabulary", fmt::format("{}", unknown));
  }
  return std::make_unique<Unigram>(std::move(tokens), static_cast<int32_t>(unknown),
                                   FallbackBytes(ids, model, subject));
}

// The ids that a TemplateProcessing puts before and behind a single text.
void ReadTemplate(const nlohmann::json& processor, const std::string& subject, TokenizerParts* parts) {
  const nlohmann::json& single = Field(processor, "single", subject);
  const nlohmann::json& special = Field(processor, "special_tokens", subject);
  if (!single.is_array()) Fail(ErrorCode::kTokenizer, subject, "an array in \"single\"", single.type_name());
  bool is_behind = false;
  for (const nlohmann::json& item : single) {
    if (item.is_object() && item.contains("Sequence")) {
      if (is_behind) Fail(ErrorCode::kTokenizer, subject, "the text once in \"single\"", "twice");
      is_behind = true;
      continue;
    }
    const std::string name = StringField(Field(item, "SpecialToken", subject), "id", subject);
    const nlohmann::json& ids = Field(Field(special, name.c_str(), subject), "ids", subject);
    if (!ids.is_array()) Fail(ErrorCode::kTokenizer, subject, "an array in \"ids\"", ids.type_name());
    for (const nlohmann::json& value : ids) {
      const int64_t id = IdField(value, subject);
      if (id < 0 || id >= parts->vocabulary.size()) {
        Fail(ErrorCode::kTokenizer, subject, "ids of the vocabulary", fmt::format("{}", id));
      }
      (is_behind ? parts->suffix_ids : parts->prefix_ids).push_back(static_cast<int32_t>(id));
    }
  }
  if (!is_behind) Fail(ErrorCode::kTokenizer, subject, "the text in \"single\"", "none");
}

void ReadPostProcessor(const nlohmann::json& processor, const std::string& subject, int depth, TokenizerParts* parts) {
  if (processor.is_null()) return;
  if (depth > kDeepest) Fail(ErrorCode::kTokenizer, subject, "a shallow Sequence", "one nested too deeply");
  const std::string type = StringField(processor, "type", subject);
  if (type == "ByteLevel") return;  // It moves offsets only.
  if (type == "TemplateProcessing") {
    ReadTemplate(processor, subject, parts);
  } else if (type == "Sequence") {
    const nlohmann::json& members = Field(processor, "processors", subject);
    if (!members.is_array()) Fail(ErrorCode::kTokenizer, subject, "an array of processors", members.type_name());
    for (const nlohmann::json& member : members) ReadPostProcessor(member, subject, depth + 1, parts);
  } else {
    Fail(ErrorCode::kTokenizer, subject, "the post-processors ByteLevel, TemplateProcessing and Sequence", type);
  }
}

std::optional<int32_t> NamedId(const nlohmann::json& config, const char* name, const TokenizerParts& parts) {
  const std::optional<std::string> content = TokenNameField(config, name, "tokenizer_config.json");
  if (!content) return std::nullopt;
  const std::optional<int32_t> added = parts.added_tokens.Find(*content);
  return added ? added : parts.vocabulary.Find(*content);
}

// Whether a token is put around the text: as tokenizer_config.json says, else by the default of its class; none
// where neither speaks and the template of tokenizer.json decides.
std::optional<bool> AddsToken(const nlohmann::json& config, const char* name, bool llama_default) {
  if (HasField(config, name)) return BoolField(config, name, false, "tokenizer_config.json");
  if (!HasField(config, "tokenizer_class")) return std::nullopt;
  const std::string tokenizer_class = StringField(config, "tokenizer_class", "tokenizer_config.json");
  if (tokenizer_class == "LlamaTokenizerFast" || tokenizer_class == "LlamaTokenizer") return llama_default;
  return std::nullopt;
}

void AddAroundText(const nlohmann::json& config, TokenizerParts* parts) {
  const std::optional<bool> adds_bos = AddsToken(config, "add_bos_token", true);
  const std::optional<bool> adds_eos = AddsToken(config, "add_eos_token", false);
  if (!adds_bos && !adds_eos) return;
  parts->prefix_ids.clear();
  parts->suffix_ids.clear();
  const auto add = [&](bool is_asked, const char* name, std::optional<int32_t> id, std::vector<int32_t>* ids) {
    if (!is_asked) return;
    if (!id) {
      Fail(ErrorCode::kTokenizer, fmt::format("tokenizer_config.json: {}", name), "a token of tokenizer.json to add",
           HasField(config, name) ? config[name].dump().substr(0, 200) : "none");
    }
    ids->push_back(*id);
  };
  add(adds_bos.value_or(false), "bos_token", parts->bos_id, &parts->prefix_ids);
  add(adds_eos.value_or(false), "eos_token", parts->eos_id, &parts->suffix_ids);
}

}  // namespace

std::unique_ptr<TokenizerParts> LoadTokenizerJson(const std::filesystem::path& path, const nlohmann::json& config) {
  const std::string file = path.string();
  const nlohmann::json json = ReadJsonObject(path, ErrorCode::kTokenizer);
  const auto part = [&](const char* name) { return HasField(json, name) ? json[name] : nlohmann::json(); };
  auto parts = std::make_unique<TokenizerParts>();
  parts->normalizer = Normalizer::FromJson(part("normalizer"), file + ": normalizer");
  parts->pre_tokenizer = PreTokenizer::FromJson(part("pre_tokenizer"), file + ": pre_tokenizer");
  const TokenDecoder decoder = TokenDecoder::FromJson(Field(json, "decoder", file), file + ": decoder");
  const bool is_byte_level = parts->pre_tokenizer.is_byte_level();
  if (decoder.is_byte_level() != is_byte_level) {
    Fail(ErrorCode::kTokenizer, file + ": decoder",
         is_byte_level ? "ByteLevel, as the pre-tokenizer is" : "no ByteLevel",
         is_byte_level ? "another" : "ByteLevel, which the pre-tokenizer is not");
  }
  parts->leading_space = decoder.leading_space();
  const nlohmann::json& model = Field(json, "model", file);
  const std::string model_subject = file + ": model";
  const std::string type = StringField(model, "type", model_subject);
  if (type != "BPE" && (type != "Unigram" || is_byte_level)) {
    Fail(ErrorCode::kTokenizer, model_subject,
         is_byte_level ? "a model of type BPE, as the pre-tokenizer is ByteLevel" : "a model of type BPE or Unigram",
         type);
  }
  if (type == "BPE") CheckBpe(model, is_byte_level, model_subject);
  std::vector<Unigram::Token> scores;
  if (type == "Unigram") scores = ReadScores(model, model_subject);

  const Ids ids = type == "Unigram" ? IdsOf(scores, model_subject) : ReadVocab(model, model_subject);
  AddedTokenTable table(ids, ReadAddedTokens(json, ids, file + ": added_tokens"));
  table.ApplyDecoder(config);
  table.ApplyNamed(config);
  std::vector<AddedToken> added = table.Take();
  std::vector<std::string> spellings;
  for (const AddedToken& token : added) spellings.push_back(parts->normalizer.Apply(token.content));

  parts->vocabulary = MakeVocabulary(ids, added, decoder, file);
  parts->added_tokens = AddedTokens(std::move(added), spellings);
  if (type == "Unigram") {
    parts->model = MakeUnigram(model, std::move(scores), ids, model_subject);
  } else if (is_byte_level) {
    parts->model = MakeByteLevelBpe(model, ids, parts->vocabulary, model_subject);
  } else {
    parts->model = MakeCharacterBpe(model, ids, model_subject);
  }
  ReadPostProcessor(HasField(json, "post_processor") ? json["post_processor"] : nlohmann::json(),
                    file + ": post_processor", 0, parts.get());
  parts->bos_id = NamedId(config, "bos_token", *parts);
  parts->eos_id = NamedId(config, "eos_token", *parts);
  AddAroundText(config, parts.get());
  return parts;
}

}  // namespace mxmla
