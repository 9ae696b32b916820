#include "checkpoint/exclude_list.h"

#include <fmt/format.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <map>

namespace mxmla {
namespace {

constexpr std::string_view kRegexPrefix = "re:";
constexpr std::string_view kTextPrefix = "language_model.";

bool IsRegex(std::string_view pattern) { return pattern.substr(0, kRegexPrefix.size()) == kRegexPrefix; }
bool IsGlob(std::string_view pattern) { return pattern.find_first_of("*?[") != std::string_view::npos; }

struct CodeFree {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct MatchDataFree {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct MatchContextFree {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

// The body of a regular expression that matches what the glob does.
std::string GlobBody(std::string_view glob) {
  std::string body;
  for (size_t i = 0; i < glob.size(); ++i) {
    const char c = glob[i];
    if (c == '*') {
      body += ".*";
    } else if (c == '?') {
      body += '.';
    } else if (c == '[') {
      // A bracket expression: "[!...]" negates, a "]" that comes first stands for itself.
      size_t from = i + 1;
      const bool negated = from < glob.size() && glob[from] == '!';
      if (negated) ++from;
      const size_t end = glob.find(']', from + 1);
      if (from >= glob.size() || end == std::string_view::npos) {
        body += "\\[";
        continue;
      }
      body += negated ? "[^" : "[";
      for (char member : glob.substr(from, end - from)) {
        if (member == '\\' || member == '[' || member == ']' || member == '^') body += '\\';
        body += member;
      }
      body += ']';
      i = end;
    } else {
      if (std::string_view("\\.+^$(){}|]").find(c) != std::string_view::npos) body += '\\';
      body += c;
    }
  }
  return body;
}

}  // namespace

struct ExcludeList::Compiled {
  // Patterns by their places in the list; lists hold thousands of plain names, and are asked about each tensor.
  std::map<std::string, size_t, std::less<>> names;                             // of which the first
  std::vector<std::pair<size_t, std::unique_ptr<pcre2_code, CodeFree>>> codes;  // rising
  std::unique_ptr<pcre2_match_context, MatchContextFree> context{pcre2_match_context_create(nullptr)};

  bool Matches(const pcre2_code* code, std::string_view name) const {
    const std::unique_ptr<pcre2_match_data, MatchDataFree> data(pcre2_match_data_create_from_pattern(code, nullptr));
    return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0, PCRE2_ANCHORED, data.get(),
                       context.get()) >= 0;
  }
};

ExcludeList::ExcludeList(std::vector<std::string> patterns, std::string_view subject, ErrorCode code)
    : patterns_(std::move(patterns)) {
  auto compiled = std::make_shared<Compiled>();
  // A pattern that backtracks without end gives up, and does not match.
  pcre2_set_match_limit(compiled->context.get(), 100000);
  for (size_t i = 0; i < patterns_.size(); ++i) {
    const std::string& pattern = patterns_[i];
    if (!IsRegex(pattern) && !IsGlob(pattern)) {
      compiled->names.emplace(pattern, i);
      continue;
    }
    const std::string regex =
        IsRegex(pattern) ? pattern.substr(kRegexPrefix.size()) : "(?:" + GlobBody(pattern) + ")\\z";
    int error = 0;
    PCRE2_SIZE offset = 0;
    compiled->codes.emplace_back(i, pcre2_compile(reinterpret_cast<PCRE2_SPTR>(regex.data()), regex.size(),
                                                  PCRE2_NEVER_UTF | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr));
    if (!compiled->codes.back().second) {
      PCRE2_UCHAR reason[256] = {};
      pcre2_get_error_message(error, reason, sizeof reason);
      Fail(code, subject, "names, globs and re: regular expressions",
           fmt::format("\"{}\" ({} at {})", pattern, reinterpret_cast<const char*>(reason), offset));
    }
  }
  compiled_ = std::move(compiled);
}

int ExcludeList::Find(std::string_view module) const {
  std::string_view text = module;
  if (text.substr(0, kTextPrefix.size()) == kTextPrefix) text.remove_prefix(kTextPrefix.size());
  if (patterns_.empty()) return -1;
  const bool two = text.size() != module.size();
  size_t first = patterns_.size();
  for (const std::string_view name : {module, text}) {
    if (const auto at = compiled_->names.find(name); at != compiled_->names.end()) first = std::min(first, at->second);
  }
  for (const auto& [place, code] : compiled_->codes) {
    if (place > first) break;
    if (compiled_->Matches(code.get(), module) || (two && compiled_->Matches(code.get(), text))) first = place;
  }
  return first < patterns_.size() ? static_cast<int>(first) : -1;
}

std::string GlobAsRegex(const std::string& pattern) {
  if (IsRegex(pattern) || !IsGlob(pattern)) return pattern;
  return "re:" + GlobBody(pattern) + "$";
}

}  // namespace mxmla
