#include "text/template/evaluator.h"

#include <fmt/format.h>

#include <utility>

#include "text/template/attributes.h"
#include "text/template/filters.h"
#include "text/template/loop.h"
#include "text/template/objects.h"
#include "text/template/operators.h"

namespace mxmla::jinja {
namespace {

class Macro : public Object {
 public:
  Macro(Evaluator& evaluator, const MacroDefinition& definition, ScopePtr scope)
      : evaluator_(evaluator), definition_(definition), scope_(std::move(scope)) {}

  std::string_view TypeName() const override { return "Macro"; }
  Text Show(Runtime&) override { return Text::Literal(fmt::format("<Macro '{}'>", definition_.name)); }
  std::optional<Value> Attribute(Runtime&, std::string_view name) override {
    if (name == "name") return Value::Literal(definition_.name);
    if (name == "caller") return Value::Bool(definition_.reads_caller);
    if (name == "catch_kwargs") return Value::Bool(definition_.reads_kwargs);
    if (name == "catch_varargs") return Value::Bool(definition_.reads_varargs);
    if (name == "arguments") {
      Values names;
      for (const Parameter& parameter : definition_.parameters) names.push_back(Value::Literal(parameter.name));
      return Value::Tuple(std::move(names));
    }
    return std::nullopt;
  }
  bool IsCallable() const override { return true; }
  Value Call(Runtime&, const Args& args) override { return evaluator_.CallMacro(definition_, scope_, args); }

 private:
  Evaluator& evaluator_;
  const MacroDefinition& definition_;
  ScopePtr scope_;
};

ScopePtr Inside(const ScopePtr& parent) {
  auto scope = std::make_shared<Scope>();
  scope->parent = parent;
  return scope;
}

}  // namespace

Evaluator::Evaluator(const Template& tree, Runtime& runtime)
    : tree_(tree), runtime_(runtime), context_(tree.names.size()) {
  for (auto& [name, value] : Globals(runtime)) SetVariable(name, std::move(value));
}

void Evaluator::SetVariable(std::string_view name, Value value) {
  const auto found = tree_.symbols.find(std::string(name));
  if (found != tree_.symbols.end()) context_[static_cast<size_t>(found->second)] = std::move(value);
}

Text Evaluator::Run() { return Capture(tree_.body, std::make_shared<Scope>()); }

Text Evaluator::Capture(const Body& body, const ScopePtr& scope) {
  Text text;
  Text* const outer = std::exchange(out_, &text);
  Execute(body, scope);
  out_ = outer;
  return text;
}

void Evaluator::Write(const Text& text) {
  runtime_.CheckText(out_->size() + text.size(), text.size());
  out_->Append(text);
}

Evaluator::Flow Evaluator::Execute(const Body& body, const ScopePtr& scope) {
  for (const auto& statement : body) {
    const Flow flow = Execute(*statement, scope);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::Execute(const Statement& statement, const ScopePtr& scope) {
  runtime_.Step();
  const Runtime::Level level(runtime_);
  line_ = statement.line;
  switch (statement.kind) {
    case Statement::Kind::kData:
      Write(statement.text);
      break;
    case Statement::Kind::kOutput: {
      const Value value = Evaluate(*statement.value, scope);
      if (value.is_string()) {
        Write(value.text());
      } else {
        Write(Str(runtime_, value));
      }
      break;
    }
    case Statement::Kind::kFor:
      ExecuteFor(statement, Evaluate(*statement.value, scope), scope, 0);
      break;
    case Statement::Kind::kIf:
      for (const auto& [condition, body] : statement.branches) {
        if (IsTrue(runtime_, Evaluate(*condition, scope))) return Execute(body, scope);
      }
      return Execute(statement.otherwise, scope);
    case Statement::Kind::kSet:
      Assign(*statement.target, Evaluate(*statement.value, scope), scope);
      break;
    case Statement::Kind::kSetBlock: {
      Value value = Value::String(Capture(statement.body, Inside(scope)));
      if (statement.value) value = EvaluateFilter(*statement.value, scope, &value);
      Assign(*statement.target, value, scope);
      break;
    }
    case Statement::Kind::kMacro:
      scope->Set(statement.symbol, Value::Of(runtime_.New<Macro>(*this, *statement.macro, scope)));
      break;
    case Statement::Kind::kCallBlock: {
      const Value caller = Value::Of(runtime_.New<Macro>(*this, *statement.macro, scope));
      Write(Str(runtime_, EvaluateCall(*statement.value, scope, &caller)));
      break;
    }
    case Statement::Kind::kFilterBlock: {
      const Value body = Value::String(Capture(statement.body, Inside(scope)));
      Write(Str(runtime_, EvaluateFilter(*statement.value, scope, &body)));
      break;
    }
    case Statement::Kind::kScope: {
      const ScopePtr inside = Inside(scope);
      Values values;
      for (const auto& [target, value] : statement.assignments) values.push_back(Evaluate(*value, scope));
      for (size_t i = 0; i < values.size(); ++i) Assign(*statement.assignments[i].first, values[i], inside);
      return Execute(statement.body, inside);
    }
    case Statement::Kind::kBreak:
      return Flow::kBreak;
    case Statement::Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNormal;
}

void Evaluator::ExecuteFor(const Statement& statement, const Value& iterable, const ScopePtr& scope, int depth) {
  Next next = Iterate(runtime_, iterable);
  std::optional<Int> length;
  if (statement.condition) {
    // The items that the condition lets through; it sees the loop's target and not the loop.
    next = [this, &statement, scope, all = std::move(next)](Value* item) {
      while (all(item)) {
        const ScopePtr inside = Inside(scope);
        Assign(*statement.target, *item, inside);
        if (IsTrue(runtime_, Evaluate(*statement.condition, inside))) return true;
      }
      return false;
    };
  } else {
    length = Length(runtime_, iterable);
  }
  auto* loop = runtime_.New<Loop>(*this, statement, scope, std::move(next), length, depth);
  bool has_finished = false;  // a turn; jinja2's else is for loops without one, whatever left the others early
  for (Value item; loop->Advance(&item);) {
    runtime_.Step();
    const ScopePtr inside = Inside(scope);
    inside->Set(tree_.loop, Value::Of(loop));
    Assign(*statement.target, item, inside);
    const Flow flow = Execute(statement.body, inside);
    has_finished |= flow == Flow::kNormal;
    if (flow == Flow::kBreak) break;
  }
  if (!has_finished) Execute(statement.otherwise, Inside(scope));
}

Text Evaluator::RunLoop(const Statement& loop, const Value& iterable, const ScopePtr& scope, int depth) {
  Text text;
  Text* const outer = std::exchange(out_, &text);
  ExecuteFor(loop, iterable, scope, depth);
  out_ = outer;
  return text;
}

void Evaluator::Assign(const Expression& target, const Value& value, const ScopePtr& scope) {
  switch (target.kind) {
    case Expression::Kind::kName:
      scope->Set(target.symbol, value);
      return;
    case Expression::Kind::kNamespace: {
      Expression name{Expression::Kind::kName, target.line};
      name.symbol = target.symbol;
      name.name = tree_.names[static_cast<size_t>(target.symbol)];
      const Value owner = EvaluateName(name, scope);
      RequireDefined(owner);
      if (!owner.is_object() || !owner.object()->SetAttribute(target.name, value)) {
        throw TemplateFault("cannot assign attribute on non-namespace object");
      }
      return;
    }
    default: {
      if (!IsIterable(value)) {
        throw TemplateFault(fmt::format("cannot unpack non-iterable {} object", TypeName(value)));
      }
      const Values items = ToList(runtime_, value);
      if (items.size() != target.operands.size()) {
        throw TemplateFault(fmt::format("{} values to unpack (expected {}, got {})",
                                        items.size() < target.operands.size() ? "not enough" : "too many",
                                        target.operands.size(), items.size()));
      }
      for (size_t i = 0; i < items.size(); ++i) Assign(*target.operands[i], items[i], scope);
    }
  }
}

Value Evaluator::CallMacro(const MacroDefinition& macro, const ScopePtr& scope, const Args& args) {
  const int line = line_;
  const ScopePtr inside = Inside(scope);
  const size_t count = macro.parameters.size();
  std::vector<std::pair<std::string, Value>> named = args.named;
  const auto take = [&](std::string_view name) -> std::optional<Value> {
    for (auto at = named.begin(); at != named.end(); ++at) {
      if (at->first != name) continue;
      Value value = std::move(at->second);
      named.erase(at);
      return value;
    }
    return std::nullopt;
  };
  bool has_caller_parameter = false;
  for (size_t i = 0; i < count; ++i) {
    const Parameter& parameter = macro.parameters[i];
    has_caller_parameter |= parameter.symbol == tree_.caller;
    std::optional<Value> value;
    if (i < args.positional.size()) {
      value = args.positional[i];
    } else {
      value = take(parameter.name);
    }
    if (!value && parameter.default_value) value = Evaluate(*parameter.default_value, inside);
    if (!value) value = Value::Undefined(fmt::format("parameter '{}' was not provided", parameter.name));
    inside->Set(parameter.symbol, std::move(*value));
  }
  if (macro.reads_caller && !has_caller_parameter) {
    inside->Set(tree_.caller, take("caller").value_or(Value::Undefined("No caller defined")));
  }
  if (macro.reads_kwargs) {
    auto dict = std::make_shared<Dict>();
    for (auto& [name, value] : named) dict->Set(Value::Literal(name), value);
    inside->Set(tree_.kwargs, Value::OfDict(std::move(dict)));
  } else if (!named.empty()) {
    throw TemplateFault(fmt::format("macro '{}' takes no keyword argument '{}'", macro.name, named.front().first));
  }
  if (macro.reads_varargs) {
    Values rest;
    for (size_t i = count; i < args.positional.size(); ++i) rest.push_back(args.positional[i]);
    inside->Set(tree_.varargs, Value::Tuple(std::move(rest)));
  } else if (args.positional.size() > count) {
    throw TemplateFault(fmt::format("macro '{}' takes not more than {} argument(s)", macro.name, count));
  }
  Value result = Value::String(Capture(macro.body, inside));
  line_ = line;
  return result;
}

}  // namespace mxmla::jinja
