#include "text/deepseek_v32.h"

#include "core/error.h"
#include "core/json_file.h"

namespace mxmla {
namespace {

constexpr std::string_view kTemplate = R"jinja(
{%- macro text(content) -%}
  {%- if content is string -%}
    {{- content -}}
  {%- elif content is mapping or content is not iterable -%}
    {%- if content is not none and content is defined -%}
      {{- raise_exception('The content of a message is a text or a list of texts.') -}}
    {%- endif -%}
  {%- else -%}
    {%- for part in content -%}
      {%- if part is string -%}
        {{- part -}}
      {%- elif part.type == 'text' -%}
        {{- part.text -}}
      {%- else -%}
        {{- raise_exception('Only text is understood, not a part of type ' ~ part.type ~ '.') -}}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}

{%- macro offer(tools) -%}
  {{- '## Tools\n\nYou have access to a set of tools you can use to answer the user\'s question.\n' -}}
  {{- 'You can invoke functions by writing a "<｜DSML｜function_calls>" block like the following as part of your ' -}}
  {{- 'reply to the user:\n<｜DSML｜function_calls>\n<｜DSML｜invoke name="$FUNCTION_NAME">\n' -}}
  {{- '<｜DSML｜parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</｜DSML｜parameter>\n...\n' -}}
  {{- '</｜DSML｜invoke>\n<｜DSML｜invoke name="$FUNCTION_NAME2">\n...\n</｜DSML｜invoke>\n' -}}
  {{- '</｜DSML｜function_calls>\n\nString and scalar parameters should be specified as is without any escaping or ' -}}
  {{- 'quotes, while lists and objects should use JSON format. The "string" attribute should be set to "true" for ' -}}
  {{- 'string type parameters and "false" for other types (numbers, booleans, arrays, objects).\n\n' -}}
  {{- 'If the thinking_mode is enabled, then after function results you should strongly consider outputting a ' -}}
  {{- 'thinking block. Here is an example:\n\n<｜DSML｜function_calls>\n...\n</｜DSML｜function_calls>\n\n' -}}
  {{- '<function_results>\n...\n</function_results>\n\n<think>...thinking about results</think>\n\n' -}}
  {{- 'Here are the functions available in JSONSchema format:\n<functions>\n' -}}
  {%- for tool in tools -%}
    {{- tool.function | tojson -}}
    {{- '' if loop.last else '\n' -}}
  {%- endfor -%}
  {{- '\n</functions>\n' -}}
{%- endmacro -%}

{%- macro extras(message, tools) -%}
  {%- if tools -%}
    {{- '\n\n' -}}
    {{- offer(tools) -}}
  {%- endif -%}
  {%- if message.response_format -%}
    {{- '\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n' -}}
    {{- message.response_format | tojson -}}
  {%- endif -%}
{%- endmacro -%}

{%- macro invoke(call) -%}
  {{- '<｜DSML｜invoke name="' -}}
  {{- call.function.name -}}
  {{- '">\n' -}}
  {%- if call.function.arguments is not mapping -%}
    {{- raise_exception('The arguments of a tool call are an object.') -}}
  {%- endif -%}
  {%- for key, value in call.function.arguments.items() -%}
    {{- '<｜DSML｜parameter name="' -}}
    {{- key -}}
    {{- '" string="true">' if value is string else '" string="false">' -}}
    {{- value if value is string else value | tojson -}}
    {{- '</｜DSML｜parameter>' -}}
    {{- '' if loop.last else '\n' -}}
  {%- endfor -%}
  {{- '\n</｜DSML｜invoke>' -}}
{%- endmacro -%}

{%- if thinking is not defined -%}
  {%- set thinking = enable_thinking is defined and enable_thinking -%}
{%- endif -%}
{%- set last = namespace(user=-1, speaker=-1, calls=0) -%}
{%- for message in messages -%}
  {%- if message.role in ['user', 'developer'] -%}
    {%- set last.user = loop.index0 -%}
  {%- endif -%}
{%- endfor -%}
{{- '<｜begin▁of▁sentence｜>' -}}
{%- if tools and messages[0].role != 'system' -%}
  {{- extras({}, tools) -}}
{%- endif -%}
{%- for message in messages -%}
  {%- set index = loop.index0 -%}
  {%- set answered = add_generation_prompt or not loop.last -%}
  {%- if message.role != 'tool' -%}
    {%- set last.speaker = index -%}
    {%- set last.calls = message.tool_calls | length if message.role == 'assistant' and message.tool_calls else 0 -%}
  {%- endif -%}
  {%- if message.role == 'system' -%}
    {{- text(message.content) -}}
    {{- extras(message, tools if index == 0 and tools else message.tools) -}}
  {%- elif message.role in ['user', 'developer'] -%}
    {{- '<｜User｜>' -}}
    {%- if message.role == 'developer' -%}
      {%- if not message.content or (thinking and index < last.user) -%}
        {{- raise_exception('With thinking, a developer message is the last question, and it is never empty.') -}}
      {%- endif -%}
      {{- extras(message, message.tools) -}}
      {{- '\n\n# The user\'s message is: ' -}}
    {%- endif -%}
    {{- text(message.content) -}}
    {%- if answered -%}
      {{- '<｜Assistant｜>' -}}
      {{- '<think>' if thinking and index == last.user else '</think>' -}}
    {%- endif -%}
  {%- elif message.role == 'tool' -%}
    {%- if index - last.speaker > last.calls -%}
      {{- raise_exception('A tool\'s result follows the assistant\'s call.') -}}
    {%- endif -%}
    {{- '\n\n<function_results>' if index - last.speaker == 1 else '' -}}
    {{- '\n<result>' -}}
    {{- text(message.content) -}}
    {{- '</result>' -}}
    {%- if index - last.speaker == last.calls -%}
      {{- '\n</function_results>' -}}
      {%- if answered -%}
        {{- '\n\n' -}}
        {{- '<think>' if thinking and index >= last.user else '</think>' -}}
      {%- endif -%}
    {%- endif -%}
  {%- elif message.role == 'assistant' -%}
    {%- if thinking and index > last.user -%}
      {%- set reasoning = message.reasoning_content or message.reasoning -%}
      {%- if not reasoning and not message.tool_calls -%}
        {{- raise_exception('With thinking, an answer to the last question has reasoning or tool calls.') -}}
      {%- endif -%}
      {{- reasoning or '' -}}
      {{- '</think>' -}}
    {%- endif -%}
    {{- text(message.content) -}}
    {%- if message.tool_calls -%}
      {{- '\n\n<｜DSML｜function_calls>\n' -}}
      {%- for call in message.tool_calls -%}
        {{- invoke(call) -}}
        {{- '\n' -}}
      {%- endfor -%}
      {{- '</｜DSML｜function_calls>' -}}
    {%- endif -%}
    {{- '<｜end▁of▁sentence｜>' -}}
  {%- else -%}
    {{- raise_exception('Unknown role: ' ~ message.role) -}}
  {%- endif -%}
{%- endfor -%}
)jinja";

}  // namespace

std::string_view DeepseekV32Template() { return kTemplate; }

bool IsDeepseekV32(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json";
  std::error_code status;
  if (!std::filesystem::exists(path, status)) return false;
  const nlohmann::json config = ReadJsonObject(path, ErrorCode::kBadConfig);
  const auto is = [&](const char* key, const nlohmann::json& value) {
    const auto at = config.find(key);
    return at != config.end() && *at == value;
  };
  return is("model_type", "deepseek_v32") || is("architectures", {"DeepseekV32ForCausalLM"});
}

void ParseToolArguments(nlohmann::ordered_json* message_fields) {
  if (!message_fields->is_object()) return;
  const auto calls = message_fields->find("tool_calls");
  if (calls == message_fields->end() || !calls->is_array()) return;
  for (auto& call : *calls) {
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object()) continue;
    auto& function = call["function"];
    const auto arguments = function.find("arguments");
    if (arguments == function.end() || !arguments->is_string()) continue;
    try {
      *arguments = ParseOrderedJsonObject(arguments->get<std::string>(), "arguments of a tool call", ErrorCode::kData);
    } catch (const Error&) {
      // No object: the template says so, with its line.
    }
  }
}

}  // namespace mxmla
