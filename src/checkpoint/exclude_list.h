// Which modules a quantisation leaves alone: Quark's `exclude` list, also `mxmla quantize --exclude`.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace mxmla {

// A list of patterns over module names (a tensor's name without ".weight"). A pattern is
//   - "re:REGEX"        a regular expression that must match from the name's first character on (as Python's re.match);
//   - a glob, when it holds one of * ? [: the whole name, `*` crossing dots;
//   - else a name: equality.
// A leading "language_model." of the module's name is optional.
class ExcludeList {
 public:
  ExcludeList() = default;
  // `subject` names the list in an Error of `code` about a regular expression that does not compile.
  ExcludeList(std::vector<std::string> patterns, std::string_view subject, ErrorCode code = ErrorCode::kBadConfig);

  bool Matches(std::string_view module) const { return Find(module) >= 0; }
  // The first pattern that matches `module`, or -1.
  int Find(std::string_view module) const;

  const std::vector<std::string>& patterns() const { return patterns_; }
  bool empty() const { return patterns_.empty(); }

 private:
  struct Compiled;
  std::vector<std::string> patterns_;
  std::shared_ptr<const Compiled> compiled_;
};

// The "re:" spelling of a glob, for engines that know names and regular expressions only; anything else is unchanged.
std::string GlobAsRegex(const std::string& pattern);

}  // namespace mxmla
