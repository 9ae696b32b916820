// Tokens one after the other, for the parser.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template/lexer.h"

namespace mxmla::jinja {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  int line() const { return current().line; }

  // The current token, which is then the one before.
  const Token& Take() {
    const Token& token = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool SkipName(std::string_view name) { return current().IsName(name) && (Take(), true); }
  bool SkipOperator(std::string_view symbol) { return current().IsOperator(symbol) && (Take(), true); }

  void ExpectOperator(std::string_view symbol) {
    if (!SkipOperator(symbol)) FailExpected(symbol);
  }
  void ExpectName(std::string_view name) {
    if (!SkipName(name)) FailExpected(name);
  }
  const Token& Expect(Token::Kind kind) {
    if (!current().Is(kind)) FailExpected(Describe({kind, 0, "a name"}));
    return Take();
  }

  [[noreturn]] void FailExpected(std::string_view expected) const {
    throw SyntaxFault(fmt::format("'{}' where '{}' belongs", Describe(current()), expected), line());
  }
  [[noreturn]] void Fail(const std::string& message) const { throw SyntaxFault(message, line()); }

 private:
  std::vector<Token> tokens_;
  size_t at_ = 0;
};

}  // namespace mxmla::jinja
