#include "core/json_file.h"
#include "text/output/json_call.h"
#include "text/output/tool_format.h"

namespace mxmla {
namespace {

using Json = nlohmann::ordered_json;

// [{"name": ..., "arguments": {...}, "id": ...}, ...]
std::optional<std::vector<ToolCall>> ParseList(MarkedView body) {
  Json list;
  try {
    list = ParseOrderedJsonObject("{\"calls\":" + BytesOf(body) + "}", "calls", ErrorCode::kData).at("calls");
  } catch (const Error&) {
    return std::nullopt;
  }
  if (!list.is_array() || list.empty()) return std::nullopt;
  std::vector<ToolCall> calls;
  for (const Json& entry : list) {
    const auto text = [&](const char* key) {
      return entry.contains(key) && entry[key].is_string() ? entry[key].get<std::string>() : std::string();
    };
    if (!entry.is_object() || !IsToolName(text("name")) || !entry.contains("arguments")) return std::nullopt;
    // Some write the arguments as a text that holds JSON.
    const Json& arguments = entry["arguments"];
    const auto object = JsonArguments(Plain(arguments.is_string() ? arguments.get<std::string>() : arguments.dump()));
    if (!object) return std::nullopt;
    calls.push_back({IsToolName(text("id")) ? text("id") : std::string(), text("name"), *object});
  }
  return calls;
}

// NAME, or NAME and an id behind a marker.
std::optional<ToolCall> ReadHead(MarkedView head, MarkedView id_marker) {
  ToolCall call;
  if (const size_t id = head.find(id_marker); id != MarkedView::npos) {
    call.id = BytesOf(Trimmed(head.substr(id + id_marker.size())));
    if (!IsToolName(call.id)) return std::nullopt;
    head = Trimmed(head.substr(0, id));
  }
  call.name = BytesOf(head);
  return call;
}

// Either form. A list is read when it is complete: a name may stand behind its arguments there.
class MistralCall final : public CallReader {
 public:
  explicit MistralCall(JsonCallSyntax syntax) : call_(ReadJsonCall(std::move(syntax))) {}

  bool Push(char16_t unit, std::vector<AnswerPart>* parts) override {
    if (!has_begun_ && IsSpace(unit)) return true;
    if (!std::exchange(has_begun_, true)) is_list_ = unit == '[';
    if (!is_list_) return call_->Push(unit, parts);
    list_ += unit;
    return true;
  }

  bool End(std::vector<AnswerPart>* parts) override {
    if (!is_list_) return call_->End(parts);
    const auto calls = ParseList(list_);
    if (!calls) return false;
    for (const ToolCall& call : *calls) {
      AppendPart({AnswerPart::Kind::kToolCall, {}, {call.id, call.name, {}}}, parts);
      AppendPart({AnswerPart::Kind::kArguments, call.arguments}, parts);
      AppendPart({AnswerPart::Kind::kCallEnd}, parts);
    }
    return true;
  }

 private:
  const std::unique_ptr<CallReader> call_;
  bool has_begun_ = false, is_list_ = false;
  MarkedText list_;
};

}  // namespace

ToolFormat MistralTools(const Tokenizer& tokenizer) {
  ToolFormat format = MarkedFormat("mistral", tokenizer, "", "", "[TOOL_CALLS]", "");
  format.ends_with_answer = true;
  JsonCallSyntax syntax;
  syntax.separator = Marker(tokenizer, "[ARGS]", &format.marker_tokens);
  syntax.read_head = [id = Marker(tokenizer, "[CALL_ID]", &format.marker_tokens)](MarkedView head) {
    return ReadHead(head, id);
  };
  syntax.brace_separates = syntax.only_head = true;
  format.read = [syntax](const ToolSchemas&) { return std::make_unique<MistralCall>(syntax); };
  return format;
}

}  // namespace mxmla
