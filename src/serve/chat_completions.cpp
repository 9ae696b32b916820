#include "serve/chat_completions.h"

#include <fmt/format.h>

#include <map>

#include "core/error.h"
#include "serve/choice_writer.h"

namespace mxmla::serve {
namespace {

constexpr size_t kMostMessages = 100'000;

Json ReadCalls(const ServedText& text, const Json& calls, const std::string& field) {
  if (!calls.is_array()) RefuseField(field, "a list of calls", ShowField(calls));
  Json read = Json::array();
  for (size_t i = 0; i < calls.size(); ++i) {
    const std::string where = fmt::format("{}[{}]", field, i);
    if (!calls[i].is_object()) RefuseField(where, "an object", ShowField(calls[i]));
    const Json* function = FindField(calls[i], "function");
    if (!function || !function->is_object()) RefuseField(where + ".function", "an object", "none");
    const auto name = TextField(*function, "name");
    const Json* arguments = FindField(*function, "arguments");
    // OpenAI's are a text; some clients send the object itself.
    const std::string json = !arguments               ? std::string()
                             : arguments->is_string() ? arguments->get<std::string>()
                                                      : DumpJson(*arguments);
    read.push_back(
        ToolCallEntry(text, TextField(calls[i], "id").value_or(""), name.value_or(""), json, where + ".function"));
  }
  return read;
}

Message ReadMessage(const ServedText& text, Json json, const std::string& field) {
  if (json.is_object() && json.contains("content")) {
    json["content"] = FlattenContent(json["content"], field + ".content");
  }
  Message message;
  try {
    message = MessageFromJson(json, field);
  } catch (const Error& error) {
    throw ApiError(400, "invalid_request_error", error.what(), field);
  }
  if (message.role == "developer") message.role = "system";
  if (const auto id = TextField(message.fields, "tool_call_id")) {
    message.fields["tool_call_id"] = TemplateCallId(text, *id);
  }
  const Json* calls = FindField(message.fields, "tool_calls");
  if (calls && !(calls->is_array() && calls->empty())) {
    SetToolCalls(text, ReadCalls(text, *calls, field + ".tool_calls"), field + ".tool_calls", &message);
  }
  return message;
}

std::vector<Message> ReadMessages(const ServedText& text, const Json& body) {
  const Json* list = FindField(body, "messages");
  if (!list || !list->is_array() || list->empty() || list->size() > kMostMessages) {
    RefuseField("messages", fmt::format("a list of 1 to {} messages", kMostMessages), list ? ShowField(*list) : "none");
  }
  std::vector<Message> messages;
  for (size_t i = 0; i < list->size(); ++i) {
    messages.push_back(ReadMessage(text, (*list)[i], fmt::format("messages[{}]", i)));
  }
  return messages;
}

// Of {"type": "function", "function": {"name": ...}}
std::optional<std::string> ChosenFunction(const Json& choice) {
  const Json* function = FindField(choice, "function");
  return function && function->is_object() ? TextField(*function, "name") : std::nullopt;
}

class ChatCompletionWriter final : public ChoiceWriter {
 public:
  ChatCompletionWriter(const Tokenizer& tokenizer, bool with_logprobs, bool with_usage)
      : ChoiceWriter("chat.completion", "chat.completion.chunk", with_usage),
        tokenizer_(tokenizer),
        with_logprobs_(with_logprobs) {}

  std::string Part(size_t choice, const AnsweredPart& answered) override {
    const AnswerPart& part = answered.part;
    // The client sees by the arguments, and by the reason at the end, which calls are whole.
    if (part.kind == Kind::kCallEnd || part.kind == Kind::kCallBroken) return {};
    Json delta = Json::object();
    const bool is_first = IsFirst(choice);
    if (is_first) delta["role"] = "assistant";
    switch (part.kind) {
      case Kind::kReasoning:
        delta["reasoning_content"] = part.text;
        break;
      case Kind::kToolCall: {
        if (is_first) delta["content"] = nullptr;
        Json call = {{"index", calls_[choice]++}};
        call.update(CallJson(part.call));
        delta["tool_calls"] = Json::array({std::move(call)});
        break;
      }
      case Kind::kArguments:
        delta["tool_calls"] = Json::array({{{"index", calls_[choice] - 1}, {"function", {{"arguments", part.text}}}}});
        break;
      default:
        delta["content"] = part.text;
    }
    return Event(EventChoice(choice, std::move(delta), answered.logprobs, nullptr));
  }

  const char* id_prefix() const override { return "chatcmpl-"; }

 private:
  using Kind = AnswerPart::Kind;

  static Json CallJson(const ToolCall& call) {
    return {{"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
  }

  Json EventChoice(size_t index, Json delta, const std::vector<TokenLogprob>& logprobs, Json finish_reason) const {
    return {{"index", index},
            {"delta", std::move(delta)},
            {"logprobs", Logprobs(logprobs)},
            {"finish_reason", std::move(finish_reason)}};
  }
  Json LastChoice(size_t index, const ChoiceEnd& end) override {
    return EventChoice(index, Json::object(), end.logprobs, FinishReasonName(end));
  }

  Json ChoiceJson(size_t index, const Choice& choice) override {
    std::string content, reasoning;
    Json calls = Json::array();
    std::vector<TokenLogprob> logprobs;
    for (const AnsweredPart& answered : choice.parts) {
      const AnswerPart& part = answered.part;
      if (part.kind == Kind::kText) content += part.text;
      if (part.kind == Kind::kReasoning) reasoning += part.text;
      if (part.kind == Kind::kToolCall) calls.push_back(CallJson(part.call));
      logprobs.insert(logprobs.end(), answered.logprobs.begin(), answered.logprobs.end());
    }
    logprobs.insert(logprobs.end(), choice.end.logprobs.begin(), choice.end.logprobs.end());
    Json message = {{"role", "assistant"}, {"content", content}};
    if (content.empty() && !calls.empty()) message["content"] = nullptr;
    if (!reasoning.empty()) message["reasoning_content"] = reasoning;
    if (!calls.empty()) message["tool_calls"] = std::move(calls);
    return {{"index", index},
            {"message", std::move(message)},
            {"logprobs", Logprobs(logprobs)},
            {"finish_reason", FinishReasonName(choice.end)}};
  }

  Json Logprobs(const std::vector<TokenLogprob>& logprobs) const {
    if (!with_logprobs_) return nullptr;
    Json content = Json::array();
    for (const TokenLogprob& token : logprobs) content.push_back(LogprobJson(tokenizer_, token));
    return {{"content", std::move(content)}};
  }

  const Tokenizer& tokenizer_;
  const bool with_logprobs_;
  std::map<size_t, int64_t> calls_;  // of each choice, so far
};

}  // namespace

ChatRequest ReadChatCompletion(const ServedText& text, const Json& body) {
  CheckModel(text, body);
  ChatRequest request;
  request.generation = ReadGenerationFields(body, text.suggested, text.vocab_size);
  GenerateRequest& generate = request.generation.request;
  generate.logprobs = BoolField(body, "logprobs").value_or(false);
  const auto top = IntegerField(body, "top_logprobs", 0, kMaxTopLogprobs);
  if (top && !generate.logprobs) RefuseField("top_logprobs", "logprobs beside it", "it alone");
  generate.sampling.top_logprobs = static_cast<int32_t>(top.value_or(0));
  request.options = ReadChatOptions(body);
  request.parallel_tool_calls = BoolField(body, "parallel_tool_calls").value_or(true);
  const ToolChoice choice = ReadToolChoice(body, ChosenFunction);
  const Json* tools = FindField(body, "tools");
  OfferTools(text, tools ? *tools : Json::array(), "tools", choice, &request);
  request.messages = ReadMessages(text, body);
  return request;
}

std::unique_ptr<AnswerWriter> MakeChatCompletionWriter(const ServedText& text, const Json& body) {
  const Json* options = FindField(body, "stream_options");
  return std::make_unique<ChatCompletionWriter>(*text.tokenizer, BoolField(body, "logprobs").value_or(false),
                                                options && BoolField(*options, "include_usage").value_or(false));
}

}  // namespace mxmla::serve
