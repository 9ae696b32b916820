#include "text/base64.h"

#include <cstdint>

namespace mxmla {
namespace {

int Base64Value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  if (c == '/') return 63;
  return -1;
}

}  // namespace

bool DecodeBase64(std::string_view text, std::string* bytes) {
  bytes->clear();
  if (text.empty() || text.size() % 4 != 0) return false;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  for (size_t at = 0; at < text.size(); at += 4) {
    const size_t missing = at + 4 == text.size() ? padding : 0;
    uint32_t group = 0;
    for (size_t i = 0; i < 4; ++i) {
      const int value = i < 4 - missing ? Base64Value(text[at + i]) : 0;
      if (value < 0) return false;
      group = group << 6 | static_cast<uint32_t>(value);
    }
    for (size_t i = 0; i < 3 - missing; ++i) bytes->push_back(static_cast<char>(group >> (16 - 8 * i)));
  }
  return true;
}

}  // namespace mxmla
