#include "text/byte_level.h"

#include <array>

#include "text/utf8.h"

namespace mxmla {
namespace {

constexpr size_t kAlphabetEnd = 0x144;  // The largest character of the alphabet is U+0143.

struct Alphabet {
  std::array<std::string, 256> character;
  std::array<int, kAlphabetEnd> byte;

  Alphabet() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (unsigned b = 0; b < 256; ++b) {
      const bool is_printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      const char32_t code_point = is_printable ? static_cast<char32_t>(b) : next++;
      AppendCodePoint(code_point, &character[b]);
      byte[code_point] = static_cast<int>(b);
    }
  }
};

const Alphabet& TheAlphabet() {
  static const Alphabet alphabet;
  return alphabet;
}

}  // namespace

std::string_view ByteLevelCharacter(unsigned char byte) { return TheAlphabet().character[byte]; }

bool ByteLevelDecode(std::string_view spelling, std::string* bytes) {
  const Alphabet& alphabet = TheAlphabet();
  std::string decoded;
  for (size_t at = 0; at < spelling.size();) {
    const CodePoint c = CodePointAt(spelling, at);
    if (c.value >= kAlphabetEnd || alphabet.byte[c.value] < 0) return false;
    decoded.push_back(static_cast<char>(alphabet.byte[c.value]));
    at += c.length;
  }
  *bytes = std::move(decoded);
  return true;
}

}  // namespace mxmla
