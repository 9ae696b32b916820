// The fields of a request's JSON that say how to generate, the same for chat and plain completions.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/config.h"
#include "engine/generation_config.h"
#include "engine/request.h"
#include "serve/structured_output.h"

namespace mxmla::serve {

using Json = nlohmann::ordered_json;

// The field, or null where it is missing or null.
const Json* FindField(const Json& body, const char* name);
// Each is the field's value, or nothing where it is missing or null. Refused (ApiError 400, naming it): another type,
// a value outside low .. high.
std::optional<double> NumberField(const Json& body, const char* name, double low, double high);
std::optional<int64_t> IntegerField(const Json& body, const char* name, int64_t low, int64_t high);
std::optional<bool> BoolField(const Json& body, const char* name);
std::optional<std::string> TextField(const Json& body, const char* name);

// The body's other fields: those named may be long.
Json WithoutFields(const Json& body, std::initializer_list<std::string_view> names);

// A value as an error shows it: short, one line.
std::string ShowField(const Json& value);

// Refuses fields that would change the answer and that this server does not carry out, by name. Fields that change
// nothing about the answer (user, metadata, ...) are nobody's business.
void RefuseUnknownFields(const Json& body);
// Refuses fields that mean something in another API of this server, but nothing in `api`.
void RefuseFieldsOfOthers(const Json& body, std::initializer_list<const char*> names, const std::string& api);

struct GenerationFields {
  GenerateRequest request;  // sampling, biases, seed and stop tokens; no prompt
  std::vector<std::string> stop_strings;
  bool skip_special_tokens = true;
  std::optional<int64_t> max_tokens;
  int64_t n = 1;
  bool stream = false, include_usage = false;
  bool ignore_eos = false;
  std::optional<StructuredOutput> structured;
};

// max_tokens, max_completion_tokens, temperature, top_p, top_k, min_p, repetition_penalty, presence_penalty,
// frequency_penalty, logit_bias, seed, stop, stop_token_ids, n, stream, stream_options, ignore_eos,
// skip_special_tokens, and those of ReadStructuredOutput. What the body does not say is as `suggested`, else as OpenAI
// defines it: temperature 1.
GenerationFields ReadGenerationFields(const Json& body, const SuggestedSampling& suggested, int64_t vocab_size);
// Refuses `field` where another has said already what the answer looks like.
void RefuseSecondForm(const GenerationFields& fields, const std::string& field);

}  // namespace mxmla::serve
