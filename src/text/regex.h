// A compiled PCRE2 expression over UTF-8.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct pcre2_real_code_8;

namespace mxmla {

struct Span {
  size_t begin;
  size_t end;
};

class Regex {
 public:
  // `pattern` is in PCRE2's syntax; `subject` names it in errors. Throws kTokenizer where PCRE2 refuses the pattern.
  Regex(const std::string& pattern, std::string subject);

  // A literal string rather than an expression.
  static Regex Literal(const std::string& text, std::string subject);

  // Every match in valid UTF-8, left to right, each an independent search from the end of the one before. Throws
  // kTokenizer where a search passes PCRE2's limits (an expression that backtracks without end).
  void FindAll(std::string_view text, std::vector<Span>* matches) const;

  // Whether the expression matches exactly at `offset`.
  bool MatchesAt(std::string_view text, size_t offset) const;

 private:
  struct CodeDeleter {
    void operator()(pcre2_real_code_8* code) const;
  };

  Regex(const std::string& pattern, std::string subject, unsigned options);

  bool Search(std::string_view text, size_t offset, unsigned options, Span* match) const;

  std::unique_ptr<pcre2_real_code_8, CodeDeleter> code_;
  std::string subject_;
};

}  // namespace mxmla
