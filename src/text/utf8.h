// UTF-8 with Python's replacement rule, and the character classes that do not need a regular expression.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mxmla {

// Appends the text of `bytes` to `out`, every invalid sequence replaced by U+FFFD as Python's
// bytes.decode("utf-8", errors="replace") does. With `is_final` false a sequence at the end that further bytes could
// still complete is left alone. Returns how many bytes were consumed.
size_t AppendReplacingInvalid(std::string_view bytes, bool is_final, std::string* out);

// The whole of `bytes` as valid UTF-8.
std::string ReplaceInvalidUtf8(std::string_view bytes);

// One character of valid UTF-8.
struct CodePoint {
  char32_t value;
  size_t length;
};

// The character at `offset` of valid UTF-8 text; `offset` is inside the text and at a character's first byte.
CodePoint CodePointAt(std::string_view text, size_t offset);

// The offset of the character that ends before `offset`; `offset` is not 0.
size_t PreviousOffset(std::string_view text, size_t offset);

void AppendCodePoint(char32_t code_point, std::string* out);

// Unicode's White_Space property.
bool IsWhiteSpace(char32_t code_point);

// Python's str.isspace: White_Space and the separators U+001C to U+001F.
bool IsPythonSpace(char32_t code_point);

}  // namespace mxmla
