#include "core/json_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include "core/file_kind.h"

namespace mxmla {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 64;
constexpr int kMostOrderedKeys = 4096;
constexpr size_t kLargestJson = size_t{512} << 20;

// Levels of brackets outside of strings.
int DeepestNesting(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool is_in_string = false;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (is_in_string) {
      if (c == '\\') ++at;
      if (c == '"') is_in_string = false;
    } else if (c == '"') {
      is_in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

template <class AnyJson>
AnyJson ParseObject(std::string_view text, const std::string& subject, ErrorCode code,
                    const typename AnyJson::parser_callback_t& callback) {
  RefuseForeignFile(text, subject, "a JSON object", code);
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  if (DeepestNesting(text) > kMaxDepth) {
    Fail(code, subject, fmt::format("JSON nested at most {} deep", kMaxDepth), "deeper nesting");
  }
  AnyJson json;
  try {
    json = AnyJson::parse(text.begin(), text.end(), callback);
  } catch (const typename AnyJson::exception& error) {
    std::string reason = error.what();
    if (const size_t end = reason.find("] "); end != std::string::npos) reason = reason.substr(end + 2);
    Fail(code, subject, "a JSON object", "text that is not JSON (" + reason + ")");
  }
  if (!json.is_object()) Fail(code, subject, "a JSON object", ShowJson(json));
  return json;
}

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
  return ParseObject<Json>(text, subject, code, nullptr);
}

nlohmann::ordered_json ParseOrderedJsonObject(std::string_view text, const std::string& subject, ErrorCode code) {
  using Ordered = nlohmann::ordered_json;
  std::vector<int> keys(kMaxDepth + 2);  // of the object at each depth
  return ParseObject<Ordered>(text, subject, code, [&](int depth, Ordered::parse_event_t event, Ordered&) {
    // Finding a key takes time in proportion to their number.
    if (event == Ordered::parse_event_t::object_start) keys[static_cast<size_t>(depth) + 1] = 0;
    if (event == Ordered::parse_event_t::key && ++keys[static_cast<size_t>(depth)] > kMostOrderedKeys) {
      Fail(code, subject, fmt::format("objects of at most {} keys", kMostOrderedKeys), "one of more");
    }
    return true;
  });
}

std::string ReadTextFile(const std::filesystem::path& path, ErrorCode code, size_t limit) {
  std::error_code status;
  if (!std::filesystem::is_regular_file(path, status)) {
    Fail(ErrorCode::kMissingFile, path.string(), "a file", status ? status.message() : "none",
         "a model folder holds config.json, *.safetensors and a tokenizer");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) Fail(ErrorCode::kMissingFile, path.string(), "a readable file", std::strerror(errno));
  const auto size = std::filesystem::file_size(path, status);
  if (status) Fail(ErrorCode::kMissingFile, path.string(), "a readable file", status.message());
  if (size > limit) Fail(code, path.string(), fmt::format("at most {} bytes", limit), fmt::format("{} bytes", size));
  std::string text(static_cast<size_t>(size), '\0');
  file.read(text.data(), static_cast<std::streamsize>(size));
  if (static_cast<size_t>(file.gcount()) != text.size()) {
    Fail(ErrorCode::kMissingFile, path.string(), fmt::format("{} readable bytes", size),
         fmt::format("{}", file.gcount()));
  }
  return text;
}

Json ReadJsonObject(const std::filesystem::path& path, ErrorCode code) {
  return ParseJsonObject(ReadTextFile(path, code, kLargestJson), path.string(), code);
}

}  // namespace mxmla
