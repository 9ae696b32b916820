#include "text/output/json_call.h"

#include <utility>

#include "text/output/tool_format.h"

namespace mxmla {
namespace {

using Kind = AnswerPart::Kind;

// The text of one JSON object, known by its brackets alone; white space around it is dropped.
class ObjectText {
 public:
  explicit ObjectText(bool may_be_fenced) : may_be_fenced_(may_be_fenced) {}

  // False where this is no object. `certain` gets what belongs to the object, but for its last bracket: until that has
  // come, what was given out is no whole object.
  bool Push(char16_t unit, std::string* certain) {
    if (!literal_.empty()) {
      if (unit != literal_.front()) return false;
      literal_.remove_prefix(1);
      return true;
    }
    switch (place_) {
      case Place::kLanguage:
        place_ = Place::kBefore;
        if (unit == 'j') {
          literal_ = u"son";
          return true;
        }
        return Push(unit, certain);
      case Place::kBefore:
        if (IsSpace(unit)) return true;
        if (unit == '`') return Fence();
        if (unit != '{') return false;
        place_ = Place::kInside;
        return Inside(unit, certain);
      case Place::kInside:
        return Inside(unit, certain);
      case Place::kBehind:
        if (unit == '`' && is_fenced_) return Fence();
        return IsSpace(unit);
      case Place::kEnd:
        return IsSpace(unit);
    }
    return false;
  }
  // Whether the text may end here.
  bool is_complete() const {
    if (!literal_.empty()) return false;
    if (is_fenced_) return place_ == Place::kEnd;
    return place_ == Place::kBefore || place_ == Place::kBehind;
  }
  // All of the object; empty where nothing came.
  const std::string& text() const { return text_; }

 private:
  enum class Place { kLanguage, kBefore, kInside, kBehind, kEnd };

  bool Fence() {
    literal_ = u"``";
    if (is_fenced_) {
      place_ = Place::kEnd;
      return true;
    }
    is_fenced_ = true;
    place_ = Place::kLanguage;
    return may_be_fenced_;
  }

  bool Inside(char16_t unit, std::string* certain) {
    const char byte = static_cast<char>(unit & 0xff);
    text_ += byte;
    if (in_string_) {
      if (byte == '"' && !escaped_) in_string_ = false;
      escaped_ = byte == '\\' && !escaped_;
    } else if (byte == '"') {
      in_string_ = true;
    } else if (byte == '{' || byte == '[') {
      ++depth_;
    } else if (byte == '}' || byte == ']') {
      if (--depth_ == 0) {
        place_ = Place::kBehind;
        return true;
      }
    }
    *certain += byte;
    return true;
  }

  const bool may_be_fenced_;
  Place place_ = Place::kBefore;
  bool is_fenced_ = false;
  std::u16string_view literal_;  // what has to come next
  std::string text_;
  int64_t depth_ = 0;
  bool in_string_ = false, escaped_ = false;
};

class JsonCall final : public CallReader {
 public:
  explicit JsonCall(JsonCallSyntax syntax)
      : syntax_(std::move(syntax)), head_(syntax_.separator), arguments_(syntax_.may_be_fenced) {
    if (!syntax_.before_head.empty()) before_head_.emplace(syntax_.before_head);
  }

  bool Push(char16_t unit, std::vector<AnswerPart>* parts) override {
    if (before_head_) {
      if (before_head_->Push(unit)) before_head_.reset();
      return true;
    }
    if (call_) return PushArguments(unit, parts);
    if (unit == '{' && syntax_.brace_separates) return ReadHead(head_.all()) && PushArguments(unit, parts);
    // Else V3's separator, a line feed, could stand before its head.
    if (IsSpace(unit) && head_.all().empty()) return true;
    return !head_.Push(unit) || ReadHead(head_.all());
  }

  bool End(std::vector<AnswerPart>* parts) override {
    if (before_head_) return false;
    if (!call_ && !(syntax_.only_head && ReadHead(head_.all()))) return false;
    if (!arguments_.is_complete() || !JsonArguments(Plain(arguments_.text()))) return false;
    if (arguments_.text().empty()) {
      AppendPart({Kind::kToolCall, {}, *call_}, parts);
      AppendPart({Kind::kArguments, "{}"}, parts);
    } else {
      AppendPart({Kind::kArguments, "}"}, parts);
    }
    AppendPart({Kind::kCallEnd}, parts);
    return true;
  }

 private:
  bool ReadHead(MarkedView head) {
    call_ = syntax_.read_head(Trimmed(head));
    return call_ && IsToolName(call_->name);
  }

  bool PushArguments(char16_t unit, std::vector<AnswerPart>* parts) {
    const bool is_first = arguments_.text().empty();
    std::string certain;
    const bool is_call = arguments_.Push(unit, &certain);
    if (certain.empty()) return is_call;
    if (is_first) AppendPart({Kind::kToolCall, {}, *call_}, parts);
    AppendPart({Kind::kArguments, std::move(certain)}, parts);
    return is_call;
  }

  const JsonCallSyntax syntax_;
  std::optional<TextBefore> before_head_;
  TextBefore head_;
  std::optional<ToolCall> call_;
  ObjectText arguments_;
};

}  // namespace

std::optional<ToolCall> NameAlone(MarkedView head) { return ToolCall{{}, BytesOf(head), {}}; }

std::unique_ptr<CallReader> ReadJsonCall(JsonCallSyntax syntax) {
  return std::make_unique<JsonCall>(std::move(syntax));
}

}  // namespace mxmla
