#include "text/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "text/utf8.h"

namespace mxmla {

StopMatcher::StopMatcher(std::vector<std::string> stop_strings) {
  for (std::string& text : stop_strings) {
    if (text.empty()) Fail(ErrorCode::kUsage, "stop string", "some text", "none");
    if (ReplaceInvalidUtf8(text) != text) {
      Fail(ErrorCode::kUsage, "stop string", "UTF-8 text", "other bytes", "no text of a model could hold them");
    }
    Pattern pattern;
    pattern.borders.assign(text.size() + 1, 0);
    for (size_t i = 2, border = 0; i <= text.size(); ++i) {
      while (border > 0 && text[i - 1] != text[border]) border = pattern.borders[border];
      if (text[i - 1] == text[border]) ++border;
      pattern.borders[i] = border;
    }
    pattern.text = std::move(text);
    patterns_.push_back(std::move(pattern));
  }
}

// True when the text now ends with the whole pattern.
bool StopMatcher::Pattern::Advance(char next) {
  while (matched > 0 && text[matched] != next) matched = borders[matched];
  if (text[matched] == next) ++matched;
  return matched == text.size();
}

std::string StopMatcher::Push(std::string_view text) {
  if (found_) return {};
  for (const char next : text) {
    held_ += next;
    size_t longest = 0;
    for (size_t p = 0; p < patterns_.size(); ++p) {
      if (!patterns_[p].Advance(next) || patterns_[p].text.size() <= longest) continue;
      longest = patterns_[p].text.size();
      found_ = p;
    }
    if (!found_) continue;
    held_.resize(held_.size() - longest);
    return std::exchange(held_, {});
  }
  size_t undecided = 0;
  for (const Pattern& pattern : patterns_) undecided = std::max(undecided, pattern.matched);
  std::string certain = held_.substr(0, held_.size() - undecided);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopMatcher::Flush() {
  for (Pattern& pattern : patterns_) pattern.matched = 0;
  return std::exchange(held_, {});
}

}  // namespace mxmla
