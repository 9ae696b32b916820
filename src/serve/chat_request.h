// A request for a chat model's answer, whichever API it came by. The readers of the APIs make one; ChatJob turns it
// into what the engine runs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "serve/completion.h"
#include "serve/request_fields.h"
#include "serve/served_text.h"

namespace mxmla::serve {

struct ToolChoice {
  enum class Kind { kAuto, kNone, kRequired, kNamed };
  Kind kind = Kind::kAuto;
  std::string name = {};   // kNamed
  std::string field = {};  // where the request says it
};

struct ChatRequest {
  std::vector<Message> messages;
  ChatOptions options;  // with the tools that are offered
  ToolSchemas schemas;  // of these
  bool parallel_tool_calls = true;
  GenerationFields generation;
};

// {"type": "function", "function": {"name", "description", "parameters"}}, which templates read. A description and
// parameters that are null are left out.
Json FunctionTool(const Json& name, const Json& description, const Json& parameters);

// OpenAI's `tool_choice`: "auto", "none", "required", or an object whose function's name `name_of` finds. Refused
// (ApiError 400): anything else.
ToolChoice ReadToolChoice(const Json& body, std::optional<std::string> (*name_of)(const Json& choice));

// What the template is told: chat_template_kwargs, reasoning_effort, thinking (`{"type": "enabled"}` or true),
// enable_thinking and add_generation_prompt. Refused (ApiError 400, naming the field): other types and values; echo.
ChatOptions ReadChatOptions(const Json& body);
// An effort, as any of the APIs says it; "none" is no thinking.
void SetReasoningEffort(const std::string& effort, ChatOptions* options);

// Offers `tools`, a list as OpenAI's chat API has it, to the model. `field` names it in errors. Refused (ApiError 400,
// naming the field): what is malformed; a choice that wants a call without tools; tools of a model whose template or
// format of calls is not known. A choice other than auto and none, and strict schemas, become
// request->generation.structured, which must be read before.
void OfferTools(const ServedText& text, const Json& tools, const std::string& field, const ToolChoice& choice,
                ChatRequest* request);

// An entry of an assistant's tool_calls, in the form that the template wants. `arguments` is the text of a JSON object.
// Refused (ApiError 400, naming `field`): other arguments, and a name that no tool has.
Json ToolCallEntry(const ServedText& text, const std::string& id, const std::string& name, const std::string& arguments,
                   const std::string& field);
// The calls beside the message's content. Refused: a model whose template does not write calls.
void SetToolCalls(const ServedText& text, Json calls, const std::string& field, Message* message);
// The id of a call as the template wants it: `id` itself, or for some templates nine letters and digits that are always
// the same for the same id.
std::string TemplateCallId(const ServedText& text, const std::string& id);
// A new call's id, made from `seed`: "call_..." or what the template wants.
std::string CallIdFor(const ServedText& text, const std::string& seed);

// A content that is a text, null, or a list of parts of type text, as one text (null stays). Refused: parts that are no
// text.
Json FlattenContent(const Json& content, const std::string& field);

// The prompt. Errors: what the template refuses (ApiError 400); a model without a template.
std::vector<int32_t> EncodeChat(const ServedText& text, const ChatRequest& request);

// Errors: EncodeChat's; a prompt that leaves no room for the answer.
CompletionJob ChatJob(const ServedText& text, const ChatRequest& request);

// `prompts`, each with fields.n choices. Of max_tokens, what the request asks for, else `default_tokens` as far as the
// context has room. Errors: no room.
CompletionJob MakeJob(const ServedText& text, const GenerationFields& fields,
                      const std::vector<std::vector<int32_t>>& prompts, const std::vector<int32_t>& ends,
                      int64_t default_tokens);

// The body as an object. Errors (ApiError 400): other text.
Json ReadBody(std::string_view body);
// Refuses (404) a "model" that is not this one.
void CheckModel(const ServedText& text, const Json& body);

}  // namespace mxmla::serve
