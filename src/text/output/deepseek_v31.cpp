#include "text/output/json_call.h"
#include "text/output/tool_format.h"

namespace mxmla {

ToolFormat DeepSeekV31Tools(const Tokenizer& tokenizer) {
  ToolFormat format = DeepSeekV3Tools(tokenizer);  // the same markers
  format.name = "deepseek_v31";
  JsonCallSyntax syntax;
  syntax.separator = Marker(tokenizer, "<｜tool▁sep｜>", &format.marker_tokens);
  syntax.read_head = NameAlone;
  format.read = [syntax](const ToolSchemas&) { return ReadJsonCall(syntax); };
  return format;
}

}  // namespace mxmla
