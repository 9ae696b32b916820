// A folder that vanishes with the test, and a safetensors writer of its own: the files under test come from here or
// from Python, never from the code under test.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace mxmla {

class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  void Write(std::string_view name, std::string_view content) const;

 private:
  std::string path_;
};

std::string ReadWhole(const std::string& path);

struct TestTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

// The length prefix, `header`, then `data`.
std::string SafetensorsBytes(std::string_view header, std::string_view data);
// The tensors one after the other, the header padded to 8 bytes.
std::string SafetensorsBytes(const std::vector<TestTensor>& tensors);

// `action` throws an Error of `code` whose one line holds every one of `parts`.
template <class Action>
void ExpectError(ErrorCode code, std::initializer_list<std::string_view> parts, Action action) {
  try {
    action();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    for (std::string_view part : parts)
      EXPECT_NE(message.find(part), std::string::npos) << "no \"" << part << "\" in: " << message;
    return;
  }
  FAIL() << "no error";
}

}  // namespace mxmla
