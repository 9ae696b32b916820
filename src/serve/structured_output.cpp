#include "serve/structured_output.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "serve/request_fields.h"

namespace mxmla::serve {
namespace {

constexpr size_t kMostChoices = 4096;

// A schema as an object, or as a text that holds one.
GrammarSource ReadSchema(const Json& value, const std::string& field) {
  if (value.is_object() || value.is_boolean()) return {GrammarKind::kJsonSchema, value.dump()};
  if (value.is_string()) return {GrammarKind::kJsonSchema, value.get<std::string>()};
  RefuseField(field, "a JSON schema", value.type_name());
}

GrammarSource ReadText(GrammarKind kind, const Json& value, const std::string& field) {
  if (!value.is_string()) RefuseField(field, "a text", value.type_name());
  return {kind, value.get<std::string>()};
}

GrammarSource ReadChoices(const Json& value, const std::string& field) {
  const auto is_choice = [](const Json& choice) {
    return choice.is_string() && !choice.get_ref<const std::string&>().empty();
  };
  if (!value.is_array() || value.empty() || value.size() > kMostChoices ||
      !std::all_of(value.begin(), value.end(), is_choice)) {
    RefuseField(field, fmt::format("a list of 1 to {} texts that are not empty", kMostChoices), value.type_name());
  }
  return ChoiceGrammar(value.get<std::vector<std::string>>());
}

GrammarSource ReadTag(const Json& value, const std::string& field) {
  if (value.is_string()) return {GrammarKind::kStructuralTag, value.get<std::string>()};
  if (!value.is_object()) RefuseField(field, "a structural tag", value.type_name());
  return {GrammarKind::kStructuralTag, value.dump()};
}

using Found = std::vector<StructuredOutput>;

void ReadResponseFormat(const Json& format, Found* found) {
  const std::string field = "response_format";
  const Json* type = format.is_object() ? FindField(format, "type") : nullptr;
  if (!type || !type->is_string()) {
    RefuseField(field, "an object with a type", format.is_object() ? "none" : format.type_name());
  }
  const auto& name = type->get_ref<const std::string&>();
  if (name == "text") return;
  if (name == "json_object") {
    found->push_back({JsonObjectGrammar(), field});
  } else if (name == "json_schema") {
    const Json* schema = FindField(format, "json_schema");
    // OpenAI wraps it with a name; some clients do not.
    const Json* inner = schema && schema->is_object() ? FindField(*schema, "schema") : FindField(format, "schema");
    if (!inner) RefuseField(field + ".json_schema.schema", "a JSON schema", "none");
    found->push_back({ReadSchema(*inner, field + ".json_schema.schema"), field});
  } else if (name == "structural_tag") {
    found->push_back({ReadTag(format, field), field});
  } else {
    RefuseField(field + ".type", "text, json_object, json_schema or structural_tag", PrintableLine(name, 40));
  }
}

// vLLM's object of one member.
void ReadStructuredOutputs(const Json& object, Found* found) {
  if (!object.is_object()) RefuseField("structured_outputs", "an object", object.type_name());
  for (const auto& [key, value] : object.items()) {
    const std::string field = "structured_outputs." + PrintableLine(key, 40);
    if (value.is_null()) continue;
    if (key == "json") {
      found->push_back({ReadSchema(value, field), field});
    } else if (key == "regex") {
      found->push_back({ReadText(GrammarKind::kRegex, value, field), field});
    } else if (key == "choice") {
      found->push_back({ReadChoices(value, field), field});
    } else if (key == "grammar") {
      found->push_back({ReadText(GrammarKind::kEbnf, value, field), field});
    } else if (key == "structural_tag") {
      found->push_back({ReadTag(value, field), field});
    } else if (key == "json_object") {
      if (!value.is_boolean()) RefuseField(field, "true or false", value.type_name());
      if (value == true) found->push_back({JsonObjectGrammar(), field});
    } else if (key != "disable_any_whitespace" && key != "disable_additional_properties") {
      RefuseField(field, "json, regex, choice, grammar, structural_tag or json_object", "another member");
    } else if (value != false) {
      RefuseField(field, "false: this server does not carry it out", value.dump().substr(0, 40));
    }
  }
}

}  // namespace

std::optional<StructuredOutput> ReadStructuredOutput(const Json& body) {
  Found found;
  if (const Json* format = FindField(body, "response_format")) ReadResponseFormat(*format, &found);
  if (const Json* object = FindField(body, "structured_outputs")) ReadStructuredOutputs(*object, &found);
  for (const char* field : {"guided_json", "json_schema"}) {
    if (const Json* value = FindField(body, field)) found.push_back({ReadSchema(*value, field), field});
  }
  for (const char* field : {"guided_regex", "regex"}) {
    if (const Json* value = FindField(body, field)) {
      found.push_back({ReadText(GrammarKind::kRegex, *value, field), field});
    }
  }
  for (const char* field : {"guided_grammar", "ebnf", "grammar"}) {
    if (const Json* value = FindField(body, field)) {
      found.push_back({ReadText(GrammarKind::kEbnf, *value, field), field});
    }
  }
  if (const Json* value = FindField(body, "guided_choice")) {
    found.push_back({ReadChoices(*value, "guided_choice"), "guided_choice"});
  }
  if (found.empty()) return std::nullopt;
  if (found.size() > 1) RefuseField(found[1].field, "one field that says what an answer looks like", "two of them");
  return std::move(found.front());
}

std::optional<StructuredOutput> ReadTypedFormat(const Json& format, const std::string& field,
                                                std::span<const char* const> types) {
  if (!format.is_object()) RefuseField(field, "an object", ShowField(format));
  const std::string type = TextField(format, "type").value_or("none");
  if (std::find(types.begin(), types.end(), type) == types.end()) {
    RefuseField(field + ".type", fmt::format("{}", fmt::join(types, ", ")), type);
  }
  if (type == "text") return std::nullopt;
  if (type == "json_object") return StructuredOutput{JsonObjectGrammar(), field};
  const Json* schema = FindField(format, "schema");
  if (!schema) RefuseField(field + ".schema", "a JSON schema", "none");
  return StructuredOutput{ReadSchema(*schema, field + ".schema"), field};
}

ApiError GrammarError(const StructuredOutput& structured, const GrammarOutcome& outcome) {
  if (outcome.code == ErrorCode::kInternal) return {503, "server_error", outcome.error, structured.field};
  return {400, "invalid_request_error", outcome.error, structured.field, "invalid_grammar"};
}

}  // namespace mxmla::serve
