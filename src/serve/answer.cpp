#include "serve/answer.h"

namespace mxmla::serve {
namespace {

Json Entry(const Tokenizer& tokenizer, int32_t token, float logprob) {
  const std::string text = tokenizer.TokenBytes(token);
  Json bytes = Json::array();
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", text}, {"logprob", logprob}, {"bytes", std::move(bytes)}};
}

}  // namespace

std::string ServerSentEvent(const Json& data, const char* name) {
  std::string event = name ? std::string("event: ") + name + "\n" : std::string();
  return event + "data: " + DumpJson(data) + "\n\n";
}

const char* FinishReasonName(const ChoiceEnd& end) {
  if (end.reason == FinishReason::kLength) return "length";
  return end.has_calls ? "tool_calls" : "stop";
}

Json UsageJson(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt},
          {"completion_tokens", usage.generated},
          {"total_tokens", usage.prompt + usage.generated},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached}}},
          {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning}}}};
}

Json LogprobJson(const Tokenizer& tokenizer, const TokenLogprob& token) {
  Json entry = Entry(tokenizer, token.token, token.logprobs.chosen);
  entry["top_logprobs"] = Json::array();
  for (const auto& [other, logprob] : token.logprobs.top) {
    entry["top_logprobs"].push_back(Entry(tokenizer, other, logprob));
  }
  return entry;
}

}  // namespace mxmla::serve
