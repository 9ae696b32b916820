#include "serve/endpoints.h"

#include <fmt/format.h>

#include "core/error.h"
#include "core/json_file.h"
#include "serve/api_error.h"

namespace mxmla::serve {
namespace {

constexpr int64_t kDefaultCompletionTokens = 16;  // OpenAI's
constexpr size_t kMostMessages = 100'000;
constexpr size_t kMostPrompts = 1024;

Json ReadBody(std::string_view body) {
  try {
    return ParseOrderedJsonObject(body, "request body", ErrorCode::kData);
  } catch (const Error& error) {
    throw ApiError(400, "invalid_request_error", error.what());
  }
}

void CheckModel(const ServedText& text, const Json& body) {
  const auto model = TextField(body, "model");
  if (!model || *model == text.name) return;
  throw ApiError(404, "invalid_request_error", ErrorLine("model", text.name, *model), "model", "model_not_found");
}

// A content of parts becomes one text: templates write texts. Parts that are no text are refused.
Json FlattenContent(const Json& content, const std::string& param) {
  if (!content.is_array()) return content;
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& part = content[i];
    const std::string where = fmt::format("{}.content[{}]", param, i);
    if (!part.is_object()) RefuseField(where, "an object", part.type_name());
    const auto type = TextField(part, "type").value_or("none");
    if (type != "text" && type != "input_text" && type != "output_text") {
      RefuseField(where, "a part of type text: the model reads nothing else", type);
    }
    const auto piece = TextField(part, "text");
    if (!piece) RefuseField(where, "a text in \"text\"", "none");
    if (i > 0) text += '\n';
    text += *piece;
  }
  return text;
}

std::vector<Message> ReadMessages(const Json& body) {
  const Json* list = FindField(body, "messages");
  if (!list || !list->is_array() || list->empty() || list->size() > kMostMessages) {
    RefuseField("messages", fmt::format("a list of 1 to {} messages", kMostMessages),
                !list              ? "none"
                : list->is_array() ? fmt::format("a list of {}", list->size())
                                   : list->type_name());
  }
  std::vector<Message> messages;
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string param = fmt::format("messages[{}]", i);
    Json message = (*list)[i];
    if (message.is_object() && message.contains("content")) {
      message["content"] = FlattenContent(message["content"], param);
    }
    try {
      messages.push_back(MessageFromJson(message, param));
    } catch (const Error& error) {
      throw ApiError(400, "invalid_request_error", error.what(), param);
    }
    if (messages.back().role == "developer") messages.back().role = "system";
  }
  return messages;
}

ChatOptions ReadChatOptions(const Json& body) {
  ChatOptions options;
  options.variables = Json::object();
  if (const Json* variables = FindField(body, "chat_template_kwargs")) {
    if (!variables->is_object()) RefuseField("chat_template_kwargs", "an object", variables->type_name());
    options.variables = *variables;
  }
  if (const auto effort = TextField(body, "reasoning_effort")) options.variables["reasoning_effort"] = *effort;
  options.add_generation_prompt = BoolField(body, "add_generation_prompt").value_or(true);
  return options;
}

std::vector<int32_t> EncodeChat(const ServedText& text, const Json& body) {
  if (!text.chat) {
    throw ApiError(400, "invalid_request_error",
                   ErrorLine("model", "one with a chat template that can be carried out",
                             text.name + ", which has none", "send a prompt to /v1/completions"),
                   "messages");
  }
  try {
    return text.chat->Encode(*text.tokenizer, ReadMessages(body), ReadChatOptions(body));
  } catch (const Error& error) {
    throw ApiError(400, "invalid_request_error", error.what(), "messages");
  }
}

int64_t MaxTokens(const ServedText& text, int64_t prompt, std::optional<int64_t> asked, int64_t otherwise) {
  const int64_t room = text.max_context - prompt;
  if (room < 1 || asked.value_or(0) > room) {
    throw ApiError(400, "invalid_request_error",
                   ErrorLine("request", fmt::format("at most {} tokens, the model's context", text.max_context),
                             fmt::format("{} of the prompt and {} to generate", prompt, asked.value_or(1))),
                   "max_tokens", "context_length_exceeded");
  }
  return asked.value_or(std::min(room, otherwise));
}

Json BytesOf(const std::string& text) {
  Json bytes = Json::array();
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

class ChatFormat final : public CompletionFormat {
 public:
  explicit ChatFormat(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  Json Choice(int64_t index, const GenerateResult& result) const override {
    return {{"index", index},
            {"message", {{"role", "assistant"}, {"content", result.text}}},
            {"logprobs", Logprobs(result)},
            {"finish_reason", FinishReasonName(result)}};
  }
  Json Delta(int64_t index, const std::string& text, bool first) const override {
    Json delta = first ? Json{{"role", "assistant"}, {"content", text}} : Json{{"content", text}};
    return {{"index", index}, {"delta", std::move(delta)}, {"logprobs", nullptr}, {"finish_reason", nullptr}};
  }
  Json End(int64_t index, const GenerateResult& result) const override {
    return {{"index", index},
            {"delta", Json::object()},
            {"logprobs", nullptr},
            {"finish_reason", FinishReasonName(result)}};
  }
  const char* object() const override { return "chat.completion"; }
  const char* event_object() const override { return "chat.completion.chunk"; }
  const char* id_prefix() const override { return "chatcmpl-"; }

 private:
  Json Entry(int32_t token, float logprob) const {
    const std::string bytes = tokenizer_.TokenBytes(token);
    return {{"token", bytes}, {"logprob", logprob}, {"bytes", BytesOf(bytes)}};
  }
  Json Logprobs(const GenerateResult& result) const {
    if (result.logprobs.empty()) return nullptr;
    Json content = Json::array();
    for (size_t t = 0; t < result.logprobs.size(); ++t) {
      Json entry = Entry(result.tokens[t], result.logprobs[t].chosen);
      entry["top_logprobs"] = Json::array();
      for (const auto& [token, logprob] : result.logprobs[t].top)
        entry["top_logprobs"].push_back(Entry(token, logprob));
      content.push_back(std::move(entry));
    }
    return {{"content", std::move(content)}};
  }

  const Tokenizer& tokenizer_;
};

class TextFormat final : public CompletionFormat {
 public:
  TextFormat(const Tokenizer& tokenizer, std::vector<std::string> echoes, int64_t choices_a_prompt)
      : tokenizer_(tokenizer), echoes_(std::move(echoes)), choices_a_prompt_(choices_a_prompt) {}

  Json Choice(int64_t index, const GenerateResult& result) const override {
    return {{"index", index},
            {"text", Echo(index) + result.text},
            {"logprobs", Logprobs(result)},
            {"finish_reason", FinishReasonName(result)}};
  }
  Json Delta(int64_t index, const std::string& text, bool first) const override {
    return {{"index", index},
            {"text", first ? Echo(index) + text : text},
            {"logprobs", nullptr},
            {"finish_reason", nullptr}};
  }
  Json End(int64_t index, const GenerateResult& result) const override {
    return {{"index", index}, {"text", ""}, {"logprobs", nullptr}, {"finish_reason", FinishReasonName(result)}};
  }
  const char* object() const override { return "text_completion"; }
  const char* event_object() const override { return "text_completion"; }
  const char* id_prefix() const override { return "cmpl-"; }

 private:
  std::string Echo(int64_t index) const {
    return echoes_.empty() ? std::string() : echoes_[static_cast<size_t>(index / choices_a_prompt_)];
  }
  Json Logprobs(const GenerateResult& result) const {
    if (result.logprobs.empty()) return nullptr;
    Json tokens = Json::array(), logprobs = Json::array(), top = Json::array(), offsets = Json::array();
    size_t offset = 0;
    for (size_t t = 0; t < result.logprobs.size(); ++t) {
      const std::string bytes = tokenizer_.TokenBytes(result.tokens[t]);
      tokens.push_back(bytes);
      logprobs.push_back(result.logprobs[t].chosen);
      Json likeliest = Json::object();
      for (const auto& [token, logprob] : result.logprobs[t].top) likeliest[tokenizer_.TokenBytes(token)] = logprob;
      top.push_back(std::move(likeliest));
      offsets.push_back(offset);
      offset += bytes.size();
    }
    return {{"tokens", tokens}, {"token_logprobs", logprobs}, {"top_logprobs", top}, {"text_offset", offsets}};
  }

  const Tokenizer& tokenizer_;
  const std::vector<std::string> echoes_;
  const int64_t choices_a_prompt_;
};

void RefuseStreamedLogprobs(const GenerationFields& fields) {
  if (fields.stream && fields.request.logprobs) {
    RefuseField("logprobs", "no log-probabilities in a stream, which this server does not send", "both");
  }
}

std::vector<int32_t> ReadTokens(const Json& list, const std::string& param, int64_t vocab_size) {
  std::vector<int32_t> tokens;
  for (const Json& id : list) {
    if (!id.is_number_integer() || id < 0 || id >= vocab_size) {
      RefuseField(param, fmt::format("token ids in 0..{}", vocab_size - 1), id.dump().substr(0, 40));
    }
    tokens.push_back(id.get<int32_t>());
  }
  return tokens;
}

// The prompts: a text, a list of ids, or a list of texts or of lists of ids.
std::vector<std::vector<int32_t>> ReadPrompts(const ServedText& text, const Json& body) {
  const Json* prompt = FindField(body, "prompt");
  if (!prompt) RefuseField("prompt", "a text or token ids", "none");
  const auto read = [&](const Json& one) {
    std::vector<int32_t> tokens;
    if (one.is_string()) {
      tokens = text.tokenizer->EncodePrompt(one.get_ref<const std::string&>());
    } else if (one.is_array()) {
      tokens = ReadTokens(one, "prompt", text.vocab_size);
    } else {
      RefuseField("prompt", "a text or token ids", one.type_name());
    }
    if (tokens.empty()) RefuseField("prompt", "at least one token", "none");
    return tokens;
  };
  if (!prompt->is_array() || prompt->empty() || prompt->front().is_number()) return {read(*prompt)};
  if (prompt->size() > kMostPrompts) {
    RefuseField("prompt", fmt::format("at most {} prompts", kMostPrompts), fmt::format("{}", prompt->size()));
  }
  std::vector<std::vector<int32_t>> prompts;
  for (const Json& one : *prompt) prompts.push_back(read(one));
  return prompts;
}

CompletionJob MakeJob(const ServedText& text, const GenerationFields& fields,
                      const std::vector<std::vector<int32_t>>& prompts, const std::vector<int32_t>& ends,
                      int64_t default_tokens) {
  CompletionJob job;
  job.structured = fields.structured;
  job.grammars = text.grammars;
  // A grammar's end is any of these.
  const std::vector<int32_t>& stops = fields.structured ? text.chat_tokens : ends;
  job.stream = fields.stream;
  job.include_usage = fields.include_usage;
  job.model = text.name;
  job.prompts = static_cast<int64_t>(prompts.size());
  for (const std::vector<int32_t>& prompt : prompts) {
    for (int64_t i = 0; i < fields.n; ++i) {
      GenerateRequest request = fields.request;
      request.prompt = prompt;
      request.max_tokens = MaxTokens(text, static_cast<int64_t>(prompt.size()), fields.max_tokens, default_tokens);
      if (!fields.ignore_eos) request.stop_tokens.insert(request.stop_tokens.end(), stops.begin(), stops.end());
      request.tokenizer = text.tokenizer.get();
      request.seed += static_cast<uint64_t>(i);
      job.requests.push_back(std::move(request));
    }
  }
  return job;
}

}  // namespace

void ChatCompletions(const ServedText& text, std::string_view body_text, EngineThread& engine, Metrics& metrics,
                     std::shared_ptr<Responder> responder) {
  const Json body = ReadBody(body_text);
  CheckModel(text, body);
  GenerationFields fields = ReadGenerationFields(body, text.suggested, text.vocab_size);
  fields.request.logprobs = BoolField(body, "logprobs").value_or(false);
  const auto top = IntegerField(body, "top_logprobs", 0, kMaxTopLogprobs);
  if (top && !fields.request.logprobs) RefuseField("top_logprobs", "logprobs beside it", "it alone");
  fields.request.sampling.top_logprobs = static_cast<int32_t>(top.value_or(0));
  RefuseStreamedLogprobs(fields);
  const std::vector<int32_t> prompt = EncodeChat(text, body);
  RunCompletion(MakeJob(text, fields, {prompt}, text.chat_tokens, text.max_context),
                std::make_unique<ChatFormat>(*text.tokenizer), engine, metrics, std::move(responder));
}

void Completions(const ServedText& text, std::string_view body_text, EngineThread& engine, Metrics& metrics,
                 std::shared_ptr<Responder> responder) {
  const Json body = ReadBody(body_text);
  CheckModel(text, body);
  GenerationFields fields = ReadGenerationFields(body, text.suggested, text.vocab_size);
  if (const auto top = IntegerField(body, "logprobs", 0, kMaxTopLogprobs)) {
    fields.request.logprobs = true;
    fields.request.sampling.top_logprobs = static_cast<int32_t>(*top);
  }
  RefuseStreamedLogprobs(fields);
  const std::vector<std::vector<int32_t>> prompts = ReadPrompts(text, body);
  std::vector<std::string> echoes;
  if (BoolField(body, "echo").value_or(false)) {
    if (fields.request.logprobs) RefuseField("echo", "no logprobs beside it", "both");
    for (const std::vector<int32_t>& prompt : prompts) echoes.push_back(text.tokenizer->Decode(prompt, true));
  }
  RunCompletion(MakeJob(text, fields, prompts, text.end_tokens, kDefaultCompletionTokens),
                std::make_unique<TextFormat>(*text.tokenizer, std::move(echoes), fields.n), engine, metrics,
                std::move(responder));
}

Json Tokenize(const ServedText& text, std::string_view body_text) {
  const Json body = ReadBody(body_text);
  CheckModel(text, body);
  std::vector<int32_t> tokens;
  if (FindField(body, "messages")) {
    tokens = EncodeChat(text, body);
  } else {
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
  return {{"prompt", text.tokenizer->Decode(ReadTokens(*tokens, "tokens", text.vocab_size))}};
}

}  // namespace mxmla::serve
