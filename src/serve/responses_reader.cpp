#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "serve/input_items.h"
#include "serve/responses.h"

namespace mxmla::serve {
namespace {

constexpr size_t kMostItems = 100'000;

// Those of the answer's fields that this server does not carry out.
constexpr const char* kRefused[] = {"conversation", "prompt", "context_management", "image", "moderation"};

void RefuseUncarried(const Json& body) {
  for (const char* name : kRefused) {
    if (const Json* value = FindField(body, name)) {
      RefuseField(name, "none, as this server does not carry it out", ShowField(*value));
    }
  }
  if (BoolField(body, "background").value_or(false)) RefuseField("background", "false", "true");
  if (TextField(body, "truncation").value_or("disabled") != "disabled") {
    RefuseField("truncation", "disabled", ShowField(body["truncation"]));
  }
}

// The conversation as it grows by items: thoughts, text and calls of one turn are items of their own here.
class Conversation {
 public:
  explicit Conversation(const ServedText& text) : text_(text) {}

  void Add(const Json& item, const std::string& field) {
    if (!item.is_object()) RefuseField(field, "an object", ShowField(item));
    const std::string type = TextField(item, "type").value_or("message");
    if (type == "message") {
      AddMessage(item, field);
    } else if (type == "reasoning") {
      AddReasoning(item, field);
    } else if (type == "function_call") {
      AddCall(item, field);
    } else if (type == "function_call_output") {
      AddOutput(item, field);
    } else {
      RefuseField(field + ".type", "message, reasoning, function_call or function_call_output", type);
    }
  }

  std::vector<Message> Take() {
    EndTurn();
    return std::move(messages_);
  }

 private:
  void AddMessage(const Json& item, const std::string& field) {
    std::string role = Required(item, "role", field);
    if (role == "developer") role = "system";
    if (role != "system" && role != "user" && role != "assistant") {
      RefuseField(field + ".role", "system, developer, user or assistant", role);
    }
    const Json* found = FindField(item, "content");
    const Json content = FlattenContent(found ? *found : Json(), field + ".content");
    if (!content.is_string()) RefuseField(field + ".content", "a text or a list of parts", "none");
    if (role != "assistant") {
      EndTurn();
      messages_.push_back({role, content.get<std::string>(), Json::object()});
      return;
    }
    Turn().content += content.get<std::string>();
  }

  void AddReasoning(const Json& item, const std::string& field) {
    std::string thought;
    if (const Json* parts = FindField(item, "content")) {
      if (!parts->is_array()) RefuseField(field + ".content", "a list of parts", ShowField(*parts));
      for (const Json& part : *parts) {
        if (!part.is_object()) RefuseField(field + ".content", "objects", ShowField(part));
        thought += TextField(part, "text").value_or("");
      }
    }
    if (thought.empty()) return;
    // Thoughts come before what they led to.
    if (turn_ && (!turn_->content.empty() || !calls_.empty())) EndTurn();
    Json& known = Turn().fields["reasoning_content"];
    known = (known.is_string() ? known.get<std::string>() : std::string()) + thought;
  }

  void AddCall(const Json& item, const std::string& field) {
    const std::string id = TextField(item, "call_id").value_or(TextField(item, "id").value_or(""));
    calls_.push_back(
        ToolCallEntry(text_, id, Required(item, "name", field), TextField(item, "arguments").value_or(""), field));
    call_names_[id] = Required(item, "name", field);
    calls_field_ = field;
    Turn();
  }

  void AddOutput(const Json& item, const std::string& field) {
    EndTurn();
    const std::string id = Required(item, "call_id", field);
    const Json* output = FindField(item, "output");
    const Json content = FlattenContent(output ? *output : Json(), field + ".output");
    if (!content.is_string()) RefuseField(field + ".output", "a text or a list of parts", "none");
    Message message{"tool", content.get<std::string>(), {{"tool_call_id", TemplateCallId(text_, id)}}};
    if (const auto name = call_names_.find(id); name != call_names_.end()) message.fields["name"] = name->second;
    messages_.push_back(std::move(message));
  }

  static std::string Required(const Json& item, const char* name, const std::string& field) {
    const Json* value = FindField(item, name);
    if (!value || !value->is_string()) {
      RefuseField(field + "." + name, "a text", value ? ShowField(*value) : "none");
    }
    return value->get<std::string>();
  }

  Message& Turn() {
    if (!turn_) turn_ = Message{"assistant", "", Json::object()};
    return *turn_;
  }
  void EndTurn() {
    if (!turn_) return;
    if (!calls_.empty()) SetToolCalls(text_, std::exchange(calls_, Json::array()), calls_field_, &*turn_);
    messages_.push_back(std::move(*turn_));
    turn_.reset();
  }

  const ServedText& text_;
  std::vector<Message> messages_;
  std::optional<Message> turn_;  // of the assistant, to which more items may belong
  Json calls_ = Json::array();
  std::string calls_field_;
  std::map<std::string, std::string> call_names_;
};

// {"type": "function", "name", "description", "parameters", "strict"} as the chat API nests it.
Json ChatTools(const Json& tools) {
  if (!tools.is_array()) return tools;  // refused where it is offered
  Json nested = Json::array();
  for (size_t i = 0; i < tools.size(); ++i) {
    const Json& tool = tools[i];
    const bool is_function = tool.is_object() && tool.value("type", Json()) == "function";
    if (!is_function) {
      nested.push_back(tool);
      continue;
    }
    Json entry =
        FunctionTool(tool.value("name", Json()), tool.value("description", Json()), tool.value("parameters", Json()));
    // This API's clients always send it.
    if (const Json* strict = FindField(tool, "strict"); strict && *strict != false) {
      entry["function"]["strict"] = *strict;
    }
    nested.push_back(std::move(entry));
  }
  return nested;
}

// Of {"type": "function", "name": ...}
std::optional<std::string> ChosenFunction(const Json& choice) {
  return choice.value("type", Json()) == "function" ? TextField(choice, "name") : std::nullopt;
}

std::vector<Message> ReadInput(const ServedText& text, const Json& body, const Json& previous) {
  Conversation conversation(text);
  if (const auto instructions = TextField(body, "instructions")) {
    conversation.Add({{"role", "system"}, {"content", *instructions}}, "instructions");
  }
  for (size_t i = 0; i < previous.size(); ++i) {
    conversation.Add(previous[i], fmt::format("previous_response_id[{}]", i));
  }
  const Json* input = FindField(body, "input");
  if (!input) RefuseField("input", "a text or a list of items", "none");
  if (input->is_string()) {
    conversation.Add({{"role", "user"}, {"content", *input}}, "input");
  } else {
    if (!input->is_array() || input->empty() || input->size() > kMostItems) {
      RefuseField("input", fmt::format("a text or a list of 1 to {} items", kMostItems), ShowField(*input));
    }
    for (size_t i = 0; i < input->size(); ++i) conversation.Add((*input)[i], fmt::format("input[{}]", i));
  }
  return conversation.Take();
}

}  // namespace

ChatRequest ReadResponse(const ServedText& text, const Json& body, const Json& previous) {
  CheckModel(text, body);
  RefuseUncarried(body);
  RefuseFieldsOfOthers(body, {"max_tokens", "max_completion_tokens", "logprobs"}, "/v1/responses");
  if (IntegerField(body, "n", 1, INT64_MAX).value_or(1) != 1) RefuseField("n", "1", ShowField(body["n"]));
  ChatRequest request;
  // What stream_options says is another thing in this API.
  const Json generation = WithoutFields(body, {"input", "instructions", "tools", "stream_options"});
  request.generation = ReadGenerationFields(generation, text.suggested, text.vocab_size);
  if (const Json* shape = FindField(body, "text")) {
    if (!shape->is_object()) RefuseField("text", "an object", ShowField(*shape));
    constexpr const char* kTypes[] = {"text", "json_object", "json_schema"};
    if (const Json* format = FindField(*shape, "format")) {
      if (auto structured = ReadTypedFormat(*format, "text.format", kTypes)) {
        RefuseSecondForm(request.generation, "text.format");
        request.generation.structured = std::move(structured);
      }
    }
  }
  request.generation.max_tokens = IntegerField(body, "max_output_tokens", 1, int64_t{1} << 40);
  if (const Json* include = FindField(body, "include")) {
    if (!include->is_array()) RefuseField("include", "a list", ShowField(*include));
    const bool asked = std::find(include->begin(), include->end(), "message.output_text.logprobs") != include->end();
    request.generation.request.logprobs = asked;
  }
  const auto top = IntegerField(body, "top_logprobs", 0, kMaxTopLogprobs);
  request.generation.request.sampling.top_logprobs = static_cast<int32_t>(top.value_or(0));
  if (top.value_or(0) > 0 && !request.generation.request.logprobs) {
    RefuseField("top_logprobs", "message.output_text.logprobs in include beside it", "it alone");
  }
  request.options = ReadChatOptions(body);
  if (const Json* reasoning = FindField(body, "reasoning")) {
    if (!reasoning->is_object()) RefuseField("reasoning", "an object", ShowField(*reasoning));
    if (const auto effort = TextField(*reasoning, "effort")) SetReasoningEffort(*effort, &request.options);
  }
  request.parallel_tool_calls = BoolField(body, "parallel_tool_calls").value_or(true);
  const ToolChoice choice = ReadToolChoice(body, ChosenFunction);
  const Json* tools = FindField(body, "tools");
  OfferTools(text, ChatTools(tools ? *tools : Json::array()), "tools", choice, &request);
  request.messages = ReadInput(text, body, previous);
  return request;
}

Json PreviousItems(const Json& body, ResponseStore& store, const std::string& owner) {
  const auto id = TextField(body, "previous_response_id");
  if (!id) return Json::array();
  const auto found = store.Find(*id, owner);
  if (!found) {
    throw ApiError(400, "invalid_request_error",
                   ErrorLine("previous_response_id", "an answer that is kept", *id, "send the conversation as input"),
                   "previous_response_id", "previous_response_not_found");
  }
  return Json::parse(found->items);
}

KeepResponse KeepIn(ResponseStore& store, const std::string& owner, const Json& body, const Json& previous) {
  if (!BoolField(body, "store").value_or(true) || !store.keeps_any()) return {};
  Json items = previous;
  if (const Json* input = FindField(body, "input"); input && input->is_string()) {
    items.push_back(KeptItem({{"type", "message"}, {"role", "user"}, {"content", *input}}));
  } else if (input && input->is_array()) {
    for (const Json& item : *input) items.push_back(KeptItem(item));
  }
  return [&store, owner, items = std::move(items)](const Json& response) {
    Json conversation = items;
    for (const Json& item : response["output"]) {
      // A call that was broken off stands behind it as text.
      if (item["type"] != "function_call" || item["status"] == "completed") conversation.push_back(item);
    }
    store.Put(response["id"].get<std::string>(), {owner, DumpJson(response), DumpJson(conversation), items.size()});
  };
}

}  // namespace mxmla::serve
