// The expressions of a template.
#include <fmt/format.h>

#include "text/template/attributes.h"
#include "text/template/evaluator.h"
#include "text/template/filters.h"
#include "text/template/operators.h"

namespace mxmla::jinja {

using Kind = Expression::Kind;

Value Evaluator::Evaluate(const Expression& node, const ScopePtr& scope) {
  runtime_.Step();
  const Runtime::Level level(runtime_);
  line_ = node.line;
  switch (node.kind) {
    case Kind::kConstant:
      return node.value;
    case Kind::kName:
      return EvaluateName(node, scope);
    case Kind::kTuple:
      return Value::Tuple(EvaluateAll(node.operands, scope));
    case Kind::kList:
      return Value::List(EvaluateAll(node.operands, scope));
    case Kind::kDict:
      return EvaluateDict(node, scope);
    case Kind::kAttribute: {
      const Value owner = Evaluate(*node.operands[0], scope);
      line_ = node.line;
      return GetAttribute(runtime_, owner, node.name);
    }
    case Kind::kItem: {
      const Value owner = Evaluate(*node.operands[0], scope);
      const Value key = Evaluate(*node.operands[1], scope);
      line_ = node.line;
      return GetItem(runtime_, owner, key);
    }
    case Kind::kSlice:
      return EvaluateSlice(node, scope);
    case Kind::kCall:
      return EvaluateCall(node, scope);
    case Kind::kFilter:
      return EvaluateFilter(node, scope);
    case Kind::kTest:
      return EvaluateTest(node, scope);
    case Kind::kNot:
      return Value::Bool(!IsTrue(runtime_, Evaluate(*node.operands[0], scope)));
    case Kind::kNegative:
      return Negate(Evaluate(*node.operands[0], scope));
    case Kind::kPositive:
      return Plus(Evaluate(*node.operands[0], scope));
    case Kind::kAnd: {
      const Value left = Evaluate(*node.operands[0], scope);
      return IsTrue(runtime_, left) ? Evaluate(*node.operands[1], scope) : left;
    }
    case Kind::kOr: {
      const Value left = Evaluate(*node.operands[0], scope);
      return IsTrue(runtime_, left) ? left : Evaluate(*node.operands[1], scope);
    }
    case Kind::kArithmetic: {
      const Value left = Evaluate(*node.operands[0], scope);
      const Value right = Evaluate(*node.operands[1], scope);
      line_ = node.line;
      return Arithmetic(runtime_, node.operations[0], left, right);
    }
    case Kind::kCompare:
      return EvaluateCompare(node, scope);
    case Kind::kConcatenate:
      return EvaluateConcatenation(node, scope);
    case Kind::kConditional:
      return EvaluateConditional(node, scope);
    case Kind::kNamespace:
      break;
  }
  throw TemplateFault("an expression that cannot be evaluated");
}

Value Evaluator::EvaluateName(const Expression& node, const ScopePtr& scope) {
  for (Scope* at = scope.get(); at; at = at->parent.get()) {
    if (const Value* found = at->Find(node.symbol)) return *found;
  }
  if (const auto& found = context_[static_cast<size_t>(node.symbol)]) return *found;
  return Value::Undefined(fmt::format("'{}' is undefined", node.name));
}

Values Evaluator::EvaluateAll(const Expressions& nodes, const ScopePtr& scope) {
  Values values;
  values.reserve(nodes.size());
  for (const ExpressionPtr& node : nodes) values.push_back(Evaluate(*node, scope));
  return values;
}

Value Evaluator::EvaluateDict(const Expression& node, const ScopePtr& scope) {
  auto dict = std::make_shared<Dict>();
  for (size_t i = 0; i < node.operands.size(); i += 2) {
    Value key = Evaluate(*node.operands[i], scope);
    dict->Set(std::move(key), Evaluate(*node.operands[i + 1], scope));
  }
  return Value::OfDict(std::move(dict));
}

Value Evaluator::EvaluateSlice(const Expression& node, const ScopePtr& scope) {
  const Value owner = Evaluate(*node.operands[0], scope);
  Value parts[3];
  for (size_t i = 0; i < 3; ++i) {
    if (node.operands[i + 1]) parts[i] = Evaluate(*node.operands[i + 1], scope);
  }
  line_ = node.line;
  return GetSlice(runtime_, owner, &parts[0], &parts[1], &parts[2]);
}

Args Evaluator::EvaluateArguments(const Arguments& arguments, const ScopePtr& scope) {
  Args args;
  args.positional = EvaluateAll(arguments.positional, scope);
  if (arguments.more_positional) {
    for (Value& value : ToList(runtime_, Evaluate(*arguments.more_positional, scope))) {
      args.positional.push_back(std::move(value));
    }
  }
  for (const auto& [name, node] : arguments.named) args.named.emplace_back(name, Evaluate(*node, scope));
  if (arguments.more_named) {
    const Value more = Evaluate(*arguments.more_named, scope);
    if (!more.is_dict()) {
      RequireDefined(more);
      throw TemplateFault(fmt::format("argument after ** must be a mapping, not {}", TypeName(more)));
    }
    for (const auto& [key, value] : more.dict().entries) {
      if (!key.is_string()) throw TemplateFault("keywords must be strings");
      args.named.emplace_back(key.text().bytes(), value);
    }
  }
  return args;
}

Value Evaluator::EvaluateCall(const Expression& node, const ScopePtr& scope, const Value* caller) {
  const Expression& callee = *node.operands[0];
  const auto arguments = [&] {
    Args args = EvaluateArguments(*node.arguments, scope);
    if (caller) args.named.emplace_back("caller", *caller);
    line_ = node.line;
    return args;
  };
  if (callee.kind == Kind::kAttribute) {
    // A method is called without being made a value first.
    const Value owner = Evaluate(*callee.operands[0], scope);
    line_ = callee.line;
    RequireDefined(owner);
    if (const Method method = FindMethod(owner, callee.name)) return method(runtime_, owner, arguments());
    const Value function = GetAttribute(runtime_, owner, callee.name);
    return Call(runtime_, function, arguments());
  }
  const Value function = Evaluate(callee, scope);
  return Call(runtime_, function, arguments());
}

Value Evaluator::EvaluateFilter(const Expression& node, const ScopePtr& scope, const Value* input) {
  const Runtime::Level level(runtime_);
  Value value;
  if (!node.operands[0]) {
    value = *input;
  } else if (node.operands[0]->kind == Kind::kFilter) {
    value = EvaluateFilter(*node.operands[0], scope, input);
  } else {
    value = Evaluate(*node.operands[0], scope);
  }
  line_ = node.line;
  runtime_.Step();
  const Filter filter = RequireFilter(node.name);
  const Args args = EvaluateArguments(*node.arguments, scope);
  line_ = node.line;
  return filter(runtime_, value, args);
}

Value Evaluator::EvaluateTest(const Expression& node, const ScopePtr& scope) {
  const Value value = Evaluate(*node.operands[0], scope);
  line_ = node.line;
  const Test test = RequireTest(node.name);
  const Args args = EvaluateArguments(*node.arguments, scope);
  line_ = node.line;
  return Value::Bool(test(runtime_, value, args));
}

Value Evaluator::EvaluateCompare(const Expression& node, const ScopePtr& scope) {
  Value left = Evaluate(*node.operands[0], scope);
  for (size_t i = 0; i < node.operations.size(); ++i) {
    Value right = Evaluate(*node.operands[i + 1], scope);
    line_ = node.line;
    if (!Compare(runtime_, node.operations[i], left, right)) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

Value Evaluator::EvaluateConcatenation(const Expression& node, const ScopePtr& scope) {
  Text text;
  for (const Value& value : EvaluateAll(node.operands, scope)) {
    const Text part = Str(runtime_, value);
    runtime_.CheckText(text.size() + part.size(), part.size());
    text.Append(part);
  }
  return Value::String(std::move(text));
}

Value Evaluator::EvaluateConditional(const Expression& node, const ScopePtr& scope) {
  if (IsTrue(runtime_, Evaluate(*node.operands[0], scope))) return Evaluate(*node.operands[1], scope);
  if (node.operands[2]) return Evaluate(*node.operands[2], scope);
  return Value::Undefined("the inline if-expression evaluated to false and no else section was defined.");
}

}  // namespace mxmla::jinja
