// Text that knows which of its bytes came out of a token of the vocabulary's own, such as <think>, and which a model
// spelled.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace mxmla {

// A unit is a byte, with kMark added where it is a byte of an added token.
using MarkedText = std::u16string;
using MarkedView = std::u16string_view;
constexpr char16_t kMark = 0x100;

MarkedText Plain(std::string_view bytes);
MarkedText Marked(std::string_view bytes);
// The bytes, wherever they came from.
std::string BytesOf(MarkedView text);

// `content` as it comes out of a model with this tokenizer: marked where it is an added token, whose id then joins
// `ids`, else as text, which the model, too, has to spell.
MarkedText Marker(const Tokenizer& tokenizer, std::string_view content, std::vector<int32_t>* ids);

bool HasMark(MarkedView text);
bool IsSpace(char16_t unit);  // space, tab, carriage return, line feed
MarkedView Trimmed(MarkedView text);

}  // namespace mxmla
