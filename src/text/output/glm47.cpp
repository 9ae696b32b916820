#include <set>

#include "text/output/tool_format.h"

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

// A template writes texts as they are and everything else as JSON: which of them it was, the schema knows. The JSON of
// a text never stands for itself.
std::string ReadValue(const std::string& raw, const Json* schema) {
  std::set<std::string> types;
  const bool known = schema && AddTypes(*schema, 8, &types);
  if (known && types.size() == 1 && types.contains("string")) return JsonQuoted(raw);
  if (IsJsonValue(raw)) {
    const Json value = Json::parse(raw);
    if (!value.is_string() && (!known || !types.contains("string") || IsAllowed(value, types))) return raw;
  }
  return JsonQuoted(raw);
}

struct Markers {
  MarkedText key_begin, key_end, value_begin, value_end;
};

// What stands between `begin`, which is next but for white space, and `end`; `text` then begins behind it.
std::optional<std::string> Take(MarkedView* text, const MarkedText& begin, const MarkedText& end) {
  while (!text->empty() && IsSpace(text->front())) text->remove_prefix(1);
  if (!text->starts_with(begin)) return std::nullopt;
  const size_t found = text->find(end, begin.size());
  if (found == MarkedView::npos) return std::nullopt;
  std::string inside = BytesOf(text->substr(begin.size(), found - begin.size()));
  text->remove_prefix(found + end.size());
  return inside;
}

std::optional<std::vector<ToolCall>> Parse(const Markers& markers, MarkedView body, const ToolSchemas& schemas) {
  const size_t first = std::min(body.find(markers.key_begin), body.size());
  ToolCall call;
  call.name = BytesOf(Trimmed(body.substr(0, first)));
  if (!IsToolName(call.name)) return std::nullopt;
  body.remove_prefix(first);
  std::set<std::string> keys;
  call.arguments = "{";
  while (!Trimmed(body).empty()) {
    auto key = Take(&body, markers.key_begin, markers.key_end);
    const auto value = key ? Take(&body, markers.value_begin, markers.value_end) : std::nullopt;
    if (!value || !keys.insert(*key).second) return std::nullopt;
    if (call.arguments.size() > 1) call.arguments += ", ";
    call.arguments += JsonQuoted(*key) + ": " + ReadValue(*value, PropertySchema(schemas, call.name, *key));
  }
  call.arguments += "}";
  if (!JsonArguments(Plain(call.arguments))) return std::nullopt;  // too deep, or too many
  return std::vector<ToolCall>{std::move(call)};
}

}  // namespace

ToolFormat Glm47Tools(const Tokenizer& tokenizer) {
  ToolFormat format;
  format.name = "glm47";
  format.call_begin = Marker(tokenizer, "<tool_call>", &format.marker_tokens);
  format.call_end = Marker(tokenizer, "</tool_call>", &format.marker_tokens);
  const Markers markers{Marker(tokenizer, "<arg_key>", &format.marker_tokens),
                        Marker(tokenizer, "</arg_key>", &format.marker_tokens),
                        Marker(tokenizer, "<arg_value>", &format.marker_tokens),
                        Marker(tokenizer, "</arg_value>", &format.marker_tokens)};
  format.parse = [markers](MarkedView body, const ToolSchemas& schemas) { return Parse(markers, body, schemas); };
  return format;
}

}  // namespace mxmla
