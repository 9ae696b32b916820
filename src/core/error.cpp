#include "core/error.h"

namespace mxmla {
namespace {

constexpr size_t kLongestFound = 200;  // a value from a file, which may be anything

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// The bytes of the UTF-8 character that `text` begins with; 0 where it begins with none.
size_t CharacterBytes(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const size_t bytes = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (bytes > text.size()) return 0;
  for (size_t i = 1; i < bytes; ++i) {
    if (!IsContinuation(text[i])) return 0;
  }
  if (bytes < 3) return bytes;
  // Forms that are longer than need be, surrogates, and what lies beyond U+10FFFF.
  const auto second = static_cast<unsigned char>(text[1]);
  const bool bad = (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
                   (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f);
  return bad ? 0 : bytes;
}

std::string Printable(std::string_view text) {
  std::string line;
  while (!text.empty()) {
    const size_t bytes = CharacterBytes(text);
    const auto first = static_cast<unsigned char>(text[0]);
    const bool c1 = bytes == 2 && first == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0;
    if (bytes == 0 || first < 0x20 || first == 0x7f || c1) {
      line += '?';
    } else {
      line += text.substr(0, bytes);
    }
    text.remove_prefix(bytes == 0 ? 1 : bytes);
  }
  return line;
}

}  // namespace

std::string PrintableLine(std::string_view text, size_t longest) {
  if (text.size() <= longest) return Printable(text);
  // Both ends say most: a path and the name in it.
  size_t head = longest / 2;
  size_t tail = text.size() - (longest - head);
  for (int i = 0; i < 3 && head > 0 && IsContinuation(text[head]); ++i) --head;
  for (int i = 0; i < 3 && tail < text.size() && IsContinuation(text[tail]); ++i) ++tail;
  return Printable(text.substr(0, head)) + "..." + Printable(text.substr(tail));
}

std::string ErrorLine(std::string_view subject, std::string_view expected, std::string_view found,
                      std::string_view hint) {
  std::string line = PrintableLine(subject) + ": expected " + PrintableLine(expected) + ", found " +
                     PrintableLine(found, kLongestFound);
  if (!hint.empty()) line += "; " + PrintableLine(hint);
  return line;
}

void Fail(ErrorCode code, std::string_view subject, std::string_view expected, std::string_view found,
          std::string_view hint) {
  throw Error(code, ErrorLine(subject, expected, found, hint));
}

}  // namespace mxmla
