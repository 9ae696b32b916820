#include "text/template/operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace mxmla::jinja {
namespace {

[[noreturn]] void FailOperands(std::string_view symbol, const Value& a, const Value& b) {
  RequireDefined(a);
  RequireDefined(b);
  throw TemplateFault(
      fmt::format("unsupported operand type(s) for {}: '{}' and '{}'", symbol, TypeName(a), TypeName(b)));
}

[[noreturn]] void FailTooLarge() { throw TemplateFault("an integer too large for mxmla"); }

std::string_view SymbolOf(Operation operation) {
  switch (operation) {
    case Operation::kAdd:
      return "+";
    case Operation::kSubtract:
      return "-";
    case Operation::kMultiply:
      return "*";
    case Operation::kDivide:
      return "/";
    case Operation::kFloorDivide:
      return "//";
    case Operation::kModulo:
      return "%";
    default:
      return "** or pow()";
  }
}

Int Power(Int base, Int exponent) {
  Int result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) FailTooLarge();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) FailTooLarge();
  }
  return result;
}

[[noreturn]] void FailZero(std::string_view what) { throw TemplateFault(std::string(what)); }

Value IntegerArithmetic(Operation operation, Int a, Int b) {
  Int result = 0;
  switch (operation) {
    case Operation::kAdd:
      if (__builtin_add_overflow(a, b, &result)) FailTooLarge();
      break;
    case Operation::kSubtract:
      if (__builtin_sub_overflow(a, b, &result)) FailTooLarge();
      break;
    case Operation::kMultiply:
      if (__builtin_mul_overflow(a, b, &result)) FailTooLarge();
      break;
    case Operation::kDivide:
      if (b == 0) FailZero("division by zero");
      return Value::Float(static_cast<double>(a) / static_cast<double>(b));
    case Operation::kFloorDivide:
    case Operation::kModulo: {
      if (b == 0) FailZero("integer division or modulo by zero");
      if (b == -1) {
        if (operation == Operation::kModulo) return Value::Integer(0);
        if (__builtin_sub_overflow(Int{0}, a, &result)) FailTooLarge();
        break;
      }
      Int quotient = a / b;
      Int remainder = a % b;
      if (remainder != 0 && (remainder < 0) != (b < 0)) {
        --quotient;
        remainder += b;
      }
      result = operation == Operation::kModulo ? remainder : quotient;
      break;
    }
    default:
      if (b < 0) {
        if (a == 0) FailZero("0.0 cannot be raised to a negative power");
        return Value::Float(std::pow(static_cast<double>(a), static_cast<double>(b)));
      }
      result = Power(a, b);
      break;
  }
  return Value::Integer(result);
}

Value FloatArithmetic(Operation operation, double a, double b) {
  switch (operation) {
    case Operation::kAdd:
      return Value::Float(a + b);
    case Operation::kSubtract:
      return Value::Float(a - b);
    case Operation::kMultiply:
      return Value::Float(a * b);
    case Operation::kDivide:
      if (b == 0) FailZero("float division by zero");
      return Value::Float(a / b);
    case Operation::kFloorDivide:
    case Operation::kModulo: {
      if (b == 0) FailZero("float floor division or modulo by zero");
      double remainder = std::fmod(a, b);
      double quotient = (a - remainder) / b;
      if (remainder != 0) {
        if ((b < 0) != (remainder < 0)) {
          remainder += b;
          quotient -= 1;
        }
      } else {
        remainder = std::copysign(0.0, b);
      }
      if (operation == Operation::kModulo) return Value::Float(remainder);
      if (quotient == 0) return Value::Float(std::copysign(0.0, a / b));
      double floored = std::floor(quotient);
      if (quotient - floored > 0.5) floored += 1;
      return Value::Float(floored);
    }
    default: {
      if (a == 0 && b < 0) FailZero("0.0 cannot be raised to a negative power");
      if (a < 0 && std::isfinite(a) && std::isfinite(b) && b != std::floor(b)) {
        throw TemplateFault("a complex number, which mxmla does not know");
      }
      const double result = std::pow(a, b);
      if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) throw TemplateFault("a number out of range");
      return Value::Float(result);
    }
  }
}

Value Repeat(Runtime& runtime, const Value& value, Int count) {
  const size_t unit = value.is_string() ? value.text().size() : value.items().size() * sizeof(Value);
  if (count < 0) count = 0;
  if (unit > 0 && count > static_cast<Int>(SIZE_MAX / 4 / unit)) FailTooLarge();
  const size_t times = unit > 0 ? static_cast<size_t>(count) : 0;
  if (value.is_string()) {
    runtime.CheckText(unit * times);
    runtime.Step(static_cast<int64_t>(times));
    Text text;
    for (size_t i = 0; i < times; ++i) text.Append(value.text());
    text.set_is_markup(value.text().is_markup());
    return Value::String(std::move(text));
  }
  runtime.Step(static_cast<int64_t>(value.items().size() * times));
  const Metered held(unit * times);
  Values items;
  items.reserve(value.items().size() * times);
  for (size_t i = 0; i < times; ++i) items.insert(items.end(), value.items().begin(), value.items().end());
  return value.is_list() ? Value::List(std::move(items)) : Value::Tuple(std::move(items));
}

Value AddTexts(Runtime& runtime, const Text& a, const Text& b) {
  const bool is_markup = a.is_markup() || b.is_markup();
  runtime.CheckText(a.size() + b.size());
  Text sum = is_markup ? Escape(runtime, a) : a;
  sum.Append(is_markup ? Escape(runtime, b) : b);
  sum.set_is_markup(is_markup);
  return Value::String(std::move(sum));
}

Value AddSequences(Runtime& runtime, const Value& a, const Value& b) {
  const size_t size = a.items().size() + b.items().size();
  runtime.Step(static_cast<int64_t>(size));
  const Metered held(size * sizeof(Value));
  Values items = a.items();
  items.insert(items.end(), b.items().begin(), b.items().end());
  return a.is_list() ? Value::List(std::move(items)) : Value::Tuple(std::move(items));
}

}  // namespace

Value Arithmetic(Runtime& runtime, Operation operation, const Value& a, const Value& b) {
  if (operation == Operation::kModulo && a.is_string()) {
    return Value::String(FormatPercent(runtime, a.text(), b));
  }
  if (a.is_integer() && b.is_integer()) return IntegerArithmetic(operation, a.integer(), b.integer());
  if (a.is_number() && b.is_number()) return FloatArithmetic(operation, a.number(), b.number());
  if (operation == Operation::kAdd) {
    if (a.is_string() && b.is_string()) return AddTexts(runtime, a.text(), b.text());
    if (a.kind() == b.kind() && (a.is_list() || a.is_tuple())) return AddSequences(runtime, a, b);
    if (a.is_string() && !b.is_undefined()) {
      throw TemplateFault(fmt::format("can only concatenate str (not \"{}\") to str", TypeName(b)));
    }
  }
  if (operation == Operation::kMultiply) {
    const auto is_repeatable = [](const Value& v) { return v.is_string() || v.is_list() || v.is_tuple(); };
    if (is_repeatable(a) && b.is_integer()) return Repeat(runtime, a, b.integer());
    if (is_repeatable(b) && a.is_integer()) return Repeat(runtime, b, a.integer());
  }
  FailOperands(SymbolOf(operation), a, b);
}

Value Negate(const Value& value) {
  RequireDefined(value);
  if (value.is_integer()) {
    Int result = 0;
    if (__builtin_sub_overflow(Int{0}, value.integer(), &result)) FailTooLarge();
    return Value::Integer(result);
  }
  if (value.is_number()) return Value::Float(-value.number());
  throw TemplateFault(fmt::format("bad operand type for unary -: '{}'", TypeName(value)));
}

Value Plus(const Value& value) {
  RequireDefined(value);
  if (value.is_integer()) return Value::Integer(value.integer());
  if (value.is_number()) return value;
  throw TemplateFault(fmt::format("bad operand type for unary +: '{}'", TypeName(value)));
}

bool Contains(Runtime& runtime, const Value& container, const Value& item) {
  if (container.is_string()) {
    if (!item.is_string()) {
      RequireDefined(item);
      throw TemplateFault(fmt::format("'in <string>' requires string as left operand, not {}", TypeName(item)));
    }
    runtime.StepBytes(container.text().size());
    return container.text().bytes().find(item.text().bytes()) != std::string::npos;
  }
  if (container.is_dict()) return container.dict().Find(item) != nullptr;
  if (!IsIterable(container)) {
    throw TemplateFault(fmt::format("argument of type '{}' is not iterable", TypeName(container)));
  }
  const Next next = Iterate(runtime, container);
  for (Value candidate; next(&candidate);) {
    if (candidate.IsSame(item) || Equal(runtime, candidate, item)) return true;
  }
  return false;
}

bool Compare(Runtime& runtime, Operation operation, const Value& a, const Value& b) {
  const auto less = [&](const Value& left, const Value& right, std::string_view symbol) {
    RequireDefined(a);
    RequireDefined(b);
    const bool has_order =
        (a.is_number() && b.is_number()) || (a.kind() == b.kind() && (a.is_string() || a.is_list() || a.is_tuple()));
    if (!has_order) {
      throw TemplateFault(
          fmt::format("'{}' not supported between instances of '{}' and '{}'", symbol, TypeName(a), TypeName(b)));
    }
    return Less(runtime, left, right);
  };
  // NaN is neither less nor equal.
  const auto is_nan = [](const Value& v) { return v.kind() == Value::Kind::kFloat && std::isnan(v.number()); };
  switch (operation) {
    case Operation::kEqual:
      return Equal(runtime, a, b);
    case Operation::kNotEqual:
      return !Equal(runtime, a, b);
    case Operation::kLess:
      return less(a, b, "<");
    case Operation::kGreater:
      return less(b, a, ">");
    case Operation::kLessEqual:
      return !less(b, a, "<=") && !is_nan(a) && !is_nan(b);
    case Operation::kGreaterEqual:
      return !less(a, b, ">=") && !is_nan(a) && !is_nan(b);
    case Operation::kIn:
      return Contains(runtime, b, a);
    default:
      return !Contains(runtime, b, a);
  }
}

Text Escape(Runtime& runtime, const Text& text) {
  if (text.is_markup()) return text;
  Text out;
  const std::string& bytes = text.bytes();
  runtime.StepBytes(bytes.size());
  size_t done = 0;
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string_view escape;
    switch (bytes[at]) {
      case '&':
        escape = "&amp;";
        break;
      case '<':
        escape = "&lt;";
        break;
      case '>':
        escape = "&gt;";
        break;
      case '\'':
        escape = "&#39;";
        break;
      case '"':
        escape = "&#34;";
        break;
      default:
        continue;
    }
    out.Append(text, done, at);
    out.Append(escape, text.IsContentAt(at));
    done = at + 1;
  }
  out.Append(text, done, bytes.size());
  runtime.CheckText(out.size(), 0);
  out.set_is_markup(true);
  return out;
}

Int RequireInteger(const Value& value) {
  RequireDefined(value);
  if (!value.is_integer()) {
    throw TemplateFault(fmt::format("'{}' object cannot be interpreted as an integer", TypeName(value)));
  }
  return value.integer();
}

}  // namespace mxmla::jinja
