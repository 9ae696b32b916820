// The methods of Python's str.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "text/template/attributes.h"
#include "text/template/operators.h"
#include "text/template/parameters.h"
#include "text/template/text_operations.h"
#include "text/template/unicode.h"
#include "text/utf8.h"

namespace mxmla::jinja {
namespace {

Value ListOf(std::vector<Text> parts) {
  Values items;
  items.reserve(parts.size());
  for (Text& part : parts) items.push_back(Value::String(std::move(part)));
  return Value::List(std::move(items));
}

template <Text (*kChange)(Runtime&, const Text&)>
Value Changed(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("str method", args, {});
  return Value::String(kChange(runtime, self.text()));
}

template <Side kSide>
Value StripMethod(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("strip", args, {"chars"});
  const std::string* characters = parameters.HasValue(0) ? &parameters.TextAt(0).bytes() : nullptr;
  return Value::String(Strip(runtime, self.text(), characters, kSide));
}

template <bool kFromRight>
Value SplitMethod(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("split", args, {"sep", "maxsplit"});
  const std::string* separator = parameters.HasValue(0) ? &parameters.TextAt(0).bytes() : nullptr;
  return ListOf(Split(runtime, self.text(), separator, parameters.IntegerAt(1, -1), kFromRight));
}

Value SplitLinesMethod(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("splitlines", args, {"keepends"});
  return ListOf(SplitLines(runtime, self.text(), parameters.FlagAt(runtime, 0, false)));
}

Value ReplaceMethod(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("replace", args, {"old", "new", "count"}, 2);
  const Int count = parameters.IntegerAt(2, -1);
  return Value::String(Replace(runtime, self.text(), parameters.TextAt(0).bytes(), parameters.TextAt(1), count));
}

// The part of a text that optional begin and end arguments leave, in characters.
struct Window {
  std::vector<size_t> offsets;
  Int begin;
  Int end;
  bool is_valid;  // the begin is not behind the text's end
};

Window WindowOf(Runtime& runtime, const Text& text, const Parameters& parameters, size_t first) {
  runtime.StepBytes(text.size());
  Window window{CharacterOffsets(text.bytes()), 0, 0, true};
  const Int length = static_cast<Int>(window.offsets.size()) - 1;
  const auto bound = [&](size_t place, Int fallback) {
    if (!parameters.HasValue(place)) return fallback;
    const Int value = RequireInteger(*parameters.Get(place));
    return value < 0 ? std::max(Int{0}, value + length) : value;
  };
  window.begin = bound(first, 0);
  window.end = std::min(bound(first + 1, length), length);
  window.is_valid = window.begin <= length && window.begin <= window.end;
  return window;
}

template <bool kAtEnd>
Value StartsOrEndsWith(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters(kAtEnd ? "endswith" : "startswith", args, {"prefix", "start", "end"}, 1);
  const Window window = WindowOf(runtime, self.text(), parameters, 1);
  const auto matches = [&](const Value& part) {
    RequireDefined(part);
    if (!part.is_string()) {
      throw TemplateFault(fmt::format("{} first arg must be str or a tuple of str, not {}",
                                      kAtEnd ? "endswith" : "startswith", TypeName(part)));
    }
    if (!window.is_valid) return false;
    const size_t begin = window.offsets[static_cast<size_t>(window.begin)];
    const size_t end = window.offsets[static_cast<size_t>(window.end)];
    const std::string_view text = std::string_view(self.text().bytes()).substr(begin, end - begin);
    return kAtEnd ? text.ends_with(part.text().bytes()) : text.starts_with(part.text().bytes());
  };
  const Value& wanted = *parameters.Get(0);
  if (!wanted.is_tuple()) return Value::Bool(matches(wanted));
  return Value::Bool(std::any_of(wanted.items().begin(), wanted.items().end(), matches));
}

// The character's place, -1 where `part` is not in the window.
Int FindIn(Runtime& runtime, const Value& self, const Args& args, std::string_view name, bool from_right) {
  const Parameters parameters(name, args, {"sub", "start", "end"}, 1);
  const std::string& part = parameters.TextAt(0).bytes();
  const Window window = WindowOf(runtime, self.text(), parameters, 1);
  if (!window.is_valid) return -1;
  const size_t begin = window.offsets[static_cast<size_t>(window.begin)];
  const size_t end = window.offsets[static_cast<size_t>(window.end)];
  const std::string_view text = std::string_view(self.text().bytes()).substr(begin, end - begin);
  const size_t found = from_right ? text.rfind(part) : text.find(part);
  if (found == std::string_view::npos) return -1;
  const auto place = std::lower_bound(window.offsets.begin(), window.offsets.end(), begin + found);
  return static_cast<Int>(place - window.offsets.begin());
}

template <bool kFromRight, bool kMustBeThere>
Value FindMethodOf(Runtime& runtime, const Value& self, const Args& args) {
  const Int place = FindIn(runtime, self, args, kMustBeThere ? "index" : "find", kFromRight);
  if (kMustBeThere && place < 0) throw TemplateFault("substring not found");
  return Value::Integer(place);
}

Value CountMethod(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("count", args, {"sub", "start", "end"}, 1);
  const std::string& part = parameters.TextAt(0).bytes();
  const Window window = WindowOf(runtime, self.text(), parameters, 1);
  if (!window.is_valid) return Value::Integer(0);
  if (part.empty()) return Value::Integer(window.end - window.begin + 1);
  const size_t begin = window.offsets[static_cast<size_t>(window.begin)];
  const size_t end = window.offsets[static_cast<size_t>(window.end)];
  const std::string_view text = std::string_view(self.text().bytes()).substr(begin, end - begin);
  Int count = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++count;
  return Value::Integer(count);
}

Value JoinMethod(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("join", args, {"iterable"}, 1);
  std::vector<Text> parts;
  const bool is_markup = self.text().is_markup();
  const Next next = Iterate(runtime, *parameters.Get(0));
  for (Value item; next(&item);) {
    if (!item.is_string()) {
      RequireDefined(item);
      throw TemplateFault(
          fmt::format("sequence item {}: expected str instance, {} found", parts.size(), TypeName(item)));
    }
    parts.push_back(is_markup ? Escape(runtime, item.text()) : item.text());
  }
  Text joined = Join(runtime, self.text(), parts);
  joined.set_is_markup(is_markup);
  return Value::String(std::move(joined));
}

template <bool kAtEnd>
Value RemoveMethod(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters(kAtEnd ? "removesuffix" : "removeprefix", args, {"part"}, 1);
  const Text& text = self.text();
  const std::string& part = parameters.TextAt(0).bytes();
  runtime.StepBytes(text.size());
  if (kAtEnd && text.bytes().ends_with(part)) return Value::String(text.Substring(0, text.size() - part.size()));
  if (!kAtEnd && text.bytes().starts_with(part)) return Value::String(text.Substring(part.size(), text.size()));
  return self;
}

template <bool kFromRight>
Value PartitionMethod(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("partition", args, {"sep"}, 1);
  const Text& text = self.text();
  const Text& separator = parameters.TextAt(0);
  if (separator.empty()) throw TemplateFault("empty separator");
  runtime.StepBytes(text.size());
  const size_t found = kFromRight ? text.bytes().rfind(separator.bytes()) : text.bytes().find(separator.bytes());
  const auto string = [](Text part) { return Value::String(std::move(part)); };
  if (found == std::string::npos) {
    const Value empty = Value::Literal("");
    return kFromRight ? Value::Tuple({empty, empty, self}) : Value::Tuple({self, empty, empty});
  }
  return Value::Tuple({string(text.Substring(0, found)), string(text.Substring(found, found + separator.size())),
                       string(text.Substring(found + separator.size(), text.size()))});
}

// `text` between `left` and `right` characters of filling.
Value Filled(Runtime& runtime, const Text& text, const Text& fill, Int left, Int right) {
  runtime.CheckText(text.size() + static_cast<size_t>(left + right) * fill.size());
  Text out;
  for (Int i = 0; i < left; ++i) out.Append(fill);
  out.Append(text);
  for (Int i = 0; i < right; ++i) out.Append(fill);
  out.set_is_markup(text.is_markup());
  return Value::String(std::move(out));
}

enum class Place { kLeft, kRight, kCenter };

template <Place kPlace>
Value JustifyMethod(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("ljust", args, {"width", "fillchar"}, 1);
  const Text fill = parameters.Has(1) ? parameters.TextAt(1) : Text::Literal(" ");
  if (CountCharacters(fill.bytes()) != 1) {
    throw TemplateFault("The fill character must be exactly one character long");
  }
  const Int width = std::min(parameters.IntegerAt(0, 0), Int{1} << 40);
  const Int missing = std::max(Int{0}, width - *Length(runtime, self));
  if (missing == 0) return self;
  // Python's center leans to the left where the width is odd.
  const Int half = missing / 2 + (missing & width & 1);
  const Int left = kPlace == Place::kLeft ? 0 : kPlace == Place::kRight ? missing : half;
  return Filled(runtime, self.text(), fill, left, missing - left);
}

Value ZfillMethod(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("zfill", args, {"width"}, 1);
  const Int width = std::min(parameters.IntegerAt(0, 0), Int{1} << 40);
  const Int missing = std::max(Int{0}, width - *Length(runtime, self));
  const Text& text = self.text();
  const bool has_sign = text.bytes().starts_with('+') || text.bytes().starts_with('-');
  const Text digits = text.Substring(has_sign ? 1 : 0, text.size());
  Text out = text.Substring(0, has_sign ? 1 : 0);
  out.Append(Filled(runtime, digits, Text::Literal("0"), missing, 0).text());
  return Value::String(std::move(out));
}

Value ExpandTabsMethod(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("expandtabs", args, {"tabsize"});
  const Int size = std::min(parameters.IntegerAt(0, 8), Int{1} << 20);
  const Text& text = self.text();
  runtime.StepBytes(text.size());
  Text out;
  Int column = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = CodePointAt(text.bytes(), at);
    if (c.value == '\t') {
      const Int spaces = size > 0 ? size - column % size : 0;
      runtime.CheckText(out.size() + static_cast<size_t>(spaces), static_cast<size_t>(spaces));
      out.Append(std::string(static_cast<size_t>(spaces), ' '), text.IsContentAt(at));
      column += spaces;
    } else {
      out.Append(text, at, at + c.length);
      column = c.value == '\n' || c.value == '\r' ? 0 : column + 1;
    }
    at += c.length;
  }
  return Value::String(std::move(out));
}

Value FormatMethod(Runtime& runtime, const Value& self, const Args& args) {
  return Value::String(FormatBraces(runtime, self.text(), args));
}

// Whether the text has characters and all of them the property.
template <Property kProperty>
Value AllHave(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("str method", args, {});
  const std::string& bytes = self.text().bytes();
  runtime.Step(static_cast<int64_t>(bytes.size() / 8));
  for (size_t at = 0; at < bytes.size(); at += CodePointAt(bytes, at).length) {
    if (!Has(kProperty, bytes, at)) return Value::Bool(false);
  }
  return Value::Bool(!bytes.empty() || kProperty == Property::kPrintable);
}

Value IsAlnum(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("isalnum", args, {});
  const std::string& bytes = self.text().bytes();
  runtime.Step(static_cast<int64_t>(bytes.size() / 8));
  for (size_t at = 0; at < bytes.size(); at += CodePointAt(bytes, at).length) {
    if (!Has(Property::kAlphabetic, bytes, at) && !Has(Property::kNumeric, bytes, at)) return Value::Bool(false);
  }
  return Value::Bool(!bytes.empty());
}

Value IsSpace(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("isspace", args, {});
  const std::string& bytes = self.text().bytes();
  runtime.StepBytes(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const CodePoint c = CodePointAt(bytes, at);
    if (!IsPythonSpace(c.value)) return Value::Bool(false);
    at += c.length;
  }
  return Value::Bool(!bytes.empty());
}

Value IsAscii(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("isascii", args, {});
  const std::string& bytes = self.text().bytes();
  runtime.StepBytes(bytes.size());
  return Value::Bool(std::all_of(bytes.begin(), bytes.end(), [](char c) { return static_cast<signed char>(c) >= 0; }));
}

// Whether there is a character with a case, and none with the other.
template <bool kUpper>
Value IsCase(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("str method", args, {});
  const std::string& bytes = self.text().bytes();
  runtime.Step(static_cast<int64_t>(bytes.size() / 8));
  bool has_case = false;
  for (size_t at = 0; at < bytes.size(); at += CodePointAt(bytes, at).length) {
    if (!Has(Property::kCased, bytes, at)) continue;
    if (!Has(kUpper ? Property::kUpper : Property::kLower, bytes, at)) return Value::Bool(false);
    has_case = true;
  }
  return Value::Bool(has_case);
}

Value IsTitle(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("istitle", args, {});
  const std::string& bytes = self.text().bytes();
  runtime.Step(static_cast<int64_t>(bytes.size() / 8));
  bool is_inside = false;
  bool has_case = false;
  for (size_t at = 0; at < bytes.size(); at += CodePointAt(bytes, at).length) {
    if (!Has(Property::kCased, bytes, at)) {
      is_inside = false;
      continue;
    }
    if (is_inside != Has(Property::kLower, bytes, at)) return Value::Bool(false);
    is_inside = true;
    has_case = true;
  }
  return Value::Bool(has_case);
}

Value IsIdentifier(Runtime& runtime, const Value& self, const Args& args) {
  const Parameters parameters("isidentifier", args, {});
  const std::string& bytes = self.text().bytes();
  runtime.Step(static_cast<int64_t>(bytes.size() / 8));
  for (size_t at = 0; at < bytes.size(); at += CodePointAt(bytes, at).length) {
    const bool is_first = bytes[at] == '_' || Has(Property::kAlphabetic, bytes, at);
    if (!is_first && (at == 0 || !Has(Property::kWord, bytes, at))) return Value::Bool(false);
  }
  return Value::Bool(!bytes.empty());
}

template <int kWhich>
Value Unknown(Runtime&, const Value&, const Args&) {
  static constexpr const char* kNames[] = {"casefold", "encode", "translate", "maketrans", "format_map"};
  throw TemplateFault(fmt::format("the method '{}' of str, which mxmla does not know", kNames[kWhich]));
}

}  // namespace

Method FindStringMethod(std::string_view name) {
  static const std::unordered_map<std::string_view, Method> methods = {
      {"capitalize", Changed<Capitalize>},
      {"casefold", Unknown<0>},
      {"center", JustifyMethod<Place::kCenter>},
      {"count", CountMethod},
      {"encode", Unknown<1>},
      {"endswith", StartsOrEndsWith<true>},
      {"expandtabs", ExpandTabsMethod},
      {"find", FindMethodOf<false, false>},
      {"format", FormatMethod},
      {"format_map", Unknown<4>},
      {"index", FindMethodOf<false, true>},
      {"isalnum", IsAlnum},
      {"isalpha", AllHave<Property::kAlphabetic>},
      {"isascii", IsAscii},
      {"isdecimal", AllHave<Property::kDecimal>},
      {"isdigit", AllHave<Property::kDigit>},
      {"isidentifier", IsIdentifier},
      {"islower", IsCase<false>},
      {"isnumeric", AllHave<Property::kNumeric>},
      {"isprintable", AllHave<Property::kPrintable>},
      {"isspace", IsSpace},
      {"istitle", IsTitle},
      {"isupper", IsCase<true>},
      {"join", JoinMethod},
      {"ljust", JustifyMethod<Place::kLeft>},
      {"lower", Changed<Lower>},
      {"lstrip", StripMethod<Side::kLeft>},
      {"maketrans", Unknown<3>},
      {"partition", PartitionMethod<false>},
      {"removeprefix", RemoveMethod<false>},
      {"removesuffix", RemoveMethod<true>},
      {"replace", ReplaceMethod},
      {"rfind", FindMethodOf<true, false>},
      {"rindex", FindMethodOf<true, true>},
      {"rjust", JustifyMethod<Place::kRight>},
      {"rpartition", PartitionMethod<true>},
      {"rsplit", SplitMethod<true>},
      {"rstrip", StripMethod<Side::kRight>},
      {"split", SplitMethod<false>},
      {"splitlines", SplitLinesMethod},
      {"startswith", StartsOrEndsWith<false>},
      {"strip", StripMethod<Side::kBoth>},
      {"swapcase", Changed<SwapCase>},
      {"title", Changed<TitleCase>},
      {"translate", Unknown<2>},
      {"upper", Changed<Upper>},
      {"zfill", ZfillMethod},
  };
  const auto found = methods.find(name);
  return found == methods.end() ? nullptr : found->second;
}

}  // namespace mxmla::jinja
