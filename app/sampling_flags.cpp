#include "sampling_flags.h"

#include <charconv>
#include <cmath>
#include <random>

#include "common.h"
#include "core/error.h"

namespace mxmla::app {
namespace {

// A range lets NaN through.
std::string IsNumber(const std::string& text) {
  return text.find_first_of("nN") == std::string::npos ? std::string() : text + " is not a number";
}

LogitBias ParseLogitBias(const std::string& text, int64_t vocab_size) {
  const char* const end = text.data() + text.size();
  int64_t token = 0;
  const auto [equals, id_error] = std::from_chars(text.data(), end, token);
  float value = 0;
  const bool has_value = id_error != std::errc::invalid_argument && equals != end && *equals == '=';
  // from_chars takes no plus sign.
  const char* const number = !has_value ? end : equals + 1 + (equals + 1 != end && equals[1] == '+');
  const auto [stop, error] = std::from_chars(number, end, value);
  if (!has_value || error != std::errc() || stop != end || !std::isfinite(value)) {
    Fail(ErrorCode::kUsage, "--logit-bias", "ID=VALUE, a token id and a number", text,
         "for example --logit-bias 42=-5");
  }
  if (id_error != std::errc() || token < 0 || token >= vocab_size) {
    Fail(ErrorCode::kTokenRange, "--logit-bias", fmt::format("an id in 0..{}", vocab_size - 1),
         text.substr(0, static_cast<size_t>(equals - text.data())));
  }
  return {static_cast<int32_t>(token), value};
}

}  // namespace

void SamplingFlags::AddTo(CLI::App& command, const std::string& defaults) {
  const auto number = [&](const char* flag, std::optional<float>* value, const char* help, double low, double high,
                          const char* neutral) {
    command.add_option(flag, *value, help)
        ->check(CLI::Range(low, high))
        ->check(IsNumber)
        ->default_str(defaults.empty() ? neutral : defaults);
  };
  number("--temperature", &temperature, "0 is greedy", 0, 1000, "0");
  command.add_option("--top-k", top_k, "sample among the K likeliest tokens; 0 is all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 31))
      ->default_str(defaults.empty() ? "0" : defaults);
  number("--top-p", &top_p, "sample among the likeliest tokens of this joint probability", 1e-6, 1, "1");
  number("--min-p", &min_p, "sample among tokens at least this times as likely as the likeliest", 0, 1, "0");
  number("--repetition-penalty", &repetition_penalty,
         "divide the positive logits of tokens in prompt and output by this, multiply the negative ones", 1e-3, 1e3,
         "1");
  command.add_option("--presence-penalty", presence_penalty, "taken off the logit of tokens in the output")
      ->check(CLI::Range(-1000.0, 1000.0))
      ->check(IsNumber)
      ->default_str("0");
  command
      .add_option("--frequency-penalty", frequency_penalty,
                  "taken off the logit of tokens in the output, times their number there")
      ->check(CLI::Range(-1000.0, 1000.0))
      ->check(IsNumber)
      ->default_str("0");
  command
      .add_option("--logit-bias", logit_bias, "ID=VALUE: added to the logit of a token; may be given more than once")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command.add_option("--seed", seed, "of the random numbers; -1 takes a random one and prints it")
      ->check(CLI::Range(int64_t{-1}, std::numeric_limits<int64_t>::max()))
      ->capture_default_str();
  command.add_option("--stop", stop_strings, "end the text before this; may be given more than once")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

bool SamplingFlags::given() const {
  return temperature || top_k || top_p || min_p || repetition_penalty || presence_penalty || frequency_penalty ||
         !logit_bias.empty();
}

void SamplingFlags::ApplyTo(GenerateRequest* request, const SuggestedSampling& suggested, int64_t vocab_size) const {
  SamplingOptions options = suggested.Applied();
  options.temperature = temperature.value_or(options.temperature);
  options.top_k = top_k.value_or(options.top_k);
  options.top_p = top_p.value_or(options.top_p);
  options.min_p = min_p.value_or(options.min_p);
  options.repetition_penalty = repetition_penalty.value_or(options.repetition_penalty);
  options.presence_penalty = presence_penalty.value_or(options.presence_penalty);
  options.frequency_penalty = frequency_penalty.value_or(options.frequency_penalty);
  request->sampling = options;
  request->logit_bias.clear();
  for (const std::string& text : logit_bias) request->logit_bias.push_back(ParseLogitBias(text, vocab_size));
  request->stop_strings = stop_strings;
  request->seed = static_cast<uint64_t>(seed);
  if (seed < 0) {
    request->seed = std::random_device()();
    Note(fmt::format("--seed {} was drawn", request->seed));
  }
}

}  // namespace mxmla::app
