#include "text/output/template_forms.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.h"

namespace mxmla {
namespace {

constexpr const char* kTool = "sample_tool";
constexpr const char* kKey = "sample_key";
constexpr const char* kValue = "sample_value";

struct NamedToolFormat {
  const char* name;
  ToolFormat (*make)(const Tokenizer&);
  // Whether a call was written so.
  bool (*wrote)(const std::string& sample);
  const char* token;  // that only models of this format have, or null
};

bool Contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

constexpr NamedToolFormat kToolFormats[] = {
    {"deepseek_v32", DeepSeekV32Tools, [](const std::string& s) { return Contains(s, "<｜DSML｜function_calls>"); },
     nullptr},
    {"deepseek_v3", DeepSeekV3Tools,
     [](const std::string& s) { return Contains(s, "<｜tool▁sep｜>") && Contains(s, "sample_tool\n```json"); },
     nullptr},
    {"deepseek_v31", DeepSeekV31Tools, [](const std::string& s) { return Contains(s, "<｜tool▁sep｜>"); }, nullptr},
    {"kimi_k2", KimiK2Tools, [](const std::string& s) { return Contains(s, "<|tool_call_argument_begin|>"); },
     "<|tool_call_argument_begin|>"},
    {"glm47", Glm47Tools, [](const std::string& s) { return Contains(s, "<arg_key>sample_key"); }, "<arg_key>"},
    {"mistral", MistralTools, [](const std::string& s) { return Contains(s, "[TOOL_CALLS]"); }, "[TOOL_CALLS]"},
};

struct NamedReasoningFormat {
  const char* name;
  const char *begin, *end;
};
constexpr NamedReasoningFormat kReasoningFormats[] = {{"think", "<think>", "</think>"},
                                                      {"mistral", "[THINK]", "[/THINK]"}};

OrderedJson SampleTool() {
  OrderedJson properties;
  properties[kKey] = {{"type", "string"}};
  const OrderedJson parameters = {{"type", "object"}, {"properties", std::move(properties)}};
  return {{"type", "function"},
          {"function", {{"name", kTool}, {"description", "A tool."}, {"parameters", parameters}}}};
}

std::vector<Message> SampleMessages(const ToolMessageForm& form) {
  const std::string id = form.nine_character_ids ? "abcdefgh1" : "call_0123456789";
  OrderedJson arguments;
  arguments[kKey] = kValue;
  if (form.arguments_as_text) arguments = arguments.dump();
  const OrderedJson call = {
      {"id", id}, {"type", "function"}, {"function", {{"name", kTool}, {"arguments", std::move(arguments)}}}};
  Message assistant{"assistant", "", {{"tool_calls", OrderedJson::array({call})}}, !form.null_content};
  if (form.null_content) assistant.fields["content"] = nullptr;
  return {
      {"user", "A question."}, std::move(assistant), {"tool", "A result.", {{"tool_call_id", id}, {"name", kTool}}}};
}

std::string RenderOrNothing(const ChatTemplate& chat, const std::vector<Message>& messages,
                            const ChatOptions& options) {
  try {
    return chat.Render(messages, options);
  } catch (const Error&) {
    return {};  // this form is not the template's
  }
}

}  // namespace

ToolMessageForm ProbeToolMessages(const ChatTemplate& chat) {
  ChatOptions options;
  options.tools = OrderedJson::array({SampleTool()});
  ToolMessageForm form;
  form.writes_tools = Contains(RenderOrNothing(chat, {{"user", "A question."}}, options), kTool);
  for (int choice = 0; choice < 8; ++choice) {
    form.arguments_as_text = (choice & 4) != 0;
    form.null_content = (choice & 2) != 0;
    form.nine_character_ids = (choice & 1) != 0;
    // Without tools, whose description would hold the same names.
    const std::string sample = RenderOrNothing(chat, SampleMessages(form), {});
    // A template that writes an object as Python shows it wants text.
    if (!Contains(sample, kTool) || !Contains(sample, kKey) || !Contains(sample, kValue)) continue;
    if (Contains(sample, "'sample_key'")) continue;
    form.writes_calls = true;
    form.sample = sample;
    return form;
  }
  form.arguments_as_text = form.null_content = form.nine_character_ids = false;
  return form;
}

std::vector<std::string> ToolFormatNames() {
  std::vector<std::string> names;
  for (const NamedToolFormat& format : kToolFormats) names.emplace_back(format.name);
  return names;
}

std::vector<std::string> ReasoningFormatNames() {
  std::vector<std::string> names;
  for (const NamedReasoningFormat& format : kReasoningFormats) names.emplace_back(format.name);
  return names;
}

std::optional<ToolFormat> FindToolFormat(const std::string& name, const Tokenizer& tokenizer,
                                         const ToolMessageForm& form) {
  if (name == "none") return std::nullopt;
  for (const NamedToolFormat& format : kToolFormats) {
    if (name == format.name || (name == "auto" && format.wrote(form.sample))) return format.make(tokenizer);
  }
  if (name == "auto" && !form.writes_calls) {  // the template cannot show it
    for (const NamedToolFormat& format : kToolFormats) {
      if (format.token && tokenizer.AddedTokenId(format.token)) return format.make(tokenizer);
    }
  }
  if (name == "auto") return std::nullopt;
  Fail(ErrorCode::kUsage, "tool parser", fmt::format("auto, none or {}", fmt::join(ToolFormatNames(), ", ")), name);
}

std::optional<ReasoningFormat> FindReasoningFormat(const std::string& name, const Tokenizer& tokenizer,
                                                   const ChatTemplate& chat) {
  if (name == "none") return std::nullopt;
  for (const NamedReasoningFormat& known : kReasoningFormats) {
    const bool shown =
        tokenizer.AddedTokenId(known.begin) ? tokenizer.AddedTokenId(known.end).has_value() : chat.Spells(known.end);
    if (name != known.name && !(name == "auto" && shown)) continue;
    ReasoningFormat format;
    format.name = known.name;
    format.begin = Marker(tokenizer, known.begin, &format.marker_tokens);
    format.end = Marker(tokenizer, known.end, &format.marker_tokens);
    return format;
  }
  if (name == "auto") return std::nullopt;
  Fail(ErrorCode::kUsage, "reasoning parser", fmt::format("auto, none or {}", fmt::join(ReasoningFormatNames(), ", ")),
       name);
}

bool EndsInReasoning(const ReasoningFormat& format, const Tokenizer& tokenizer, std::span<const int32_t> prompt) {
  // As far back as the marker may reach: a token is at least a byte, and of white space a few at most.
  constexpr size_t kWhiteSpaceTokens = 8;
  const size_t most = format.begin.size() + kWhiteSpaceTokens;
  MarkedText tail;
  for (size_t i = prompt.size() - std::min(prompt.size(), most); i < prompt.size(); ++i) {
    const auto& marked = format.marker_tokens;
    const bool is_marker = std::find(marked.begin(), marked.end(), prompt[i]) != marked.end();
    const std::string bytes = tokenizer.TokenBytes(prompt[i]);
    tail += is_marker ? Marked(bytes) : Plain(bytes);
  }
  return Trimmed(tail).ends_with(format.begin);
}

}  // namespace mxmla
