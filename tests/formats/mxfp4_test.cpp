// MXFP4 blocks against ml_dtypes, bit for bit.
#include <gtest/gtest.h>

#include "fixture.h"
#include "ops/quantize_block.h"
#include "ref/values.h"

namespace mxmla::test {
namespace {

struct ModeCase {
  const char* name;
  ScaleMode mode;

  friend void PrintTo(const ModeCase& mode_case, std::ostream* out) { *out << mode_case.name; }
};

class Mxfp4Quantize : public testing::TestWithParam<ModeCase> {};

TEST_P(Mxfp4Quantize, EveryBlock) {
  const FixtureArray blocks = LoadFixture("mx_blocks");
  const auto values = blocks.As<float>();
  const auto codes = LoadFixture(std::string("mx_codes_") + GetParam().name).As<uint8_t>();
  const auto scales = LoadFixture(std::string("mx_scales_") + GetParam().name).As<uint8_t>();
  const int64_t count = blocks.shape[0];
  ASSERT_GT(count, 150);
  for (int64_t b = 0; b < count; ++b) {
    e2m1x2 found[kMxBlock / 2];
    const e8m0 scale = QuantizeMxfp4Block(values.data() + b * kMxBlock, GetParam().mode, found);
    ASSERT_EQ(scale.bits, scales[b]) << "block " << b;
    for (int i = 0; i < kMxBlock / 2; ++i) {
      ASSERT_EQ(found[i].bits, codes[b * kMxBlock / 2 + i]) << "block " << b << " pair " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, Mxfp4Quantize,
                         testing::Values(ModeCase{"even", ScaleMode::kEven}, ModeCase{"floor", ScaleMode::kFloor},
                                         ModeCase{"ceil", ScaleMode::kCeil}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Mxfp4Dequantize, EveryScale) {
  const auto codes = LoadFixture("mx_dequantize_codes").As<uint8_t>();
  const auto expected = LoadFixture("mx_dequantized").As<float>();
  std::vector<e2m1x2> values;
  for (uint8_t code : codes) values.push_back({code});
  std::vector<e8m0> scales;
  for (int s = 0; s < 256; ++s) scales.push_back({static_cast<uint8_t>(s)});
  const LinearWeight weight =
      Mxfp4<const e2m1x2, 2>{View<const e2m1x2, 2>::Contiguous(values.data(), {256, kMxBlock / 2}),
                             View<const e8m0, 2>::Contiguous(scales.data(), {256, 1})};
  for (int64_t r = 0; r < 256; ++r) {
    float row[kMxBlock];
    ref::LoadWeight(weight, r, 0, kMxBlock, row);
    for (int64_t i = 0; i < kMxBlock; ++i) {
      ASSERT_TRUE(SameFloat(row[i], expected[r * kMxBlock + i])) << "scale " << r << " element " << i;
    }
  }
}

}  // namespace
}  // namespace mxmla::test
