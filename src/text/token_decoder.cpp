#include "text/token_decoder.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "text/json_fields.h"

namespace mxmla {
namespace {

constexpr int kDeepest = 16;

// The byte of "<0x41>", or -1.
int ByteOf(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with(">")) return -1;
  int value = -1;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  return error == std::errc() && end == token.data() + 5 ? value : -1;
}

}  // namespace

TokenDecoder TokenDecoder::FromJson(const nlohmann::json& json, const std::string& subject) {
  TokenDecoder decoder;
  decoder.Add(json, subject, 0);
  return decoder;
}

void TokenDecoder::Add(const nlohmann::json& json, const std::string& subject, int depth) {
  if (depth > kDeepest) Fail(ErrorCode::kTokenizer, subject, "a shallow Sequence", "one nested too deeply");
  const std::string type = StringField(json, "type", subject);
  if (is_byte_level_) {
    Fail(ErrorCode::kTokenizer, subject, "ByteLevel as the only decoder", fmt::format("{} behind it", type));
  }
  if (type == "Sequence") {
    const nlohmann::json& members = Field(json, "decoders", subject);
    if (!members.is_array()) Fail(ErrorCode::kTokenizer, subject, "an array of decoders", members.type_name());
    for (const nlohmann::json& member : members) Add(member, subject, depth + 1);
  } else if (type == "ByteLevel") {
    is_byte_level_ = true;
  } else if (type == "Replace") {
    const std::string text = StringField(Field(json, "pattern", subject), "String", subject);
    if (text.empty()) Fail(ErrorCode::kTokenizer, subject, "a pattern that is not empty", "an empty one");
    replacements_.emplace_back(text, StringField(json, "content", subject));
  } else if (type == "ByteFallback") {
    has_bytes_ = true;
  } else if (type == "Strip") {
    const int64_t start = IdField(Field(json, "start", subject), subject);
    const int64_t stop = IdField(Field(json, "stop", subject), subject);
    if (StringField(json, "content", subject) != " " || start != 1 || stop != 0) {
      Fail(ErrorCode::kTokenizer, subject, "a Strip of one space in front", "another");
    }
    leading_space_ = LeadingSpace::kOneStripped;
  } else if (type == "Metaspace") {
    replacements_.emplace_back(StringField(json, "replacement", subject), " ");
    const bool adds = HasField(json, "prepend_scheme") ? StringField(json, "prepend_scheme", subject) != "never"
                                                       : BoolField(json, "add_prefix_space", true, subject);
    if (adds) leading_space_ = LeadingSpace::kOfFirstTokenStripped;
  } else if (type != "Fuse") {
    Fail(ErrorCode::kTokenizer, subject,
         "the decoders ByteLevel, Sequence, Replace, ByteFallback, Fuse, Strip and Metaspace", type);
  }
}

bool TokenDecoder::IsByte(std::string_view token) const { return has_bytes_ && ByteOf(token) >= 0; }

std::string TokenDecoder::Bytes(std::string_view token) const {
  if (IsByte(token)) return std::string(1, static_cast<char>(ByteOf(token)));
  std::string bytes(token);
  for (const auto& [from, to] : replacements_) {
    for (size_t at = 0; (at = bytes.find(from, at)) != std::string::npos; at += to.size()) {
      bytes.replace(at, from.size(), to);
    }
  }
  return bytes;
}

}  // namespace mxmla
