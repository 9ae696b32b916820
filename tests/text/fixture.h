// The fixtures that tools/golden/text_fixtures.py makes, and folders made up by a test.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "text/tokenizer.h"

namespace mxmla {

std::filesystem::path FixturePath(const std::string& name);
nlohmann::json ReadFixture(const std::string& name);

// A case of hard text: what went in, and what the reference library made of it.
struct TextCase {
  std::string input;  // bytes; not always UTF-8
  std::vector<int32_t> ids;
  std::string decoded;
};
std::vector<TextCase> ReadCases(const std::string& folder);

// A folder of its own, removed with the object.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void Write(const std::string& name, const std::string& text) const;

 private:
  std::filesystem::path path_;
};

// A tokenizer of a tokenizer.json (and a tokenizer_config.json where it is not null).
std::unique_ptr<Tokenizer> LoadJson(const nlohmann::json& json, const nlohmann::json& config = nullptr);

// The error that `action` throws has this code and a one-line message with this text in it.
void ExpectError(ErrorCode code, const std::string& part, const std::function<void()>& action);

}  // namespace mxmla
