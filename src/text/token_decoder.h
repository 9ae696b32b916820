// What a token of a tokenizer.json means as bytes.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mxmla {

class TokenDecoder {
 public:
  // What becomes of spaces at the beginning of a text.
  enum class LeadingSpace { kKept, kOneStripped, kOfFirstTokenStripped };

  // The "decoder" of a tokenizer.json: ByteLevel, or Replace (of a text), ByteFallback, Fuse, Strip (of one space in
  // front) and Metaspace; alone or in a Sequence. Throws kTokenizer for anything else, naming it.
  static TokenDecoder FromJson(const nlohmann::json& json, const std::string& subject);

  bool is_byte_level() const { return is_byte_level_; }
  LeadingSpace leading_space() const { return leading_space_; }
  // Of a decoder that is not byte-level: <0x41> is a byte where the decoder says so.
  std::string Bytes(std::string_view token) const;
  bool IsByte(std::string_view token) const;

 private:
  void Add(const nlohmann::json& json, const std::string& subject, int depth);

  std::vector<std::pair<std::string, std::string>> replacements_;
  bool is_byte_level_ = false;
  bool has_bytes_ = false;
  LeadingSpace leading_space_ = LeadingSpace::kKept;
};

}  // namespace mxmla
