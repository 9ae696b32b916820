// A tokenizer whose vocabulary has the markers of every format as added tokens, and bytes for everything else.
#pragma once

#include <memory>
#include <vector>

#include "text/tokenizer.h"

namespace mxmla {

// Some are flagged as special, as with the models.
const std::vector<std::string>& MarkerTokenNames();
std::unique_ptr<Tokenizer> MakeMarkerTokenizer(bool with_markers = true);

}  // namespace mxmla
