// Expressions of a template.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template/syntax.h"
#include "text/template/token_stream.h"

namespace mxmla::jinja {

class ExpressionParser {
 public:
  // Both outlive the parser; names are added to the template.
  ExpressionParser(TokenStream* tokens, Template* to) : tokens_(*tokens), template_(*to) {}

  ExpressionPtr ParseExpression(bool with_conditional = true);
  // An expression, or several with commas between them, which are a tuple; a name in `ends` ends it too.
  ExpressionPtr ParseTuple(bool with_conditional = true, std::initializer_list<std::string_view> ends = {});
  // What a value can be given to: a name, a tuple of them, NAMESPACE.ATTRIBUTE where that is allowed.
  ExpressionPtr ParseTarget(bool with_namespace, std::initializer_list<std::string_view> ends = {});
  ExpressionPtr ParseUnary(bool with_filters = true);
  // `| filter | filter ...` around `operand`, which may be null; null where no filter follows. `begins` says that the
  // first filter stands there without its bar.
  ExpressionPtr ParseFilters(ExpressionPtr operand, bool begins);

  Symbol SymbolOf(const std::string& name);

  // The macros around the current place, which learn what their bodies read.
  std::vector<MacroDefinition*> macros;

  // Throws SyntaxFault for a filter or test that there is not. As jinja2 does it when it compiles, before anything
  // runs: those of the branches of `if`, as far as no other block begins in them, are left to the run.
  void CheckNames() const;

  // A block of statements begins: a branch of `if`, or another.
  class Block {
   public:
    Block(ExpressionParser& parser, bool is_branch)
        : parser_(parser), before_(std::exchange(parser.in_branch_, is_branch)) {}
    ~Block() { parser_.in_branch_ = before_; }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;

   private:
    ExpressionParser& parser_;
    bool before_;
  };

  // Levels of the source around the current place; the constructor throws SyntaxFault where they are too many.
  class Nesting {
   public:
    explicit Nesting(ExpressionParser& parser) : parser_(parser) {
      if (++parser_.nesting_ > kDeepestSource) parser_.tokens_.Fail("source nested too deep");
    }
    ~Nesting() { --parser_.nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    ExpressionParser& parser_;
  };

 private:
  ExpressionPtr Make(Expression::Kind kind, int line, Expressions operands = {});
  ExpressionPtr ReadName(const std::string& name, int line);

  ExpressionPtr ParseOr();
  ExpressionPtr ParseAnd();
  ExpressionPtr ParseNot();
  ExpressionPtr ParseCompare();
  ExpressionPtr ParseSum();
  ExpressionPtr ParseConcatenation();
  ExpressionPtr ParseProduct();
  ExpressionPtr ParsePower();
  ExpressionPtr ParsePrimary();
  ExpressionPtr ParseListOrDict();
  ExpressionPtr ParsePostfix(ExpressionPtr operand);
  ExpressionPtr ParseSubscript(ExpressionPtr operand);
  ExpressionPtr ParseCall(ExpressionPtr callee);
  ExpressionPtr ParseTest(ExpressionPtr operand);
  std::unique_ptr<Arguments> ParseArguments();
  std::string ParseDottedName();
  // All but the first `count` unknown names.
  void Forget(size_t count) { unknown_.erase(unknown_.begin() + static_cast<std::ptrdiff_t>(count), unknown_.end()); }
  // Parses what follows an operand that may be enough: where that is constant, jinja2 may not look at the rest.
  template <class Parse>
  ExpressionPtr ParseRest(int reads_before, const Parse& parse) {
    const size_t unknown = unknown_.size();
    const int reads_at_rest = reads_;
    ExpressionPtr rest = parse();
    if (reads_before == reads_at_rest) Forget(unknown);
    return rest;
  }
  bool IsTupleEnd(std::initializer_list<std::string_view> ends) const;
  // Adds `child`'s levels to those of `parent`.
  void Adopt(const ExpressionPtr& child, Expression* parent) const;

  TokenStream& tokens_;
  Template& template_;
  int nesting_ = 0;
  int reads_ = 0;           // names and calls so far, which make an expression none that is constant
  bool in_branch_ = false;  // jinja2 leaves unknown filters and tests to the run
  std::vector<SyntaxFault> unknown_;
};

}  // namespace mxmla::jinja
