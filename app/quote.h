// Bytes of tokens and texts as people read them.
#pragma once

#include <string>
#include <string_view>

namespace mxmla::app {

// The bytes in double quotes on one line. Quotes, backslashes, control characters and bytes that are not UTF-8 are
// escaped as in C (\n, \t, \r, \", \\, \xE4); characters that would not be seen as \u{200B}.
std::string Quote(std::string_view bytes);

}  // namespace mxmla::app
