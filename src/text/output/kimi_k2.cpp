#include <algorithm>

#include "text/output/tool_format.h"

namespace mxmla {
namespace {

bool IsDigits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// NAME of functions.NAME:INDEX. A model that leaves a part out means the same.
std::string_view NameOf(std::string_view id) {
  constexpr std::string_view kPrefix = "functions.";
  if (id.starts_with(kPrefix)) id.remove_prefix(kPrefix.size());
  const size_t colon = id.rfind(':');
  return colon != std::string_view::npos && IsDigits(id.substr(colon + 1)) ? id.substr(0, colon) : id;
}

}  // namespace

ToolFormat KimiK2Tools(const Tokenizer& tokenizer) {
  ToolFormat format;
  format.name = "kimi_k2";
  format.section_begin = Marker(tokenizer, "<|tool_calls_section_begin|>", &format.marker_tokens);
  format.section_end = Marker(tokenizer, "<|tool_calls_section_end|>", &format.marker_tokens);
  format.call_begin = Marker(tokenizer, "<|tool_call_begin|>", &format.marker_tokens);
  format.call_end = Marker(tokenizer, "<|tool_call_end|>", &format.marker_tokens);
  format.parse = [separator = Marker(tokenizer, "<|tool_call_argument_begin|>", &format.marker_tokens)](
                     MarkedView body, const ToolSchemas&) -> std::optional<std::vector<ToolCall>> {
    const size_t found = body.find(separator);
    if (found == MarkedView::npos) return std::nullopt;
    const auto arguments = JsonArguments(body.substr(found + separator.size()));
    ToolCall call;
    call.id = BytesOf(Trimmed(body.substr(0, found)));
    call.name = NameOf(call.id);
    if (!IsToolName(call.id) || !IsToolName(call.name) || !arguments) return std::nullopt;
    call.arguments = *arguments;
    return std::vector<ToolCall>{std::move(call)};
  };
  return format;
}

}  // namespace mxmla
