// The endpoints that read a JSON body. Each throws ApiError or an Error for what it refuses.
#pragma once

#include <memory>
#include <string_view>

#include "serve/completion.h"
#include "serve/response_store.h"
#include "serve/served_text.h"

namespace mxmla::serve {

// POST /v1/chat/completions, /v1/completions, /v1/responses and /v1/messages.
void ChatCompletions(const ServedText& text, std::string_view body, Engine& engine, Metrics& metrics,
                     std::shared_ptr<Responder> responder);
void Completions(const ServedText& text, std::string_view body, Engine& engine, Metrics& metrics,
                 std::shared_ptr<Responder> responder);
// The answer goes into `store`, which outlives the run, as that of `owner`.
void Responses(const ServedText& text, std::string_view body, ResponseStore& store, const std::string& owner,
               Engine& engine, Metrics& metrics, std::shared_ptr<Responder> responder);
void Messages(const ServedText& text, std::string_view body, Engine& engine, Metrics& metrics,
              std::shared_ptr<Responder> responder);
// POST /v1/messages/count_tokens: {"input_tokens"} of what /v1/messages would be asked.
Json CountMessageTokens(const ServedText& text, std::string_view body);
// POST /tokenize: {"prompt": text, "add_special_tokens": true} or what /v1/chat/completions is asked.
Json Tokenize(const ServedText& text, std::string_view body);
// POST /detokenize: {"tokens": [...]}.
Json Detokenize(const ServedText& text, std::string_view body);

}  // namespace mxmla::serve
