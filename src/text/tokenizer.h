// Text to token ids and back, from the tokenizer files of a model folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/regex.h"

namespace mxmla {

struct TokenizerParts;

// Safe to use from several threads at once. Properties such as \p{L} are those of the installed PCRE2 (10.42: Unicode
// 14); text in characters that Unicode assigned later may be split otherwise than by the reference libraries.
class Tokenizer {
 public:
  // Reads tokenizer.json where the folder has one (BPE over bytes or characters, or Unigram, as the tokenizers library
  // writes it), else Mistral's tekken.json, else Kimi's tiktoken.model; the first and the last with the folder's
  // tokenizer_config.json.
  //
  // Throws kMissingFile where there is none, and kTokenizer for what is malformed or not carried out, naming it:
  // a model other than BPE and Unigram; dropout, a continuing_subword_prefix or an end_of_word_suffix; byte_fallback
  // without all 256 bytes; an unk_token of a byte-level model; a normalizer, pre-tokenizer, decoder or post-processor
  // that src/text does not know; a merge of tokens that are not in the vocabulary; ids that are negative, used twice or
  // above 4194303; a begin- or end-of-text token that is to be added but is unknown; a tiktoken.model or tekken.json
  // whose ranks are not 0 to n - 1 or that lacks a single byte.
  static std::unique_ptr<Tokenizer> Load(const std::filesystem::path& folder);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Added tokens that the text spells out become their ids. `add_special_tokens` puts the tokens around it that the
  // folder asks for: add_bos_token and add_eos_token of tokenizer_config.json, else the template of tokenizer.json;
  // none for Kimi. Invalid UTF-8 is replaced by U+FFFD first, as Python's decode(errors="replace") does. Throws
  // kTokenizer for a text above 1 GiB and for one that an expression of the tokenizer cannot be searched in within
  // PCRE2's limits.
  std::vector<int32_t> Encode(std::string_view utf8, bool add_special_tokens) const;

  // Encode with the special tokens around it, of which those in front are left out where the text spells them itself: a
  // prompt that was formatted by hand or rendered by a template begins with its own begin-of-text token.
  std::vector<int32_t> EncodePrompt(std::string_view utf8) const;

  // Encode without added tokens: text that spells out a special token stays text.
  std::vector<int32_t> EncodeOrdinary(std::string_view utf8) const;

  // The same with added tokens found outside of the byte ranges `ordinary` only: in order and apart from each other.
  // For valid UTF-8; the ranges end between characters. Added tokens that are looked for in normalized text are not
  // found at all in a stretch, between other added tokens, that a range is a part of.
  std::vector<int32_t> EncodeMixed(std::string_view utf8, std::span<const Span> ordinary) const;

  // The tokens' bytes joined, which need not be whole UTF-8, without the space in front that the tokenizer's decoder
  // takes away. An id without a token adds nothing. Throws kTokenRange for a negative id.
  std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens = false) const;

  // The largest id and one.
  int32_t vocab_size() const;

  // The added token of this content, else the ordinary token of these bytes.
  std::optional<int32_t> TokenId(std::string_view content) const;

  // Only an added token.
  std::optional<int32_t> AddedTokenId(std::string_view content) const;

  // What Decode takes away from the bytes of a text's first token.
  std::string WithoutLeadingSpace(std::string bytes) const;

  // Empty for an id without a token. Throws kTokenRange for a negative id.
  std::string TokenBytes(int32_t id) const;

  // Tokens flagged as special; of Kimi's, the reserved ones without a name too.
  bool IsSpecial(int32_t id) const;

  // The bos_token and eos_token of tokenizer_config.json.
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;

 private:
  explicit Tokenizer(std::unique_ptr<TokenizerParts> parts);

  void AppendMixed(std::string_view text, std::span<const Span> ordinary, std::vector<int32_t>* ids) const;
  void AppendNormalized(std::string_view text, std::span<const Span> ordinary, size_t base, bool is_first,
                        std::vector<int32_t>* ids) const;
  void AppendOrdinary(std::string_view text, bool is_first, std::vector<int32_t>* ids) const;

  std::unique_ptr<TokenizerParts> parts_;
};

}  // namespace mxmla
