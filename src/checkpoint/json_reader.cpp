#include "checkpoint/json_reader.h"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace mxmla {
namespace {

constexpr int kMaxDepth = 64;

}  // namespace

std::string ShowJson(const Json& value) {
  constexpr size_t kLongest = 80;
  if (value.is_object() && !value.empty()) return fmt::format("an object of {} keys", value.size());
  if (value.is_array() && value.size() > 8) return fmt::format("a list of {} values", value.size());
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

Json ParseJsonObject(std::string_view text, const std::string& subject, ErrorCode code) {
  bool too_deep = false;
  const auto limit_depth = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > kMaxDepth) too_deep = true;
    return !too_deep;  // a discarded value is not built, so depth costs nothing
  };
  Json json;
  try {
    json = Json::parse(text.begin(), text.end(), limit_depth);
  } catch (const Json::exception& error) {
    std::string reason = error.what();
    if (const size_t end = reason.find("] "); end != std::string::npos) reason = reason.substr(end + 2);
    Fail(code, subject, "a JSON object", "text that is not JSON (" + reason + ")");
  }
  if (too_deep) Fail(code, subject, fmt::format("JSON nested at most {} deep", kMaxDepth), "deeper nesting");
  if (!json.is_object()) Fail(code, subject, "a JSON object", ShowJson(json));
  return json;
}

std::string ReadTextFile(const std::string& path, ErrorCode code, size_t limit) {
  std::error_code status;
  if (!std::filesystem::is_regular_file(path, status)) {
    Fail(ErrorCode::kMissingFile, path, "a file", status ? status.message() : "none",
         "a model folder holds config.json, *.safetensors and a tokenizer");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) Fail(ErrorCode::kMissingFile, path, "a readable file", std::strerror(errno));
  const auto size = std::filesystem::file_size(path, status);
  if (status) Fail(ErrorCode::kMissingFile, path, "a readable file", status.message());
  if (size > limit) Fail(code, path, fmt::format("at most {} bytes", limit), fmt::format("{} bytes", size));
  std::string text(static_cast<size_t>(size), '\0');
  file.read(text.data(), static_cast<std::streamsize>(size));
  if (static_cast<size_t>(file.gcount()) != text.size()) {
    Fail(ErrorCode::kMissingFile, path, fmt::format("{} readable bytes", size), fmt::format("{}", file.gcount()));
  }
  return text;
}

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
