#include "text/json_file.h"

#include <fmt/format.h>

#include <fstream>

namespace mxmla {
namespace {

constexpr uintmax_t kLargestFile = 512u * 1024 * 1024;

}  // namespace

std::string ReadTextFile(const std::filesystem::path& path, ErrorCode code) {
  std::error_code error;
  const bool is_file = std::filesystem::is_regular_file(path, error);
  const uintmax_t size = is_file ? std::filesystem::file_size(path, error) : 0;
  std::ifstream file(path, std::ios::binary);
  if (!is_file || error || !file) {
    Fail(ErrorCode::kMissingFile, path.string(), "a readable file", error ? error.message() : "none");
  }
  if (size > kLargestFile) Fail(code, path.string(), "a file up to 512 MiB", fmt::format("{} bytes", size));
  std::string text(size, '\0');
  file.read(text.data(), static_cast<std::streamsize>(size));
  if (file.gcount() != static_cast<std::streamsize>(size)) {
    Fail(ErrorCode::kMissingFile, path.string(), fmt::format("{} bytes", size),
         fmt::format("{} that could be read", file.gcount()));
  }
  return text;
}

nlohmann::json ReadJsonObject(const std::filesystem::path& path, ErrorCode code) {
  const std::string text = ReadTextFile(path, code);
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& e) {
    Fail(code, path.string(), "a JSON object", e.what(), "the file is damaged; fetch it again");
  }
  if (!json.is_object()) Fail(code, path.string(), "a JSON object", json.type_name());
  return json;
}

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
