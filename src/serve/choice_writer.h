// What the answers of OpenAI's two older APIs have in common: choices in an envelope, and events of one choice each.
#pragma once

#include <string>
#include <vector>

#include "serve/answer.h"

namespace mxmla::serve {

class ChoiceWriter : public AnswerWriter {
 public:
  Json Whole(const AnswerHead& head, const std::vector<Choice>& choices, const Usage& usage) final;
  std::string Begin(const AnswerHead& head, const Usage& usage) final;
  std::string End(size_t choice, const ChoiceEnd& end) final;
  std::string Finish(const Usage& usage) final;
  std::string Fail(const ApiError& error) final;

 protected:
  // What the API calls an answer, and an event of one; whether an event of its own says the usage.
  ChoiceWriter(const char* whole, const char* event, bool with_usage)
      : whole_(whole), event_(event), with_usage_(with_usage) {}

  // A choice of a whole answer.
  virtual Json ChoiceJson(size_t index, const Choice& choice) = 0;
  // A choice in its last event.
  virtual Json LastChoice(size_t index, const ChoiceEnd& end) = 0;

  std::string Event(Json choice) const;
  // Whether nothing was written of the choice before.
  bool IsFirst(size_t choice);

 private:
  Json Envelope(const char* object, Json choices) const;

  const char *const whole_, *const event_;
  const bool with_usage_;
  AnswerHead head_;
  std::vector<bool> begun_;
};

}  // namespace mxmla::serve
