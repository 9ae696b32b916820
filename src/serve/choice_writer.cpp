#include "serve/choice_writer.h"

#include <utility>

namespace mxmla::serve {

Json ChoiceWriter::Envelope(const char* object, Json choices) const {
  return {{"id", head_.id},
          {"object", object},
          {"created", head_.created},
          {"model", head_.model},
          {"choices", std::move(choices)}};
}

std::string ChoiceWriter::Event(Json choice) const {
  return ServerSentEvent(Envelope(event_, Json::array({std::move(choice)})));
}

bool ChoiceWriter::IsFirst(size_t choice) {
  if (choice >= begun_.size()) begun_.resize(choice + 1);
  const bool is_first = !begun_[choice];
  begun_[choice] = true;
  return is_first;
}

Json ChoiceWriter::Whole(const AnswerHead& head, const std::vector<Choice>& choices, const Usage& usage) {
  head_ = head;
  Json list = Json::array();
  for (const Choice& choice : choices) list.push_back(ChoiceJson(list.size(), choice));
  Json answer = Envelope(whole_, std::move(list));
  answer["usage"] = UsageJson(usage);
  return answer;
}

std::string ChoiceWriter::Begin(const AnswerHead& head, const Usage&) {
  head_ = head;
  return {};
}

std::string ChoiceWriter::End(size_t choice, const ChoiceEnd& end) {
  const bool is_empty = choice >= begun_.size() || !begun_[choice];
  const std::string first = is_empty ? Part(choice, {}) : std::string();
  return first + Event(LastChoice(choice, end));
}

std::string ChoiceWriter::Finish(const Usage& usage) {
  std::string events;
  if (with_usage_) {
    Json event = Envelope(event_, Json::array());
    event["usage"] = UsageJson(usage);
    events = ServerSentEvent(event);
  }
  return events + "data: [DONE]\n\n";
}

std::string ChoiceWriter::Fail(const ApiError& error) { return ServerSentEvent(error.Json()) + "data: [DONE]\n\n"; }

}  // namespace mxmla::serve
