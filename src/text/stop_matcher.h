// Text that ends where one of several strings begins.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/pattern.h"

namespace mxmla {

// Takes text in pieces and gives it back up to the first stop string. The first is the one that is complete first, and
// of those that end together the longest, so that the result does not depend on where the pieces are cut. What could be
// the beginning of a stop string is held back until it is decided. Pieces of whole UTF-8 characters give such pieces.
class StopMatcher {
 public:
  // Without stop strings all text passes. Refused (kUsage): a stop string that is empty or not UTF-8.
  explicit StopMatcher(std::vector<std::string> stop_strings);

  // The text that is certain to be before any stop string; nothing any more once one is found.
  std::string Push(std::string_view text);

  // What was held back, as no text will follow.
  std::string Flush();

  // Which of the stop strings was found; the first of equal ones.
  std::optional<size_t> found() const { return found_; }

 private:
  std::vector<Pattern<char>> patterns_;
  std::string held_;
  std::optional<size_t> found_;
};

}  // namespace mxmla
