// Carries a template out.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template/syntax.h"
#include "text/template/value.h"

namespace mxmla::jinja {

// The variables of a stretch of the template: the whole, one turn of a loop, one call of a macro.
struct Scope {
  Value* Find(Symbol symbol) {
    for (auto& [name, value] : variables) {
      if (name == symbol) return &value;
    }
    return nullptr;
  }
  void Set(Symbol symbol, Value value) {
    if (Value* found = Find(symbol)) {
      *found = std::move(value);
    } else {
      variables.emplace_back(symbol, std::move(value));
    }
  }

  std::shared_ptr<Scope> parent;
  std::vector<std::pair<Symbol, Value>> variables;
};

using ScopePtr = std::shared_ptr<Scope>;

class Evaluator {
 public:
  // Both outlive the evaluator.
  Evaluator(const Template& tree, Runtime& runtime);

  // A variable that the template finds.
  void SetVariable(std::string_view name, Value value);

  // What the template writes. Throws TemplateFault; line() then says where.
  Text Run();

  // The line of the source that was carried out last.
  int line() const { return line_; }

  // For macros and recursive loops.
  Value CallMacro(const MacroDefinition& macro, const ScopePtr& scope, const Args& args);
  Text RunLoop(const Statement& loop, const Value& iterable, const ScopePtr& scope, int depth);

 private:
  enum class Flow { kNormal, kBreak, kContinue };

  Flow Execute(const Body& body, const ScopePtr& scope);
  Flow Execute(const Statement& statement, const ScopePtr& scope);
  void ExecuteFor(const Statement& loop, const Value& iterable, const ScopePtr& scope, int depth);
  // What a body writes.
  Text Capture(const Body& body, const ScopePtr& scope);
  void Write(const Text& text);
  void Assign(const Expression& target, const Value& value, const ScopePtr& scope);

  Value Evaluate(const Expression& node, const ScopePtr& scope);
  Value EvaluateName(const Expression& node, const ScopePtr& scope);
  Value EvaluateCall(const Expression& node, const ScopePtr& scope, const Value* caller = nullptr);
  Value EvaluateDict(const Expression& node, const ScopePtr& scope);
  Value EvaluateSlice(const Expression& node, const ScopePtr& scope);
  Value EvaluateCompare(const Expression& node, const ScopePtr& scope);
  Value EvaluateConcatenation(const Expression& node, const ScopePtr& scope);
  Value EvaluateConditional(const Expression& node, const ScopePtr& scope);
  // A chain of filters, whose first operand is null where `input` takes its place.
  Value EvaluateFilter(const Expression& node, const ScopePtr& scope, const Value* input = nullptr);
  Value EvaluateTest(const Expression& node, const ScopePtr& scope);
  Args EvaluateArguments(const Arguments& arguments, const ScopePtr& scope);
  Values EvaluateAll(const Expressions& nodes, const ScopePtr& scope);

  const Template& tree_;
  Runtime& runtime_;
  std::vector<std::optional<Value>> context_;  // by symbol
  Text* out_ = nullptr;
  int line_ = 1;
};

}  // namespace mxmla::jinja
