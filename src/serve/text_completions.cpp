#include "serve/text_completions.h"

#include <fmt/format.h>

namespace mxmla::serve {
namespace {

constexpr int64_t kDefaultCompletionTokens = 16;  // OpenAI's
constexpr size_t kMostPrompts = 1024;

// The prompts: a text, a list of ids, or a list of texts or of lists of ids.
std::vector<std::vector<int32_t>> ReadPrompts(const ServedText& text, const Json& body) {
  const Json* prompt = FindField(body, "prompt");
  if (!prompt) RefuseField("prompt", "a text or token ids", "none");
  const auto read = [&](const Json& one) {
    std::vector<int32_t> tokens;
    if (one.is_string()) {
      tokens = text.tokenizer->EncodePrompt(one.get_ref<const std::string&>());
    } else if (one.is_array()) {
      tokens = ReadTokenIds(one, "prompt", text.vocab_size);
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

class TextCompletionWriter final : public AnswerWriter {
 public:
  TextCompletionWriter(const Tokenizer& tokenizer, const GenerationFields& fields, std::vector<std::string> echoes)
      : tokenizer_(tokenizer),
        with_logprobs_(fields.request.logprobs),
        with_usage_(fields.include_usage),
        echoes_(std::move(echoes)),
        choices_a_prompt_(static_cast<size_t>(fields.n)) {}

  Json Whole(const AnswerHead& head, const std::vector<Choice>& choices, const Usage& usage) override {
    Json list = Json::array();
    for (const Choice& choice : choices) {
      const size_t index = list.size();
      std::string text = Echo(index);
      std::vector<TokenLogprob> logprobs;
      for (const AnsweredPart& answered : choice.parts) {
        text += answered.part.text;
        logprobs.insert(logprobs.end(), answered.logprobs.begin(), answered.logprobs.end());
      }
      logprobs.insert(logprobs.end(), choice.end.logprobs.begin(), choice.end.logprobs.end());
      list.push_back(ChoiceJson(index, text, logprobs, FinishReasonName(choice.end)));
    }
    return {{"id", head.id},       {"object", "text_completion"}, {"created", head.created},
            {"model", head.model}, {"choices", std::move(list)},  {"usage", UsageJson(usage)}};
  }

  std::string Begin(const AnswerHead& head, const Usage&) override {
    head_ = head;
    return {};
  }
  std::string Part(size_t choice, const AnsweredPart& answered) override {
    const bool first = !std::exchange(StateOf(choice).begun, true);
    const std::string text = (first ? Echo(choice) : std::string()) + answered.part.text;
    return Event(Json::array({ChoiceJson(choice, text, answered.logprobs, nullptr)}));
  }
  std::string End(size_t choice, const ChoiceEnd& end) override {
    std::string events;
    if (!StateOf(choice).begun) events = Part(choice, {});
    return events + Event(Json::array({ChoiceJson(choice, "", end.logprobs, FinishReasonName(end))}));
  }
  std::string Finish(const Usage& usage) override {
    std::string events;
    if (with_usage_) {
      Json event = EventJson(Json::array());
      event["usage"] = UsageJson(usage);
      events = ServerSentEvent(event);
    }
    return events + "data: [DONE]\n\n";
  }
  std::string Fail(const ApiError& error) override { return ServerSentEvent(error.Json()) + "data: [DONE]\n\n"; }
  const char* id_prefix() const override { return "cmpl-"; }

 private:
  struct State {
    bool begun = false;
    size_t offset = 0;  // bytes of the tokens whose log-probabilities were written
  };

  std::string Echo(size_t choice) const {
    return echoes_.empty() ? std::string() : echoes_[choice / choices_a_prompt_];
  }
  Json ChoiceJson(size_t index, const std::string& text, const std::vector<TokenLogprob>& logprobs,
                  const char* finish_reason) {
    return {{"index", index},
            {"text", text},
            {"logprobs", Logprobs(index, logprobs)},
            {"finish_reason", finish_reason ? Json(finish_reason) : Json()}};
  }
  Json Logprobs(size_t choice, const std::vector<TokenLogprob>& logprobs) {
    if (!with_logprobs_) return nullptr;
    Json tokens = Json::array(), chosen = Json::array(), top = Json::array(), offsets = Json::array();
    for (const TokenLogprob& token : logprobs) {
      const std::string bytes = tokenizer_.TokenBytes(token.token);
      Json likeliest = Json::object();
      for (const auto& [other, logprob] : token.logprobs.top) likeliest[tokenizer_.TokenBytes(other)] = logprob;
      tokens.push_back(bytes);
      chosen.push_back(token.logprobs.chosen);
      top.push_back(std::move(likeliest));
      offsets.push_back(StateOf(choice).offset);
      StateOf(choice).offset += bytes.size();
    }
    return {{"tokens", tokens}, {"token_logprobs", chosen}, {"top_logprobs", top}, {"text_offset", offsets}};
  }
  Json EventJson(Json choices) const {
    return {{"id", head_.id},
            {"object", "text_completion"},
            {"created", head_.created},
            {"model", head_.model},
            {"choices", std::move(choices)}};
  }
  std::string Event(Json choices) const { return ServerSentEvent(EventJson(std::move(choices))); }
  State& StateOf(size_t choice) {
    if (choice >= states_.size()) states_.resize(choice + 1);
    return states_[choice];
  }

  const Tokenizer& tokenizer_;
  const bool with_logprobs_, with_usage_;
  const std::vector<std::string> echoes_;
  const size_t choices_a_prompt_;
  AnswerHead head_;
  std::vector<State> states_;
};

}  // namespace

std::vector<int32_t> ReadTokenIds(const Json& list, const std::string& field, int64_t vocab_size) {
  std::vector<int32_t> tokens;
  for (const Json& id : list) {
    if (!id.is_number_integer() || id < 0 || id >= vocab_size) {
      RefuseField(field, fmt::format("token ids in 0..{}", vocab_size - 1), id.dump().substr(0, 40));
    }
    tokens.push_back(id.get<int32_t>());
  }
  return tokens;
}

TextCompletion ReadTextCompletion(const ServedText& text, const Json& body) {
  CheckModel(text, body);
  GenerationFields fields = ReadGenerationFields(body, text.suggested, text.vocab_size);
  if (const Json* tools = FindField(body, "tools"); tools && !tools->empty()) {
    RefuseField("tools", "none: they belong to /v1/chat/completions", ShowField(*tools));
  }
  if (const auto top = IntegerField(body, "logprobs", 0, kMaxTopLogprobs)) {
    fields.request.logprobs = true;
    fields.request.sampling.top_logprobs = static_cast<int32_t>(*top);
  }
  const std::vector<std::vector<int32_t>> prompts = ReadPrompts(text, body);
  std::vector<std::string> echoes;
  if (BoolField(body, "echo").value_or(false)) {
    if (fields.request.logprobs) RefuseField("echo", "no logprobs beside it", "both");
    for (const std::vector<int32_t>& prompt : prompts) echoes.push_back(text.tokenizer->Decode(prompt, true));
  }
  return {MakeJob(text, fields, prompts, text.end_tokens, kDefaultCompletionTokens),
          std::make_unique<TextCompletionWriter>(*text.tokenizer, fields, std::move(echoes))};
}

}  // namespace mxmla::serve
