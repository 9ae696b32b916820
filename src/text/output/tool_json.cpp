// What the formats share: their markers, and what they ask of names and arguments.
#include "core/json_file.h"
#include "text/output/tool_format.h"

namespace mxmla {

ToolFormat MarkedFormat(const char* name, const Tokenizer& tokenizer, const char* section_begin,
                        const char* section_end, const char* call_begin, const char* call_end) {
  ToolFormat format;
  const auto marker = [&](const char* content) {
    return *content ? Marker(tokenizer, content, &format.marker_tokens) : MarkedText();
  };
  format.name = name;
  format.section_begin = marker(section_begin);
  format.section_end = marker(section_end);
  format.call_begin = marker(call_begin);
  format.call_end = marker(call_end);
  return format;
}

std::optional<std::string> JsonArguments(MarkedView text) {
  std::string arguments = BytesOf(Trimmed(text));
  if (arguments.empty()) return "{}";
  try {
    ParseOrderedJsonObject(arguments, "arguments", ErrorCode::kData);
  } catch (const Error&) {
    return std::nullopt;
  }
  return arguments;
}

bool IsJsonValue(const std::string& text) {
  try {
    ParseOrderedJsonObject("{\"\":" + text + "}", "value", ErrorCode::kData);
  } catch (const Error&) {
    return false;
  }
  // A comma would have been read as the object's.
  return nlohmann::ordered_json::accept(text);
}

bool IsToolName(std::string_view name) {
  if (name.empty() || name.size() > 256) return false;
  for (const char c : name) {
    if (static_cast<unsigned char>(c) <= ' ' || c == '"' || c == '\x7f') return false;
  }
  return true;
}

std::string JsonQuoted(const std::string& text) {
  return nlohmann::ordered_json(text).dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace mxmla
