#include "core/error.h"

#include <gtest/gtest.h>

#include <string>

namespace mxmla {
namespace {

std::string Message(std::string_view subject, std::string_view expected, std::string_view found,
                    std::string_view hint = {}) {
  try {
    Fail(ErrorCode::kTensor, subject, expected, found, hint);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kTensor);
    return error.what();
  }
}

TEST(Error, NamesTheThingExpectedFoundAndWhatToDo) {
  EXPECT_EQ(Message("tensor w", "bf16", "f16", "convert it"), "tensor w: expected bf16, found f16; convert it");
  EXPECT_EQ(Message("tensor w", "bf16", "f16"), "tensor w: expected bf16, found f16");
}

TEST(Error, IsOneLineWhateverTheFileHolds) {
  std::string hostile = "name";
  for (int c = 0; c < 32; ++c) hostile += static_cast<char>(c);
  hostile += '\x7f';
  const std::string message = Message(hostile, hostile, hostile, hostile);
  for (char c : message) {
    EXPECT_GE(static_cast<unsigned char>(c), 0x20);
    EXPECT_NE(static_cast<unsigned char>(c), 0x7f);
  }
  EXPECT_EQ(Message("a\nb", "c", "d"), "a?b: expected c, found d");
}

TEST(Error, StaysShortWhateverTheFileHolds) { EXPECT_LT(Message(std::string(100000, 'x'), "a", "b").size(), 1000u); }

}  // namespace
}  // namespace mxmla
