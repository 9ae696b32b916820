#include "text/json_fields.h"

#include <fmt/format.h>

namespace mxmla {
const nlohmann::json& Field(const nlohmann::json& object, const char* name, const std::string& subject) {
  if (!object.is_object()) Fail(ErrorCode::kTokenizer, subject, "a JSON object", object.type_name());
  const auto found = object.find(name);
  if (found == object.end()) Fail(ErrorCode::kTokenizer, subject, fmt::format("the field \"{}\"", name), "none");
  return *found;
}

std::string StringField(const nlohmann::json& object, const char* name, const std::string& subject) {
  const nlohmann::json& value = Field(object, name, subject);
  if (!value.is_string()) {
    Fail(ErrorCode::kTokenizer, subject, fmt::format("a string in \"{}\"", name), value.type_name());
  }
  return value.get<std::string>();
}

bool BoolField(const nlohmann::json& object, const char* name, bool default_value, const std::string& subject) {
  if (!object.is_object()) Fail(ErrorCode::kTokenizer, subject, "a JSON object", object.type_name());
  if (!HasField(object, name)) return default_value;
  const nlohmann::json& value = object[name];
  if (!value.is_boolean()) {
    Fail(ErrorCode::kTokenizer, subject, fmt::format("true or false in \"{}\"", name), value.type_name());
  }
  return value.get<bool>();
}

int64_t IdField(const nlohmann::json& value, const std::string& subject) {
  if (!value.is_number_integer())
    Fail(ErrorCode::kTokenizer, subject, "a whole number as id", value.dump().substr(0, 60));
  if (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX) return INT64_MAX;
  return value.get<int64_t>();
}

bool HasField(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && !found->is_null();
}

std::optional<std::string> TokenNameField(const nlohmann::json& config, const char* name, const std::string& subject) {
  if (!HasField(config, name)) return std::nullopt;
  const nlohmann::json& value = config[name];
  if (value.is_string()) return value.get<std::string>();
  return StringField(value, "content", fmt::format("{}: {}", subject, name));
}

}  // namespace mxmla
