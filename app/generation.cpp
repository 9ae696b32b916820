#include "generation.h"

#include <fmt/format.h>

#include "common.h"
#include "quote.h"

namespace mxmla::app {

ChatPrompt::ChatPrompt(const std::string& folder, const std::string& thinking) : template_(ChatTemplate::Load(folder)) {
  if (thinking.empty()) return;
  if (!template_.ReadsThinking()) {
    Fail(ErrorCode::kChatTemplate, "--thinking " + thinking, "a chat template that can turn thinking on and off",
         "one that cannot", "leave the flag out");
  }
  options_.thinking = thinking == "on";
}

std::vector<int32_t> ChatPrompt::Encode(const Tokenizer& tokenizer, std::span<const Message> messages) const {
  return template_.Encode(tokenizer, messages, options_);
}

std::vector<int32_t> StopTokens(const ModelConfig& config, const Tokenizer* tokenizer, bool chat) {
  std::vector<int32_t> tokens(config.eos_token_ids.begin(), config.eos_token_ids.end());
  if (!chat) return tokens;
  for (const char* end : {"<|im_end|>", "<｜end▁of▁sentence｜>"}) {
    if (const auto id = tokenizer->TokenId(end)) tokens.push_back(*id);
  }
  return tokens;
}

const char* EndName(const GenerateResult& result) {
  switch (result.reason) {
    case FinishReason::kStop:
      return result.stop_string >= 0 ? "stop text" : result.stop_token >= 0 ? "stop token" : "stopped";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kError:
      break;
  }
  return "error";
}

std::string DescribeEnd(const GenerateRequest& request, const GenerateResult& result, const Tokenizer* tokenizer) {
  std::string end = EndName(result);
  if (result.stop_string >= 0) {
    end += " " + Quote(request.stop_strings[static_cast<size_t>(result.stop_string)]);
  } else if (result.stop_token >= 0) {
    end += fmt::format(" {}", result.stop_token);
    if (tokenizer) end += " " + Quote(tokenizer->TokenBytes(result.stop_token));
  } else if (result.reason == FinishReason::kLength) {
    end += fmt::format(", {} tokens", result.tokens.size());
  }
  return end;
}

void PrintGenerationStats(const GenerateStats& stats, const std::string& end) {
  const auto rate = [](int64_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  };
  PrintStderr("prompt   {} tokens in {:.3f} s, {:.1f} tokens/s", stats.prompt_tokens, stats.prefill_seconds,
              rate(stats.prompt_tokens, stats.prefill_seconds));
  PrintStderr(stats.cached_tokens > 0 ? fmt::format("; {} more were cached\n", stats.cached_tokens) : "\n");
  PrintStderr("decode   {} tokens in {:.3f} s, {:.1f} tokens/s\n", stats.decode_tokens, stats.decode_seconds,
              rate(stats.decode_tokens, stats.decode_seconds));
  PrintStderr("end      {}\n", end);
}

}  // namespace mxmla::app
