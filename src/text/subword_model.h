// What turns a piece of text into ids: the "model" of a tokenizer.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace mxmla {

class SubwordModel {
 public:
  virtual ~SubwordModel() = default;

  // Appends the piece's ids. The piece is valid UTF-8, or, of a byte-level model, any bytes.
  virtual void Encode(std::string_view piece, std::vector<int32_t>* ids) const = 0;
};

}  // namespace mxmla
