// POST /v1/chat/completions, as OpenAI defines it, with reasoning_content beside content.
#pragma once

#include <memory>
#include <string_view>

#include "serve/chat_request.h"

namespace mxmla::serve {

// Errors (ApiError): what is refused.
ChatRequest ReadChatCompletion(const ServedText& text, const Json& body);
std::unique_ptr<AnswerWriter> MakeChatCompletionWriter(const ServedText& text, const Json& body);

}  // namespace mxmla::serve
