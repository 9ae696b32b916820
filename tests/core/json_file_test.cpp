#include "core/json_file.h"

#include <gtest/gtest.h>

#include <string>

#include "core/file_kind.h"

namespace mxmla {
namespace {

std::string MessageOf(std::string_view text) {
  try {
    ParseJsonObject(text, "file.json", ErrorCode::kBadConfig);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadConfig);
    return error.what();
  }
  return {};
}

TEST(JsonFile, ReadsObjects) {
  EXPECT_EQ(ParseJsonObject(R"({"a": [1, {"b": "[[{{"}]})", "f", ErrorCode::kBadConfig)["a"][1]["b"], "[[{{");
  EXPECT_EQ(ParseJsonObject("\xef\xbb\xbf{\"a\": 1}", "f", ErrorCode::kBadConfig)["a"], 1);
}

TEST(JsonFile, RefusesDeepNesting) {
  for (const char* open : {"[", "{\"a\":", "[{\"b\":"}) {
    std::string text = "{\"a\":";
    for (int i = 0; i < 1'000'000; ++i) text += open;
    EXPECT_EQ(MessageOf(text), "file.json: expected JSON nested at most 64 deep, found deeper nesting");
  }
  const auto nested = [](int levels) {
    return "{\"a\":" + std::string(static_cast<size_t>(levels), '[') + std::string(static_cast<size_t>(levels), ']') +
           "}";
  };
  EXPECT_EQ(MessageOf(nested(63)), "");
  EXPECT_NE(MessageOf(nested(64)), "");
}

TEST(JsonFile, SaysWhatIsNoJson) {
  EXPECT_NE(MessageOf("{").find("not JSON"), std::string::npos);
  EXPECT_NE(MessageOf("[1]").find("expected a JSON object"), std::string::npos);
}

TEST(FileKind, KnowsWhatIsNoModelFile) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n";
  EXPECT_NE(ForeignKind(pointer).find("Git LFS"), std::string_view::npos);
  EXPECT_NE(ForeignKind("\n <!DOCTYPE HTML><p>").find("web page"), std::string_view::npos);
  EXPECT_NE(ForeignKind("<html lang=en>").find("web page"), std::string_view::npos);
  EXPECT_NE(ForeignKind(std::string_view("\xff\xfe{\0", 4)).find("UTF-16"), std::string_view::npos);
  EXPECT_NE(ForeignKind("").find("empty"), std::string_view::npos);
  EXPECT_EQ(ForeignKind("{}"), "");
  EXPECT_EQ(ForeignKind("version 1"), "");
  EXPECT_EQ(
      MessageOf(pointer),
      "file.json: expected a JSON object, found a Git LFS pointer, which stands for the file; fetch the file itself, "
      "for example by git lfs pull");
  EXPECT_NE(MessageOf("").find("an empty file"), std::string::npos);
}

}  // namespace
}  // namespace mxmla
