// Values of JSON files that may be hostile: every failure is an Error that names the file and the key.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/json_file.h"

namespace mxmla {

using Json = nlohmann::json;

// Values of an object's keys, checked for type and range: an Error (kBadConfig) names the key, expected and found.
class JsonFields {
 public:
  // `path` is the object's place in the file: "" or "rope_scaling".
  JsonFields(const Json& object, std::string subject, std::string path = {});

  // Null when the key is absent. A null value is not absent.
  const Json* Find(std::string_view key) const;
  bool HasValue(std::string_view key) const;  // present and not null

  // The default when the key is absent.
  int64_t Int(std::string_view key, int64_t fallback, int64_t low, int64_t high) const;
  double Number(std::string_view key, double fallback, double low, double high) const;
  bool Bool(std::string_view key, bool fallback) const;
  std::string String(std::string_view key, std::string_view fallback) const;
  // The same, but null means `when_null`.
  int64_t IntOrNull(std::string_view key, int64_t fallback, int64_t when_null, int64_t low, int64_t high) const;
  double NumberOrNull(std::string_view key, double fallback, double low, double high) const;  // null: the fallback
  bool BoolOrNull(std::string_view key, bool fallback) const;                                 // null: the fallback
  std::string StringOrNull(std::string_view key, std::string_view fallback) const;            // null: the fallback
  // An integer or a list of them; null or [] is empty.
  std::vector<int64_t> IntList(std::string_view key, std::vector<int64_t> fallback, int64_t low, int64_t high) const;
  // A list of strings; absent or null is empty.
  std::vector<std::string> StringList(std::string_view key) const;
  // An object; empty when the key is absent or null.
  std::optional<JsonFields> Object(std::string_view key) const;

  const Json& json() const { return *object_; }
  // "FILE: KEY", the subject of an Error about `key`.
  std::string Subject(std::string_view key) const;
  [[noreturn]] void Refuse(std::string_view key, std::string_view expected, std::string_view found,
                           std::string_view hint = {}) const;

 private:
  int64_t CheckInt(std::string_view key, const Json& value, int64_t low, int64_t high) const;

  const Json* object_;
  std::string subject_;
  std::string path_;
};

}  // namespace mxmla
