#include "serve/chat_request.h"

#include <fmt/format.h>

#include "core/error.h"
#include "core/json_file.h"
#include "grammar/tool_grammar.h"
#include "serve/api_error.h"

namespace mxmla::serve {
namespace {

constexpr size_t kMostTools = 1024;

uint64_t Hash(std::string_view text) {  // FNV-1a
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash ^ (hash >> 29);
}

std::string NineCharacters(std::string_view text) {
  constexpr std::string_view kAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  uint64_t hash = Hash(text);
  std::string id;
  for (int i = 0; i < 9; ++i, hash /= kAlphabet.size()) id += kAlphabet[hash % kAlphabet.size()];
  return id;
}

bool IsNineCharacters(const std::string& id) {
  return id.size() == 9 && std::all_of(id.begin(), id.end(), [](unsigned char c) {
           return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
         });
}

void CheckToolsKnown(const ServedText& text, const std::string& field) {
  const std::string advice = "give the server a template that does with --chat-template";
  const auto refuse = [&](const char* expected, const char* found, const std::string& what_to_do) {
    throw ApiError(400, "invalid_request_error", ErrorLine(field, expected, found, what_to_do), field);
  };
  if (!text.chat || !text.tool_form.writes_tools) {
    refuse("a model whose chat template writes tools", "one whose does not", advice);
  }
  if (!text.format.tools) {
    refuse("a model that writes calls in a format that the server knows", "another",
           "name the format with the server's --tool-parser");
  }
}

// Holds the model to calls that the request can use, where it wants any or says strict.
void ConstrainCalls(const ServedText& text, const Json& tools, const std::string& field, const ToolChoice& choice,
                    ChatRequest* request) {
  const bool is_named = choice.kind == ToolChoice::Kind::kNamed;
  ToolGrammar calls;
  calls.format = text.format.tools->name;
  calls.required = is_named || choice.kind == ToolChoice::Kind::kRequired;
  calls.one_call = is_named || !request->parallel_tool_calls;
  std::string said = calls.required ? choice.field : std::string();  // where the request asks for it
  for (size_t i = 0; i < tools.size(); ++i) {
    const Json& function = tools[i]["function"];
    const auto name = function["name"].get<std::string>();
    if (is_named && name != choice.name) continue;
    const bool strict = BoolField(function, "strict").value_or(false);
    const Json* parameters = FindField(function, "parameters");
    calls.tools.push_back({name, parameters ? *parameters : Json(), strict});
    if (strict && said.empty()) said = fmt::format("{}[{}].function.strict", field, i);
  }
  if (calls.tools.empty()) RefuseField(choice.field, "the name of one of the tools", choice.name);
  if (said.empty()) return;
  auto& structured = request->generation.structured;
  if (structured) RefuseField(structured->field, "no other form of the answer beside " + said, "both");
  structured = StructuredOutput{ToolCallGrammar(calls, *text.tokenizer), said};
  request->parallel_tool_calls = !calls.one_call;
}

int64_t MaxTokens(const ServedText& text, int64_t prompt, std::optional<int64_t> asked, int64_t otherwise) {
  const int64_t room = text.max_context - prompt;
  if (room < 1 || asked.value_or(0) > room) {
    throw ApiError(400, "invalid_request_error",
                   ErrorLine("request", fmt::format("at most {} tokens, the model's context", text.max_context),
                             fmt::format("{} of the prompt and {} to generate", prompt, asked.value_or(1))),
                   "max_tokens", "context_length_exceeded");
  }
  return asked.value_or(std::min(room, otherwise));
}

}  // namespace

Json FunctionTool(const Json& name, const Json& description, const Json& parameters) {
  Json function = {{"name", name}};
  if (!description.is_null()) function["description"] = description;
  if (!parameters.is_null()) function["parameters"] = parameters;
  return {{"type", "function"}, {"function", std::move(function)}};
}

ToolChoice ReadToolChoice(const Json& body, std::optional<std::string> (*name_of)(const Json& choice)) {
  ToolChoice choice{.field = "tool_choice"};
  const Json* value = FindField(body, "tool_choice");
  if (!value || *value == "auto") return choice;
  if (*value == "none") {
    choice.kind = ToolChoice::Kind::kNone;
  } else if (*value == "required") {
    choice.kind = ToolChoice::Kind::kRequired;
  } else {
    const auto name = value->is_object() ? name_of(*value) : std::nullopt;
    if (!name) RefuseField("tool_choice", "auto, none, required or a function's name", ShowField(*value));
    choice.kind = ToolChoice::Kind::kNamed;
    choice.name = *name;
  }
  return choice;
}

void SetReasoningEffort(const std::string& effort, ChatOptions* options) {
  options->variables["reasoning_effort"] = effort;
  if (effort == "none") options->thinking = false;
}

ChatOptions ReadChatOptions(const Json& body) {
  RefuseFieldsOfOthers(body, {"echo"}, "a chat");
  ChatOptions options;
  options.variables = Json::object();
  if (const Json* variables = FindField(body, "chat_template_kwargs")) {
    if (!variables->is_object()) RefuseField("chat_template_kwargs", "an object", ShowField(*variables));
    options.variables = *variables;
  }
  if (const auto effort = TextField(body, "reasoning_effort")) SetReasoningEffort(*effort, &options);
  if (const auto thinking = BoolField(body, "enable_thinking")) options.thinking = thinking;
  if (const Json* thinking = FindField(body, "thinking"); thinking && thinking->is_boolean()) {
    options.thinking = thinking->get<bool>();
  } else if (thinking) {
    if (!thinking->is_object()) RefuseField("thinking", "an object, true or false", ShowField(*thinking));
    const std::string type = TextField(*thinking, "type").value_or("none");
    if (type != "enabled" && type != "disabled" && type != "adaptive") {
      RefuseField("thinking.type", "enabled, adaptive or disabled", type);
    }
    options.thinking = type != "disabled";
  }
  options.add_generation_prompt = BoolField(body, "add_generation_prompt").value_or(true);
  return options;
}

void OfferTools(const ServedText& text, const Json& tools, const std::string& field, const ToolChoice& choice,
                ChatRequest* request) {
  if (!tools.is_array() || tools.size() > kMostTools) {
    RefuseField(field, fmt::format("a list of at most {} tools", kMostTools), ShowField(tools));
  }
  ToolSchemas schemas;
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string where = fmt::format("{}[{}]", field, i);
    const Json& tool = tools[i];
    if (!tool.is_object()) RefuseField(where, "an object", ShowField(tool));
    const Json* type = FindField(tool, "type");
    if (!type || *type != "function") {
      RefuseField(where + ".type", "function, the only type that this server carries out",
                  type ? ShowField(*type) : "none");
    }
    const Json* function = FindField(tool, "function");
    if (!function || !function->is_object()) RefuseField(where + ".function", "an object", "none");
    const Json* name = FindField(*function, "name");
    if (!name || !name->is_string() || !IsToolName(name->get<std::string>())) {
      RefuseField(where + ".function.name", "a name of 1 to 256 bytes without white space",
                  name ? ShowField(*name) : "none");
    }
    const Json* description = FindField(*function, "description");
    if (description && !description->is_string()) {
      RefuseField(where + ".function.description", "a text", ShowField(*description));
    }
    const Json* parameters = FindField(*function, "parameters");
    if (parameters && !parameters->is_object()) {
      RefuseField(where + ".function.parameters", "a JSON schema, an object", ShowField(*parameters));
    }
    const Json* strict = FindField(*function, "strict");
    if (strict && !strict->is_boolean()) RefuseField(where + ".function.strict", "true or false", ShowField(*strict));
    if (!schemas.emplace(name->get<std::string>(), parameters ? *parameters : Json()).second) {
      RefuseField(where + ".function.name", "a name that no other tool has", ShowField(*name));
    }
  }
  if (tools.empty() && choice.kind >= ToolChoice::Kind::kRequired) {
    RefuseField(choice.field, "tools beside it", "none");
  }
  if (tools.empty() || choice.kind == ToolChoice::Kind::kNone) return;
  CheckToolsKnown(text, field);
  ConstrainCalls(text, tools, field, choice, request);
  request->schemas = std::move(schemas);
  request->options.tools = tools;
}

std::string TemplateCallId(const ServedText& text, const std::string& id) {
  return text.tool_form.nine_character_ids && !IsNineCharacters(id) ? NineCharacters(id) : id;
}

std::string CallIdFor(const ServedText& text, const std::string& seed) {
  if (text.tool_form.nine_character_ids) return NineCharacters(seed);
  return fmt::format("call_{:016x}{:08x}", Hash(seed), Hash(seed + "/") & 0xffffffffu);
}

Json ToolCallEntry(const ServedText& text, const std::string& id, const std::string& name, const std::string& arguments,
                   const std::string& field) {
  if (!IsToolName(name)) RefuseField(field + ".name", "a tool's name", ShowField(name));
  Json function = {{"name", name}};
  try {
    const std::string json = arguments.empty() ? "{}" : arguments;
    Json parsed = ParseOrderedJsonObject(json, field + ".arguments", ErrorCode::kData);
    function["arguments"] = text.tool_form.arguments_as_text ? Json(json) : std::move(parsed);
  } catch (const Error& error) {
    throw ApiError(400, "invalid_request_error", error.what(), field + ".arguments");
  }
  return {{"id", TemplateCallId(text, id)}, {"type", "function"}, {"function", std::move(function)}};
}

void SetToolCalls(const ServedText& text, Json calls, const std::string& field, Message* message) {
  if (text.chat && !text.tool_form.writes_calls) {
    RefuseField(field, "a model whose chat template writes calls", "one that does not, or fails to");
  }
  if (message->fields.is_null()) message->fields = Json::object();
  message->fields["tool_calls"] = std::move(calls);
  if (!message->content.empty()) return;
  message->has_content = !text.tool_form.null_content;
  message->fields.erase("content");
  if (text.tool_form.null_content) message->fields["content"] = nullptr;
}

Json FlattenContent(const Json& content, const std::string& field) {
  if (!content.is_array()) {
    if (!content.is_string() && !content.is_null()) RefuseField(field, "a text or a list of parts", ShowField(content));
    return content;
  }
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& part = content[i];
    const std::string where = fmt::format("{}[{}]", field, i);
    if (!part.is_object()) RefuseField(where, "an object", ShowField(part));
    const auto type = TextField(part, "type").value_or("none");
    if (type != "text" && type != "input_text" && type != "output_text") {
      RefuseField(where, "a part of type text: the model reads nothing else", type);
    }
    const auto piece = TextField(part, "text");
    if (!piece) RefuseField(where, "a text in \"text\"", "none");
    if (i > 0) text += '\n';
    text += *piece;
  }
  return text;
}

std::vector<int32_t> EncodeChat(const ServedText& text, const ChatRequest& request) {
  if (!text.chat) {
    throw ApiError(400, "invalid_request_error",
                   ErrorLine("model", "one with a chat template that can be carried out",
                             text.name + ", which has none", "send a prompt to /v1/completions"),
                   "messages");
  }
  try {
    return text.chat->Encode(*text.tokenizer, request.messages, request.options);
  } catch (const Error& error) {
    throw ApiError(400, "invalid_request_error", error.what(), "messages");
  }
}

CompletionJob ChatJob(const ServedText& text, const ChatRequest& request) {
  const std::vector<int32_t> prompt = EncodeChat(text, request);
  CompletionJob job = MakeJob(text, request.generation, {prompt}, text.chat_tokens, text.max_context);
  job.parsing.reads_reasoning = true;
  job.parsing.reads_tools = !request.schemas.empty();
  job.parsing.starts_in_reasoning =
      text.format.reasoning && EndsInReasoning(*text.format.reasoning, *text.tokenizer, prompt);
  job.parsing.only_one_call = !request.parallel_tool_calls;
  job.parsing.schemas = request.schemas;
  return job;
}

CompletionJob MakeJob(const ServedText& text, const GenerationFields& fields,
                      const std::vector<std::vector<int32_t>>& prompts, const std::vector<int32_t>& ends,
                      int64_t default_tokens) {
  CompletionJob job;
  job.structured = fields.structured;
  job.grammars = text.grammars;
  // A grammar's end is any of these.
  const std::vector<int32_t>& stops = fields.structured ? text.chat_tokens : ends;
  job.stream = fields.stream;
  job.parsing.stop_strings = fields.stop_strings;
  job.parsing.skip_special_tokens = fields.skip_special_tokens;
  job.prompts = static_cast<int64_t>(prompts.size());
  for (const std::vector<int32_t>& prompt : prompts) {
    for (int64_t i = 0; i < fields.n; ++i) {
      GenerateRequest request = fields.request;
      request.prompt = prompt;
      request.max_tokens = MaxTokens(text, static_cast<int64_t>(prompt.size()), fields.max_tokens, default_tokens);
      if (!fields.ignore_eos) request.stop_tokens.insert(request.stop_tokens.end(), stops.begin(), stops.end());
      request.seed += static_cast<uint64_t>(i);
      job.requests.push_back(std::move(request));
    }
  }
  return job;
}

Json ReadBody(std::string_view body) {
  try {
    return ParseOrderedJsonObject(body, "request body", ErrorCode::kData);
  } catch (const Error& error) {
    throw ApiError(400, "invalid_request_error", error.what());
  }
}

void CheckModel(const ServedText& text, const Json& body) {
  const auto model = TextField(body, "model");
  if (!model || *model == text.name) return;
  throw ApiError(404, "invalid_request_error", ErrorLine("model", text.name, *model), "model", "model_not_found");
}

}  // namespace mxmla::serve
