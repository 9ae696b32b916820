#include "text/utf8.h"

#include <gtest/gtest.h>

namespace mxmla {
namespace {

const std::string kReplacement = "\xef\xbf\xbd";

std::string Times(int n) {
  std::string text;
  for (int i = 0; i < n; ++i) text += kReplacement;
  return text;
}

// The expected counts are those of Python's bytes.decode("utf-8", errors="replace").
TEST(Utf8, ReplacesWhatPythonReplaces) {
  EXPECT_EQ(ReplaceInvalidUtf8("\xff"), Times(1));
  EXPECT_EQ(ReplaceInvalidUtf8("a\x80z"), "a" + Times(1) + "z");
  EXPECT_EQ(ReplaceInvalidUtf8("\xe4\xbd"), Times(1));
  EXPECT_EQ(ReplaceInvalidUtf8("\xc0\xaf"), Times(2));
  EXPECT_EQ(ReplaceInvalidUtf8("\xe0\x80\x80"), Times(3));
  EXPECT_EQ(ReplaceInvalidUtf8("\xed\xa0\x80"), Times(3));
  EXPECT_EQ(ReplaceInvalidUtf8("\xf4\x90\x80\x80"), Times(4));
  EXPECT_EQ(ReplaceInvalidUtf8("\xf0\x9f\x98 x"), Times(1) + " x");
  EXPECT_EQ(ReplaceInvalidUtf8("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41"), Times(4) + "A");
  EXPECT_EQ(ReplaceInvalidUtf8("\xf0\x9f\x98\x80\xc3\xa9"), "\xf0\x9f\x98\x80\xc3\xa9");
  EXPECT_EQ(ReplaceInvalidUtf8(""), "");
}

TEST(Utf8, LeavesAnOpenEndWhereMoreMayCome) {
  std::string text;
  EXPECT_EQ(AppendReplacingInvalid("a\xf0\x9f\x98", false, &text), 1u);
  EXPECT_EQ(text, "a");
  EXPECT_EQ(AppendReplacingInvalid("\xf0\x9f\xff", false, &text), 3u);
  EXPECT_EQ(text, "a" + Times(2));
}

TEST(Utf8, RoundTripsEveryCodePoint) {
  for (char32_t c = 0; c <= 0x10ffff; ++c) {
    if (c >= 0xd800 && c <= 0xdfff) continue;
    std::string text = "x";
    AppendCodePoint(c, &text);
    const CodePoint read = CodePointAt(text, 1);
    ASSERT_EQ(read.value, c);
    ASSERT_EQ(read.length, text.size() - 1);
    ASSERT_EQ(PreviousOffset(text, text.size()), 1u);
    ASSERT_EQ(ReplaceInvalidUtf8(text), text);
  }
}

}  // namespace
}  // namespace mxmla
