// Filters that make text.
#include <fmt/format.h>

#include <unordered_map>

#include "text/template/attributes.h"
#include "text/template/filters.h"
#include "text/template/operators.h"
#include "text/template/parameters.h"
#include "text/template/text_operations.h"
#include "text/template/unicode.h"
#include "text/utf8.h"

namespace mxmla::jinja {
namespace {

template <Text (*kChange)(Runtime&, const Text&)>
Value Changed(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("filter", args, {});
  return Value::String(kChange(runtime, SoftText(runtime, value)));
}

Value Trim(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("trim", args, {"chars"});
  const std::string* characters = parameters.HasValue(0) ? &parameters.TextAt(0).bytes() : nullptr;
  return Value::String(Strip(runtime, SoftText(runtime, value), characters, Side::kBoth));
}

// The first letter of each word in upper case; words begin behind white space and - ( { [ <.
Value Title(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("title", args, {});
  const Text text = SoftText(runtime, value);
  const std::string& bytes = text.bytes();
  Text out;
  for (size_t at = 0; at < bytes.size();) {
    const auto is_gap = [&](size_t offset) {
      const CodePoint c = CodePointAt(bytes, offset);
      return IsPythonSpace(c.value) || std::string_view("-({[<").find(bytes[offset]) != std::string_view::npos;
    };
    size_t end = at;
    const bool is_in_gap = is_gap(at);
    while (end < bytes.size() && is_gap(end) == is_in_gap) end += CodePointAt(bytes, end).length;
    const size_t second = at + CodePointAt(bytes, at).length;
    out.Append(Upper(runtime, text.Substring(at, second)));
    out.Append(Lower(runtime, text.Substring(second, end)));
    at = end;
  }
  return Value::String(std::move(out));
}

Value ReplaceFilter(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("replace", args, {"old", "new", "count"}, 2);
  const Int count = parameters.HasValue(2) ? parameters.IntegerAt(2, -1) : -1;
  const std::string from = Str(runtime, *parameters.Get(0)).bytes();
  return Value::String(Replace(runtime, Str(runtime, value), from, Str(runtime, *parameters.Get(1)), count));
}

const Text& RequireText(const Value& value, std::string_view filter) {
  RequireDefined(value);
  if (!value.is_string()) throw TemplateFault(fmt::format("{} of a value of type '{}'", filter, TypeName(value)));
  return value.text();
}

Value Indent(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("indent", args, {"width", "first", "blank"});
  Text indention = Text::Literal("    ");
  if (parameters.Has(0)) {
    const Value& width = *parameters.Get(0);
    const Value spaces = Value::Literal(" ");
    indention = width.is_string() ? width.text() : Arithmetic(runtime, Operation::kMultiply, spaces, width).text();
  }
  const bool indents_first = parameters.FlagAt(runtime, 1, false);
  const bool indents_blank = parameters.FlagAt(runtime, 2, false);
  Text text = RequireText(value, "indent");
  const bool is_markup = text.is_markup();
  if (is_markup) indention = Escape(runtime, indention);
  text.Append("\n", false);
  const std::vector<Text> lines = SplitLines(runtime, text, false);
  Text out;
  for (size_t i = 0; i < lines.size(); ++i) {
    runtime.CheckText(out.size() + indention.size() + lines[i].size(), indention.size() + lines[i].size());
    if (i > 0) out.Append("\n", false);
    if (i == 0 ? indents_first : indents_blank || !lines[i].empty()) out.Append(indention);
    out.Append(lines[i]);
  }
  out.set_is_markup(is_markup);
  return Value::String(std::move(out));
}

Value Truncate(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("truncate", args, {"length", "killwords", "end", "leeway"});
  const Int length = parameters.IntegerAt(0, 255);
  const bool cuts_words = parameters.FlagAt(runtime, 1, false);
  const Text end = parameters.Has(2) ? parameters.TextAt(2) : Text::Literal("...");
  const Int leeway = parameters.HasValue(3) ? parameters.IntegerAt(3, 5) : 5;
  const Int end_length = static_cast<Int>(CountCharacters(end.bytes()));
  if (length < end_length) throw TemplateFault(fmt::format("expected length >= {}, got {}", end_length, length));
  if (leeway < 0) throw TemplateFault(fmt::format("expected leeway >= 0, got {}", leeway));
  const Text& text = RequireText(value, "truncate");
  runtime.StepBytes(text.size());
  const std::vector<size_t> offsets = CharacterOffsets(text.bytes());
  if (static_cast<Int>(offsets.size()) - 1 <= length + leeway) return value;
  Text out = text.Substring(0, offsets[static_cast<size_t>(length - end_length)]);
  if (!cuts_words) {
    const size_t space = out.bytes().rfind(' ');
    if (space != std::string::npos) out = out.Substring(0, space);
  }
  out.Append(end);
  return Value::String(std::move(out));
}

Value WordCount(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("wordcount", args, {});
  const Text text = SoftText(runtime, value);
  const std::string& bytes = text.bytes();
  runtime.Step(static_cast<int64_t>(bytes.size() / 8));
  Int count = 0;
  bool is_inside = false;
  for (size_t at = 0; at < bytes.size(); at += CodePointAt(bytes, at).length) {
    const bool is_word = Has(Property::kWord, bytes, at);
    if (is_word && !is_inside) ++count;
    is_inside = is_word;
  }
  return Value::Integer(count);
}

Value Center(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("center", args, {"width"});
  const Value width = Value::Integer(parameters.IntegerAt(0, 80));
  const Value text = Value::String(SoftText(runtime, value));
  return FindStringMethod("center")(runtime, text, {{width}, {}});
}

Value Format(Runtime& runtime, const Value& value, const Args& args) {
  if (!args.positional.empty() && !args.named.empty()) {
    throw TemplateFault("can't handle positional and keyword arguments at the same time");
  }
  if (args.named.empty()) {
    return Value::String(FormatPercent(runtime, SoftText(runtime, value), Value::Tuple(args.positional)));
  }
  auto dict = std::make_shared<Dict>();
  for (const auto& [name, argument] : args.named) dict->Set(Value::Literal(name), argument);
  return Value::String(FormatPercent(runtime, SoftText(runtime, value), Value::OfDict(std::move(dict))));
}

Value Safe(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("safe", args, {});
  Text text = SoftText(runtime, value);
  text.set_is_markup(true);
  return Value::String(std::move(text));
}

Value EscapeFilter(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("escape", args, {});
  return Value::String(Escape(runtime, SoftText(runtime, value)));
}

Value ForceEscape(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("forceescape", args, {});
  return Value::String(Escape(runtime, Str(runtime, value)));
}

Value StringFilter(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("string", args, {});
  return value.is_string() ? value : Value::String(Str(runtime, value));
}

}  // namespace

Text SoftText(Runtime& runtime, const Value& value) { return value.is_string() ? value.text() : Str(runtime, value); }

Filter FindTextFilter(std::string_view name) {
  static const std::unordered_map<std::string_view, Filter> filters = {
      {"capitalize", Changed<Capitalize>},
      {"center", Center},
      {"e", EscapeFilter},
      {"escape", EscapeFilter},
      {"forceescape", ForceEscape},
      {"format", Format},
      {"indent", Indent},
      {"lower", Changed<Lower>},
      {"replace", ReplaceFilter},
      {"safe", Safe},
      {"string", StringFilter},
      {"title", Title},
      {"tojson", ToJsonFilter},
      {"trim", Trim},
      {"truncate", Truncate},
      {"upper", Changed<Upper>},
      {"wordcount", WordCount},
  };
  const auto found = filters.find(name);
  return found == filters.end() ? nullptr : found->second;
}

}  // namespace mxmla::jinja
