// POST /v1/messages, as Anthropic defines it.
#pragma once

#include <memory>

#include "serve/chat_request.h"

namespace mxmla::serve {

// system, messages with blocks of type text, tool_use, tool_result, thinking, tools with an input_schema, and the
// fields of generation. max_tokens is required where `counts_only` is false. thinking: enabled and adaptive, or
// disabled, set the template's variable; a budget is not kept. Errors (ApiError): what is refused.
ChatRequest ReadMessagesRequest(const ServedText& text, const Json& body, bool counts_only);
std::unique_ptr<AnswerWriter> MakeMessagesWriter();

}  // namespace mxmla::serve
