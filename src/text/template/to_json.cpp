// The filter tojson: Python's json.dumps, with transformers' defaults.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/template/filters.h"
#include "text/template/parameters.h"
#include "text/utf8.h"

namespace mxmla::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const Parameters& parameters) : runtime_(runtime) {
    ensures_ascii_ = parameters.FlagAt(runtime, 0, false);
    sorts_keys_ = parameters.FlagAt(runtime, 3, false);
    if (parameters.HasValue(1)) {
      const Value& indent = *parameters.Get(1);
      is_indented_ = true;
      if (indent.is_string()) {
        indent_ = indent.text();
      } else {
        const Int width = std::clamp(parameters.IntegerAt(1, 0), Int{0}, Int{1000});
        indent_ = Text::Literal(std::string(static_cast<size_t>(width), ' '));
      }
      item_separator_ = Text::Literal(",");
    }
    if (parameters.HasValue(2)) {
      const Values both = ToList(runtime, *parameters.Get(2));
      if (both.size() != 2 || !both[0].is_string() || !both[1].is_string()) {
        throw TemplateFault("tojson separators must be two strings");
      }
      item_separator_ = both[0].text();
      key_separator_ = both[1].text();
    }
  }

  Text Run(const Value& value) {
    Write(value, 0);
    return std::move(out_);
  }

 private:
  void Put(std::string_view text) { out_.Append(text, false); }

  void NewLine(int level) {
    if (!is_indented_) return;
    Put("\n");
    runtime_.CheckText(out_.size() + static_cast<size_t>(level) * indent_.size(),
                       static_cast<size_t>(level) * indent_.size());
    for (int i = 0; i < level; ++i) out_.Append(indent_);
  }

  void Write(const Value& value, int level) {
    runtime_.Step();
    runtime_.CheckText(out_.size(), 0);
    switch (value.kind()) {
      case Value::Kind::kNone:
        Put("null");
        return;
      case Value::Kind::kBool:
        Put(value.boolean() ? "true" : "false");
        return;
      case Value::Kind::kInt:
        Put(IntegerString(value.integer()));
        return;
      case Value::Kind::kFloat:
        Put(FloatText(value.number()));
        return;
      case Value::Kind::kString:
        WriteString(value.text());
        return;
      case Value::Kind::kList:
      case Value::Kind::kTuple:
        WriteList(value.items(), level);
        return;
      case Value::Kind::kDict:
        WriteDict(value.dict(), level);
        return;
      default:
        throw TemplateFault(fmt::format("Object of type {} is not JSON serializable", TypeName(value)));
    }
  }

  static std::string FloatText(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return FloatRepr(value);
  }

  void WriteList(const Values& items, int level) {
    if (items.empty()) {
      Put("[]");
      return;
    }
    Put("[");
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_.Append(item_separator_);
      NewLine(level + 1);
      Write(items[i], level + 1);
    }
    NewLine(level);
    Put("]");
  }

  void WriteDict(const Dict& dict, int level) {
    if (dict.entries.empty()) {
      Put("{}");
      return;
    }
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (sorts_keys_) {
      std::stable_sort(entries.begin(), entries.end(),
                       [&](const auto* a, const auto* b) { return Less(runtime_, a->first, b->first); });
    }
    Put("{");
    bool is_first = true;
    for (const auto* entry : entries) {
      if (!is_first) out_.Append(item_separator_);
      is_first = false;
      NewLine(level + 1);
      WriteKey(entry->first);
      out_.Append(key_separator_);
      Write(entry->second, level + 1);
    }
    NewLine(level);
    Put("}");
  }

  void WriteKey(const Value& key) {
    switch (key.kind()) {
      case Value::Kind::kString:
        WriteString(key.text());
        return;
      case Value::Kind::kNone:
        Put("\"null\"");
        return;
      case Value::Kind::kBool:
        Put(key.boolean() ? "\"true\"" : "\"false\"");
        return;
      case Value::Kind::kInt:
        Put("\"" + IntegerString(key.integer()) + "\"");
        return;
      case Value::Kind::kFloat:
        Put("\"" + FloatText(key.number()) + "\"");
        return;
      default:
        throw TemplateFault(fmt::format("keys must be str, int, float, bool or None, not {}", TypeName(key)));
    }
  }

  void WriteString(const Text& text) {
    const std::string& bytes = text.bytes();
    runtime_.CheckText(out_.size() + bytes.size(), bytes.size());
    Put("\"");
    size_t done = 0;
    for (size_t at = 0; at < bytes.size();) {
      const CodePoint c = CodePointAt(bytes, at);
      const std::string escape = EscapeOf(c.value);
      if (!escape.empty()) {
        out_.Append(text, done, at);
        out_.Append(escape, text.IsContentAt(at));
        done = at + c.length;
      }
      at += c.length;
    }
    out_.Append(text, done, bytes.size());
    Put("\"");
  }

  // Empty for a character that stands for itself.
  std::string EscapeOf(char32_t c) const {
    switch (c) {
      case '"':
        return "\\\"";
      case '\\':
        return "\\\\";
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      case '\b':
        return "\\b";
      case '\f':
        return "\\f";
      default:
        break;
    }
    const auto code = static_cast<uint32_t>(c);
    if (code < 0x20) return fmt::format("\\u{:04x}", code);
    if (!ensures_ascii_ || code < 0x7f) return {};
    if (code < 0x10000) return fmt::format("\\u{:04x}", code);
    return fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + ((code - 0x10000) >> 10), 0xdc00 + (code & 0x3ff));
  }

  Runtime& runtime_;
  bool ensures_ascii_ = false;
  bool sorts_keys_ = false;
  bool is_indented_ = false;
  Text indent_;
  Text item_separator_ = Text::Literal(", ");
  Text key_separator_ = Text::Literal(": ");
  Text out_;
};

}  // namespace

Value ToJsonFilter(Runtime& runtime, const Value& value, const Args& args) {
  const Parameters parameters("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  return Value::String(JsonWriter(runtime, parameters).Run(value));
}

}  // namespace mxmla::jinja
