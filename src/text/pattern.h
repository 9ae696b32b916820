// One string looked for in text that comes unit by unit.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace mxmla {

// Knuth, Morris and Pratt's search; not for an empty text.
template <class Unit>
class Pattern {
 public:
  explicit Pattern(std::basic_string<Unit> text) : text_(std::move(text)), borders_(text_.size() + 1, 0) {
    for (size_t i = 2, border = 0; i <= text_.size(); ++i) {
      while (border > 0 && text_[i - 1] != text_[border]) border = borders_[border];
      if (text_[i - 1] == text_[border]) ++border;
      borders_[i] = border;
    }
  }

  // True when what has come so far ends with the whole pattern.
  bool Advance(Unit next) {
    while (matched_ > 0 && text_[matched_] != next) matched_ = borders_[matched_];
    if (text_[matched_] == next) ++matched_;
    if (matched_ < text_.size()) return false;
    matched_ = borders_[matched_];
    return true;
  }
  void Reset() { matched_ = 0; }

  size_t size() const { return text_.size(); }
  // How much of the pattern's beginning ends what has come so far: less than the whole.
  size_t matched() const { return matched_; }

 private:
  std::basic_string<Unit> text_;
  std::vector<size_t> borders_;  // of text's first i units: the longest proper suffix that is a prefix as well
  size_t matched_ = 0;
};

}  // namespace mxmla
