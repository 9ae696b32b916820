// POST /v1/completions, as OpenAI defined it: a prompt as text or token ids, or a list of either.
#pragma once

#include <memory>

#include "serve/chat_request.h"

namespace mxmla::serve {

struct TextCompletion {
  CompletionJob job;
  std::unique_ptr<AnswerWriter> writer;
};

// Errors (ApiError): what is refused.
TextCompletion ReadTextCompletion(const ServedText& text, const Json& body);

// A list of token ids. Refused, naming `field`: what is none below vocab_size.
std::vector<int32_t> ReadTokenIds(const Json& list, const std::string& field, int64_t vocab_size);

}  // namespace mxmla::serve
