#include "text/template/expression_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "text/template/filters.h"

namespace mxmla::jinja {
namespace {

using Kind = Expression::Kind;

std::optional<Operation> ComparisonOf(const Token& token) {
  if (!token.Is(Token::Kind::kOperator)) return std::nullopt;
  if (token.text == "==") return Operation::kEqual;
  if (token.text == "!=") return Operation::kNotEqual;
  if (token.text == "<") return Operation::kLess;
  if (token.text == "<=") return Operation::kLessEqual;
  if (token.text == ">") return Operation::kGreater;
  if (token.text == ">=") return Operation::kGreaterEqual;
  return std::nullopt;
}

std::optional<Operation> ProductOf(const Token& token) {
  if (!token.Is(Token::Kind::kOperator)) return std::nullopt;
  if (token.text == "*") return Operation::kMultiply;
  if (token.text == "/") return Operation::kDivide;
  if (token.text == "//") return Operation::kFloorDivide;
  if (token.text == "%") return Operation::kModulo;
  return std::nullopt;
}

Expressions Two(ExpressionPtr a, ExpressionPtr b) {
  Expressions both;
  both.push_back(std::move(a));
  both.push_back(std::move(b));
  return both;
}

Expressions One(ExpressionPtr a) {
  Expressions one;
  one.push_back(std::move(a));
  return one;
}

}  // namespace

Symbol ExpressionParser::SymbolOf(const std::string& name) {
  const auto [place, is_new] = template_.symbols.try_emplace(name, static_cast<Symbol>(template_.names.size()));
  if (is_new) template_.names.push_back(name);
  return place->second;
}

void ExpressionParser::Adopt(const ExpressionPtr& child, Expression* parent) const {
  if (!child) return;
  parent->depth = std::max(parent->depth, child->depth + 1);
  if (parent->depth > kDeepestSource) throw SyntaxFault("an expression nested too deep", parent->line);
}

ExpressionPtr ExpressionParser::Make(Kind kind, int line, Expressions operands) {
  auto node = std::make_unique<Expression>(Expression{kind, line});
  node->operands = std::move(operands);
  for (const ExpressionPtr& operand : node->operands) Adopt(operand, node.get());
  return node;
}

ExpressionPtr ExpressionParser::ReadName(const std::string& name, int line) {
  ++reads_;
  auto node = Make(Kind::kName, line);
  node->name = name;
  node->symbol = SymbolOf(name);
  template_.reads[name] = true;
  for (MacroDefinition* macro : macros) {
    macro->reads_caller |= name == "caller";
    macro->reads_varargs |= name == "varargs";
    macro->reads_kwargs |= name == "kwargs";
  }
  return node;
}

bool ExpressionParser::IsTupleEnd(std::initializer_list<std::string_view> ends) const {
  const Token& token = tokens_.current();
  if (token.Is(Token::Kind::kVariableEnd) || token.Is(Token::Kind::kBlockEnd) || token.IsOperator(")")) return true;
  return std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return token.IsName(end); });
}

ExpressionPtr ExpressionParser::ParseTuple(bool with_conditional, std::initializer_list<std::string_view> ends) {
  const int line = tokens_.line();
  Expressions items;
  bool is_tuple = false;
  while (!IsTupleEnd(ends)) {
    items.push_back(ParseExpression(with_conditional));
    if (!tokens_.SkipOperator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return Make(Kind::kTuple, line, std::move(items));
  if (items.empty()) {
    tokens_.Fail(fmt::format("'{}' where an expression belongs", Describe(tokens_.current())));
  }
  return std::move(items.front());
}

ExpressionPtr ExpressionParser::ParseTarget(bool with_namespace, std::initializer_list<std::string_view> ends) {
  const int line = tokens_.line();
  Expressions items;
  bool is_tuple = false;
  const Nesting nesting(*this);
  while (!IsTupleEnd(ends)) {
    if (tokens_.SkipOperator("(")) {
      items.push_back(ParseTarget(false, {}));
      tokens_.ExpectOperator(")");
    } else {
      const Token token = tokens_.Expect(Token::Kind::kName);
      for (const char* constant : {"true", "false", "none", "True", "False", "None"}) {
        if (token.text == constant) throw SyntaxFault(fmt::format("a value given to '{}'", constant), token.line);
      }
      const bool is_namespace = with_namespace && tokens_.SkipOperator(".");
      auto node = Make(is_namespace ? Kind::kNamespace : Kind::kName, token.line);
      node->symbol = SymbolOf(token.text);
      node->name = is_namespace ? tokens_.Expect(Token::Kind::kName).text : token.text;
      items.push_back(std::move(node));
    }
    if (!tokens_.SkipOperator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return Make(Kind::kTuple, line, std::move(items));
  if (items.empty()) tokens_.Fail(fmt::format("'{}' where a name belongs", Describe(tokens_.current())));
  return std::move(items.front());
}

ExpressionPtr ExpressionParser::ParseExpression(bool with_conditional) {
  const Nesting nesting(*this);
  if (!with_conditional) return ParseOr();
  int line = tokens_.line();
  const size_t unknown = unknown_.size();
  ExpressionPtr value = ParseOr();
  while (tokens_.SkipName("if")) {
    Forget(unknown);
    const Block branch(*this, true);
    Expressions operands = Two(ParseOr(), std::move(value));
    operands.push_back(tokens_.SkipName("else") ? ParseExpression() : nullptr);
    value = Make(Kind::kConditional, line, std::move(operands));
    line = tokens_.line();
  }
  return value;
}

ExpressionPtr ExpressionParser::ParseOr() {
  const int reads = reads_;
  ExpressionPtr left = ParseAnd();
  while (tokens_.current().IsName("or")) {
    const int line = tokens_.Take().line;
    left = Make(Kind::kOr, line, Two(std::move(left), ParseRest(reads, [&] { return ParseAnd(); })));
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseAnd() {
  const int reads = reads_;
  ExpressionPtr left = ParseNot();
  while (tokens_.current().IsName("and")) {
    const int line = tokens_.Take().line;
    left = Make(Kind::kAnd, line, Two(std::move(left), ParseRest(reads, [&] { return ParseNot(); })));
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseNot() {
  if (!tokens_.current().IsName("not")) return ParseCompare();
  const Nesting nesting(*this);
  const int line = tokens_.Take().line;
  return Make(Kind::kNot, line, One(ParseNot()));
}

ExpressionPtr ExpressionParser::ParseCompare() {
  const int line = tokens_.line(), reads = reads_;
  ExpressionPtr first = ParseSum();
  Expressions operands;
  std::vector<Operation> operations;
  while (true) {
    if (const auto operation = ComparisonOf(tokens_.current())) {
      tokens_.Take();
      operations.push_back(*operation);
    } else if (tokens_.SkipName("in")) {
      operations.push_back(Operation::kIn);
    } else if (tokens_.current().IsName("not") && tokens_.next().IsName("in")) {
      tokens_.Take();
      tokens_.Take();
      operations.push_back(Operation::kNotIn);
    } else {
      break;
    }
    if (operands.empty()) operands.push_back(std::move(first));
    const bool can_end = operands.size() > 1;  // a comparison stands before
    operands.push_back(can_end ? ParseRest(reads, [&] { return ParseSum(); }) : ParseSum());
  }
  if (operands.empty()) return first;
  auto node = Make(Kind::kCompare, line, std::move(operands));
  node->operations = std::move(operations);
  return node;
}

ExpressionPtr ExpressionParser::ParseSum() {
  ExpressionPtr left = ParseConcatenation();
  while (tokens_.current().IsOperator("+") || tokens_.current().IsOperator("-")) {
    const int line = tokens_.line();
    const auto operation = tokens_.Take().text == "+" ? Operation::kAdd : Operation::kSubtract;
    left = Make(Kind::kArithmetic, line, Two(std::move(left), ParseConcatenation()));
    left->operations = {operation};
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseConcatenation() {
  const int line = tokens_.line();
  ExpressionPtr first = ParseProduct();
  if (!tokens_.current().IsOperator("~")) return first;
  Expressions operands = One(std::move(first));
  while (tokens_.SkipOperator("~")) operands.push_back(ParseProduct());
  return Make(Kind::kConcatenate, line, std::move(operands));
}

ExpressionPtr ExpressionParser::ParseProduct() {
  ExpressionPtr left = ParsePower();
  while (const auto operation = ProductOf(tokens_.current())) {
    const int line = tokens_.Take().line;
    left = Make(Kind::kArithmetic, line, Two(std::move(left), ParsePower()));
    left->operations = {*operation};
  }
  return left;
}

ExpressionPtr ExpressionParser::ParsePower() {
  ExpressionPtr left = ParseUnary();
  while (tokens_.current().IsOperator("**")) {
    const int line = tokens_.Take().line;
    left = Make(Kind::kArithmetic, line, Two(std::move(left), ParseUnary()));
    left->operations = {Operation::kPower};
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseUnary(bool with_filters) {
  const Nesting nesting(*this);
  const int line = tokens_.line();
  ExpressionPtr node;
  if (tokens_.SkipOperator("-")) {
    node = Make(Kind::kNegative, line, One(ParseUnary(false)));
  } else if (tokens_.SkipOperator("+")) {
    node = Make(Kind::kPositive, line, One(ParseUnary(false)));
  } else {
    node = ParsePrimary();
  }
  node = ParsePostfix(std::move(node));
  while (with_filters) {
    if (tokens_.current().IsOperator("|")) {
      node = ParseFilters(std::move(node), false);
    } else if (tokens_.current().IsName("is")) {
      node = ParseTest(std::move(node));
    } else if (tokens_.current().IsOperator("(")) {
      node = ParseCall(std::move(node));
    } else {
      break;
    }
  }
  return node;
}

ExpressionPtr ExpressionParser::ParsePrimary() {
  const Token& token = tokens_.current();
  const int line = token.line;
  const auto constant = [&](Value value) {
    auto node = Make(Kind::kConstant, line);
    node->value = std::move(value);
    return node;
  };
  switch (token.kind) {
    case Token::Kind::kName: {
      const std::string name = tokens_.Take().text;
      if (name == "true" || name == "True") return constant(Value::Bool(true));
      if (name == "false" || name == "False") return constant(Value::Bool(false));
      if (name == "none" || name == "None") return constant(Value());
      return ReadName(name, line);
    }
    case Token::Kind::kString: {
      std::string text;
      while (tokens_.current().Is(Token::Kind::kString)) text += tokens_.Take().text;
      return constant(Value::Literal(text));
    }
    case Token::Kind::kInteger:
    case Token::Kind::kFloat:
      return constant(tokens_.Take().number);
    case Token::Kind::kOperator:
      if (token.text == "(") {
        tokens_.Take();
        if (tokens_.SkipOperator(")")) return Make(Kind::kTuple, line);
        ExpressionPtr inner = ParseTuple();
        tokens_.ExpectOperator(")");
        return inner;
      }
      if (token.text == "[" || token.text == "{") return ParseListOrDict();
      break;
    default:
      break;
  }
  tokens_.Fail(fmt::format("'{}' where an expression belongs", Describe(token)));
}

ExpressionPtr ExpressionParser::ParseListOrDict() {
  const int line = tokens_.line();
  const bool is_list = tokens_.Take().text == "[";
  const std::string_view end = is_list ? "]" : "}";
  Expressions operands;
  while (!tokens_.current().IsOperator(end)) {
    if (!operands.empty()) tokens_.ExpectOperator(",");
    if (tokens_.current().IsOperator(end)) break;
    operands.push_back(ParseExpression());
    if (is_list) continue;
    tokens_.ExpectOperator(":");
    operands.push_back(ParseExpression());
  }
  tokens_.ExpectOperator(end);
  return Make(is_list ? Kind::kList : Kind::kDict, line, std::move(operands));
}

ExpressionPtr ExpressionParser::ParsePostfix(ExpressionPtr operand) {
  while (true) {
    if (tokens_.current().IsOperator(".") || tokens_.current().IsOperator("[")) {
      operand = ParseSubscript(std::move(operand));
    } else if (tokens_.current().IsOperator("(")) {
      operand = ParseCall(std::move(operand));
    } else {
      return operand;
    }
  }
}

ExpressionPtr ExpressionParser::ParseSubscript(ExpressionPtr operand) {
  const int line = tokens_.line();
  if (tokens_.SkipOperator(".")) {
    const Token token = tokens_.Take();
    if (token.Is(Token::Kind::kName)) {
      auto node = Make(Kind::kAttribute, line, One(std::move(operand)));
      node->name = token.text;
      return node;
    }
    if (!token.Is(Token::Kind::kInteger)) {
      throw SyntaxFault(fmt::format("'{}' where a name or a number belongs", Describe(token)), token.line);
    }
    auto index = Make(Kind::kConstant, line);
    index->value = token.number;
    return Make(Kind::kItem, line, Two(std::move(operand), std::move(index)));
  }
  tokens_.ExpectOperator("[");
  Expressions keys;
  bool is_slice = false;
  while (!tokens_.current().IsOperator("]")) {
    if (!keys.empty()) tokens_.ExpectOperator(",");
    if (is_slice) tokens_.Fail("a slice beside another key");
    ExpressionPtr first = tokens_.current().IsOperator(":") ? nullptr : ParseExpression();
    if (!tokens_.SkipOperator(":")) {
      keys.push_back(std::move(first));
      continue;
    }
    if (!keys.empty()) tokens_.Fail("a slice beside another key");
    is_slice = true;
    const auto part = [&]() -> ExpressionPtr {
      const Token& token = tokens_.current();
      return token.IsOperator("]") || token.IsOperator(":") || token.IsOperator(",") ? nullptr : ParseExpression();
    };
    keys.push_back(std::move(first));
    keys.push_back(part());
    keys.push_back(tokens_.SkipOperator(":") ? part() : nullptr);
  }
  tokens_.ExpectOperator("]");
  if (is_slice) {
    keys.insert(keys.begin(), std::move(operand));
    return Make(Kind::kSlice, line, std::move(keys));
  }
  ExpressionPtr key = keys.size() == 1 ? std::move(keys.front()) : Make(Kind::kTuple, line, std::move(keys));
  return Make(Kind::kItem, line, Two(std::move(operand), std::move(key)));
}

std::unique_ptr<Arguments> ExpressionParser::ParseArguments() {
  auto arguments = std::make_unique<Arguments>();
  tokens_.ExpectOperator("(");
  bool is_first = true;
  const auto ensure = [&](bool is_right) {
    if (!is_right) tokens_.Fail("arguments in a wrong order");
  };
  while (!tokens_.current().IsOperator(")")) {
    if (!is_first) {
      tokens_.ExpectOperator(",");
      if (tokens_.current().IsOperator(")")) break;
    }
    is_first = false;
    if (tokens_.SkipOperator("*")) {
      ensure(!arguments->more_positional && !arguments->more_named);
      arguments->more_positional = ParseExpression();
    } else if (tokens_.SkipOperator("**")) {
      ensure(!arguments->more_named);
      arguments->more_named = ParseExpression();
    } else if (tokens_.current().Is(Token::Kind::kName) && tokens_.next().IsOperator("=")) {
      ensure(!arguments->more_named);
      std::string name = tokens_.Take().text;
      tokens_.Take();
      arguments->named.emplace_back(std::move(name), ParseExpression());
    } else {
      ensure(!arguments->more_positional && !arguments->more_named && arguments->named.empty());
      arguments->positional.push_back(ParseExpression());
    }
  }
  tokens_.ExpectOperator(")");
  return arguments;
}

ExpressionPtr ExpressionParser::ParseCall(ExpressionPtr callee) {
  const int line = tokens_.line();
  ++reads_;
  auto node = Make(Kind::kCall, line, One(std::move(callee)));
  node->arguments = ParseArguments();
  for (const ExpressionPtr& argument : node->arguments->positional) Adopt(argument, node.get());
  for (const auto& [name, argument] : node->arguments->named) Adopt(argument, node.get());
  return node;
}

void ExpressionParser::CheckNames() const {
  if (!unknown_.empty()) throw SyntaxFault(unknown_.front());
}

std::string ExpressionParser::ParseDottedName() {
  std::string name = tokens_.Expect(Token::Kind::kName).text;
  while (tokens_.SkipOperator(".")) name += "." + tokens_.Expect(Token::Kind::kName).text;
  return name;
}

ExpressionPtr ExpressionParser::ParseFilters(ExpressionPtr operand, bool begins) {
  while (begins || tokens_.SkipOperator("|")) {
    begins = false;
    const int line = tokens_.line();
    std::string name = ParseDottedName();
    if (!in_branch_ && !FindFilter(name))
      unknown_.push_back(SyntaxFault(fmt::format("the filter '{}', which mxmla does not know", name), line));
    auto node = Make(Kind::kFilter, line, One(std::move(operand)));
    node->name = std::move(name);
    node->arguments = tokens_.current().IsOperator("(") ? ParseArguments() : std::make_unique<Arguments>();
    for (const ExpressionPtr& argument : node->arguments->positional) Adopt(argument, node.get());
    for (const auto& [key, argument] : node->arguments->named) Adopt(argument, node.get());
    operand = std::move(node);
  }
  return operand;
}

ExpressionPtr ExpressionParser::ParseTest(ExpressionPtr operand) {
  const int line = tokens_.Take().line;
  const bool is_negated = tokens_.SkipName("not");
  auto node = Make(Kind::kTest, line, One(std::move(operand)));
  node->name = ParseDottedName();
  if (!in_branch_ && !FindTest(node->name)) {
    unknown_.emplace_back(fmt::format("the test '{}', which mxmla does not know", node->name), line);
  }
  node->arguments = std::make_unique<Arguments>();
  const Token& token = tokens_.current();
  const bool is_operand = token.Is(Token::Kind::kName) || token.Is(Token::Kind::kString) ||
                          token.Is(Token::Kind::kInteger) || token.Is(Token::Kind::kFloat) || token.IsOperator("[") ||
                          token.IsOperator("{");
  if (token.IsOperator("(")) {
    node->arguments = ParseArguments();
  } else if (is_operand && !token.IsName("else") && !token.IsName("or") && !token.IsName("and")) {
    if (token.IsName("is")) tokens_.Fail("a test behind a test");
    node->arguments->positional.push_back(ParsePostfix(ParsePrimary()));
  }
  for (const ExpressionPtr& argument : node->arguments->positional) Adopt(argument, node.get());
  for (const auto& [key, argument] : node->arguments->named) Adopt(argument, node.get());
  return is_negated ? Make(Kind::kNot, line, One(std::move(node))) : std::move(node);
}

}  // namespace mxmla::jinja
