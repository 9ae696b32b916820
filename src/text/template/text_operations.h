// Operations on text as Python's str has them. What is content stays content.
#pragma once

#include <optional>
#include <vector>

#include "text/template/value.h"

namespace mxmla::jinja {

Text Upper(Runtime& runtime, const Text& text);
Text Lower(Runtime& runtime, const Text& text);
Text Capitalize(Runtime& runtime, const Text& text);
Text SwapCase(Runtime& runtime, const Text& text);
// str.title, which begins a word at each character with a case behind one without.
Text TitleCase(Runtime& runtime, const Text& text);

enum class Side { kLeft, kRight, kBoth };
// Without `characters`, white space.
Text Strip(Runtime& runtime, const Text& text, const std::string* characters, Side side);

// Without `separator` at runs of white space. At most `limit` cuts where it is not negative, from the left or, with
// `from_right`, from the right.
std::vector<Text> Split(Runtime& runtime, const Text& text, const std::string* separator, Int limit, bool from_right);
std::vector<Text> SplitLines(Runtime& runtime, const Text& text, bool keeps_ends);

// At most `limit` times where it is not negative.
Text Replace(Runtime& runtime, const Text& text, const std::string& from, const Text& to, Int limit);

Text Join(Runtime& runtime, const Text& separator, const std::vector<Text>& parts);

}  // namespace mxmla::jinja
