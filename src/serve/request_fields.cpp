#include "serve/request_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <random>

#include "model/batch.h"
#include "serve/api_error.h"

namespace mxmla::serve {
namespace {

constexpr int64_t kMostChoices = 128;
constexpr size_t kMostStops = 64;
constexpr size_t kLongestStop = 4096;

// Fields of other servers that change what is answered, with the value, as JSON, that changes nothing.
struct UncarriedField {
  const char* name;
  const char* neutral = "null";
};
constexpr UncarriedField kUncarried[] = {
    // OpenAI's
    {"audio"},
    {"function_call"},
    {"functions"},
    {"prediction"},
    {"suffix", R"("")"},
    {"web_search_options"},
    // lengths and ends
    {"include_stop_str_in_output"},
    {"max_new_tokens"},
    {"min_length", "0"},
    {"min_new_tokens", "0"},
    {"min_tokens", "0"},
    {"n_predict"},
    {"no_stop_trim"},
    {"stop_regex"},
    {"thinking_token_budget"},
    // sampling
    {"allowed_token_ids"},
    {"bad_words"},
    {"custom_logit_processor"},
    {"dry_multiplier", "0"},
    {"dynatemp_range", "0"},
    {"early_stopping"},
    {"epsilon_cutoff", "0"},
    {"eta_cutoff", "0"},
    {"length_penalty", "1"},
    {"logits_processors"},
    {"mirostat", "0"},
    {"mirostat_mode", "0"},
    {"no_repeat_ngram_size", "0"},
    {"num_beams", "1"},
    {"penalty_alpha", "0"},
    {"repeat_penalty", "1"},
    {"smoothing_factor", "0"},
    {"tfs", "1"},
    {"tfs_z", "1"},
    {"top_a", "0"},
    {"top_n_sigma", "-1"},
    {"typical_p", "1"},
    {"use_beam_search"},
    {"xtc_probability", "0"},
    // what is read, and what is answered
    {"chat_template"},
    {"continue_final_message"},
    {"documents"},
    {"image_data"},
    {"include_reasoning", "true"},
    {"lora"},
    {"lora_path"},
    {"mm_processor_kwargs"},
    {"n_probs", "0"},
    {"prompt_embeds"},
    {"prompt_logprobs"},
    {"return_hidden_states"},
    {"separate_reasoning", "true"},
    {"truncate_prompt_tokens"},
};

// Whether a field that is not carried out asks for nothing.
bool IsNothing(const Json& value, const UncarriedField& field) {
  const Json neutral = Json::parse(field.neutral);
  if (value.is_null() || value == neutral) return true;
  return (value == false && neutral != true) || ((value.is_array() || value.is_object()) && value.empty());
}

std::vector<std::string> ReadStops(const Json& stop) {
  std::vector<std::string> strings;
  const auto add = [&](const Json& value) {
    if (!value.is_string() || value.get_ref<const std::string&>().empty() ||
        value.get_ref<const std::string&>().size() > kLongestStop) {
      RefuseField("stop", fmt::format("texts of 1 to {} bytes", kLongestStop), ShowField(value));
    }
    strings.push_back(value.get<std::string>());
  };
  if (!stop.is_array()) {
    add(stop);
  } else {
    if (stop.size() > kMostStops) RefuseField("stop", fmt::format("at most {} texts", kMostStops), ShowField(stop));
    for (const Json& value : stop) add(value);
  }
  return strings;
}

std::vector<LogitBias> ReadBiases(const Json& biases, int64_t vocab_size) {
  std::vector<LogitBias> read;
  if (!biases.is_object()) RefuseField("logit_bias", "an object of token ids and numbers", ShowField(biases));
  if (static_cast<int64_t>(biases.size()) > kMaxBiases) {
    RefuseField("logit_bias", fmt::format("at most {} tokens", kMaxBiases), fmt::format("{}", biases.size()));
  }
  for (const auto& [key, value] : biases.items()) {
    int64_t token = -1;
    const auto [stop, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (error != std::errc() || stop != key.data() + key.size() || token < 0 || token >= vocab_size) {
      RefuseField("logit_bias", fmt::format("token ids in 0..{}", vocab_size - 1), key);
    }
    if (!value.is_number() || !(std::abs(value.get<double>()) <= 1000)) {
      RefuseField("logit_bias", "numbers in -1000..1000", ShowField(value));
    }
    read.push_back({static_cast<int32_t>(token), static_cast<float>(value.get<double>())});
  }
  return read;
}

}  // namespace

Json WithoutFields(const Json& body, std::initializer_list<std::string_view> names) {
  Json others = Json::object();
  for (const auto& [name, value] : body.items()) {
    if (std::find(names.begin(), names.end(), name) == names.end()) others[name] = value;
  }
  return others;
}

std::string ShowField(const Json& value) {
  if (value.is_array()) return fmt::format("a list of {}", value.size());
  if (value.is_object()) return "an object";
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 80) text.replace(80, std::string::npos, "...");
  return text;
}

const Json* FindField(const Json& body, const char* name) {
  const auto found = body.find(name);
  return found == body.end() || found->is_null() ? nullptr : &*found;
}

std::optional<double> NumberField(const Json& body, const char* name, double low, double high) {
  const Json* value = FindField(body, name);
  if (!value) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= low && number <= high))
    RefuseField(name, fmt::format("a number in {}..{}", low, high), ShowField(*value));
  return number;
}

std::optional<int64_t> IntegerField(const Json& body, const char* name, int64_t low, int64_t high) {
  const Json* value = FindField(body, name);
  if (!value) return std::nullopt;
  const bool fits = value->is_number_integer() &&
                    !(value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX));
  if (!fits || value->get<int64_t>() < low || value->get<int64_t>() > high) {
    RefuseField(name, fmt::format("a whole number in {}..{}", low, high), ShowField(*value));
  }
  return value->get<int64_t>();
}

std::optional<bool> BoolField(const Json& body, const char* name) {
  const Json* value = FindField(body, name);
  if (!value) return std::nullopt;
  if (!value->is_boolean()) RefuseField(name, "true or false", ShowField(*value));
  return value->get<bool>();
}

std::optional<std::string> TextField(const Json& body, const char* name) {
  const Json* value = FindField(body, name);
  if (!value) return std::nullopt;
  if (!value->is_string()) RefuseField(name, "a text", ShowField(*value));
  return value->get<std::string>();
}

void RefuseFieldsOfOthers(const Json& body, std::initializer_list<const char*> names, const std::string& api) {
  for (const char* name : names) {
    const Json* value = FindField(body, name);
    if (value && !IsNothing(*value, {name})) RefuseField(name, "no such field in " + api, ShowField(*value));
  }
}

void RefuseSecondForm(const GenerationFields& fields, const std::string& field) {
  if (fields.structured) RefuseField(field, "one field that says what an answer looks like", "two of them");
}

void RefuseUnknownFields(const Json& body) {
  for (const UncarriedField& field : kUncarried) {
    const Json* value = FindField(body, field.name);
    if (value && !IsNothing(*value, field)) {
      RefuseField(field.name, "no such field, which this server does not carry out", ShowField(*value));
    }
  }
  if (const Json* modalities = FindField(body, "modalities"); modalities && *modalities != Json::array({"text"})) {
    RefuseField("modalities", "[\"text\"]", ShowField(*modalities));
  }
  if (IntegerField(body, "best_of", 1, 1 << 20).value_or(1) > IntegerField(body, "n", 1, 1 << 20).value_or(1)) {
    RefuseField("best_of", "at most n", ShowField(body["best_of"]));
  }
}

GenerationFields ReadGenerationFields(const Json& body, const SuggestedSampling& suggested, int64_t vocab_size) {
  RefuseUnknownFields(body);
  GenerationFields fields;
  GenerateRequest& request = fields.request;
  SamplingOptions& sampling = request.sampling;
  sampling = suggested.Applied();
  if (!suggested.temperature) sampling.temperature = 1;
  const auto set = [&](const char* name, float* value, double low, double high) {
    if (const auto given = NumberField(body, name, low, high)) *value = static_cast<float>(*given);
  };
  set("temperature", &sampling.temperature, 0, 1000);
  set("top_p", &sampling.top_p, 0, 1);
  set("min_p", &sampling.min_p, 0, 1);
  set("repetition_penalty", &sampling.repetition_penalty, 1e-3, 1e3);
  set("presence_penalty", &sampling.presence_penalty, -1000, 1000);
  set("frequency_penalty", &sampling.frequency_penalty, -1000, 1000);
  // -1 is what some servers call all.
  if (const auto k = IntegerField(body, "top_k", -1, int64_t{1} << 31)) sampling.top_k = std::max<int64_t>(*k, 0);
  if (const Json* biases = FindField(body, "logit_bias")) request.logit_bias = ReadBiases(*biases, vocab_size);
  const auto seed = IntegerField(body, "seed", INT64_MIN, INT64_MAX);
  request.seed = seed ? static_cast<uint64_t>(*seed) : std::random_device()();
  if (const Json* stop = FindField(body, "stop")) fields.stop_strings = ReadStops(*stop);
  if (const Json* stops = FindField(body, "stop_token_ids")) {
    if (!stops->is_array() || stops->size() > kMostStops) {
      RefuseField("stop_token_ids", fmt::format("a list of at most {} token ids", kMostStops), ShowField(*stops));
    }
    for (const Json& id : *stops) {
      if (!id.is_number_integer() || id < 0 || id >= vocab_size) {
        RefuseField("stop_token_ids", fmt::format("token ids in 0..{}", vocab_size - 1), ShowField(id));
      }
      request.stop_tokens.push_back(id.get<int32_t>());
    }
  }
  fields.skip_special_tokens = BoolField(body, "skip_special_tokens").value_or(true);
  fields.max_tokens = IntegerField(body, "max_completion_tokens", 0, int64_t{1} << 40);
  if (!fields.max_tokens) fields.max_tokens = IntegerField(body, "max_tokens", 0, int64_t{1} << 40);
  fields.n = IntegerField(body, "n", 1, kMostChoices).value_or(1);
  fields.stream = BoolField(body, "stream").value_or(false);
  fields.ignore_eos = BoolField(body, "ignore_eos").value_or(false);
  fields.structured = ReadStructuredOutput(body);
  if (fields.structured && fields.ignore_eos) {
    RefuseField("ignore_eos", "false beside " + fields.structured->field, "true");
  }
  if (const Json* options = FindField(body, "stream_options")) {
    if (!options->is_object()) RefuseField("stream_options", "an object", ShowField(*options));
    fields.include_usage = BoolField(*options, "include_usage").value_or(false);
  }
  return fields;
}

}  // namespace mxmla::serve
