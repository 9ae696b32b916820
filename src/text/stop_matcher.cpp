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
    patterns_.emplace_back(std::move(text));
  }
}

std::string StopMatcher::Push(std::string_view text) {
  if (found_) return {};
  for (const char next : text) {
    held_ += next;
    size_t longest = 0;
    for (size_t p = 0; p < patterns_.size(); ++p) {
      if (!patterns_[p].Advance(next) || patterns_[p].size() <= longest) continue;
      longest = patterns_[p].size();
      found_ = p;
    }
    if (!found_) continue;
    held_.resize(held_.size() - longest);
    return std::exchange(held_, {});
  }
  size_t undecided = 0;
  for (const Pattern<char>& pattern : patterns_) undecided = std::max(undecided, pattern.matched());
  std::string certain = held_.substr(0, held_.size() - undecided);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopMatcher::Flush() {
  for (Pattern<char>& pattern : patterns_) pattern.Reset();
  return std::exchange(held_, {});
}

}  // namespace mxmla
