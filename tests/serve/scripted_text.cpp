#include "scripted_text.h"

#include "../text/marker_tokenizer.h"

namespace mxmla::serve {
namespace {

// How the template writes a call `c`.
std::string CallTemplate(const std::string& tool_format) {
  if (tool_format == "kimi_k2") {
    return "<|tool_call_begin|>{{ c.id }}<|tool_call_argument_begin|>{{ c.function.arguments | tojson }}"
           "<|tool_call_end|>";
  }
  if (tool_format == "mistral") {
    return "{% if c.id | length != 9 %}{{ raise_exception('ids of nine characters') }}{% endif %}"
           "[TOOL_CALLS]{{ c.function.name }}[CALL_ID]{{ c.id }}[ARGS]{{ c.function.arguments | tojson }}";
  }
  return "<tool_call>{{ c.function.name }}{% for k, v in c.function.arguments.items() %}<arg_key>{{ k }}</arg_key>"
         "<arg_value>{{ v if v is string else v | tojson }}</arg_value>{% endfor %}</tool_call>";
}

}  // namespace

ServedText MakeScriptedText(const std::string& tool_format) {
  ServedText text;
  text.name = "scripted";
  text.tokenizer = MakeMarkerTokenizer();
  text.vocab_size = text.tokenizer->vocab_size();
  text.max_context = 4096;
  text.end_tokens = text.chat_tokens = {*text.tokenizer->AddedTokenId("<|end|>")};
  text.chat = ChatTemplate::FromText(
      "{% if tools %}tools: {{ tools | tojson }}\n{% endif %}{% for m in messages %}{{ m.role }}: "
      "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content or '' }}"
      "{% for c in m.tool_calls or [] %}" +
          CallTemplate(tool_format) +
          "{% endfor %}{% if m.tool_call_id %} ({{ m.name }} {{ m.tool_call_id }}){% endif %}<|end|>\n{% endfor %}"
          "{% if reasoning_effort %}effort {{ reasoning_effort }} {% endif %}"
          "{% if add_generation_prompt %}assistant: {% if thinking %}<think>{% endif %}{% endif %}",
      "template");
  text.tool_form = ProbeToolMessages(*text.chat);
  text.format.tools = FindToolFormat("auto", *text.tokenizer, text.tool_form);
  text.format.reasoning = FindReasoningFormat("auto", *text.tokenizer, *text.chat);
  return text;
}

ScriptedEngine::Script SayScript(const Tokenizer& tokenizer) {
  return [&tokenizer](const GenerateRequest& request) {
    const std::string prompt = tokenizer.Decode(request.prompt);
    const size_t begin = prompt.rfind("[say]");
    const size_t end = prompt.find("[/say]", begin);
    if (begin == std::string::npos || end == std::string::npos) return tokenizer.Encode("Nothing.<|end|>", false);
    const std::string say = prompt.substr(begin + 5, end - begin - 5);
    if (say.find("[error]") != std::string::npos) throw std::runtime_error("the script says error");
    return tokenizer.Encode(say + "<|end|>", false);
  };
}

}  // namespace mxmla::serve
