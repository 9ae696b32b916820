#include "serve/chat_completions.h"

#include <fmt/format.h>

#include "core/error.h"

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

ChatOptions ReadChatOptions(const Json& body) {
  ChatOptions options;
  options.variables = Json::object();
  if (const Json* variables = FindField(body, "chat_template_kwargs")) {
    if (!variables->is_object()) RefuseField("chat_template_kwargs", "an object", variables->type_name());
    options.variables = *variables;
  }
  if (const auto effort = TextField(body, "reasoning_effort")) options.variables["reasoning_effort"] = *effort;
  options.add_generation_prompt = BoolField(body, "add_generation_prompt").value_or(true);
  return options;
}

// Of {"type": "function", "function": {"name": ...}}
std::optional<std::string> ChosenFunction(const Json& choice) {
  const Json* function = FindField(choice, "function");
  return function && function->is_object() ? TextField(*function, "name") : std::nullopt;
}

class ChatCompletionWriter final : public AnswerWriter {
 public:
  ChatCompletionWriter(const Tokenizer& tokenizer, bool with_logprobs, bool with_usage)
      : tokenizer_(tokenizer), with_logprobs_(with_logprobs), with_usage_(with_usage) {}

  Json Whole(const AnswerHead& head, const std::vector<Choice>& choices, const Usage& usage) override {
    Json list = Json::array();
    for (const Choice& choice : choices) list.push_back(ChoiceJson(list.size(), choice));
    return {{"id", head.id},       {"object", "chat.completion"}, {"created", head.created},
            {"model", head.model}, {"choices", std::move(list)},  {"usage", UsageJson(usage)}};
  }

  std::string Begin(const AnswerHead& head, const Usage&) override {
    head_ = head;
    return {};
  }

  std::string Part(size_t choice, const AnsweredPart& answered) override {
    State& state = StateOf(choice);
    Json delta = Json::object();
    const bool first = !std::exchange(state.begun, true);
    if (first) delta["role"] = "assistant";
    switch (answered.part.kind) {
      case AnswerPart::Kind::kText:
        delta["content"] = answered.part.text;
        break;
      case AnswerPart::Kind::kReasoning:
        delta["reasoning_content"] = answered.part.text;
        break;
      case AnswerPart::Kind::kToolCall:
        if (first) delta["content"] = nullptr;
        Json call = CallJson(answered.part.call);
        call["index"] = state.calls++;
        delta["tool_calls"] = Json::array({std::move(call)});
        break;
    }
    return Event(Json::array({{{"index", choice},
                               {"delta", std::move(delta)},
                               {"logprobs", Logprobs(answered.logprobs)},
                               {"finish_reason", nullptr}}}));
  }

  std::string End(size_t choice, const ChoiceEnd& end) override {
    std::string events;
    if (!StateOf(choice).begun) events = Part(choice, {});
    return events + Event(Json::array({{{"index", choice},
                                        {"delta", Json::object()},
                                        {"logprobs", Logprobs(end.logprobs)},
                                        {"finish_reason", FinishReasonName(end)}}}));
  }

  std::string Finish(const Usage& usage) override {
    std::string events;
    if (with_usage_) {
      Json event = EventJson(Json::array());
      event["usage"] = UsageJson(usage);
      events = ServerSentEvent(event);
    }
    return events + "data: [DONE]\n\n";
  }

  std::string Fail(const ApiError& error) override { return ServerSentEvent(error.Json()) + "data: [DONE]\n\n"; }

  const char* id_prefix() const override { return "chatcmpl-"; }

 private:
  struct State {
    bool begun = false;  // an event of it was sent
    int64_t calls = 0;
  };

  static Json CallJson(const ToolCall& call) {
    return {{"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
  }

  Json ChoiceJson(size_t index, const Choice& choice) const {
    std::string content, reasoning;
    Json calls = Json::array();
    std::vector<TokenLogprob> logprobs;
    for (const AnsweredPart& answered : choice.parts) {
      const AnswerPart& part = answered.part;
      if (part.kind == AnswerPart::Kind::kText) content += part.text;
      if (part.kind == AnswerPart::Kind::kReasoning) reasoning += part.text;
      if (part.kind == AnswerPart::Kind::kToolCall) calls.push_back(CallJson(part.call));
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

  Json EventJson(Json choices) const {
    return {{"id", head_.id},
            {"object", "chat.completion.chunk"},
            {"created", head_.created},
            {"model", head_.model},
            {"choices", std::move(choices)}};
  }
  std::string Event(Json choices) const { return ServerSentEvent(EventJson(std::move(choices))); }

  State& StateOf(size_t choice) {
    if (choice >= states_.size()) states_.resize(choice + 1);
    return states_[choice];
  }

  const Tokenizer& tokenizer_;
  const bool with_logprobs_, with_usage_;
  AnswerHead head_;
  std::vector<State> states_;
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
