#include "checkpoint/json_reader.h"

#include <fmt/format.h>

#include <cmath>

namespace mxmla {
JsonFields::JsonFields(const Json& object, std::string subject, std::string path)
    : object_(&object), subject_(std::move(subject)), path_(std::move(path)) {
  if (!object.is_object()) Fail(ErrorCode::kBadConfig, Subject(""), "an object", ShowJson(object));
}

std::string JsonFields::Subject(std::string_view key) const {
  std::string name = path_;
  if (!name.empty() && !key.empty()) name += '.';
  name += key;
  return name.empty() ? subject_ : subject_ + ": " + name;
}

void JsonFields::Refuse(std::string_view key, std::string_view expected, std::string_view found,
                        std::string_view hint) const {
  Fail(ErrorCode::kBadConfig, Subject(key), expected, found, hint);
}

const Json* JsonFields::Find(std::string_view key) const {
  const auto at = object_->find(std::string(key));
  return at == object_->end() ? nullptr : &*at;
}

bool JsonFields::HasValue(std::string_view key) const {
  const Json* value = Find(key);
  return value && !value->is_null();
}

int64_t JsonFields::CheckInt(std::string_view key, const Json& value, int64_t low, int64_t high) const {
  const std::string expected = fmt::format("an integer from {} to {}", low, high);
  int64_t number = 0;
  if (value.is_number_unsigned()) {
    const uint64_t wide = value.get<uint64_t>();
    if (wide > static_cast<uint64_t>(INT64_MAX)) Refuse(key, expected, ShowJson(value));
    number = static_cast<int64_t>(wide);
  } else if (value.is_number_integer()) {
    number = value.get<int64_t>();
  } else {
    Refuse(key, expected, ShowJson(value));
  }
  if (number < low || number > high) Refuse(key, expected, ShowJson(value));
  return number;
}

int64_t JsonFields::Int(std::string_view key, int64_t fallback, int64_t low, int64_t high) const {
  const Json* value = Find(key);
  return value ? CheckInt(key, *value, low, high) : fallback;
}

int64_t JsonFields::IntOrNull(std::string_view key, int64_t fallback, int64_t when_null, int64_t low,
                              int64_t high) const {
  const Json* value = Find(key);
  if (value && value->is_null()) return when_null;
  return value ? CheckInt(key, *value, low, high) : fallback;
}

double JsonFields::Number(std::string_view key, double fallback, double low, double high) const {
  const Json* value = Find(key);
  if (!value) return fallback;
  const std::string expected = fmt::format("a number from {} to {}", low, high);
  if (!value->is_number()) Refuse(key, expected, ShowJson(*value));
  const double number = value->get<double>();
  if (!(number >= low && number <= high)) Refuse(key, expected, ShowJson(*value));
  return number;
}

double JsonFields::NumberOrNull(std::string_view key, double fallback, double low, double high) const {
  return HasValue(key) ? Number(key, fallback, low, high) : fallback;
}

bool JsonFields::Bool(std::string_view key, bool fallback) const {
  const Json* value = Find(key);
  if (!value) return fallback;
  if (!value->is_boolean()) Refuse(key, "true or false", ShowJson(*value));
  return value->get<bool>();
}

bool JsonFields::BoolOrNull(std::string_view key, bool fallback) const {
  return HasValue(key) ? Bool(key, fallback) : fallback;
}

std::string JsonFields::String(std::string_view key, std::string_view fallback) const {
  const Json* value = Find(key);
  if (!value) return std::string(fallback);
  if (!value->is_string()) Refuse(key, "a string", ShowJson(*value));
  return value->get<std::string>();
}

std::string JsonFields::StringOrNull(std::string_view key, std::string_view fallback) const {
  return HasValue(key) ? String(key, fallback) : std::string(fallback);
}

std::vector<int64_t> JsonFields::IntList(std::string_view key, std::vector<int64_t> fallback, int64_t low,
                                         int64_t high) const {
  const Json* value = Find(key);
  if (!value) return fallback;
  if (value->is_null()) return {};
  if (!value->is_array()) return {CheckInt(key, *value, low, high)};
  std::vector<int64_t> list;
  for (const Json& item : *value) list.push_back(CheckInt(key, item, low, high));
  return list;
}

std::vector<std::string> JsonFields::StringList(std::string_view key) const {
  if (!HasValue(key)) return {};
  const Json& value = *Find(key);
  if (!value.is_array()) Refuse(key, "a list of strings", ShowJson(value));
  std::vector<std::string> list;
  for (const Json& item : value) {
    if (!item.is_string()) Refuse(key, "a list of strings", ShowJson(item));
    list.push_back(item.get<std::string>());
  }
  return list;
}

std::optional<JsonFields> JsonFields::Object(std::string_view key) const {
  if (!HasValue(key)) return std::nullopt;
  const Json& value = *Find(key);
  if (!value.is_object()) Refuse(key, "an object", ShowJson(value));
  return JsonFields(value, subject_, path_.empty() ? std::string(key) : path_ + "." + std::string(key));
}

}  // namespace mxmla
