// Filters that make numbers.
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <optional>
#include <unordered_map>

#include "text/template/filters.h"
#include "text/template/operators.h"
#include "text/template/parameters.h"
#include "text/template/text_operations.h"

namespace mxmla::jinja {
namespace {

constexpr Int kLargest = Int{1} << 120;

// Digits with single underscores between them, without those.
std::optional<std::string> WithoutUnderscores(std::string_view text) {
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      digits += text[i];
    } else if (i == 0 || i + 1 == text.size() || text[i + 1] == '_') {
      return std::nullopt;
    }
  }
  return digits;
}

// Python's int(text, base).
std::optional<Int> ParseInteger(Runtime& runtime, const Text& text, Int base) {
  const std::string stripped = Strip(runtime, text, nullptr, Side::kBoth).bytes();
  std::string_view rest = stripped;
  const bool is_negative = rest.starts_with('-');
  if (is_negative || rest.starts_with('+')) rest.remove_prefix(1);
  if (base != 0 && (base < 2 || base > 36)) throw TemplateFault("int() base must be >= 2 and <= 36, or 0");
  const auto skip_prefix = [&](std::string_view lower, std::string_view upper, Int of) {
    if ((base != 0 && base != of) || (!rest.starts_with(lower) && !rest.starts_with(upper))) return;
    base = of;
    rest.remove_prefix(2);
    if (rest.starts_with('_')) rest.remove_prefix(1);
  };
  const Int asked = base;
  skip_prefix("0x", "0X", 16);
  if (base == asked) skip_prefix("0o", "0O", 8);
  if (base == asked) skip_prefix("0b", "0B", 2);
  const auto digits = WithoutUnderscores(rest);
  if (!digits || digits->empty()) return std::nullopt;
  if (base == 0) {
    if (digits->size() > 1 && digits->front() == '0' && digits->find_first_not_of('0') != std::string::npos) return {};
    base = 10;
  }
  Int value = 0;
  for (char c : *digits) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 10
                      : c >= 'A' && c <= 'Z' ? c - 'A' + 10
                                             : 99;
    if (digit >= base) return std::nullopt;
    value = value * base + digit;
    if (value > kLargest) throw TemplateFault("an integer too large for mxmla");
  }
  return is_negative ? -value : value;
}

// Python's float(text).
std::optional<double> ParseFloat(Runtime& runtime, const Text& text) {
  const Text stripped = Lower(runtime, Strip(runtime, text, nullptr, Side::kBoth));
  std::string_view rest = stripped.bytes();
  const bool is_negative = rest.starts_with('-');
  if (is_negative || rest.starts_with('+')) rest.remove_prefix(1);
  const auto digits = WithoutUnderscores(rest);
  if (!digits || digits->empty() || digits->front() == '-') return std::nullopt;
  double value = 0;
  if (*digits == "inf" || *digits == "infinity") {
    value = INFINITY;
  } else if (*digits == "nan") {
    value = NAN;
  } else {
    if (digits->find_first_not_of("0123456789.e+-") != std::string::npos) return std::nullopt;
    const auto [end, error] = std::from_chars(digits->data(), digits->data() + digits->size(), value);
    if (end != digits->data() + digits->size()) return std::nullopt;
    if (error == std::errc::result_out_of_range) value = std::strtod(digits->c_str(), nullptr);
    if (error == std::errc::invalid_argument) return std::nullopt;
  }
  return is_negative ? -value : value;
}

std::optional<Int> Truncated(double value) {
  if (!std::isfinite(value)) return std::nullopt;
  if (std::abs(value) > static_cast<double>(kLargest)) throw TemplateFault("an integer too large for mxmla");
  return static_cast<Int>(value);
}

Value IntFilter(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("int", args, {"default", "base"});
  const Value fallback = parameters.Has(0) ? *parameters.Get(0) : Value::Integer(0);
  RequireDefined(value);
  if (value.is_integer()) return Value::Integer(value.integer());
  if (value.is_number()) {
    if (std::isinf(value.number())) throw TemplateFault("cannot convert float infinity to integer");
    const auto whole = Truncated(value.number());
    return whole ? Value::Integer(*whole) : fallback;
  }
  if (!value.is_string()) return fallback;
  if (const auto whole = ParseInteger(runtime, value.text(), parameters.IntegerAt(1, 10))) {
    return Value::Integer(*whole);
  }
  const auto number = ParseFloat(runtime, value.text());
  const auto whole = number ? Truncated(*number) : std::nullopt;
  return whole ? Value::Integer(*whole) : fallback;
}

Value FloatFilter(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("float", args, {"default"});
  const Value fallback = parameters.Has(0) ? *parameters.Get(0) : Value::Float(0);
  RequireDefined(value);
  if (value.is_number()) return Value::Float(value.number());
  if (!value.is_string()) return fallback;
  const auto number = ParseFloat(runtime, value.text());
  return number ? Value::Float(*number) : fallback;
}

Value Abs(Runtime&, const Value& value, const Args& args) {
  const Parameters parameters("abs", args, {});
  RequireDefined(value);
  if (!value.is_number()) throw TemplateFault(fmt::format("bad operand type for abs(): '{}'", TypeName(value)));
  if (!value.is_integer()) return Value::Float(std::abs(value.number()));
  return value.integer() < 0 ? Negate(value) : Value::Integer(value.integer());
}

Int TenTo(Int exponent) {
  if (exponent > 30) throw TemplateFault("an integer too large for mxmla");
  Int power = 1;
  for (Int i = 0; i < exponent; ++i) power *= 10;
  return power;
}

// Python's round(value, precision): to the even neighbour where both are as near.
Value RoundCommon(const Value& value, Int precision) {
  if (value.is_integer()) {
    if (precision >= 0) return Value::Integer(value.integer());
    if (precision < -30) return Value::Integer(0);
    const Int unit = TenTo(-precision);
    const Int number = value.integer();
    Int quotient = number / unit;
    const Int rest = (number % unit) * 2;
    const Int magnitude = rest < 0 ? -rest : rest;
    if (magnitude > unit || (magnitude == unit && quotient % 2 != 0)) quotient += number < 0 ? -1 : 1;
    return Value::Integer(quotient * unit);
  }
  const double number = value.number();
  if (!std::isfinite(number) || precision > 320) return value;
  if (precision >= 0) {
    return Value::Float(std::strtod(PrintNumber(number, 'f', static_cast<int>(precision), false).c_str(), nullptr));
  }
  if (precision < -310) return Value::Float(std::copysign(0.0, number));
  const double unit = std::pow(10.0, static_cast<double>(-precision));
  return Value::Float(std::nearbyint(number / unit) * unit);
}

Value Round(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("round", args, {"precision", "method"});
  const Int precision = parameters.IntegerAt(0, 0);
  const std::string method = parameters.Has(1) ? parameters.TextAt(1).bytes() : "common";
  if (method != "common" && method != "ceil" && method != "floor") {
    throw TemplateFault("method must be common, ceil or floor");
  }
  RequireDefined(value);
  if (!value.is_number()) {
    throw TemplateFault(fmt::format("type {} doesn't define __round__ method", TypeName(value)));
  }
  if (method == "common") return RoundCommon(value, precision);
  const Value unit = Arithmetic(runtime, Operation::kPower, Value::Integer(10), Value::Integer(precision));
  const Value scaled = Arithmetic(runtime, Operation::kMultiply, value, unit);
  Value whole = scaled;
  if (!scaled.is_integer()) {
    const auto rounded = Truncated(method == "ceil" ? std::ceil(scaled.number()) : std::floor(scaled.number()));
    if (!rounded) throw TemplateFault("cannot convert float infinity to integer");
    whole = Value::Integer(*rounded);
  }
  return Arithmetic(runtime, Operation::kDivide, whole, unit);
}

}  // namespace

Filter FindNumberFilter(std::string_view name) {
  static const std::unordered_map<std::string_view, Filter> filters = {
      {"abs", Abs}, {"float", FloatFilter}, {"int", IntFilter}, {"round", Round}};
  const auto found = filters.find(name);
  return found == filters.end() ? nullptr : found->second;
}

}  // namespace mxmla::jinja
