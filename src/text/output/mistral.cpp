#include "core/json_file.h"
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

std::optional<std::vector<ToolCall>> ParseCall(MarkedView body, MarkedView id_marker, MarkedView arguments_marker) {
  size_t name_end = body.find(arguments_marker);
  size_t arguments = name_end + arguments_marker.size();
  if (name_end == MarkedView::npos) name_end = arguments = std::min(body.find(u'{'), body.size());
  MarkedView head = body.substr(0, name_end);
  ToolCall call;
  if (const size_t id = head.find(id_marker); id != MarkedView::npos) {
    call.id = BytesOf(Trimmed(head.substr(id + id_marker.size())));
    if (!IsToolName(call.id)) return std::nullopt;
    head = head.substr(0, id);
  }
  call.name = BytesOf(Trimmed(head));
  const auto object = JsonArguments(body.substr(arguments));
  if (!IsToolName(call.name) || !object) return std::nullopt;
  call.arguments = *object;
  return std::vector<ToolCall>{std::move(call)};
}

}  // namespace

ToolFormat MistralTools(const Tokenizer& tokenizer) {
  ToolFormat format;
  format.name = "mistral";
  format.call_begin = Marker(tokenizer, "[TOOL_CALLS]", &format.marker_tokens);
  format.ends_with_answer = true;
  format.parse = [id = Marker(tokenizer, "[CALL_ID]", &format.marker_tokens),
                  arguments = Marker(tokenizer, "[ARGS]", &format.marker_tokens)](MarkedView body, const ToolSchemas&) {
    body = Trimmed(body);
    return body.starts_with(u'[') ? ParseList(body) : ParseCall(body, id, arguments);
  };
  return format;
}

}  // namespace mxmla
