// Reading text files and the JSON in them, which may be hostile: every failure is an Error that names the file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/error.h"

namespace mxmla {

// The whole file, at most `limit` bytes. Errors: kMissingFile, and `code` where it is too large.
std::string ReadTextFile(const std::filesystem::path& path, ErrorCode code, size_t limit = size_t{64} << 20);

// An object at the root, nested at most 64 deep; a mark of UTF-8 in front is skipped. An Error of `code` naming
// `subject` otherwise, which also says where the text is a file of another kind (core/file_kind.h).
nlohmann::json ParseJsonObject(std::string_view text, const std::string& subject, ErrorCode code);

// The same with the keys of objects in the order of the text; an object has at most 4096 of them.
nlohmann::ordered_json ParseOrderedJsonObject(std::string_view text, const std::string& subject, ErrorCode code);

// ReadTextFile and ParseJsonObject, for files up to 512 MiB.
nlohmann::json ReadJsonObject(const std::filesystem::path& path, ErrorCode code);

// A value as an error message shows it: short, one line.
std::string ShowJson(const nlohmann::json& value);

}  // namespace mxmla
