// What a request is answered with, the same for every API, and how an API writes it down.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/request.h"
#include "serve/api_error.h"
#include "serve/request_fields.h"
#include "text/output/answer_parser.h"

namespace mxmla::serve {

struct TokenLogprob {
  int32_t token;
  TokenLogprobs logprobs;
};

// A part of an answer, with the log-probabilities of the tokens since the part before, where they are asked for.
struct AnsweredPart {
  AnswerPart part;  // a call has an id
  std::vector<TokenLogprob> logprobs;
};

struct ChoiceEnd {
  FinishReason reason = FinishReason::kStop;
  bool has_calls = false;
  std::optional<std::string> stop_string;  // that ended it
  std::vector<TokenLogprob> logprobs;      // of the tokens behind the last part
};

struct Choice {
  std::vector<AnsweredPart> parts;  // kReasoning, kText, and kToolCall with all of its arguments
  ChoiceEnd end;
};

struct Usage {
  int64_t prompt = 0, cached = 0;  // tokens; cached ones are of the prompt
  int64_t generated = 0, reasoning = 0;
};

struct AnswerHead {
  std::string id;
  int64_t created = 0;  // seconds since 1970
  std::string model;
};

// Writes one answer, whole or as server-sent events. The events' functions give the bytes to send next, in the order
// Begin; Part and End of each choice; Finish, or Fail in the place of whatever is missing.
class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;

  virtual Json Whole(const AnswerHead& head, const std::vector<Choice>& choices, const Usage& usage) = 0;

  // `usage` knows of the prompt alone.
  virtual std::string Begin(const AnswerHead& head, const Usage& usage) = 0;
  virtual std::string Part(size_t choice, const AnsweredPart& part) = 0;
  virtual std::string End(size_t choice, const ChoiceEnd& end) = 0;
  virtual std::string Finish(const Usage& usage) = 0;
  virtual std::string Fail(const ApiError& error) = 0;

  virtual const char* id_prefix() const = 0;
  virtual ErrorForm error_form() const { return ErrorForm::kOpenAi; }
};

// "data: JSON\n\n", behind "event: NAME\n" where there is a name.
std::string ServerSentEvent(const Json& data, const char* name = nullptr);

// OpenAI's: "length", "tool_calls" or "stop".
const char* FinishReasonName(const ChoiceEnd& end);
// OpenAI's: prompt_tokens, completion_tokens, ...
Json UsageJson(const Usage& usage);

// OpenAI's entry of a token: {"token", "logprob", "bytes"}, and "top_logprobs" of the likeliest.
Json LogprobJson(const Tokenizer& tokenizer, const TokenLogprob& token);

}  // namespace mxmla::serve
