#include "text/template/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "text/template/expression_parser.h"

namespace mxmla::jinja {
namespace {

using Kind = Statement::Kind;

std::unique_ptr<Statement> MakeStatement(Kind kind, int line) {
  return std::make_unique<Statement>(Statement{kind, line});
}

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(Tokenize(source)), expressions_(&tokens_, &template_) {}

  Template Run() {
    template_.loop = expressions_.SymbolOf("loop");
    template_.caller = expressions_.SymbolOf("caller");
    template_.varargs = expressions_.SymbolOf("varargs");
    template_.kwargs = expressions_.SymbolOf("kwargs");
    template_.body = ParseBody({});
    expressions_.CheckNames();
    return std::move(template_);
  }

 private:
  using Ends = std::initializer_list<std::string_view>;

  bool IsEnd(Ends ends) const {
    return std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return tokens_.current().IsName(end); });
  }

  // Statements up to the tag that begins with one of `ends`, whose name is then the current token; with no `ends`, up
  // to the template's end.
  Body ParseBody(Ends ends) {
    const ExpressionParser::Nesting nesting(expressions_);
    Body body;
    while (true) {
      switch (tokens_.current().kind) {
        case Token::Kind::kData: {
          auto data = MakeStatement(Kind::kData, tokens_.line());
          data->text = Text::Literal(tokens_.Take().text);
          body.push_back(std::move(data));
          break;
        }
        case Token::Kind::kVariableBegin: {
          auto output = MakeStatement(Kind::kOutput, tokens_.Take().line);
          output->value = expressions_.ParseTuple();
          tokens_.Expect(Token::Kind::kVariableEnd);
          body.push_back(std::move(output));
          break;
        }
        case Token::Kind::kBlockBegin:
          tokens_.Take();
          if (IsEnd(ends)) return body;
          body.push_back(ParseStatement());
          tokens_.Expect(Token::Kind::kBlockEnd);
          break;
        default:
          if (ends.size() > 0) tokens_.FailExpected(*std::rbegin(std::vector<std::string_view>(ends)));
          if (!tokens_.current().Is(Token::Kind::kEnd)) tokens_.FailExpected("a tag");
          return body;
      }
    }
  }

  // A tag's end, then ParseBody.
  Body ParseBlock(Ends ends) {
    tokens_.SkipOperator(":");
    tokens_.Expect(Token::Kind::kBlockEnd);
    return ParseBody(ends);
  }

  // The same with one end, which is taken.
  Body ParseWholeBlock(std::string_view end, bool is_branch = false) {
    const ExpressionParser::Block block(expressions_, is_branch);
    Body body = ParseBlock({end});
    tokens_.ExpectName(end);
    return body;
  }

  std::unique_ptr<Statement> ParseStatement() {
    const Token token = tokens_.Expect(Token::Kind::kName);
    const std::string& name = token.text;
    const int line = token.line;
    if (name == "set") return ParseSet(line);
    if (name == "if") return ParseIf(line);
    if (name == "for") return ParseFor(line);
    if (name == "macro") return ParseMacro(line);
    if (name == "call") return ParseCallBlock(line);
    if (name == "filter") return ParseFilterBlock(line);
    if (name == "with") return ParseWith(line);
    if (name == "break" || name == "continue") {
      if (loops_ == 0) throw SyntaxFault(fmt::format("'{}' outside of a loop", name), line);
      return MakeStatement(name == "break" ? Kind::kBreak : Kind::kContinue, line);
    }
    if (name == "generation") {
      auto scope = MakeStatement(Kind::kScope, line);
      scope->body = ParseWholeBlock("endgeneration");
      return scope;
    }
    if (name == "print") {
      auto output = MakeStatement(Kind::kOutput, line);
      output->value = expressions_.ParseTuple();
      return output;
    }
    for (const char* other : {"extends", "include", "import", "from", "block", "autoescape"}) {
      if (name == other) throw SyntaxFault(fmt::format("'{}', which a chat template cannot use", name), line);
    }
    throw SyntaxFault(fmt::format("the tag '{}', which is unknown or closes nothing", name), line);
  }

  std::unique_ptr<Statement> ParseSet(int line) {
    auto target = expressions_.ParseTarget(true);
    if (tokens_.SkipOperator("=")) {
      auto set = MakeStatement(Kind::kSet, line);
      set->target = std::move(target);
      set->value = expressions_.ParseTuple();
      return set;
    }
    auto set = MakeStatement(Kind::kSetBlock, line);
    set->target = std::move(target);
    const ExpressionParser::Block block(expressions_, false);
    set->value = expressions_.ParseFilters(nullptr, false);
    set->body = ParseWholeBlock("endset");
    return set;
  }

  std::unique_ptr<Statement> ParseIf(int line) {
    auto statement = MakeStatement(Kind::kIf, line);
    const ExpressionParser::Block branch(expressions_, true);
    while (true) {
      auto condition = expressions_.ParseTuple(false);
      Body body = ParseBlock({"elif", "else", "endif"});
      statement->branches.emplace_back(std::move(condition), std::move(body));
      if (tokens_.SkipName("elif")) continue;
      if (tokens_.SkipName("else")) {
        statement->otherwise = ParseWholeBlock("endif", true);
      } else {
        tokens_.ExpectName("endif");
      }
      return statement;
    }
  }

  std::unique_ptr<Statement> ParseFor(int line) {
    auto loop = MakeStatement(Kind::kFor, line);
    loop->target = expressions_.ParseTarget(false, {"in"});
    tokens_.ExpectName("in");
    loop->value = expressions_.ParseTuple(false, {"recursive"});
    const ExpressionParser::Block block(expressions_, false);
    if (tokens_.SkipName("if")) loop->condition = expressions_.ParseExpression();
    loop->is_recursive = tokens_.SkipName("recursive");
    ++loops_;
    loop->body = ParseBlock({"endfor", "else"});
    --loops_;
    if (tokens_.SkipName("else")) {
      loop->otherwise = ParseWholeBlock("endfor");
    } else {
      tokens_.ExpectName("endfor");
    }
    return loop;
  }

  // The parameters in brackets, then the body up to `end`.
  void ParseSignatureAndBody(MacroDefinition* macro, bool has_signature, std::string_view end,
                             ExpressionPtr* between = nullptr) {
    if (has_signature) {
      tokens_.ExpectOperator("(");
      while (!tokens_.current().IsOperator(")")) {
        if (!macro->parameters.empty()) tokens_.ExpectOperator(",");
        const std::string name = tokens_.Expect(Token::Kind::kName).text;
        Parameter parameter{expressions_.SymbolOf(name), name, nullptr};
        if (tokens_.SkipOperator("=")) {
          const ExpressionParser::Block block(expressions_, false);
          parameter.default_value = expressions_.ParseExpression();
        } else if (!macro->parameters.empty() && macro->parameters.back().default_value) {
          tokens_.Fail("a parameter without a default behind one with a default");
        }
        macro->parameters.push_back(std::move(parameter));
      }
      tokens_.ExpectOperator(")");
    }
    if (between) *between = expressions_.ParseExpression();
    expressions_.macros.push_back(macro);
    const int loops = std::exchange(loops_, 0);
    macro->body = ParseWholeBlock(end);
    loops_ = loops;
    expressions_.macros.pop_back();
  }

  std::unique_ptr<Statement> ParseMacro(int line) {
    auto statement = MakeStatement(Kind::kMacro, line);
    statement->macro = std::make_unique<MacroDefinition>();
    statement->macro->name = tokens_.Expect(Token::Kind::kName).text;
    statement->symbol = expressions_.SymbolOf(statement->macro->name);
    ParseSignatureAndBody(statement->macro.get(), true, "endmacro");
    return statement;
  }

  std::unique_ptr<Statement> ParseCallBlock(int line) {
    auto statement = MakeStatement(Kind::kCallBlock, line);
    statement->macro = std::make_unique<MacroDefinition>();
    statement->macro->name = "caller";
    ParseSignatureAndBody(statement->macro.get(), tokens_.current().IsOperator("("), "endcall", &statement->value);
    if (statement->value->kind != Expression::Kind::kCall) throw SyntaxFault("'call' without a call", line);
    return statement;
  }

  std::unique_ptr<Statement> ParseFilterBlock(int line) {
    auto statement = MakeStatement(Kind::kFilterBlock, line);
    const ExpressionParser::Block block(expressions_, false);
    statement->value = expressions_.ParseFilters(nullptr, true);
    statement->body = ParseWholeBlock("endfilter");
    return statement;
  }

  std::unique_ptr<Statement> ParseWith(int line) {
    auto statement = MakeStatement(Kind::kScope, line);
    while (!tokens_.current().Is(Token::Kind::kBlockEnd)) {
      if (!statement->assignments.empty()) tokens_.ExpectOperator(",");
      auto target = expressions_.ParseTarget(false);
      tokens_.ExpectOperator("=");
      auto value = expressions_.ParseExpression();
      statement->assignments.emplace_back(std::move(target), std::move(value));
    }
    statement->body = ParseWholeBlock("endwith");
    return statement;
  }

  Template template_;
  TokenStream tokens_;
  ExpressionParser expressions_;
  int loops_ = 0;  // around the current place, within its macro
};

}  // namespace

Template Parse(std::string_view source) {
  if (source.size() > kLongestSource) {
    throw SyntaxFault(fmt::format("{} bytes, more than {}", source.size(), kLongestSource), 1);
  }
  return Parser(source).Run();
}

}  // namespace mxmla::jinja
