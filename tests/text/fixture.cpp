#include "fixture.h"

#include <unistd.h>

#include <fstream>

namespace mxmla {
namespace {

std::string BytesOfHex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

}  // namespace

std::filesystem::path FixturePath(const std::string& name) { return std::filesystem::path(MXMLA_TEXT_FIXTURES) / name; }

nlohmann::json ReadFixture(const std::string& name) {
  std::ifstream file(FixturePath(name));
  return nlohmann::json::parse(file);
}

std::vector<TextCase> ReadCases(const std::string& folder) {
  std::vector<TextCase> cases;
  const nlohmann::json file = ReadFixture(folder + "/cases.json");
  for (const nlohmann::json& row : file["cases"]) {
    const auto text = row[0].get<std::string>();
    cases.push_back(
        {row[1].get<bool>() ? BytesOfHex(text) : text, row[2].get<std::vector<int32_t>>(), row[3].get<std::string>()});
  }
  return cases;
}

ScratchFolder::ScratchFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "mxmla-text-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no scratch folder");
  path_ = name;
}

ScratchFolder::~ScratchFolder() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

void ScratchFolder::Write(const std::string& name, const std::string& text) const {
  std::ofstream(path_ / name, std::ios::binary) << text;
}

std::unique_ptr<Tokenizer> LoadJson(const nlohmann::json& json, const nlohmann::json& config) {
  const ScratchFolder folder;
  folder.Write("tokenizer.json", json.dump());
  if (!config.is_null()) folder.Write("tokenizer_config.json", config.dump());
  return Tokenizer::Load(folder.path());
}

void ExpectError(ErrorCode code, const std::string& part, const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    const std::string message = e.what();
    EXPECT_EQ(static_cast<int>(e.code()), static_cast<int>(code)) << message;
    EXPECT_NE(message.find(part), std::string::npos) << "no \"" << part << "\" in: " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return;
  }
  ADD_FAILURE() << "no error; expected one with \"" << part << "\"";
}

}  // namespace mxmla
