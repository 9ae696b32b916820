// POST /v1/responses, as OpenAI defines it, of one request and its answer: nothing is stored.
#pragma once

#include <memory>

#include "serve/chat_request.h"

namespace mxmla::serve {

// input as text or items (message, function_call, function_call_output, reasoning), instructions, tools of type
// function, reasoning.effort, and the fields of generation. Errors (ApiError): what is refused, such as
// previous_response_id.
ChatRequest ReadResponse(const ServedText& text, const Json& body);
// `request` is what was read of the body, much of which the answer repeats.
std::unique_ptr<AnswerWriter> MakeResponseWriter(const ServedText& text, const Json& body, const ChatRequest& request);

}  // namespace mxmla::serve
