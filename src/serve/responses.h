// POST /v1/responses, as OpenAI defines it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "serve/chat_request.h"
#include "serve/response_store.h"

namespace mxmla::serve {

// input as text or items (message, function_call, function_call_output, reasoning), instructions, tools of type
// function, reasoning.effort, and the fields of generation; `previous` are the items that previous_response_id stands
// for, a list. Errors (ApiError): what is refused.
ChatRequest ReadResponse(const ServedText& text, const Json& body, const Json& previous);

// Called with a whole answer.
using KeepResponse = std::function<void(const Json& response)>;
// `request` is what was read of the body, much of which the answer repeats. `keep` may be empty: the answer says so.
std::unique_ptr<AnswerWriter> MakeResponseWriter(const ServedText& text, const Json& body, const ChatRequest& request,
                                                 KeepResponse keep);

// The items that the body's previous_response_id stands for, a list. Errors (ApiError 400): an answer that is not kept.
Json PreviousItems(const Json& body, ResponseStore& store, const std::string& owner);
// What puts the answer into the store, with `previous` and the body's input; empty where the body or the store wants
// none. `store` outlives it.
KeepResponse KeepIn(ResponseStore& store, const std::string& owner, const Json& body, const Json& previous);

}  // namespace mxmla::serve
