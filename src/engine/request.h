// What is asked of the scheduler, and what it answers.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ops/sample.h"
#include "text/tokenizer.h"

namespace mxmla {

// Added to a token's logit.
struct LogitBias {
  int32_t token = 0;
  float value = 0;
};

// Log-probabilities at one position, as ops/sample.h defines them.
struct TokenLogprobs {
  struct Choice {
    int32_t token;
    float logprob;
  };
  float chosen = 0;
  std::vector<Choice> top;  // the likeliest, in falling order
};

struct GenerateRequest {
  std::vector<int32_t> prompt;  // at least one token
  int64_t max_tokens = 0;       // new tokens at most
  SamplingOptions sampling;
  std::vector<LogitBias> logit_bias;  // at most kMaxBiases
  bool logprobs = false;              // fill GenerateResult::logprobs, with sampling.top_logprobs others
  // Called before each choice with the new tokens so far and a bit for each token, all set: bit t % 32 of word t / 32
  // is token t's. Clears those that may not follow; what it throws ends this request alone. May be empty.
  std::function<void(std::span<const int32_t> generated, std::span<uint32_t> allowed)> restrict_tokens;
  uint64_t seed = 0;
  uint64_t client = 0;               // whose request it is: clients that wait take turns
  std::vector<int32_t> stop_tokens;  // end the request; not part of its result
  // For measuring long contexts: so many of the prompt's first tokens, not all of it, are not computed; random numbers
  // stand for their cache rows, which are shared with nobody.
  int64_t random_rows = 0;
  // Called before on_token with the token's log-probabilities, where `logprobs` asks for them. May be empty.
  std::function<void(const TokenLogprobs& logprobs)> on_logprobs;
  // Called with each new token as it is chosen; false ends the request. What it throws ends this request alone. May be
  // empty.
  std::function<bool(int32_t token)> on_token;

  // Turns the new tokens into GenerateResult::text; outlives the request. Null: no text, and none of what follows.
  const Tokenizer* tokenizer = nullptr;
  bool skip_special_tokens = false;  // in the text
  // The text ends before the first of these, wherever the tokens are cut; the tokens that spell it are in the result.
  std::vector<std::string> stop_strings;
  // Called with each piece of the text as soon as it is certain, whole characters; false ends the request. May be
  // empty.
  std::function<bool(std::string_view text)> on_text;
};

enum class FinishReason {
  kStop,       // a stop token, a stop string, or a callback said so
  kLength,     // max_tokens
  kCancelled,  // Scheduler::Cancel
  kError,      // see GenerateResult::error
};

struct GenerateResult {
  std::vector<int32_t> tokens;
  std::vector<TokenLogprobs> logprobs;  // of the tokens, where asked for
  std::string text;                     // of the tokens, up to a stop string; empty without a tokenizer
  FinishReason reason = FinishReason::kLength;
  int32_t stop_token = -1;    // kStop: the stop token, if one was the reason
  int32_t stop_string = -1;   // kStop: which of stop_strings, if one was the reason
  int64_t cached_tokens = 0;  // of the prompt, found in the cache
  std::exception_ptr error;   // kError only

  bool stopped() const { return reason == FinishReason::kStop; }
};

}  // namespace mxmla
