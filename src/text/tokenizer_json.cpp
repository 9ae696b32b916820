// The tokenizers library's tokenizer.json.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "core/error.h"
#include "text/byte_level.h"
#include "text/json_fields.h"
#include "text/special_tokens.h"
#include "text/tokenizer_parts.h"

namespace mxmla {
namespace {

constexpr int kDeepest = 16;

using Ids = std::unordered_map<std::string, int64_t>;

void CheckNormalizer(const nlohmann::json& normalizer, const std::string& subject) {
  if (normalizer.is_null()) return;
  const std::string type = StringField(normalizer, "type", subject);
  if (type != "Sequence") Fail(ErrorCode::kTokenizer, subject, "no normalizer, or an empty Sequence", type);
  const nlohmann::json& members = Field(normalizer, "normalizers", subject);
  if (!members.is_array()) Fail(ErrorCode::kTokenizer, subject, "an array of normalizers", members.type_name());
  if (!members.empty()) {
    Fail(ErrorCode::kTokenizer, subject, "no normalizer, or an empty Sequence",
         fmt::format("a Sequence of {}", StringField(members.front(), "type", subject)));
  }
}

bool IsByteLevelDecoder(const nlohmann::json& decoder, const std::string& subject, int depth) {
  if (depth > kDeepest || !decoder.is_object()) return false;
  const std::string type = StringField(decoder, "type", subject);
  if (type == "ByteLevel") return true;
  if (type != "Sequence") return false;
  const nlohmann::json& members = Field(decoder, "decoders", subject);
  return members.is_array() && members.size() == 1 && IsByteLevelDecoder(members.front(), subject, depth + 1);
}

// Fields that change what a BPE model does, in ways that byte-level models do not use.
void CheckModel(const nlohmann::json& model, const std::string& subject) {
  const std::string type = StringField(model, "type", subject);
  if (type != "BPE") Fail(ErrorCode::kTokenizer, subject, "a model of type BPE", type);
  if (BoolField(model, "byte_fallback", false, subject)) {
    Fail(ErrorCode::kTokenizer, subject, "byte_fallback false", "true", "only byte-level vocabularies are supported");
  }
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (HasField(model, name) && !StringField(model, name, subject).empty()) {
      Fail(ErrorCode::kTokenizer, subject, fmt::format("no {}", name), StringField(model, name, subject));
    }
  }
  for (const char* name : {"dropout", "unk_token"}) {
    if (HasField(model, name) && model[name] != 0) {
      Fail(ErrorCode::kTokenizer, subject, fmt::format("no {}", name), model[name].dump().substr(0, 60));
    }
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

// A token's bytes: its spelling decoded where it is of the byte-level alphabet, as the ByteLevel decoder does.
bool BytesOf(const std::string& spelling, std::string* bytes) {
  *bytes = spelling;
  return ByteLevelDecode(spelling, bytes);
}

Vocabulary MakeVocabulary(const Ids& ids, const std::vector<AddedToken>& added, const std::string& subject) {
  std::vector<Vocabulary::Token> tokens;
  tokens.reserve(ids.size() + added.size());
  std::unordered_map<std::string_view, Vocabulary::Kind> kinds;
  for (const AddedToken& token : added) {
    const auto kind = token.is_special ? Vocabulary::Kind::kSpecial : Vocabulary::Kind::kAdded;
    kinds.emplace(token.content, kind);
    if (ids.contains(token.content)) continue;
    std::string bytes;
    BytesOf(token.content, &bytes);
    tokens.push_back({token.id, std::move(bytes), kind, false});
  }
  for (const auto& [spelling, id] : ids) {
    std::string bytes;
    const bool is_text = BytesOf(spelling, &bytes);
    const auto kind = kinds.find(spelling);
    tokens.push_back({id, std::move(bytes), kind == kinds.end() ? Vocabulary::Kind::kOrdinary : kind->second, is_text});
  }
  return Vocabulary(tokens, subject);
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
  return TokenizerFromJson(ReadJsonObject(path, ErrorCode::kTokenizer), path.string(), config);
}

std::unique_ptr<TokenizerParts> TokenizerFromJson(const nlohmann::json& json, const std::string& file,
                                                  const nlohmann::json& config) {
  CheckNormalizer(HasField(json, "normalizer") ? json["normalizer"] : nlohmann::json(), file + ": normalizer");
  const nlohmann::json& decoder = Field(json, "decoder", file);
  if (!IsByteLevelDecoder(decoder, file + ": decoder", 0)) {
    Fail(ErrorCode::kTokenizer, file + ": decoder", "ByteLevel",
         decoder.is_object() ? StringField(decoder, "type", file + ": decoder") : decoder.type_name());
  }
  const nlohmann::json& model = Field(json, "model", file);
  const std::string model_subject = file + ": model";
  CheckModel(model, model_subject);

  const Ids ids = ReadVocab(model, model_subject);
  const std::vector<Merge> merges = ReadMerges(model, ids, model_subject);
  AddedTokenTable table(ids, ReadAddedTokens(json, ids, file + ": added_tokens"));
  table.ApplyDecoder(config);
  table.ApplyNamed(config);
  std::vector<AddedToken> added = table.Take();

  auto parts = std::make_unique<TokenizerParts>();
  parts->vocabulary = MakeVocabulary(ids, added, file);
  parts->added_tokens = AddedTokens(std::move(added));
  parts->pre_tokenizer = PreTokenizer::FromJson(
      HasField(json, "pre_tokenizer") ? json["pre_tokenizer"] : nlohmann::json(), file + ": pre_tokenizer");
  std::array<int32_t, 256> byte_ids;
  for (size_t byte = 0; byte < byte_ids.size(); ++byte) {
    const auto found = ids.find(std::string(ByteLevelCharacter(static_cast<unsigned char>(byte))));
    byte_ids[byte] = found == ids.end() ? -1 : static_cast<int32_t>(found->second);
  }
  parts->bpe = std::make_unique<MergeListBpe>(&parts->vocabulary, byte_ids, merges,
                                              BoolField(model, "ignore_merges", false, model_subject));
  ReadPostProcessor(HasField(json, "post_processor") ? json["post_processor"] : nlohmann::json(),
                    file + ": post_processor", 0, parts.get());
  parts->bos_id = NamedId(config, "bos_token", *parts);
  parts->eos_id = NamedId(config, "eos_token", *parts);
  AddAroundText(config, parts.get());
  return parts;
}

}  // namespace mxmla
