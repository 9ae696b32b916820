// The byte-level alphabet: one printable character for each of the 256 bytes, as GPT-2's vocabulary spells them.
#pragma once

#include <string>
#include <string_view>

namespace mxmla {

// The character (UTF-8) that stands for a byte.
std::string_view ByteLevelCharacter(unsigned char byte);

// Turns a token's spelling into its bytes. False, with `bytes` untouched, where a character is not of the alphabet.
bool ByteLevelDecode(std::string_view spelling, std::string* bytes);

}  // namespace mxmla
