#include "text/output/field_call.h"

#include <algorithm>
#include <set>
#include <utility>

#include "text/utf8.h"

namespace mxmla {
namespace {

using Kind = AnswerPart::Kind;
using Before = FieldStep::Before;

class FieldCall final : public CallReader {
 public:
  FieldCall(std::shared_ptr<const FieldSyntax> syntax, const ToolSchemas& schemas)
      : syntax_(std::move(syntax)), argument_{{}, {}, {}, schemas}, before_(Step().marker) {}

  bool Push(char16_t unit, std::vector<AnswerPart>* parts) override {
    const bool found = before_.Push(unit);
    if (is_text_) PushText(BytesOf(before_.Take()), parts);
    if (!found) return true;
    if (!Read(before_.all(), parts)) return false;
    step_ = step_ + 1 < syntax_->steps.size() ? step_ + 1 : syntax_->again;
    before_ = TextBefore(Step().marker);
    is_text_ = Step().before == Before::kValue && syntax_->is_text(argument_);
    return true;
  }

  bool End(std::vector<AnswerPart>* parts) override {
    if (!Step().may_end || !Read(before_.all(), parts)) return false;
    if (!JsonArguments(Plain(arguments_ + (arguments_.empty() ? "{}" : "}")))) return false;  // too deep, or too many
    if (arguments_.empty()) Begin("{", parts);
    Give("}", parts);
    AppendPart({Kind::kCallEnd}, parts);
    return true;
  }

 private:
  const FieldStep& Step() const { return syntax_->steps[step_]; }

  // What stands before the marker of this step.
  bool Read(MarkedView text, std::vector<AnswerPart>* parts) {
    switch (Step().before) {
      case Before::kNothing:
        return text.empty();
      case Before::kSpace:
        return Trimmed(text).empty();
      case Before::kTool:
        argument_.tool = BytesOf(Trimmed(text));
        return IsToolName(argument_.tool);
      case Before::kKey:
        argument_.key = BytesOf(text);
        return keys_.insert(argument_.key).second;
      case Before::kForm:
        argument_.form = BytesOf(text);
        return syntax_->is_form(argument_.form);
      case Before::kValue:
        return ReadValue(BytesOf(text), parts);
    }
    return false;
  }

  bool ReadValue(const std::string& value, std::vector<AnswerPart>* parts) {
    if (is_text_) {
      PushText(value, parts);
      std::string rest;
      AppendReplacingInvalid(std::exchange(text_, {}), true, &rest);
      GiveText(rest, parts);
      Give("\"", parts);
      text_is_open_ = false;
      return true;
    }
    const auto json = syntax_->json(argument_, value);
    if (json) BeginArgument(*json, parts);
    return json.has_value();
  }

  // More of a text that is known to be one.
  void PushText(const std::string& bytes, std::vector<AnswerPart>* parts) {
    if (!std::exchange(text_is_open_, true)) BeginArgument("\"", parts);
    text_ += bytes;
    std::string whole;
    text_.erase(0, AppendReplacingInvalid(text_, false, &whole));
    GiveText(whole, parts);
  }
  void GiveText(const std::string& text, std::vector<AnswerPart>* parts) {
    const std::string quoted = JsonQuoted(text);
    Give(quoted.substr(1, quoted.size() - 2), parts);
  }

  void BeginArgument(const std::string& value, std::vector<AnswerPart>* parts) {
    const std::string begin = JsonQuoted(argument_.key) + ": " + value;
    arguments_.empty() ? Begin("{" + begin, parts) : Give(", " + begin, parts);
  }
  void Begin(const std::string& arguments, std::vector<AnswerPart>* parts) {
    AppendPart({Kind::kToolCall, {}, {{}, argument_.tool, {}}}, parts);
    Give(arguments, parts);
  }
  void Give(const std::string& arguments, std::vector<AnswerPart>* parts) {
    arguments_ += arguments;
    AppendPart({Kind::kArguments, arguments}, parts);
  }

  const std::shared_ptr<const FieldSyntax> syntax_;
  FieldArgument argument_;
  size_t step_ = 0;
  TextBefore before_;
  std::set<std::string> keys_;
  std::string arguments_;      // given out
  bool is_text_ = false;       // the value of this step
  bool text_is_open_ = false;  // its beginning was given out
  std::string text_;           // of it, a character's beginning
};

}  // namespace

std::unique_ptr<CallReader> ReadFieldCall(std::shared_ptr<const FieldSyntax> syntax, const ToolSchemas& schemas) {
  return std::make_unique<FieldCall>(std::move(syntax), schemas);
}

}  // namespace mxmla
