#include <optional>

#include "core/error.h"
#include "serve/messages.h"

namespace mxmla::serve {
namespace {

using Kind = AnswerPart::Kind;

const char* StopReason(const ChoiceEnd& end) {
  if (end.reason == FinishReason::kLength) return "max_tokens";
  if (end.stop_string) return "stop_sequence";
  return end.has_calls ? "tool_use" : "end_turn";
}

// What was found in the cache is not counted as input here.
Json MessagesUsage(const Usage& usage) {
  return {{"input_tokens", usage.prompt - usage.cached},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", usage.cached},
          {"output_tokens", usage.generated}};
}

class MessagesWriter final : public AnswerWriter {
 public:
  Json Whole(const AnswerHead& head, const std::vector<Choice>& choices, const Usage& usage) override {
    Json content = Json::array();
    for (const AnsweredPart& answered : choices[0].parts) {
      const AnswerPart& part = answered.part;
      Json block = EmptyBlock(part);
      if (part.kind == Kind::kToolCall) {
        block["input"] = Json::parse(part.call.arguments);
      } else {
        block[part.kind == Kind::kText ? "text" : "thinking"] = part.text;
      }
      content.push_back(std::move(block));
    }
    Json message = MessageJson(head, usage);
    message["content"] = std::move(content);
    SetStop(choices[0].end, &message);
    return message;
  }

  std::string Begin(const AnswerHead& head, const Usage& usage) override {
    return Event("message_start", {{"message", MessageJson(head, usage)}});
  }

  std::string Part(size_t, const AnsweredPart& answered) override {
    const AnswerPart& part = answered.part;
    switch (part.kind) {
      case Kind::kText:
        return OpenBlock(part) + Delta({{"type", "text_delta"}, {"text", part.text}});
      case Kind::kReasoning:
        return OpenBlock(part) + Delta({{"type", "thinking_delta"}, {"thinking", part.text}});
      case Kind::kToolCall:
        call_ = part.call.name;
        return OpenBlock(part);
      case Kind::kArguments:
        return Delta({{"type", "input_json_delta"}, {"partial_json", part.text}});
      case Kind::kCallEnd:
        return EndBlock();
      case Kind::kCallBroken:
        broken_ = call_;
        return EndBlock();
    }
    return {};
  }

  std::string End(size_t, const ChoiceEnd& end) override {
    SetStop(end, &delta_);
    // max_tokens says already that the last call may be cut off.
    if (end.reason == FinishReason::kLength) broken_.reset();
    return open_ ? EndBlock() : std::string();
  }

  // This API's clients read unfinished JSON as far as it goes, and would call a tool with half of its arguments.
  std::string Finish(const Usage& usage) override {
    if (broken_) {
      return Fail({500, "server_error", ErrorLine("call of " + *broken_, "a JSON object, whole", "none", "ask again")});
    }
    return Event("message_delta", {{"delta", delta_}, {"usage", MessagesUsage(usage)}}) +
           Event("message_stop", Json::object());
  }

  std::string Fail(const ApiError& error) override {
    return ServerSentEvent(error.Json(ErrorForm::kAnthropic), "error");
  }

  const char* id_prefix() const override { return "msg_"; }
  ErrorForm error_form() const override { return ErrorForm::kAnthropic; }

 private:
  static Json EmptyBlock(const AnswerPart& part) {
    switch (part.kind) {
      case Kind::kText:
        return {{"type", "text"}, {"text", ""}};
      case Kind::kReasoning:
        // Thoughts are sent back as they are, so nothing is signed.
        return {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}};
      default:
        return {{"type", "tool_use"}, {"id", part.call.id}, {"name", part.call.name}, {"input", Json::object()}};
    }
  }

  static Json MessageJson(const AnswerHead& head, const Usage& usage) {
    return {{"id", head.id},
            {"type", "message"},
            {"role", "assistant"},
            {"model", head.model},
            {"content", Json::array()},
            {"stop_reason", nullptr},
            {"stop_sequence", nullptr},
            {"usage", MessagesUsage(usage)}};
  }

  static void SetStop(const ChoiceEnd& end, Json* json) {
    (*json)["stop_reason"] = StopReason(end);
    (*json)["stop_sequence"] = end.stop_string ? Json(*end.stop_string) : Json();
  }

  static std::string Event(const char* type, const Json& fields) {
    Json event = {{"type", type}};
    event.update(fields);
    return ServerSentEvent(event, type);
  }
  std::string Delta(const Json& delta) const {
    return Event("content_block_delta", {{"index", index_}, {"delta", delta}});
  }
  // The block that the part belongs to, behind the end of another.
  std::string OpenBlock(const AnswerPart& part) {
    std::string events;
    if (open_ && part.kind == kind_) return events;
    if (open_) events = EndBlock();
    open_ = true;
    kind_ = part.kind;
    return events + Event("content_block_start", {{"index", index_}, {"content_block", EmptyBlock(part)}});
  }
  std::string EndBlock() {
    open_ = false;
    std::string events;
    if (kind_ == Kind::kReasoning) events = Delta({{"type", "signature_delta"}, {"signature", ""}});
    return events + Event("content_block_stop", {{"index", index_++}});
  }

  Kind kind_ = Kind::kText;  // of the block that is open
  bool open_ = false;
  std::string call_;                   // the tool of the last call
  std::optional<std::string> broken_;  // that of a call that is none after all
  int64_t index_ = 0;
  Json delta_ = Json::object();
};

}  // namespace

std::unique_ptr<AnswerWriter> MakeMessagesWriter() { return std::make_unique<MessagesWriter>(); }

}  // namespace mxmla::serve
