#include "quote.h"

#include <fmt/format.h>

#include "text/utf8.h"

namespace mxmla::app {
namespace {

// Control and format characters, and white space other than the plain one.
bool IsUnseen(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || (c >= 0x200b && c <= 0x200f) ||
         (c >= 0x202a && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
         (c >= 0xe0000 && c <= 0xe0fff) || (c != ' ' && IsWhiteSpace(c));
}

}  // namespace

std::string Quote(std::string_view bytes) {
  std::string quoted = "\"";
  for (size_t at = 0; at < bytes.size();) {
    // The length of the valid character that begins here, if one does.
    const size_t most = std::min<size_t>(4, bytes.size() - at);
    size_t length = 0;
    for (size_t candidate = 1; candidate <= most && length == 0; ++candidate) {
      const std::string_view character = bytes.substr(at, candidate);
      if (ReplaceInvalidUtf8(character) == character && CodePointAt(character, 0).length == candidate) {
        length = candidate;
      }
    }
    if (length == 0) {
      quoted += fmt::format("\\x{:02X}", static_cast<unsigned char>(bytes[at++]));
      continue;
    }
    const char32_t c = CodePointAt(bytes, at).value;
    switch (c) {
      case '\n':
        quoted += "\\n";
        break;
      case '\t':
        quoted += "\\t";
        break;
      case '\r':
        quoted += "\\r";
        break;
      case '"':
      case '\\':
        quoted += '\\';
        quoted += static_cast<char>(c);
        break;
      default:
        if (c < 0x80 && IsUnseen(c)) {
          quoted += fmt::format("\\x{:02X}", static_cast<uint32_t>(c));
        } else if (IsUnseen(c)) {
          quoted += fmt::format("\\u{{{:04X}}}", static_cast<uint32_t>(c));
        } else {
          quoted += bytes.substr(at, length);
        }
    }
    at += length;
  }
  return quoted + '"';
}

}  // namespace mxmla::app
