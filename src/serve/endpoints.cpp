#include "serve/endpoints.h"

#include "serve/chat_completions.h"
#include "serve/messages.h"
#include "serve/responses.h"
#include "serve/text_completions.h"

namespace mxmla::serve {

void ChatCompletions(const ServedText& text, std::string_view body_text, Engine& engine, Metrics& metrics,
                     std::shared_ptr<Responder> responder) {
  const Json body = ReadBody(body_text);
  RunCompletion(ChatJob(text, ReadChatCompletion(text, body)), MakeChatCompletionWriter(text, body), text, engine,
                metrics, std::move(responder));
}

void Completions(const ServedText& text, std::string_view body_text, Engine& engine, Metrics& metrics,
                 std::shared_ptr<Responder> responder) {
  TextCompletion completion = ReadTextCompletion(text, ReadBody(body_text));
  RunCompletion(std::move(completion.job), std::move(completion.writer), text, engine, metrics, std::move(responder));
}

void Responses(const ServedText& text, std::string_view body_text, ResponseStore& store, const std::string& owner,
               Engine& engine, Metrics& metrics, std::shared_ptr<Responder> responder) {
  const Json body = ReadBody(body_text);
  const Json previous = PreviousItems(body, store, owner);
  const ChatRequest request = ReadResponse(text, body, previous);
  RunCompletion(ChatJob(text, request), MakeResponseWriter(text, body, request, KeepIn(store, owner, body, previous)),
                text, engine, metrics, std::move(responder));
}

void Messages(const ServedText& text, std::string_view body_text, Engine& engine, Metrics& metrics,
              std::shared_ptr<Responder> responder) {
  RunCompletion(ChatJob(text, ReadMessagesRequest(text, ReadBody(body_text), false)), MakeMessagesWriter(), text,
                engine, metrics, std::move(responder));
}

Json CountMessageTokens(const ServedText& text, std::string_view body) {
  return {{"input_tokens", EncodeChat(text, ReadMessagesRequest(text, ReadBody(body), true)).size()}};
}

Json Tokenize(const ServedText& text, std::string_view body_text) {
  const Json body = ReadBody(body_text);
  std::vector<int32_t> tokens;
  if (FindField(body, "messages")) {
    tokens = EncodeChat(text, ReadChatCompletion(text, body));
  } else {
    CheckModel(text, body);
    const auto prompt = TextField(body, "prompt");
    if (!prompt) RefuseField("prompt", "a text, or \"messages\"", "neither");
    tokens = text.tokenizer->Encode(*prompt, BoolField(body, "add_special_tokens").value_or(true));
  }
  return {{"count", tokens.size()}, {"max_model_len", text.max_context}, {"tokens", tokens}};
}

Json Detokenize(const ServedText& text, std::string_view body_text) {
  const Json body = ReadBody(body_text);
  CheckModel(text, body);
  const Json* tokens = FindField(body, "tokens");
  if (!tokens || !tokens->is_array()) RefuseField("tokens", "a list of token ids", "none");
  return {{"prompt", text.tokenizer->Decode(ReadTokenIds(*tokens, "tokens", text.vocab_size))}};
}

}  // namespace mxmla::serve
