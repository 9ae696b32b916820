#include "text/template/text_operations.h"

#include <algorithm>

#include "text/template/unicode.h"
#include "text/utf8.h"

namespace mxmla::jinja {
namespace {

bool IsSpaceAt(std::string_view text, size_t at) { return IsPythonSpace(CodePointAt(text, at).value); }

// Whether a capital sigma at `at` ends a word, so that its lower case is another letter.
bool IsFinalSigma(std::string_view text, size_t at) {
  size_t before = at;
  bool has_before = false;
  while (before > 0) {
    before = PreviousOffset(text, before);
    if (Has(Property::kCaseIgnorable, text, before)) continue;
    has_before = Has(Property::kCased, text, before);
    break;
  }
  if (!has_before) return false;
  for (size_t after = at + CodePointAt(text, at).length; after < text.size();) {
    if (!Has(Property::kCaseIgnorable, text, after)) return !Has(Property::kCased, text, after);
    after += CodePointAt(text, after).length;
  }
  return true;
}

void AppendLowerAt(std::string_view text, size_t at, std::string* out) {
  const char32_t c = CodePointAt(text, at).value;
  if (c == 0x3a3) {
    AppendCodePoint(IsFinalSigma(text, at) ? char32_t{0x3c2} : char32_t{0x3c3}, out);
  } else {
    AppendLower(c, out);
  }
}

// The text with each character changed: `change` gets the text, the character's offset and where to write.
template <typename Change>
Text Map(Runtime& runtime, const Text& text, Change change) {
  runtime.CheckText(text.size());
  runtime.Step(static_cast<int64_t>(text.size() / 8));
  const std::string& bytes = text.bytes();
  Text out;
  std::string changed;
  for (size_t at = 0; at < bytes.size(); at += CodePointAt(bytes, at).length) {
    changed.clear();
    change(std::string_view(bytes), at, &changed);
    out.Append(changed, text.IsContentAt(at));
  }
  out.set_is_markup(text.is_markup());
  return out;
}

bool IsCharacterOf(std::string_view text, size_t at, const std::string* characters) {
  if (!characters) return IsSpaceAt(text, at);
  return characters->find(text.substr(at, CodePointAt(text, at).length)) != std::string::npos;
}

std::vector<Text> SplitAtSpace(Runtime& runtime, const Text& text, Int limit, bool from_right) {
  const std::string_view bytes = text.bytes();
  std::vector<Text> parts;
  const auto push = [&](size_t begin, size_t end) {
    runtime.Step();
    parts.push_back(text.Substring(begin, end));
  };
  if (!from_right) {
    size_t at = 0;
    while (true) {
      while (at < bytes.size() && IsSpaceAt(bytes, at)) at += CodePointAt(bytes, at).length;
      if (at == bytes.size()) return parts;
      size_t end = at;
      if (limit >= 0 && static_cast<Int>(parts.size()) == limit) {
        end = bytes.size();  // with the white space behind it
      } else {
        while (end < bytes.size() && !IsSpaceAt(bytes, end)) end += CodePointAt(bytes, end).length;
      }
      push(at, end);
      at = end;
    }
  }
  size_t at = bytes.size();
  while (true) {
    while (at > 0 && IsSpaceAt(bytes, PreviousOffset(bytes, at))) at = PreviousOffset(bytes, at);
    if (at == 0) break;
    size_t begin = at;
    if (limit >= 0 && static_cast<Int>(parts.size()) == limit) {
      begin = 0;
    } else {
      while (begin > 0 && !IsSpaceAt(bytes, PreviousOffset(bytes, begin))) begin = PreviousOffset(bytes, begin);
    }
    push(begin, at);
    at = begin;
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

}  // namespace

Text Upper(Runtime& runtime, const Text& text) {
  return Map(runtime, text, [](std::string_view bytes, size_t at, std::string* out) {
    AppendUpper(CodePointAt(bytes, at).value, out);
  });
}

Text Lower(Runtime& runtime, const Text& text) { return Map(runtime, text, AppendLowerAt); }

Text Capitalize(Runtime& runtime, const Text& text) {
  return Map(runtime, text, [](std::string_view bytes, size_t at, std::string* out) {
    if (at == 0) {
      AppendTitle(CodePointAt(bytes, at).value, out);
    } else {
      AppendLowerAt(bytes, at, out);
    }
  });
}

Text SwapCase(Runtime& runtime, const Text& text) {
  return Map(runtime, text, [](std::string_view bytes, size_t at, std::string* out) {
    if (Has(Property::kUpper, bytes, at)) {
      AppendLowerAt(bytes, at, out);
    } else if (Has(Property::kLower, bytes, at)) {
      AppendUpper(CodePointAt(bytes, at).value, out);
    } else {
      out->append(bytes.substr(at, CodePointAt(bytes, at).length));
    }
  });
}

Text TitleCase(Runtime& runtime, const Text& text) {
  return Map(runtime, text, [is_inside = false](std::string_view bytes, size_t at, std::string* out) mutable {
    if (is_inside) {
      AppendLowerAt(bytes, at, out);
    } else {
      AppendTitle(CodePointAt(bytes, at).value, out);
    }
    is_inside = Has(Property::kCased, bytes, at);
  });
}

Text Strip(Runtime& runtime, const Text& text, const std::string* characters, Side side) {
  runtime.StepBytes(text.size());
  const std::string_view bytes = text.bytes();
  size_t begin = 0;
  size_t end = bytes.size();
  while (side != Side::kRight && begin < end && IsCharacterOf(bytes, begin, characters)) {
    begin += CodePointAt(bytes, begin).length;
  }
  while (side != Side::kLeft && end > begin && IsCharacterOf(bytes, PreviousOffset(bytes, end), characters)) {
    end = PreviousOffset(bytes, end);
  }
  return text.Substring(begin, end);
}

std::vector<Text> Split(Runtime& runtime, const Text& text, const std::string* separator, Int limit, bool from_right) {
  runtime.StepBytes(text.size());
  if (!separator) return SplitAtSpace(runtime, text, limit, from_right);
  if (separator->empty()) throw TemplateFault("empty separator");
  const std::string& bytes = text.bytes();
  std::vector<Text> parts;
  const auto push = [&](size_t begin, size_t end) {
    runtime.Step();
    parts.push_back(text.Substring(begin, end));
  };
  if (!from_right) {
    size_t begin = 0;
    while (limit < 0 || static_cast<Int>(parts.size()) < limit) {
      const size_t found = bytes.find(*separator, begin);
      if (found == std::string::npos) break;
      push(begin, found);
      begin = found + separator->size();
    }
    push(begin, bytes.size());
    return parts;
  }
  size_t end = bytes.size();
  while (limit < 0 || static_cast<Int>(parts.size()) < limit) {
    if (end < separator->size()) break;
    const size_t found = bytes.rfind(*separator, end - separator->size());
    if (found == std::string::npos) break;
    push(found + separator->size(), end);
    end = found;
  }
  push(0, end);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<Text> SplitLines(Runtime& runtime, const Text& text, bool keeps_ends) {
  runtime.StepBytes(text.size());
  const std::string_view bytes = text.bytes();
  std::vector<Text> lines;
  size_t begin = 0;
  for (size_t at = 0; at < bytes.size();) {
    const CodePoint c = CodePointAt(bytes, at);
    const bool is_break = (c.value >= 0xa && c.value <= 0xd) || (c.value >= 0x1c && c.value <= 0x1e) ||
                          c.value == 0x85 || c.value == 0x2028 || c.value == 0x2029;
    size_t next = at + c.length;
    if (is_break) {
      if (c.value == '\r' && next < bytes.size() && bytes[next] == '\n') ++next;
      runtime.Step();
      lines.push_back(text.Substring(begin, keeps_ends ? next : at));
      begin = next;
    }
    at = next;
  }
  if (begin < bytes.size()) lines.push_back(text.Substring(begin, bytes.size()));
  return lines;
}

Text Replace(Runtime& runtime, const Text& text, const std::string& from, const Text& to, Int limit) {
  runtime.CheckText(text.size());
  const std::string& bytes = text.bytes();
  Text out;
  Int count = 0;
  const auto put = [&] {
    ++count;
    runtime.CheckText(out.size() + to.size(), to.size() + 64);
    out.Append(to);
  };
  if (from.empty()) {
    // Before each character and at the end.
    for (size_t at = 0; at < bytes.size();) {
      if (limit < 0 || count < limit) put();
      const size_t next = at + CodePointAt(bytes, at).length;
      out.Append(text, at, next);
      at = next;
    }
    if (limit < 0 || count < limit) put();
  } else {
    size_t begin = 0;
    while (limit < 0 || count < limit) {
      const size_t found = bytes.find(from, begin);
      if (found == std::string::npos) break;
      out.Append(text, begin, found);
      put();
      begin = found + from.size();
    }
    out.Append(text, begin, bytes.size());
  }
  out.set_is_markup(text.is_markup());
  return out;
}

Text Join(Runtime& runtime, const Text& separator, const std::vector<Text>& parts) {
  Text out;
  for (size_t i = 0; i < parts.size(); ++i) {
    runtime.CheckText(out.size() + separator.size() + parts[i].size(), separator.size() + parts[i].size() + 64);
    if (i > 0) out.Append(separator);
    out.Append(parts[i]);
  }
  return out;
}

}  // namespace mxmla::jinja
