// What a template shows of how its model calls tools.
#include "text/output/template_forms.h"

#include <gtest/gtest.h>

#include "fixture.h"
#include "marker_tokenizer.h"

namespace mxmla {
namespace {

ChatTemplate Template(const std::string& call, const std::string& rest = "") {
  return ChatTemplate::FromText(
      "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ m.role }}: "
      "{% if m.tool_calls %}{% for c in m.tool_calls %}" +
          call + "{% endfor %}{% else %}{{ m.content }}{% endif %}\n{% endfor %}" + rest,
      "template");
}

TEST(TemplateForms, FormatsAreKnownByTheCallsThatTheTemplateWrites) {
  const auto tokenizer = MakeMarkerTokenizer();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"deepseek_v3", "<｜tool▁sep｜>{{ c.function.name + '\\n```json\\n' + c.function.arguments }}"},
      {"deepseek_v31", "{{ c.function.name + '<｜tool▁sep｜>' + c.function.arguments }}"},
      {"deepseek_v32",
       "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"{{ c.function.name }}\">{% for k, v in "
       "c.function.arguments.items() %}{{ k }}{{ v }}{% "
       "endfor %}"},
      {"kimi_k2", "{{ c.id }}<|tool_call_argument_begin|>{{ c.function.name }}{{ c.function.arguments | tojson }}"},
      {"glm47",
       "<tool_call>{{ c.function.name }}{% for k, v in c.function.arguments.items() %}<arg_key>{{ k }}</arg_key>{{ v "
       "}}{% endfor %}"},
      {"mistral", "[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}"},
      {"", "<call>{{ c.function.name }}{{ c.function.arguments | tojson }}</call>"},
  };
  for (const auto& [name, call] : cases) {
    const ToolMessageForm form = ProbeToolMessages(Template(call));
    EXPECT_TRUE(form.writes_tools && form.writes_calls) << name;
    const auto format = FindToolFormat("auto", *tokenizer, form);
    EXPECT_EQ(format ? format->name : "", name);
    EXPECT_FALSE(FindToolFormat("none", *tokenizer, form));
    EXPECT_EQ(FindToolFormat("glm47", *tokenizer, form)->name, "glm47");
  }
  // A template that writes no calls leaves it to the vocabulary.
  EXPECT_EQ(FindToolFormat("auto", *tokenizer, {})->name, "kimi_k2");
  EXPECT_FALSE(FindToolFormat("auto", *MakeMarkerTokenizer(false), {}));
  ExpectError(ErrorCode::kUsage, "glm46", [&] { FindToolFormat("glm46", *tokenizer, {}); });
}

TEST(TemplateForms, MessagesTakeTheFormThatTheTemplateWants) {
  ToolMessageForm form = ProbeToolMessages(Template("{{ c.function.name }}{{ c.function.arguments | tojson }}"));
  EXPECT_FALSE(form.arguments_as_text || form.null_content || form.nine_character_ids);
  // '+' takes a text only, and an object written as Python shows it is no JSON.
  EXPECT_TRUE(ProbeToolMessages(Template("{{ c.function.name + c.function.arguments }}")).arguments_as_text);
  EXPECT_TRUE(ProbeToolMessages(Template("{{ c.function.name }} {{ c.function.arguments }}")).arguments_as_text);
  form = ProbeToolMessages(
      Template("{% if c.id | length != 9 %}{{ raise_exception('ids') }}{% endif %}{{ c.function | tojson }}"));
  EXPECT_TRUE(form.writes_calls && form.nine_character_ids);
  form = ProbeToolMessages(Template("{% if m.content is none %}{{ c.function | tojson }}{% endif %}"));
  EXPECT_TRUE(form.writes_calls && form.null_content);
  form = ProbeToolMessages(ChatTemplate::FromText("{% for m in messages %}{{ m.content }}{% endfor %}", "template"));
  EXPECT_FALSE(form.writes_tools || form.writes_calls);
  form = ProbeToolMessages(ChatTemplate::FromText("{{ raise_exception('nothing') }}", "template"));
  EXPECT_FALSE(form.writes_tools || form.writes_calls);
}

TEST(TemplateForms, Thoughts) {
  const auto tokenizer = MakeMarkerTokenizer(), plain = MakeMarkerTokenizer(false);
  const ChatTemplate silent = ChatTemplate::FromText("x", "template");
  const ChatTemplate thinking = ChatTemplate::FromText("<think></think>", "template");
  EXPECT_EQ(FindReasoningFormat("auto", *tokenizer, silent)->name, "think");
  EXPECT_FALSE(FindReasoningFormat("auto", *plain, silent));
  EXPECT_EQ(FindReasoningFormat("auto", *plain, thinking)->name, "think");
  EXPECT_FALSE(FindReasoningFormat("none", *tokenizer, thinking));
  EXPECT_EQ(FindReasoningFormat("mistral", *tokenizer, thinking)->name, "mistral");
  ExpectError(ErrorCode::kUsage, "deep", [&] { FindReasoningFormat("deep", *tokenizer, silent); });
  for (const Tokenizer* t : {tokenizer.get(), plain.get()}) {
    const ReasoningFormat format = *FindReasoningFormat("think", *t, silent);
    const auto ends = [&](const std::string& prompt) { return EndsInReasoning(format, *t, t->Encode(prompt, false)); };
    EXPECT_TRUE(ends("x<think>"));
    EXPECT_TRUE(ends("x<think>\n"));
    EXPECT_FALSE(ends("x<think></think>"));
    EXPECT_FALSE(ends("x"));
    EXPECT_FALSE(ends(""));
  }
  // A message cannot open a thought.
  EXPECT_FALSE(EndsInReasoning(*FindReasoningFormat("think", *tokenizer, silent), *tokenizer,
                               tokenizer->EncodeOrdinary("x<think>")));
}

}  // namespace
}  // namespace mxmla
