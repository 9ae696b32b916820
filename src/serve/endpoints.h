// The endpoints that read a JSON body: chat, completions, tokens. Each throws ApiError or an Error for what it refuses.
#pragma once

#include <memory>
#include <string_view>

#include "serve/completion.h"
#include "serve/served_text.h"

namespace mxmla::serve {

// POST /v1/chat/completions
void ChatCompletions(const ServedText& text, std::string_view body, EngineThread& engine, Metrics& metrics,
                     std::shared_ptr<Responder> responder);
// POST /v1/completions: a prompt as text or token ids, or a list of either.
void Completions(const ServedText& text, std::string_view body, EngineThread& engine, Metrics& metrics,
                 std::shared_ptr<Responder> responder);
// POST /tokenize: {"prompt": text, "add_special_tokens": true} or {"messages": [...]}.
Json Tokenize(const ServedText& text, std::string_view body);
// POST /detokenize: {"tokens": [...]}.
Json Detokenize(const ServedText& text, std::string_view body);

}  // namespace mxmla::serve
