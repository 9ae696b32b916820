#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "text/special_tokens.h"
#include "text/tokenizer_parts.h"
#include "text/utf8.h"

namespace mxmla {
namespace {

constexpr size_t kLongestText = size_t{1} << 30;
constexpr size_t kKimiChunk = 400'000;
constexpr size_t kKimiRun = 25'000;

// Kimi's cuts: every 400000 characters, and within such a chunk wherever a run of white space or of other characters
// passes 25000. They decide which tokens a very long text gets, so they are part of the tokenizer.
std::vector<std::string_view> CutLikeKimi(std::string_view text) {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  size_t in_chunk = 0;
  size_t run = 0;
  bool run_is_space = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = CodePointAt(text, at);
    const bool is_space = IsPythonSpace(c.value);
    if (in_chunk == kKimiChunk) {
      parts.push_back(text.substr(begin, at - begin));
      begin = at;
      in_chunk = 0;
    }
    if (in_chunk == 0 || is_space != run_is_space) {
      run = 1;
      run_is_space = is_space;
    } else if (++run > kKimiRun) {
      parts.push_back(text.substr(begin, at - begin));
      begin = at;
      run = 1;
    }
    ++in_chunk;
    at += c.length;
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::string ValidText(std::string_view utf8) {
  if (utf8.size() > kLongestText) {
    Fail(ErrorCode::kTokenizer, "text to tokenize", "up to 1 GiB", fmt::format("{} bytes", utf8.size()));
  }
  return ReplaceInvalidUtf8(utf8);
}

void CheckId(int32_t id) {
  if (id < 0) Fail(ErrorCode::kTokenRange, "token id to decode", "0 or above", fmt::format("{}", id));
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<TokenizerParts> parts) : parts_(std::move(parts)) {}

Tokenizer::~Tokenizer() = default;

std::unique_ptr<Tokenizer> Tokenizer::Load(const std::filesystem::path& folder) {
  const std::filesystem::path json_path = folder / "tokenizer.json";
  const std::filesystem::path tiktoken_path = folder / "tiktoken.model";
  std::error_code error;
  const bool has_json = std::filesystem::exists(json_path, error);
  const bool has_tiktoken = std::filesystem::exists(tiktoken_path, error);
  const bool has_tekken = std::filesystem::exists(folder / "tekken.json", error);
  if (!has_json && has_tekken) return std::unique_ptr<Tokenizer>(new Tokenizer(LoadTekken(folder / "tekken.json")));
  if (!has_json && !has_tiktoken) {
    Fail(ErrorCode::kMissingFile, folder.string(), "tokenizer.json, tekken.json or tiktoken.model", "none of them",
         "copy the tokenizer files of the model into its folder");
  }
  // tokenizer.json stands by itself; tiktoken.model has its special tokens in tokenizer_config.json.
  const nlohmann::json config = ReadTokenizerConfig(folder, !has_json);
  auto parts = has_json ? LoadTokenizerJson(json_path, config) : LoadTiktoken(tiktoken_path, config);
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(parts)));
}

void Tokenizer::AppendOrdinary(std::string_view text, bool is_first, std::vector<int32_t>* ids) const {
  std::deque<std::string> storage;
  for (std::string_view piece : parts_->pre_tokenizer.Split(text, is_first, &storage)) {
    parts_->model->Encode(piece, ids);
  }
}

// A stretch between added tokens of the text itself, `base` bytes behind what `ordinary` is counted from.
void Tokenizer::AppendNormalized(std::string_view text, std::span<const Span> ordinary, size_t base, bool is_first,
                                 std::vector<int32_t>* ids) const {
  const std::string normalized = parts_->normalizer.Apply(text);
  const bool is_content = std::any_of(ordinary.begin(), ordinary.end(), [&](const Span& span) {
    return span.begin < base + text.size() && span.end > base;
  });
  if (is_content) return AppendOrdinary(normalized, is_first, ids);
  for (const AddedTokens::Segment& segment : parts_->added_tokens.SplitNormalized(normalized)) {
    if (segment.id >= 0) {
      ids->push_back(segment.id);
    } else {
      const Span span = segment.span;
      AppendOrdinary(std::string_view(normalized).substr(span.begin, span.end - span.begin),
                     is_first && span.begin == 0, ids);
    }
  }
}

void Tokenizer::AppendMixed(std::string_view text, std::span<const Span> ordinary, std::vector<int32_t>* ids) const {
  const auto append = [&](std::string_view part) {
    const auto base = static_cast<size_t>(part.data() - text.data());
    const bool normalizes = !parts_->normalizer.is_empty();
    for (const AddedTokens::Segment& segment : normalizes ? parts_->added_tokens.SplitRaw(part, ordinary, base)
                                                          : parts_->added_tokens.Split(part, ordinary, base)) {
      const std::string_view between = part.substr(segment.span.begin, segment.span.end - segment.span.begin);
      const bool is_first = base + segment.span.begin == 0;
      if (segment.id >= 0) {
        ids->push_back(segment.id);
      } else if (normalizes) {
        AppendNormalized(between, ordinary, base + segment.span.begin, is_first, ids);
      } else {
        AppendOrdinary(between, is_first, ids);
      }
    }
  };
  if (parts_->is_cut_like_kimi) {
    for (std::string_view part : CutLikeKimi(text)) append(part);
  } else {
    append(text);
  }
}

std::vector<int32_t> Tokenizer::Encode(std::string_view utf8, bool add_special_tokens) const {
  const std::string text = ValidText(utf8);
  std::vector<int32_t> ids;
  if (add_special_tokens) ids = parts_->prefix_ids;
  AppendMixed(text, {}, &ids);
  if (add_special_tokens) ids.insert(ids.end(), parts_->suffix_ids.begin(), parts_->suffix_ids.end());
  return ids;
}

std::vector<int32_t> Tokenizer::EncodePrompt(std::string_view utf8) const {
  std::vector<int32_t> ids = Encode(utf8, false);
  const std::vector<int32_t>& prefix = parts_->prefix_ids;
  const bool has_prefix = ids.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), ids.begin());
  if (!has_prefix) ids.insert(ids.begin(), prefix.begin(), prefix.end());
  ids.insert(ids.end(), parts_->suffix_ids.begin(), parts_->suffix_ids.end());
  return ids;
}

std::vector<int32_t> Tokenizer::EncodeMixed(std::string_view utf8, std::span<const Span> ordinary) const {
  std::vector<int32_t> ids;
  AppendMixed(utf8, ordinary, &ids);
  return ids;
}

std::vector<int32_t> Tokenizer::EncodeOrdinary(std::string_view utf8) const {
  const std::string text = ValidText(utf8);
  std::vector<int32_t> ids;
  if (parts_->is_cut_like_kimi) {
    for (std::string_view part : CutLikeKimi(text)) AppendOrdinary(part, part.data() == text.data(), &ids);
  } else {
    AppendOrdinary(parts_->normalizer.is_empty() ? text : parts_->normalizer.Apply(text), true, &ids);
  }
  return ids;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::string bytes;
  bool is_first = true;
  for (int32_t id : ids) {
    CheckId(id);
    if (skip_special_tokens && IsSpecial(id)) continue;
    const std::string_view token = parts_->vocabulary.Bytes(id);
    if (is_first) {
      bytes = WithoutLeadingSpace(std::string(token));
    } else {
      bytes += token;
    }
    is_first = false;
  }
  return bytes;
}

std::string Tokenizer::WithoutLeadingSpace(std::string bytes) const {
  switch (parts_->leading_space) {
    case TokenDecoder::LeadingSpace::kKept:
      break;
    case TokenDecoder::LeadingSpace::kOneStripped:
      if (bytes.starts_with(' ')) bytes.erase(0, 1);
      break;
    case TokenDecoder::LeadingSpace::kOfFirstTokenStripped:
      std::erase(bytes, ' ');
      break;
  }
  return bytes;
}

int32_t Tokenizer::vocab_size() const { return parts_->vocabulary.size(); }

std::optional<int32_t> Tokenizer::TokenId(std::string_view content) const {
  const std::optional<int32_t> added = AddedTokenId(content);
  return added ? added : parts_->vocabulary.Find(content);
}

std::optional<int32_t> Tokenizer::AddedTokenId(std::string_view content) const {
  return parts_->added_tokens.Find(content);
}

std::string Tokenizer::TokenBytes(int32_t id) const {
  CheckId(id);
  return std::string(parts_->vocabulary.Bytes(id));
}

bool Tokenizer::IsSpecial(int32_t id) const { return parts_->vocabulary.KindOf(id) == Vocabulary::Kind::kSpecial; }

std::optional<int32_t> Tokenizer::bos_id() const { return parts_->bos_id; }

std::optional<int32_t> Tokenizer::eos_id() const { return parts_->eos_id; }

}  // namespace mxmla
