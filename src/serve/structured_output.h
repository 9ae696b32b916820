// The fields of a request that say which texts may answer it.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>

#include "grammar/grammar.h"
#include "grammar/grammar_service.h"
#include "serve/api_error.h"

namespace mxmla::serve {

struct StructuredOutput {
  GrammarSource source;
  std::string field;  // where the request says it
};

// response_format of type json_object, json_schema or structural_tag; structured_outputs and guided_json, guided_regex,
// guided_choice, guided_grammar, which are vLLM's; json_schema, regex, ebnf, SGLang's; grammar, llama-server's. Nothing
// where the body has none of them. Refused (ApiError 400, naming the field): two of them, or what is none of this.
std::optional<StructuredOutput> ReadStructuredOutput(const nlohmann::ordered_json& body);

// The same of another API's field: `format` has a type, one of `types`, and a schema where that is json_schema.
std::optional<StructuredOutput> ReadTypedFormat(const nlohmann::ordered_json& format, const std::string& field,
                                                std::span<const char* const> types);

// The answer to a request whose grammar was refused.
ApiError GrammarError(const StructuredOutput& structured, const GrammarOutcome& outcome);

}  // namespace mxmla::serve
