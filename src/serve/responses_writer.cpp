#include <ctime>
#include <utility>

#include "serve/responses.h"

namespace mxmla::serve {
namespace {

using Kind = AnswerPart::Kind;

class ResponseWriter final : public AnswerWriter {
 public:
  ResponseWriter(const ServedText& text, const Json& body, const ChatRequest& request, KeepResponse keep)
      : tokenizer_(*text.tokenizer), with_logprobs_(request.generation.request.logprobs), keep_(std::move(keep)) {
    const auto repeat = [&](const char* name, const Json& otherwise) {
      const Json* value = FindField(body, name);
      repeated_[name] = value ? *value : otherwise;
    };
    const SamplingOptions& sampling = request.generation.request.sampling;
    repeat("instructions", nullptr);
    repeat("max_output_tokens", nullptr);
    repeat("metadata", Json::object());
    repeated_["parallel_tool_calls"] = request.parallel_tool_calls;
    repeat("previous_response_id", nullptr);
    repeat("reasoning", {{"effort", nullptr}, {"summary", nullptr}});
    repeated_["store"] = static_cast<bool>(keep_);
    repeated_["temperature"] = sampling.temperature;
    repeat("text", {{"format", {{"type", "text"}}}});
    repeat("tool_choice", "auto");
    repeat("tools", Json::array());
    repeated_["top_p"] = sampling.top_p;
    repeated_["truncation"] = "disabled";
    repeat("user", nullptr);
  }

  Json Whole(const AnswerHead& head, const std::vector<Choice>& choices, const Usage& usage) override {
    head_ = head;
    for (const AnsweredPart& part : choices[0].parts) {
      OpenItem(part.part);
      Extend(part);
      CloseItem(StatusOf(choices[0].end));
    }
    AddLastLogprobs(choices[0].end);
    Json response = ResponseJson(StatusOf(choices[0].end), &usage);
    if (keep_ && choices[0].end.reason != FinishReason::kCancelled) keep_(response);
    return response;
  }

  std::string Begin(const AnswerHead& head, const Usage&) override {
    head_ = head;
    const Json response = ResponseJson("in_progress", nullptr);
    std::string events = Event("response.created", {{"response", response}});
    return events + Event("response.in_progress", {{"response", response}});
  }

  std::string Part(size_t, const AnsweredPart& answered) override {
    const AnswerPart& part = answered.part;
    if (part.kind == Kind::kCallEnd) return EndItem({});
    if (part.kind == Kind::kCallBroken) return DoneItem("incomplete");  // its text follows
    std::string events;
    if (part.kind != Kind::kArguments) {
      if (item_ && part.kind != kind_) events += EndItem({});
      if (!item_) events += BeginItem(part);
    }
    Extend(answered);
    switch (part.kind) {
      case Kind::kText:
        return events + Event("response.output_text.delta",
                              InPart({{"delta", part.text}, {"logprobs", Logprobs(answered.logprobs)}}));
      case Kind::kReasoning:
        return events + Event("response.reasoning_text.delta", InPart({{"delta", part.text}}));
      case Kind::kArguments:
        return Event("response.function_call_arguments.delta", InItem({{"delta", part.text}}));
      default:
        return events;
    }
  }

  std::string End(size_t, const ChoiceEnd& end) override {
    status_ = StatusOf(end);
    is_cancelled_ = end.reason == FinishReason::kCancelled;
    std::string events;
    if (item_) events = EndItem(end);
    AddLastLogprobs(end);
    return events;
  }

  std::string Finish(const Usage& usage) override {
    const Json response = ResponseJson(status_, &usage);
    if (keep_ && !is_cancelled_) keep_(response);
    return Event(status_ == "completed" ? "response.completed" : "response.incomplete", {{"response", response}});
  }

  std::string Fail(const ApiError& error) override {
    Json response = ResponseJson("failed", nullptr);
    response["error"] = {{"code", "server_error"}, {"message", error.message}};
    return Event("response.failed", {{"response", std::move(response)}});
  }

  const char* id_prefix() const override { return "resp_"; }

 private:
  static std::string StatusOf(const ChoiceEnd& end) {
    return end.reason == FinishReason::kLength ? "incomplete" : "completed";
  }

  // Items are named after their response and their place in it.
  std::string ItemId(const char* prefix) const {
    return prefix + head_.id.substr(head_.id.find('_') + 1) + std::to_string(output_.size());
  }

  // A new item, without its text.
  void OpenItem(const AnswerPart& part) {
    kind_ = part.kind;
    switch (part.kind) {
      case Kind::kText:
        item_ = Json{{"id", ItemId("msg_")},
                     {"type", "message"},
                     {"status", "in_progress"},
                     {"role", "assistant"},
                     {"content", Json::array()}};
        break;
      case Kind::kReasoning:
        item_ = Json{{"id", ItemId("rs_")},
                     {"type", "reasoning"},
                     {"summary", Json::array()},
                     {"content", Json::array()},
                     {"status", "in_progress"}};
        break;
      default:
        item_ = Json{{"id", ItemId("fc_")},     {"type", "function_call"}, {"status", "in_progress"},
                     {"call_id", part.call.id}, {"name", part.call.name},  {"arguments", ""}};
        break;
    }
    text_.clear();
    logprobs_ = Json::array();
  }

  void Extend(const AnsweredPart& answered) {
    text_ += answered.part.text + answered.part.call.arguments;
    for (Json& entry : Logprobs(answered.logprobs)) logprobs_.push_back(std::move(entry));
  }

  Json PartJson(const std::string& text, const Json& logprobs) const {
    if (kind_ == Kind::kReasoning) return {{"type", "reasoning_text"}, {"text", text}};
    return {{"type", "output_text"}, {"annotations", Json::array()}, {"logprobs", logprobs}, {"text", text}};
  }

  // The item with its text joins the output.
  void CloseItem(const std::string& status) {
    if (kind_ == Kind::kToolCall) {
      (*item_)["arguments"] = text_;
    } else {
      (*item_)["content"].push_back(PartJson(text_, logprobs_));
    }
    (*item_)["status"] = status;
    output_.push_back(std::move(*item_));
    item_.reset();
  }

  // Those of the last tokens belong to the last text.
  void AddLastLogprobs(const ChoiceEnd& end) {
    if (output_.empty() || output_.back()["type"] != "message") return;
    for (Json& entry : Logprobs(end.logprobs)) {
      output_.back()["content"][0]["logprobs"].push_back(std::move(entry));
    }
  }

  std::string BeginItem(const AnswerPart& part) {
    OpenItem(part);
    std::string events = Event("response.output_item.added", {{"output_index", output_.size()}, {"item", *item_}});
    if (kind_ == Kind::kToolCall) return events;
    return events + Event("response.content_part.added", InPart({{"part", PartJson("", Json::array())}}));
  }

  std::string EndItem(const ChoiceEnd& end) {
    std::string events;
    if (kind_ == Kind::kToolCall) {
      events =
          Event("response.function_call_arguments.done", InItem({{"name", (*item_)["name"]}, {"arguments", text_}}));
    } else {
      const bool is_text = kind_ == Kind::kText;
      Json done = InPart({{"text", text_}});
      if (is_text) done["logprobs"] = logprobs_;
      events = Event(is_text ? "response.output_text.done" : "response.reasoning_text.done", std::move(done));
      events += Event("response.content_part.done", InPart({{"part", PartJson(text_, logprobs_)}}));
    }
    return events + DoneItem(StatusOf(end));
  }

  std::string DoneItem(const std::string& status) {
    const size_t index = output_.size();
    CloseItem(status);
    return Event("response.output_item.done", {{"output_index", index}, {"item", output_.back()}});
  }

  Json InItem(Json fields) const {
    fields["item_id"] = (*item_)["id"];
    fields["output_index"] = output_.size();
    return fields;
  }
  Json InPart(Json fields) const {
    fields["content_index"] = 0;
    return InItem(std::move(fields));
  }

  std::string Event(const char* type, Json fields) {
    fields["type"] = type;
    fields["sequence_number"] = sequence_++;
    return ServerSentEvent(fields, type);
  }

  Json Logprobs(const std::vector<TokenLogprob>& logprobs) const {
    Json list = Json::array();
    if (!with_logprobs_) return list;
    for (const TokenLogprob& token : logprobs) list.push_back(LogprobJson(tokenizer_, token));
    return list;
  }

  Json ResponseJson(const std::string& status, const Usage* usage) const {
    Json response = {
        {"id", head_.id},      {"object", "response"}, {"created_at", head_.created},   {"status", status},
        {"background", false}, {"error", nullptr},     {"incomplete_details", nullptr}, {"model", head_.model},
        {"output", output_}};
    if (status == "incomplete") response["incomplete_details"] = {{"reason", "max_output_tokens"}};
    if (status == "completed") response["completed_at"] = std::time(nullptr);
    response.update(repeated_);
    response["usage"] = nullptr;
    if (usage) {
      response["usage"] = {{"input_tokens", usage->prompt},
                           {"input_tokens_details", {{"cached_tokens", usage->cached}, {"cache_write_tokens", 0}}},
                           {"output_tokens", usage->generated},
                           {"output_tokens_details", {{"reasoning_tokens", usage->reasoning}}},
                           {"total_tokens", usage->prompt + usage->generated}};
    }
    return response;
  }

  const Tokenizer& tokenizer_;
  const bool with_logprobs_;
  const KeepResponse keep_;
  Json repeated_ = Json::object();
  AnswerHead head_;
  Json output_ = Json::array();  // items that are complete
  std::optional<Json> item_;     // the one that is not
  Kind kind_ = Kind::kText;      // its
  std::string text_;             // its text, or arguments
  Json logprobs_ = Json::array();
  std::string status_ = "completed";
  bool is_cancelled_ = false;
  int64_t sequence_ = 0;
};

}  // namespace

std::unique_ptr<AnswerWriter> MakeResponseWriter(const ServedText& text, const Json& body, const ChatRequest& request,
                                                 KeepResponse keep) {
  return std::make_unique<ResponseWriter>(text, body, request, std::move(keep));
}

}  // namespace mxmla::serve
