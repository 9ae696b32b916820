// The markers of a format, looked for in an answer that comes unit by unit.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "text/output/marked_text.h"
#include "text/pattern.h"

namespace mxmla {

class MarkerMatcher {
 public:
  MarkerMatcher() = default;
  // Empty markers are never found.
  explicit MarkerMatcher(const std::vector<MarkedText>& markers) {
    for (const MarkedText& marker : markers) {
      patterns_.emplace_back(marker.empty() ? std::nullopt : std::optional<Pattern<char16_t>>(marker));
    }
  }

  // The marker that the units so far end with, the longest if there are several.
  std::optional<size_t> Advance(char16_t unit) {
    std::optional<size_t> found;
    undecided_ = 0;
    for (size_t m = 0; m < patterns_.size(); ++m) {
      if (!patterns_[m]) continue;
      if (patterns_[m]->Advance(unit) && (!found || patterns_[m]->size() > patterns_[*found]->size())) found = m;
      undecided_ = std::max(undecided_, patterns_[m]->matched());
    }
    return found;
  }
  // How many of the last units may be the beginning of a marker.
  size_t undecided() const { return undecided_; }
  void Reset() {
    for (auto& pattern : patterns_) {
      if (pattern) pattern->Reset();
    }
    undecided_ = 0;
  }

 private:
  std::vector<std::optional<Pattern<char16_t>>> patterns_;
  size_t undecided_ = 0;
};

}  // namespace mxmla
