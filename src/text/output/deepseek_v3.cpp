#include "text/output/json_call.h"
#include "text/output/tool_format.h"

namespace mxmla {

ToolFormat DeepSeekV3Tools(const Tokenizer& tokenizer) {
  ToolFormat format = MarkedFormat("deepseek_v3", tokenizer, "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
                                   "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>");
  JsonCallSyntax syntax;
  syntax.before_head = Marker(tokenizer, "<｜tool▁sep｜>", &format.marker_tokens);
  syntax.separator = Plain("\n");
  syntax.read_head = NameAlone;
  syntax.only_head = syntax.may_be_fenced = true;
  format.read = [syntax](const ToolSchemas&) { return ReadJsonCall(syntax); };
  return format;
}

}  // namespace mxmla
