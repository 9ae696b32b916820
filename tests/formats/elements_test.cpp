// Single elements against ml_dtypes and PyTorch, bit for bit.
#include <gtest/gtest.h>

#include <cmath>

#include "core/dtype.h"
#include "fixture.h"

namespace mxmla::test {
namespace {

TEST(Elements, EveryE4m3CodeToFloat) {
  const auto expected = LoadFixture("e4m3_values").As<float>();
  ASSERT_EQ(expected.size(), 256u);
  for (int code = 0; code < 256; ++code) {
    EXPECT_TRUE(SameFloat(e4m3{static_cast<uint8_t>(code)}.ToFloat(), expected[code])) << "code " << code;
  }
}

TEST(Elements, EveryE8m0CodeToFloat) {
  const auto expected = LoadFixture("e8m0_values").As<float>();
  ASSERT_EQ(expected.size(), 256u);
  for (int code = 0; code < 256; ++code) {
    EXPECT_TRUE(SameFloat(e8m0{static_cast<uint8_t>(code)}.ToFloat(), expected[code])) << "code " << code;
  }
}

TEST(Elements, EveryE2m1PairToFloat) {
  const auto expected = LoadFixture("e2m1_values").As<float>();
  ASSERT_EQ(expected.size(), 16u);
  for (int byte = 0; byte < 256; ++byte) {
    const e2m1x2 pair{static_cast<uint8_t>(byte)};
    EXPECT_TRUE(SameFloat(pair.Low(), expected[byte & 15])) << "byte " << byte;
    EXPECT_TRUE(SameFloat(pair.High(), expected[byte >> 4])) << "byte " << byte;
  }
}

TEST(Elements, HardFloatsToBf16) {
  const auto values = LoadFixture("hard_floats").As<float>();
  const auto expected = LoadFixture("hard_bf16").As<uint16_t>();
  ASSERT_GT(values.size(), 3000u);
  for (size_t i = 0; i < values.size(); ++i) {
    const bf16 found = bf16::FromFloat(values[i]);
    if (std::isnan(values[i])) {
      EXPECT_TRUE(std::isnan(found.ToFloat())) << "value " << i;
    } else {
      EXPECT_EQ(found.bits, expected[i]) << "value " << values[i];
    }
  }
}

TEST(Elements, EveryBf16SurvivesARoundTrip) {
  for (int bits = 0; bits < 65536; ++bits) {
    const bf16 value{static_cast<uint16_t>(bits)};
    if (std::isnan(value.ToFloat())) continue;
    ASSERT_EQ(bf16::FromFloat(value.ToFloat()).bits, bits);
  }
}

TEST(Elements, HardFloatsToE4m3) {
  const auto values = LoadFixture("hard_floats").As<float>();
  const auto expected = LoadFixture("hard_e4m3").As<uint8_t>();
  for (size_t i = 0; i < values.size(); ++i) {
    const e4m3 found = e4m3::FromFloat(values[i]);
    if (std::isnan(values[i])) {
      EXPECT_TRUE(std::isnan(found.ToFloat())) << "value " << i;
    } else {
      EXPECT_EQ(found.bits, expected[i]) << "value " << values[i];
    }
  }
}

TEST(Elements, HardFloatsToE2m1) {
  const auto values = LoadFixture("hard_floats").As<float>();
  const auto expected = LoadFixture("hard_e2m1").As<uint8_t>();
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) continue;
    EXPECT_EQ(E2m1FromFloat(values[i]), expected[i] & 15) << "value " << values[i];
  }
}

}  // namespace
}  // namespace mxmla::test
