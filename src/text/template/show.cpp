// Values as text, as Python's str() and repr() write them.
#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "text/template/unicode.h"
#include "text/template/value.h"
#include "text/utf8.h"

namespace mxmla::jinja {
namespace {

void AppendStringRepr(Runtime& runtime, const Text& text, Text* out) {
  const std::string& bytes = text.bytes();
  runtime.CheckText(out->size() + bytes.size(), bytes.size());
  const bool has_single = bytes.find('\'') != std::string::npos;
  const char quote = has_single && bytes.find('"') == std::string::npos ? '"' : '\'';
  const std::string_view quotes(&quote, 1);
  out->Append(quotes, false);
  for (size_t at = 0; at < bytes.size();) {
    const CodePoint c = CodePointAt(bytes, at);
    const bool is_content = text.IsContentAt(at);
    std::string shown;
    if (c.value == static_cast<char32_t>(quote) || c.value == '\\') {
      shown = {'\\', static_cast<char>(c.value)};
    } else if (c.value == '\n') {
      shown = "\\n";
    } else if (c.value == '\r') {
      shown = "\\r";
    } else if (c.value == '\t') {
      shown = "\\t";
    } else if (c.value < 0x20 || c.value == 0x7f) {
      shown = fmt::format("\\x{:02x}", static_cast<uint32_t>(c.value));
    } else if (c.value < 0x7f || Has(Property::kPrintable, bytes, at)) {
      shown = bytes.substr(at, c.length);
    } else {
      const auto code = static_cast<uint32_t>(c.value);
      shown = code < 0x100     ? fmt::format("\\x{:02x}", code)
              : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                               : fmt::format("\\U{:08x}", code);
    }
    out->Append(shown, is_content);
    at += c.length;
  }
  out->Append(quotes, false);
}

void AppendRepr(Runtime& runtime, const Value& value, Text* out) {
  runtime.Step();
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      out->Append("Undefined", false);
      break;
    case Value::Kind::kNone:
      out->Append("None", false);
      break;
    case Value::Kind::kBool:
      out->Append(value.boolean() ? "True" : "False", false);
      break;
    case Value::Kind::kInt:
      out->Append(IntegerString(value.integer()), false);
      break;
    case Value::Kind::kFloat:
      out->Append(FloatRepr(value.number()), false);
      break;
    case Value::Kind::kString:
      if (value.text().is_markup()) out->Append("Markup(", false);
      AppendStringRepr(runtime, value.text(), out);
      if (value.text().is_markup()) out->Append(")", false);
      break;
    case Value::Kind::kList:
    case Value::Kind::kTuple: {
      out->Append(value.is_list() ? "[" : "(", false);
      bool is_first = true;
      for (const Value& item : value.items()) {
        if (!is_first) out->Append(", ", false);
        is_first = false;
        AppendRepr(runtime, item, out);
      }
      if (value.is_tuple() && value.items().size() == 1) out->Append(",", false);
      out->Append(value.is_list() ? "]" : ")", false);
      break;
    }
    case Value::Kind::kDict: {
      out->Append("{", false);
      bool is_first = true;
      for (const auto& [key, item] : value.dict().entries) {
        if (!is_first) out->Append(", ", false);
        is_first = false;
        AppendRepr(runtime, key, out);
        out->Append(": ", false);
        AppendRepr(runtime, item, out);
      }
      out->Append("}", false);
      break;
    }
    case Value::Kind::kObject: {
      const Runtime::Level level(runtime);
      out->Append(value.object()->Show(runtime));
      break;
    }
  }
}

}  // namespace

std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  std::string_view shown(buffer, static_cast<size_t>(end - buffer));
  std::string sign;
  if (shown.front() == '-') {
    sign = "-";
    shown.remove_prefix(1);
  }
  const size_t e = shown.find('e');
  std::string digits(1, shown[0]);
  if (e > 2) digits += shown.substr(2, e - 2);
  const int exponent = std::stoi(std::string(shown.substr(e + 1)));
  if (exponent < -4 || exponent >= 16) {
    const std::string fraction = digits.size() > 1 ? "." + digits.substr(1) : "";
    return fmt::format("{}{}{}e{}{:02}", sign, digits[0], fraction, exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string IntegerString(Int value) { return fmt::format("{}", value); }

Text Repr(Runtime& runtime, const Value& value) {
  Text out;
  AppendRepr(runtime, value, &out);
  return out;
}

Text Str(Runtime& runtime, const Value& value) {
  if (value.is_undefined()) return Text();
  if (!value.is_string()) return Repr(runtime, value);
  runtime.StepBytes(value.text().size());
  Text text = value.text();
  text.set_is_markup(false);
  return text;
}

}  // namespace mxmla::jinja
