// Python's two ways of formatting: "..." % (...) and "...".format(...).
#include <fmt/format.h>

#include <cctype>
#include <cmath>
#include <cstdio>
#include <optional>

#include "text/template/attributes.h"
#include "text/template/operators.h"
#include "text/utf8.h"

namespace mxmla::jinja {
namespace {

constexpr int64_t kWidest = 1'000'000;

// How one value is laid out.
struct Layout {
  std::string fill = " ";
  char align = 0;  // < > = ^
  char sign = 0;   // + or a space
  bool is_alternate = false;
  bool is_zero_padded = false;
  char group = 0;
  int64_t width = 0;
  int precision = -1;
  char conversion = 0;
};

// `text` in a field; a number's sign and prefix, `head` bytes of it, stay at the left where zeros fill.
Text Pad(Runtime& runtime, const Layout& layout, const Text& text, char default_align, size_t head = 0) {
  const auto length = static_cast<int64_t>(CountCharacters(text.bytes()));
  if (length >= layout.width) return text;
  const auto missing = static_cast<size_t>(layout.width - length);
  runtime.CheckText(text.size() + missing * layout.fill.size());
  const auto fill = [&](size_t count) {
    std::string filled;
    for (size_t i = 0; i < count; ++i) filled += layout.fill;
    return filled;
  };
  const char align = layout.align != 0 ? layout.align : default_align;
  Text out;
  if (align == '=') {
    out.Append(text, 0, head);
    out.Append(fill(missing), false);
    out.Append(text, head, text.size());
    return out;
  }
  const size_t left = align == '>' ? missing : align == '^' ? missing / 2 : 0;
  out.Append(fill(left), false);
  out.Append(text);
  out.Append(fill(missing - left), false);
  return out;
}

std::string WithGroups(const std::string& digits, char group) {
  if (group == 0) return digits;
  const size_t end = digits.find_first_not_of("0123456789");
  const size_t whole = end == std::string::npos ? digits.size() : end;
  std::string out;
  for (size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % 3 == 0) out += group;
    out += digits[i];
  }
  return out + digits.substr(whole);
}

std::string InBase(Int value, unsigned base, bool is_upper) {
  // -value overflows for the least integer, so that the digits come from the negative side.
  std::string digits;
  do {
    const auto digit =
        static_cast<unsigned>(-(value < 0 ? value % static_cast<Int>(base) : -(value % static_cast<Int>(base))));
    digits.insert(digits.begin(), (is_upper ? "0123456789ABCDEF" : "0123456789abcdef")[digit]);
    value /= static_cast<Int>(base);
  } while (value != 0);
  return digits;
}

Text LayOutNumber(Runtime& runtime, const Layout& layout, bool is_negative, const std::string& prefix,
                  const std::string& digits) {
  std::string head = is_negative ? "-" : layout.sign != 0 ? std::string(1, layout.sign) : "";
  head += prefix;
  Layout with_zeros = layout;
  char align = '>';
  if (layout.is_zero_padded && layout.align == 0) {
    with_zeros.fill = "0";
    align = '=';
  }
  return Pad(runtime, with_zeros, Text::Literal(head + WithGroups(digits, layout.group)), align, head.size());
}

Text LayOutInteger(Runtime& runtime, const Layout& layout, Int value, bool is_percent_style) {
  const char c = layout.conversion;
  const unsigned base = c == 'x' || c == 'X' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
  std::string digits = InBase(value, base, c == 'X');
  if (is_percent_style && layout.precision > static_cast<int>(digits.size())) {
    digits.insert(0, static_cast<size_t>(layout.precision) - digits.size(), '0');
  }
  const std::string prefix = layout.is_alternate && base != 10 ? std::string("0") + c : "";
  return LayOutNumber(runtime, layout, value < 0, prefix, digits);
}

Text LayOutFloat(Runtime& runtime, const Layout& layout, double value, char conversion, int precision) {
  const bool is_negative = std::signbit(value) && !std::isnan(value);
  std::string digits = PrintNumber(std::abs(value), conversion, precision, layout.is_alternate);
  return LayOutNumber(runtime, layout, is_negative, "", digits);
}

double RequireNumber(const Value& value) {
  RequireDefined(value);
  if (!value.is_number()) throw TemplateFault(fmt::format("must be real number, not {}", TypeName(value)));
  return value.number();
}

Int WholeOf(const Value& value, char conversion) {
  RequireDefined(value);
  if (value.is_integer()) return value.integer();
  const bool is_whole = value.is_number() && std::isfinite(value.number()) && std::abs(value.number()) < 1e30;
  if (!is_whole || conversion == 'x' || conversion == 'X' || conversion == 'o') {
    throw TemplateFault(fmt::format("%{} format: a real number is required, not {}", conversion, TypeName(value)));
  }
  return static_cast<Int>(value.number());
}

Text FirstCharacters(const Text& text, int count) {
  if (count < 0) return text;
  const std::vector<size_t> offsets = CharacterOffsets(text.bytes());
  const size_t end =
      static_cast<size_t>(count) + 1 < offsets.size() ? offsets[static_cast<size_t>(count)] : text.size();
  return text.Substring(0, end);
}

class PercentFormatter {
 public:
  PercentFormatter(Runtime& runtime, const Text& format, const Value& arguments)
      : runtime_(runtime), format_(format), bytes_(format.bytes()), arguments_(arguments) {}

  Text Run() {
    Text out;
    while (at_ < bytes_.size()) {
      const size_t percent = std::min(bytes_.find('%', at_), bytes_.size());
      out.Append(format_, at_, percent);
      at_ = percent;
      if (at_ < bytes_.size()) {
        ++at_;
        out.Append(Conversion());
      }
      runtime_.CheckText(out.size(), 0);
    }
    // What can be subscripted may be left unused, and an undefined value says that it can.
    const bool is_used = arguments_.is_tuple()
                             ? used_ == arguments_.items().size()
                             : used_ > 0 || arguments_.is_dict() || arguments_.is_list() || arguments_.is_undefined();
    if (!is_used) throw TemplateFault("not all arguments converted during string formatting");
    return out;
  }

 private:
  char Current() const {
    if (at_ >= bytes_.size()) throw TemplateFault("incomplete format");
    return bytes_[at_];
  }

  const Value& NextArgument() {
    if (arguments_.is_tuple()) {
      if (used_ >= arguments_.items().size()) throw TemplateFault("not enough arguments for format string");
      return arguments_.items()[used_++];
    }
    if (used_++ > 0) throw TemplateFault("not enough arguments for format string");
    return arguments_;
  }

  int64_t Number() {
    if (Current() == '*') {
      ++at_;
      const Int value = RequireInteger(NextArgument());
      if (value > kWidest || value < -kWidest) throw TemplateFault("a format too wide");
      return static_cast<int64_t>(value);
    }
    int64_t value = 0;
    while (std::isdigit(static_cast<unsigned char>(Current())) != 0) {
      value = value * 10 + (bytes_[at_++] - '0');
      if (value > kWidest) throw TemplateFault("a format too wide");
    }
    return value;
  }

  Text Conversion() {
    Layout layout;
    const Value* named = nullptr;
    if (Current() == '(') {
      if (!arguments_.is_dict()) throw TemplateFault("format requires a mapping");
      const size_t begin = ++at_;
      for (int open = 1; open > 0; ++at_) open += Current() == '(' ? 1 : Current() == ')' ? -1 : 0;
      const std::string key = bytes_.substr(begin, at_ - begin - 1);
      named = arguments_.dict().Find(std::string_view(key));
      if (!named) throw TemplateFault(fmt::format("no key '{}' to format", key));
    }
    bool is_left = false;
    for (bool is_flag = true; is_flag;) {
      switch (Current()) {
        case '-':
          is_left = true;
          break;
        case '+':
          layout.sign = '+';
          break;
        case ' ':
          if (layout.sign == 0) layout.sign = ' ';
          break;
        case '#':
          layout.is_alternate = true;
          break;
        case '0':
          layout.is_zero_padded = true;
          break;
        default:
          is_flag = false;
          continue;
      }
      ++at_;
    }
    layout.width = Number();
    if (layout.width < 0) {
      is_left = true;
      layout.width = -layout.width;
    }
    if (is_left) layout.align = '<';
    if (Current() == '.') {
      ++at_;
      layout.precision = static_cast<int>(std::max<int64_t>(0, Number()));
    }
    while (Current() == 'l' || Current() == 'h' || Current() == 'L') ++at_;
    layout.conversion = Current();
    ++at_;
    if (layout.conversion == '%') return Text::Literal("%");
    const Value& value = named ? *named : NextArgument();
    return LayOut(layout, value);
  }

  Text LayOut(const Layout& layout, const Value& value) {
    switch (layout.conversion) {
      case 's':
      case 'r':
      case 'a': {
        if (layout.conversion == 'a') throw TemplateFault("the conversion %a, which mxmla does not know");
        Text text = layout.conversion == 's' ? Str(runtime_, value) : Repr(runtime_, value);
        if (format_.is_markup()) {
          const bool is_markup = value.is_string() && value.text().is_markup();
          text.set_is_markup(is_markup);
          text = Escape(runtime_, text);
        }
        return Pad(runtime_, layout, FirstCharacters(text, layout.precision), '>');
      }
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        return LayOutInteger(runtime_, layout, WholeOf(value, layout.conversion), true);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        return LayOutFloat(runtime_, layout, RequireNumber(value), layout.conversion,
                           layout.precision < 0 ? 6 : layout.precision);
      case 'c': {
        if (value.is_string() && CountCharacters(value.text().bytes()) == 1) {
          return Pad(runtime_, layout, value.text(), '>');
        }
        const Int code = value.is_integer() ? value.integer() : -1;
        if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
          throw TemplateFault("%c requires int or char");
        }
        std::string character;
        AppendCodePoint(static_cast<char32_t>(code), &character);
        return Pad(runtime_, layout, Text::Content(character), '>');
      }
      default:
        throw TemplateFault(fmt::format("unsupported format character '{}'", layout.conversion));
    }
  }

  Runtime& runtime_;
  const Text& format_;
  const std::string& bytes_;
  const Value& arguments_;
  size_t at_ = 0;
  size_t used_ = 0;
};

// Python's format(value, specification).
Text FormatValue(Runtime& runtime, const Value& value, const std::string& specification) {
  if (specification.empty()) return Str(runtime, value);
  RequireDefined(value);
  Layout layout;
  size_t at = 0;
  const auto peek = [&](size_t offset = 0) {
    return at + offset < specification.size() ? specification[at + offset] : 0;
  };
  const auto is_align = [](int c) { return c == '<' || c == '>' || c == '=' || c == '^'; };
  const size_t fill = CodePointAt(specification, 0).length;
  if (is_align(peek(fill))) {
    layout.fill = specification.substr(0, fill);
    layout.align = specification[fill];
    at = fill + 1;
  } else if (is_align(peek())) {
    layout.align = specification[at++];
  }
  if (peek() == '+' || peek() == '-' || peek() == ' ') {
    layout.sign = specification[at] == '-' ? 0 : specification[at];
    ++at;
  }
  if (peek() == '#') {
    layout.is_alternate = true;
    ++at;
  }
  if (peek() == '0') {
    layout.is_zero_padded = true;
    ++at;
  }
  const auto number = [&] {
    int64_t result = 0;
    while (std::isdigit(peek()) != 0) {
      result = result * 10 + (specification[at++] - '0');
      if (result > kWidest) throw TemplateFault("a format too wide");
    }
    return result;
  };
  layout.width = number();
  if (peek() == ',' || peek() == '_') layout.group = specification[at++];
  if (peek() == '.') {
    ++at;
    if (std::isdigit(peek()) == 0) throw TemplateFault("Format specifier missing precision");
    layout.precision = static_cast<int>(number());
  }
  if (at < specification.size()) layout.conversion = specification[at++];
  const char c = layout.conversion;
  const auto refuse = [&] [[noreturn]] {
    throw TemplateFault(fmt::format("the format '{}' for a value of type '{}'", specification, TypeName(value)));
  };
  if (at < specification.size()) refuse();
  if (value.is_string()) {
    if ((c != 0 && c != 's') || layout.sign != 0 || layout.align == '=' || layout.group != 0) refuse();
    if (layout.is_zero_padded && layout.align == 0) layout.fill = "0";
    Text text = FirstCharacters(value.text(), layout.precision);
    return Pad(runtime, layout, text, '<');
  }
  if (value.is_integer() && (c == 0 || std::string_view("dxXobn").find(c) != std::string_view::npos)) {
    if (layout.precision >= 0) refuse();
    return LayOutInteger(runtime, layout, value.integer(), false);
  }
  if (value.is_number() && (c == 0 || std::string_view("eEfFgG%").find(c) != std::string_view::npos)) {
    if (c == '%') {
      Text text = LayOutFloat(runtime, layout, value.number() * 100, 'f', layout.precision < 0 ? 6 : layout.precision);
      text.Append("%", false);
      return text;
    }
    if (c == 0) {
      if (layout.precision >= 0) refuse();
      const double number_value = value.number();
      return LayOutNumber(runtime, layout, std::signbit(number_value), "", FloatRepr(std::abs(number_value)));
    }
    return LayOutFloat(runtime, layout, value.number(), c, layout.precision < 0 ? 6 : layout.precision);
  }
  refuse();
}

class BraceFormatter {
 public:
  BraceFormatter(Runtime& runtime, const Text& format, const Args& args)
      : runtime_(runtime), format_(format), args_(args) {}

  Text Run() { return Format(format_, 2); }

 private:
  Text Format(const Text& format, int depth) {
    if (depth < 0) throw TemplateFault("Max string recursion exceeded");
    const std::string& bytes = format.bytes();
    Text out;
    for (size_t at = 0; at < bytes.size();) {
      const size_t brace = std::min(bytes.find_first_of("{}", at), bytes.size());
      out.Append(format, at, brace);
      at = brace;
      if (at == bytes.size()) break;
      if (at + 1 < bytes.size() && bytes[at + 1] == bytes[at]) {
        out.Append(format, at, at + 1);
        at += 2;
        continue;
      }
      if (bytes[at] == '}') throw TemplateFault("Single '}' encountered in format string");
      const size_t begin = ++at;
      for (int open = 1; open > 0; ++at) {
        if (at >= bytes.size()) throw TemplateFault("expected '}' before end of string");
        open += bytes[at] == '{' ? 1 : bytes[at] == '}' ? -1 : 0;
      }
      out.Append(Field(format.Substring(begin, at - 1), depth));
      runtime_.CheckText(out.size(), 0);
    }
    return out;
  }

  Text Field(const Text& field, int depth) {
    const std::string& bytes = field.bytes();
    size_t end = 0;
    for (int open = 0; end < bytes.size() && ((bytes[end] != '!' && bytes[end] != ':') || open > 0); ++end) {
      open += bytes[end] == '[' ? 1 : bytes[end] == ']' ? -1 : 0;
    }
    Value value = Lookup(bytes.substr(0, end));
    if (end < bytes.size() && bytes[end] == '!') {
      const char conversion = end + 1 < bytes.size() ? bytes[end + 1] : 0;
      if (conversion != 's' && conversion != 'r') throw TemplateFault("an unknown conversion in a format string");
      value = Value::String(conversion == 's' ? Str(runtime_, value) : Repr(runtime_, value));
      end += 2;
      if (end < bytes.size() && bytes[end] != ':') throw TemplateFault("expected ':' after conversion specifier");
    }
    std::string specification;
    if (end < bytes.size()) specification = Format(field.Substring(end + 1, bytes.size()), depth - 1).bytes();
    return FormatValue(runtime_, value, specification);
  }

  Value Lookup(const std::string& name) {
    const size_t first_end = std::min(name.find_first_of(".["), name.size());
    const std::string first = name.substr(0, first_end);
    Value value = First(first);
    for (size_t at = first_end; at < name.size();) {
      if (name[at] == '.') {
        const size_t end = std::min(name.find_first_of(".[", at + 1), name.size());
        value = GetAttribute(runtime_, value, name.substr(at + 1, end - at - 1));
        at = end;
      } else if (name[at] == '[') {
        const size_t end = name.find(']', at);
        if (end == std::string::npos) throw TemplateFault("Missing ']' in format string");
        const std::string key = name.substr(at + 1, end - at - 1);
        const std::optional<size_t> index = IndexOf(key);
        value = GetItem(runtime_, value, index ? Value::Integer(static_cast<Int>(*index)) : Value::Literal(key));
        at = end + 1;
      } else {
        throw TemplateFault("Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return value;
  }

  static std::optional<size_t> IndexOf(const std::string& text) {
    if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos) return {};
    return static_cast<size_t>(std::stoul(text));
  }

  Value First(const std::string& name) {
    std::optional<size_t> index = IndexOf(name);
    if (name.empty() || index) {
      if (name.empty() ? is_manual_ : next_ > 0) {
        throw TemplateFault("cannot switch between automatic and manual field numbering");
      }
      is_manual_ |= !name.empty();
      if (!index) index = next_++;
      if (*index >= args_.positional.size()) throw TemplateFault("not enough arguments for a format string");
      return args_.positional[*index];
    }
    for (const auto& [key, value] : args_.named) {
      if (key == name) return value;
    }
    throw TemplateFault(fmt::format("no argument '{}' to format", name));
  }

  Runtime& runtime_;
  const Text& format_;
  const Args& args_;
  size_t next_ = 0;
  bool is_manual_ = false;
};

}  // namespace

std::string PrintNumber(double value, char conversion, int precision, bool is_alternate) {
  const bool is_upper = std::isupper(static_cast<unsigned char>(conversion)) != 0;
  if (std::isnan(value)) return is_upper ? "NAN" : "nan";
  if (std::isinf(value)) return std::string(value < 0 ? "-" : "") + (is_upper ? "INF" : "inf");
  const char format[] = {'%',
                         is_alternate ? '#' : '.',
                         is_alternate ? '.' : '*',
                         is_alternate ? '*' : conversion,
                         is_alternate ? conversion : '\0',
                         '\0'};
  const int size = std::snprintf(nullptr, 0, format, precision, value);
  std::string out(static_cast<size_t>(size) + 1, '\0');
  std::snprintf(out.data(), out.size(), format, precision, value);
  out.pop_back();
  return out;
}

Text FormatPercent(Runtime& runtime, const Text& format, const Value& arguments) {
  runtime.StepBytes(format.size());
  Text out = PercentFormatter(runtime, format, arguments).Run();
  out.set_is_markup(format.is_markup());
  return out;
}

Text FormatBraces(Runtime& runtime, const Text& format, const Args& args) {
  if (format.is_markup()) throw TemplateFault("format of markup, which mxmla does not know");
  runtime.StepBytes(format.size());
  return BraceFormatter(runtime, format, args).Run();
}

}  // namespace mxmla::jinja
