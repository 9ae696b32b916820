#include <fmt/format.h>

#include "serve/messages.h"

namespace mxmla::serve {
namespace {

constexpr size_t kMostMessages = 100'000;

std::string Required(const Json& object, const char* name, const std::string& field) {
  const Json* value = FindField(object, name);
  if (!value || !value->is_string()) RefuseField(field + "." + name, "a text", value ? ShowField(*value) : "none");
  return value->get<std::string>();
}

// A text, or a list of blocks of type text.
std::string ReadText(const Json& content, const std::string& field) {
  const Json text = FlattenContent(content, field);
  return text.is_string() ? text.get<std::string>() : std::string();
}

// Messages of this API hold results of tools beside text, and calls beside text: templates want a message each.
class Reader {
 public:
  Reader(const ServedText& text, std::vector<Message>* messages) : text_(text), messages_(messages) {}

  void Add(const Json& message, const std::string& field) {
    if (!message.is_object()) RefuseField(field, "an object", ShowField(message));
    const std::string role = Required(message, "role", field);
    if (role != "user" && role != "assistant" && role != "system") {
      RefuseField(field + ".role", "user or assistant", role);
    }
    const Json* content = FindField(message, "content");
    if (!content || (!content->is_string() && !content->is_array())) {
      RefuseField(field + ".content", "a text or a list of blocks", content ? ShowField(*content) : "none");
    }
    if (content->is_string()) {
      messages_->push_back({role, content->get<std::string>(), Json::object()});
    } else if (role == "assistant") {
      AddAnswer(*content, field + ".content");
    } else {
      AddBlocks(role, *content, field + ".content");
    }
  }

 private:
  static std::string Type(const Json& block, const std::string& field) {
    if (!block.is_object()) RefuseField(field, "an object", ShowField(block));
    return Required(block, "type", field);
  }

  void AddAnswer(const Json& blocks, const std::string& field) {
    Message message{"assistant", "", Json::object()};
    Json calls = Json::array();
    std::string thoughts;
    for (size_t i = 0; i < blocks.size(); ++i) {
      const std::string where = fmt::format("{}[{}]", field, i);
      const std::string type = Type(blocks[i], where);
      if (type == "text") {
        message.content += Required(blocks[i], "text", where);
      } else if (type == "thinking") {
        thoughts += Required(blocks[i], "thinking", where);
      } else if (type == "tool_use") {
        const Json* input = FindField(blocks[i], "input");
        const std::string id = Required(blocks[i], "id", where);
        const std::string name = Required(blocks[i], "name", where);
        calls.push_back(ToolCallEntry(text_, id, name, input ? DumpJson(*input) : "{}", where));
        names_[id] = name;
      } else if (type != "redacted_thinking") {
        RefuseField(where + ".type", "text, thinking or tool_use", type);
      }
    }
    if (!thoughts.empty()) message.fields["reasoning_content"] = thoughts;
    if (!calls.empty()) SetToolCalls(text_, std::move(calls), field, &message);
    messages_->push_back(std::move(message));
  }

  void AddBlocks(const std::string& role, const Json& blocks, const std::string& field) {
    Json texts = Json::array();
    for (size_t i = 0; i < blocks.size(); ++i) {
      const std::string where = fmt::format("{}[{}]", field, i);
      const std::string type = Type(blocks[i], where);
      if (type == "tool_result" && role == "user") {
        AddResult(blocks[i], where);
      } else if (type == "text") {
        texts.push_back(blocks[i]);
      } else {
        RefuseField(where + ".type", "text or tool_result: the model reads nothing else", type);
      }
    }
    if (!texts.empty()) messages_->push_back({role, ReadText(texts, field), Json::object()});
  }

  void AddResult(const Json& block, const std::string& field) {
    const std::string id = Required(block, "tool_use_id", field);
    const Json* content = FindField(block, "content");
    std::string text = content ? ReadText(*content, field + ".content") : std::string();
    if (BoolField(block, "is_error").value_or(false)) text = "Error: " + text;
    Message message{"tool", std::move(text), {{"tool_call_id", TemplateCallId(text_, id)}}};
    if (const auto name = names_.find(id); name != names_.end()) message.fields["name"] = name->second;
    messages_->push_back(std::move(message));
  }

  const ServedText& text_;
  std::vector<Message>* const messages_;
  std::map<std::string, std::string> names_;  // of tools, by the ids of their calls
};

Json ChatTools(const Json& tools) {
  if (!tools.is_array()) RefuseField("tools", "a list of tools", ShowField(tools));
  Json nested = Json::array();
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string field = fmt::format("tools[{}]", i);
    if (!tools[i].is_object()) RefuseField(field, "an object", ShowField(tools[i]));
    const std::string type = TextField(tools[i], "type").value_or("custom");
    if (type != "custom") RefuseField(field + ".type", "custom: this server has no tools of its own", type);
    nested.push_back(FunctionTool(tools[i].value("name", Json()), tools[i].value("description", Json()),
                                  tools[i].value("input_schema", Json())));
    if (BoolField(tools[i], "strict").value_or(false)) nested.back()["function"]["strict"] = true;
  }
  return nested;
}

// {"type": "auto" | "none" | "any" | "tool", "name", "disable_parallel_tool_use"}
ToolChoice ReadToolChoice(const Json& body, ChatRequest* request) {
  ToolChoice choice{.field = "tool_choice"};
  const Json* value = FindField(body, "tool_choice");
  if (!value) return choice;
  if (!value->is_object()) RefuseField("tool_choice", "an object", ShowField(*value));
  request->parallel_tool_calls = !BoolField(*value, "disable_parallel_tool_use").value_or(false);
  const std::string type = Required(*value, "type", "tool_choice");
  if (type == "none") {
    choice.kind = ToolChoice::Kind::kNone;
  } else if (type == "any") {
    choice.kind = ToolChoice::Kind::kRequired;
  } else if (type == "tool") {
    choice.kind = ToolChoice::Kind::kNamed;
    choice.name = Required(*value, "name", "tool_choice");
  } else if (type != "auto") {
    RefuseField("tool_choice.type", "auto, none, any or tool", type);
  }
  return choice;
}

void ReadOutputConfig(const Json& body, ChatOptions* options, GenerationFields* generation) {
  if (const Json* output = FindField(body, "output_config")) {
    if (!output->is_object()) RefuseField("output_config", "an object", ShowField(*output));
    if (const auto effort = TextField(*output, "effort")) SetReasoningEffort(*effort, options);
    if (const Json* format = FindField(*output, "format")) {
      constexpr const char* kTypes[] = {"json_schema"};
      RefuseSecondForm(*generation, "output_config.format");
      generation->structured = ReadTypedFormat(*format, "output_config.format", kTypes);
    }
  }
}

}  // namespace

ChatRequest ReadMessagesRequest(const ServedText& text, const Json& body, bool counts_only) {
  CheckModel(text, body);
  for (const char* name : {"mcp_servers", "container", "context_management", "output_format"}) {
    if (const Json* value = FindField(body, name); value && !value->empty()) {
      RefuseField(name, "none, as this server does not carry it out", ShowField(*value));
    }
  }
  RefuseFieldsOfOthers(body, {"max_completion_tokens", "stop", "logprobs", "top_logprobs"}, "/v1/messages");
  if (IntegerField(body, "n", 1, INT64_MAX).value_or(1) != 1) RefuseField("n", "1", ShowField(body["n"]));
  ChatRequest request;
  Json generation = WithoutFields(body, {"messages", "system", "tools"});
  if (const Json* stops = FindField(body, "stop_sequences")) {
    if (!stops->is_array()) RefuseField("stop_sequences", "a list of texts", ShowField(*stops));
    generation["stop"] = *stops;
  }
  request.generation = ReadGenerationFields(generation, text.suggested, text.vocab_size);
  if (!counts_only && !request.generation.max_tokens) RefuseField("max_tokens", "a whole number", "none");
  request.options = ReadChatOptions(body);
  ReadOutputConfig(body, &request.options, &request.generation);
  const ToolChoice choice = ReadToolChoice(body, &request);
  const Json* tools = FindField(body, "tools");
  OfferTools(text, ChatTools(tools ? *tools : Json::array()), "tools", choice, &request);
  if (const Json* system = FindField(body, "system")) {
    request.messages.push_back({"system", ReadText(*system, "system"), Json::object()});
  }
  const Json* messages = FindField(body, "messages");
  if (!messages || !messages->is_array() || messages->empty() || messages->size() > kMostMessages) {
    RefuseField("messages", fmt::format("a list of 1 to {} messages", kMostMessages),
                messages ? ShowField(*messages) : "none");
  }
  Reader reader(text, &request.messages);
  for (size_t i = 0; i < messages->size(); ++i) reader.Add((*messages)[i], fmt::format("messages[{}]", i));
  return request;
}

}  // namespace mxmla::serve
