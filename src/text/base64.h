// Base64 (RFC 4648, section 4).
#pragma once

#include <string>
#include <string_view>

namespace mxmla {

// False for a text that is none: empty, of a length that is no multiple of 4, or with other characters.
bool DecodeBase64(std::string_view text, std::string* bytes);

}  // namespace mxmla
