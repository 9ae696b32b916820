#include <set>

#include "text/output/field_call.h"

namespace mxmla {
namespace {

using Json = nlohmann::ordered_json;

// Adds the names of the JSON types that a schema allows; false where it does not say.
bool AddTypes(const Json& schema, int depth, std::set<std::string>* types) {
  if (!schema.is_object() || depth == 0) return false;
  if (const auto type = schema.find("type"); type != schema.end()) {
    if (type->is_string()) types->insert(type->get<std::string>());
    if (type->is_array()) {
      for (const Json& one : *type) {
        if (one.is_string()) types->insert(one.get<std::string>());
      }
    }
    return !types->empty();
  }
  if (const auto values = schema.find("enum"); values != schema.end() && values->is_array() && !values->empty()) {
    for (const Json& value : *values) types->insert(value.is_number() ? "number" : value.type_name());
    return true;
  }
  for (const char* key : {"anyOf", "oneOf"}) {
    const auto choices = schema.find(key);
    if (choices == schema.end() || !choices->is_array() || choices->empty()) continue;
    bool known = true;
    for (const Json& choice : *choices) known = AddTypes(choice, depth - 1, types) && known;
    return known;
  }
  return false;
}

bool IsAllowed(const Json& value, const std::set<std::string>& types) {
  if (value.is_number()) return types.contains("number") || (value.is_number_integer() && types.contains("integer"));
  return types.contains(value.type_name());
}

const Json* PropertySchema(const ToolSchemas& schemas, const std::string& tool, const std::string& key) {
  const auto found = schemas.find(tool);
  if (found == schemas.end() || !found->second.is_object()) return nullptr;
  const auto properties = found->second.find("properties");
  if (properties == found->second.end() || !properties->is_object()) return nullptr;
  const auto property = properties->find(key);
  return property == properties->end() ? nullptr : &*property;
}

// The types that the schema of an argument allows, where it says.
std::optional<std::set<std::string>> KnownTypes(const FieldArgument& argument) {
  std::set<std::string> types;
  const Json* schema = PropertySchema(argument.schemas, argument.tool, argument.key);
  if (!schema || !AddTypes(*schema, 8, &types)) return std::nullopt;
  return types;
}

bool IsText(const FieldArgument& argument) { return KnownTypes(argument) == std::set<std::string>{"string"}; }

// A template writes texts as they are and everything else as JSON: which of them it was, the schema knows. The JSON of
// a text never stands for itself.
std::optional<std::string> ReadValue(const FieldArgument& argument, const std::string& raw) {
  if (!IsJsonValue(raw)) return JsonQuoted(raw);
  const auto types = KnownTypes(argument);
  const Json value = Json::parse(raw);
  const bool as_it_stands = !value.is_string() && (!types || !types->contains("string") || IsAllowed(value, *types));
  return as_it_stands ? raw : JsonQuoted(raw);
}

}  // namespace

ToolFormat Glm47Tools(const Tokenizer& tokenizer) {
  using Before = FieldStep::Before;
  ToolFormat format = MarkedFormat("glm47", tokenizer, "", "", "<tool_call>", "</tool_call>");
  const auto marker = [&](const char* content) { return Marker(tokenizer, content, &format.marker_tokens); };
  const MarkedText key = marker("<arg_key>");
  FieldSyntax syntax;
  syntax.steps = {{Before::kTool, key, true},
                  {Before::kKey, marker("</arg_key>")},
                  {Before::kSpace, marker("<arg_value>")},
                  {Before::kValue, marker("</arg_value>")},
                  {Before::kSpace, key, true}};
  syntax.again = 1;
  syntax.is_text = IsText;
  syntax.json = ReadValue;
  format.read = [shared = std::make_shared<const FieldSyntax>(std::move(syntax))](const ToolSchemas& schemas) {
    return ReadFieldCall(shared, schemas);
  };
  return format;
}

}  // namespace mxmla
