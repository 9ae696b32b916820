#include "serve/text_completions.h"

#include <fmt/format.h>

#include <map>

#include "serve/choice_writer.h"

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

class TextCompletionWriter final : public ChoiceWriter {
 public:
  TextCompletionWriter(const Tokenizer& tokenizer, const GenerationFields& fields, std::vector<std::string> echoes)
      : ChoiceWriter("text_completion", "text_completion", fields.include_usage),
        tokenizer_(tokenizer),
        with_logprobs_(fields.request.logprobs),
        echoes_(std::move(echoes)),
        choices_a_prompt_(static_cast<size_t>(fields.n)) {}

  std::string Part(size_t choice, const AnsweredPart& answered) override {
    const std::string text = (IsFirst(choice) ? Echo(choice) : std::string()) + answered.part.text;
    return Event(EventChoice(choice, text, answered.logprobs, nullptr));
  }

  const char* id_prefix() const override { return "cmpl-"; }

 private:
  Json ChoiceJson(size_t index, const Choice& choice) override {
    std::string text = Echo(index);
    std::vector<TokenLogprob> logprobs;
    for (const AnsweredPart& answered : choice.parts) {
      text += answered.part.text;
      logprobs.insert(logprobs.end(), answered.logprobs.begin(), answered.logprobs.end());
    }
    logprobs.insert(logprobs.end(), choice.end.logprobs.begin(), choice.end.logprobs.end());
    return EventChoice(index, text, logprobs, FinishReasonName(choice.end));
  }
  Json LastChoice(size_t index, const ChoiceEnd& end) override {
    return EventChoice(index, "", end.logprobs, FinishReasonName(end));
  }

  std::string Echo(size_t choice) const {
    return echoes_.empty() ? std::string() : echoes_[choice / choices_a_prompt_];
  }
  Json EventChoice(size_t index, const std::string& text, const std::vector<TokenLogprob>& logprobs,
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
      offsets.push_back(offsets_[choice]);
      offsets_[choice] += bytes.size();
    }
    return {{"tokens", tokens}, {"token_logprobs", chosen}, {"top_logprobs", top}, {"text_offset", offsets}};
  }
  const Tokenizer& tokenizer_;
  const bool with_logprobs_;
  const std::vector<std::string> echoes_;
  const size_t choices_a_prompt_;
  std::map<size_t, size_t> offsets_;  // of each choice: bytes of the tokens whose log-probabilities were written
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
