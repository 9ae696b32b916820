// A template's source cut into tokens, with white space kept or dropped as jinja2 does it for chat templates.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "text/template/value.h"

namespace mxmla::jinja {

// A template that cannot be parsed.
class SyntaxFault : public std::runtime_error {
 public:
  SyntaxFault(const std::string& message, int line) : std::runtime_error(message), line_(line) {}
  int line() const { return line_; }

 private:
  int line_;
};

struct Token {
  enum class Kind {
    kData,  // text outside of tags
    kVariableBegin,
    kVariableEnd,
    kBlockBegin,
    kBlockEnd,
    kName,
    kString,
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };

  Kind kind;
  int line;
  std::string text;  // of data, a name, a string's value, an operator
  Value number = {};

  bool Is(Kind k) const { return kind == k; }
  bool IsName(std::string_view name) const { return kind == Kind::kName && text == name; }
  bool IsOperator(std::string_view symbol) const { return kind == Kind::kOperator && text == symbol; }
};

// The tokens of valid UTF-8, kEnd last. trim_blocks and lstrip_blocks are on, a newline at the end is dropped, lines
// end with \n, \r\n or \r. Throws SyntaxFault.
std::vector<Token> Tokenize(std::string_view source);

// A token as an error names it.
std::string Describe(const Token& token);

}  // namespace mxmla::jinja
