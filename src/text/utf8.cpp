#include "text/utf8.h"

namespace mxmla {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

// What a leading byte allows: the sequence's length (0: not a leading byte) and the range of the second byte.
struct Lead {
  size_t length;
  uint8_t low;
  uint8_t high;
};

Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte >= 0xc2 && byte <= 0xdf) return {2, 0x80, 0xbf};
  if (byte == 0xe0) return {3, 0xa0, 0xbf};
  if (byte == 0xed) return {3, 0x80, 0x9f};
  if (byte >= 0xe1 && byte <= 0xef) return {3, 0x80, 0xbf};
  if (byte == 0xf0) return {4, 0x90, 0xbf};
  if (byte >= 0xf1 && byte <= 0xf3) return {4, 0x80, 0xbf};
  if (byte == 0xf4) return {4, 0x80, 0x8f};
  return {0, 0, 0};
}

}  // namespace

size_t AppendReplacingInvalid(std::string_view bytes, bool is_final, std::string* out) {
  size_t at = 0;
  while (at < bytes.size()) {
    const Lead lead = LeadOf(static_cast<uint8_t>(bytes[at]));
    if (lead.length == 0) {
      *out += kReplacement;
      ++at;
      continue;
    }
    size_t valid = 1;
    while (valid < lead.length && at + valid < bytes.size()) {
      const auto next = static_cast<uint8_t>(bytes[at + valid]);
      const uint8_t low = valid == 1 ? lead.low : 0x80;
      const uint8_t high = valid == 1 ? lead.high : 0xbf;
      if (next < low || next > high) break;
      ++valid;
    }
    if (valid == lead.length) {
      out->append(bytes.substr(at, valid));
    } else {
      if (!is_final && at + valid == bytes.size()) break;
      *out += kReplacement;
    }
    at += valid;
  }
  return at;
}

std::string ReplaceInvalidUtf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  AppendReplacingInvalid(bytes, true, &text);
  return text;
}

CodePoint CodePointAt(std::string_view text, size_t offset) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<uint8_t>(text[offset + i])); };
  const char32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xe0) return {((first & 0x1f) << 6) | (byte(1) & 0x3f), 2};
  if (first < 0xf0) return {((first & 0x0f) << 12) | ((byte(1) & 0x3f) << 6) | (byte(2) & 0x3f), 3};
  return {((first & 0x07) << 18) | ((byte(1) & 0x3f) << 12) | ((byte(2) & 0x3f) << 6) | (byte(3) & 0x3f), 4};
}

size_t PreviousOffset(std::string_view text, size_t offset) {
  --offset;
  while (offset > 0 && (static_cast<uint8_t>(text[offset]) & 0xc0) == 0x80) --offset;
  return offset;
}

void AppendCodePoint(char32_t code_point, std::string* out) {
  const auto put = [&](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xc0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3f));
  } else if (code_point < 0x10000) {
    put(0xe0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3f));
    put(0x80 | (code_point & 0x3f));
  } else {
    put(0xf0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3f));
    put(0x80 | ((code_point >> 6) & 0x3f));
    put(0x80 | (code_point & 0x3f));
  }
}

bool IsWhiteSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool IsPythonSpace(char32_t c) { return IsWhiteSpace(c) || (c >= 0x1c && c <= 0x1f); }

}  // namespace mxmla
