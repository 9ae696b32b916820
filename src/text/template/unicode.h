// Properties and cases of characters, as Python's str methods know them.
#pragma once

#include <string>
#include <string_view>

namespace mxmla::jinja {

// Appends the character in another case, which can be more than one character.
void AppendUpper(char32_t c, std::string* out);
void AppendLower(char32_t c, std::string* out);
void AppendTitle(char32_t c, std::string* out);

enum class Property {
  kAlphabetic,  // isalpha
  kDecimal,     // isdecimal
  kDigit,       // isdigit
  kNumeric,     // isnumeric
  kUpper,
  kLower,
  kCased,
  kCaseIgnorable,
  kPrintable,
  kWord,  // \w of Python's regular expressions
};

// Whether the character at `offset` of valid UTF-8 has the property.
bool Has(Property property, std::string_view text, size_t offset);

}  // namespace mxmla::jinja
