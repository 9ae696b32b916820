#include <algorithm>

#include "text/output/json_call.h"
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

std::optional<ToolCall> ReadId(MarkedView head) {
  ToolCall call;
  call.id = BytesOf(head);
  if (!IsToolName(call.id)) return std::nullopt;
  call.name = NameOf(call.id);
  return call;
}

}  // namespace

ToolFormat KimiK2Tools(const Tokenizer& tokenizer) {
  ToolFormat format = MarkedFormat("kimi_k2", tokenizer, "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>",
                                   "<|tool_call_begin|>", "<|tool_call_end|>");
  JsonCallSyntax syntax;
  syntax.separator = Marker(tokenizer, "<|tool_call_argument_begin|>", &format.marker_tokens);
  syntax.read_head = ReadId;
  format.read = [syntax](const ToolSchemas&) { return ReadJsonCall(syntax); };
  return format;
}

}  // namespace mxmla
