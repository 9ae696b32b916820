// The tests of templates: VALUE is NAME.
#include <fmt/format.h>

#include <unordered_map>

#include "text/template/attributes.h"
#include "text/template/filters.h"
#include "text/template/operators.h"
#include "text/template/parameters.h"

namespace mxmla::jinja {
namespace {

using Kind = Value::Kind;

template <bool (*kHolds)(const Value&)>
bool Plain(Runtime&, const Value& value, const Args& args) {
  const Parameters parameters("test", args, {});
  return kHolds(value);
}

bool IsDefined(const Value& v) { return !v.is_undefined(); }
bool IsUndefined(const Value& v) { return v.is_undefined(); }
bool IsNone(const Value& v) { return v.is_none(); }
bool IsBoolean(const Value& v) { return v.is_bool(); }
bool IsTrueItself(const Value& v) { return v.is_bool() && v.boolean(); }
bool IsFalseItself(const Value& v) { return v.is_bool() && !v.boolean(); }
bool IsInteger(const Value& v) { return v.kind() == Kind::kInt; }
bool IsFloat(const Value& v) { return v.kind() == Kind::kFloat; }
bool IsNumber(const Value& v) { return v.is_number(); }
bool IsString(const Value& v) { return v.is_string(); }
bool IsMapping(const Value& v) { return v.is_dict(); }
bool IsSequence(const Value& v) {
  if (v.is_object()) return v.object()->HasItems();
  return v.is_undefined() || v.is_string() || v.is_list() || v.is_tuple() || v.is_dict();
}
bool IsCallable(const Value& v) { return v.is_undefined() || (v.is_object() && v.object()->IsCallable()); }
bool IsEscaped(const Value& v) { return v.is_string() && v.text().is_markup(); }

bool LeavesRemainder(Runtime& runtime, const Value& value, const Value& divisor, Int wanted) {
  const Value rest = Arithmetic(runtime, Operation::kModulo, value, divisor);
  return Equal(runtime, rest, Value::Integer(wanted));
}

bool IsOdd(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("odd", args, {});
  return LeavesRemainder(runtime, value, Value::Integer(2), 1);
}

bool IsEven(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("even", args, {});
  return LeavesRemainder(runtime, value, Value::Integer(2), 0);
}

bool IsDivisibleBy(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("divisibleby", args, {"num"}, 1);
  return LeavesRemainder(runtime, value, *parameters.Get(0), 0);
}

template <Operation kOperation>
bool Compares(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("test", args, {"other"}, 1);
  return Compare(runtime, kOperation, value, *parameters.Get(0));
}

bool IsSameAs(Runtime&, const Value& value, const Args& args) {
  const Parameters parameters("sameas", args, {"other"}, 1);
  return value.IsSame(*parameters.Get(0));
}

template <bool kUpper>
bool IsCase(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("test", args, {});
  const Args none;
  const Value text = Value::String(Str(runtime, value));
  return FindStringMethod(kUpper ? "isupper" : "islower")(runtime, text, none).boolean();
}

template <bool kFilter>
bool IsName(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("test", args, {});
  const std::string name = Str(runtime, value).bytes();
  return kFilter ? FindFilter(name) != nullptr : FindTest(name) != nullptr;
}

}  // namespace

Test FindTest(std::string_view name) {
  static const std::unordered_map<std::string_view, Test> tests = {
      {"!=", Compares<Operation::kNotEqual>},
      {"<", Compares<Operation::kLess>},
      {"<=", Compares<Operation::kLessEqual>},
      {"==", Compares<Operation::kEqual>},
      {">", Compares<Operation::kGreater>},
      {">=", Compares<Operation::kGreaterEqual>},
      {"boolean", Plain<IsBoolean>},
      {"callable", Plain<IsCallable>},
      {"defined", Plain<IsDefined>},
      {"divisibleby", IsDivisibleBy},
      {"eq", Compares<Operation::kEqual>},
      {"equalto", Compares<Operation::kEqual>},
      {"escaped", Plain<IsEscaped>},
      {"even", IsEven},
      {"false", Plain<IsFalseItself>},
      {"filter", IsName<true>},
      {"float", Plain<IsFloat>},
      {"ge", Compares<Operation::kGreaterEqual>},
      {"greaterthan", Compares<Operation::kGreater>},
      {"gt", Compares<Operation::kGreater>},
      {"in", Compares<Operation::kIn>},
      {"integer", Plain<IsInteger>},
      {"iterable", Plain<IsIterable>},
      {"le", Compares<Operation::kLessEqual>},
      {"lessthan", Compares<Operation::kLess>},
      {"lower", IsCase<false>},
      {"lt", Compares<Operation::kLess>},
      {"mapping", Plain<IsMapping>},
      {"ne", Compares<Operation::kNotEqual>},
      {"none", Plain<IsNone>},
      {"number", Plain<IsNumber>},
      {"odd", IsOdd},
      {"sameas", IsSameAs},
      {"sequence", Plain<IsSequence>},
      {"string", Plain<IsString>},
      {"test", IsName<false>},
      {"true", Plain<IsTrueItself>},
      {"undefined", Plain<IsUndefined>},
      {"upper", IsCase<true>},
  };
  const auto found = tests.find(name);
  return found == tests.end() ? nullptr : found->second;
}

Filter FindFilter(std::string_view name) {
  if (const Filter filter = FindTextFilter(name)) return filter;
  if (const Filter filter = FindSequenceFilter(name)) return filter;
  return FindNumberFilter(name);
}

Filter RequireFilter(std::string_view name) {
  const Filter filter = FindFilter(name);
  if (!filter) throw TemplateFault(fmt::format("the filter '{}', which mxmla does not know", name));
  return filter;
}

Test RequireTest(std::string_view name) {
  const Test test = FindTest(name);
  if (!test) throw TemplateFault(fmt::format("the test '{}', which mxmla does not know", name));
  return test;
}

}  // namespace mxmla::jinja
