#include "text/output/tool_format.h"

namespace mxmla {
namespace {

// NAME, a line feed, and the arguments, in a Markdown fence or bare.
std::optional<ToolCall> ReadCall(MarkedView text) {
  text = Trimmed(text);
  const size_t line = std::min(text.find(u'\n'), text.size());
  ToolCall call;
  call.name = BytesOf(Trimmed(text.substr(0, line)));
  MarkedView rest = Trimmed(text.substr(line));
  if (rest.starts_with(u"```")) {
    if (!rest.ends_with(u"```") || rest.size() < 6) return std::nullopt;
    rest = rest.substr(3, rest.size() - 6);
    if (rest.starts_with(u"json")) rest.remove_prefix(4);
  }
  const auto arguments = JsonArguments(rest);
  if (!IsToolName(call.name) || !arguments) return std::nullopt;
  call.arguments = *arguments;
  return call;
}

}  // namespace

ToolFormat DeepSeekV3Tools(const Tokenizer& tokenizer) {
  ToolFormat format;
  format.name = "deepseek_v3";
  format.section_begin = Marker(tokenizer, "<｜tool▁calls▁begin｜>", &format.marker_tokens);
  format.section_end = Marker(tokenizer, "<｜tool▁calls▁end｜>", &format.marker_tokens);
  format.call_begin = Marker(tokenizer, "<｜tool▁call▁begin｜>", &format.marker_tokens);
  format.call_end = Marker(tokenizer, "<｜tool▁call▁end｜>", &format.marker_tokens);
  format.parse = [separator = Marker(tokenizer, "<｜tool▁sep｜>", &format.marker_tokens)](
                     MarkedView body, const ToolSchemas&) -> std::optional<std::vector<ToolCall>> {
    const size_t found = body.find(separator);
    if (found == MarkedView::npos) return std::nullopt;
    auto call = ReadCall(body.substr(found + separator.size()));
    if (!call) return std::nullopt;
    return std::vector<ToolCall>{std::move(*call)};
  };
  return format;
}

}  // namespace mxmla
