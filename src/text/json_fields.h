// Fields of the JSON in a tokenizer's files, with errors that name the file and the field.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "core/error.h"
#include "core/json_file.h"

namespace mxmla {

// Fields of a tokenizer's JSON. `subject` names the object; each throws kTokenizer where the field is missing (save
// where a default is given and it is missing or null) or of another type.
const nlohmann::json& Field(const nlohmann::json& object, const char* name, const std::string& subject);
std::string StringField(const nlohmann::json& object, const char* name, const std::string& subject);
bool BoolField(const nlohmann::json& object, const char* name, bool default_value, const std::string& subject);
int64_t IdField(const nlohmann::json& value, const std::string& subject);

// Whether the field is there and not null.
bool HasField(const nlohmann::json& object, const char* name);

// A token named in tokenizer_config.json: a string, or an object whose "content" is one; none where it is missing.
std::optional<std::string> TokenNameField(const nlohmann::json& config, const char* name, const std::string& subject);

}  // namespace mxmla
