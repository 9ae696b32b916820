#include "text/output/tool_format.h"

namespace mxmla {

ToolFormat DeepSeekV31Tools(const Tokenizer& tokenizer) {
  ToolFormat format = DeepSeekV3Tools(tokenizer);  // the same markers
  format.name = "deepseek_v31";
  format.parse = [separator = Marker(tokenizer, "<｜tool▁sep｜>", &format.marker_tokens)](
                     MarkedView body, const ToolSchemas&) -> std::optional<std::vector<ToolCall>> {
    const size_t found = body.find(separator);
    if (found == MarkedView::npos) return std::nullopt;
    const auto arguments = JsonArguments(body.substr(found + separator.size()));
    std::string name = BytesOf(Trimmed(body.substr(0, found)));
    if (!IsToolName(name) || !arguments) return std::nullopt;
    return std::vector<ToolCall>{{{}, std::move(name), *arguments}};
  };
  return format;
}

}  // namespace mxmla
