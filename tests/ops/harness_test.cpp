// The test bench itself: a comparator that lets a wrong row pass tests nothing.
#include "harness.h"

#include "ops/quantize_block.h"

namespace mxmla::test {

std::vector<uint8_t> QuantizedBits(const std::vector<double>& values, int64_t n, Format format, ScaleMode mode) {
  const std::vector<float> floats(values.begin(), values.end());
  std::vector<uint8_t> codes;
  std::vector<uint8_t> scales;
  for (int64_t row = 0; row < static_cast<int64_t>(floats.size()); row += n) {
    for (int64_t i = 0; i < n;) {
      if (format == Format::kMxfp4) {
        e2m1x2 block[16];
        scales.push_back(QuantizeMxfp4Block(floats.data() + row + i, mode, block).bits);
        for (e2m1x2 pair : block) codes.push_back(pair.bits);
        i += kMxBlock;
      } else {
        e4m3 group[128];
        const int64_t count = std::min<int64_t>(128, n - i);
        const float scale = QuantizeFp8Group(floats.data() + row + i, count, mode, group);
        const auto* bytes = reinterpret_cast<const uint8_t*>(&scale);
        scales.insert(scales.end(), bytes, bytes + sizeof(scale));
        for (int64_t j = 0; j < count; ++j) codes.push_back(group[j].bits);
        i += count;
      }
    }
  }
  codes.insert(codes.end(), scales.begin(), scales.end());
  return codes;
}

namespace {

std::vector<double> RandomValues(size_t count) {
  Rng rng(Seed());
  std::normal_distribution<double> normal;
  std::vector<double> values(count);
  for (double& value : values) value = normal(rng);
  return values;
}

TEST(Comparator, PassesWhatIsEqualAndWhatIsRounded) {
  const std::vector<double> values = RandomValues(640);
  EXPECT_TRUE(Close(values, values, {0, 0, 0.0001}));
  std::vector<double> rounded = values;
  for (double& value : rounded) value *= 1.001;
  EXPECT_TRUE(Close(values, rounded, {0.002, 0, 1e-4}));
}

TEST(Comparator, FailsOnAWrongRow) {
  const std::vector<double> values = RandomValues(640);
  std::vector<double> wrong = values;
  std::swap_ranges(wrong.begin(), wrong.begin() + 64, wrong.begin() + 64);
  EXPECT_FALSE(Close(values, wrong, {0.004, 1e-4, 1e-4}));
  EXPECT_FALSE(Close(values, wrong, {1e9, 1e9, 1e-4})) << "the cosine alone must fail it";
  wrong = values;
  std::fill_n(wrong.begin() + 128, 64, 0.0);
  EXPECT_FALSE(Close(values, wrong, {0.004, 1e-4, 1e-4}));
}

TEST(Comparator, FailsOnANanAMissingElementAndOneWrongElement) {
  const std::vector<double> values = RandomValues(640);
  std::vector<double> wrong = values;
  wrong[17] = std::nan("");
  EXPECT_FALSE(Close(values, wrong, {1e9, 1e9, 1}));
  wrong = values;
  wrong[600] += 0.1;
  EXPECT_FALSE(Close(values, wrong, {0.004, 1e-4, 1e-4}));
  wrong.pop_back();
  EXPECT_FALSE(Close(values, wrong, {1e9, 1e9, 1}));
}

TEST(Plane, SeesAWriteOutsideTheView) {
  Rng rng(Seed());
  for (int round = 0; round < 50; ++round) {
    Plane<bf16, 3> plane(rng, {3, 4, 5});
    plane.ForEach([](bf16& v) { v = {1}; });
    ASSERT_TRUE(plane.UntouchedOutside());
    bf16* first = plane.view.data;
    if (std::min(plane.view.stride[0], plane.view.stride[1]) > 5) {
      first[5] = {1};  // just behind the first row of the last dimension
      ASSERT_FALSE(plane.UntouchedOutside());
    }
  }
}

TEST(Formats, ThisBenchsFormulasAgreeWithTheLibrary) {
  for (int code = 0; code < 256; ++code) {
    if ((code & 0x7f) == 0x7f) continue;
    EXPECT_EQ(E4m3Value(code), (e4m3{static_cast<uint8_t>(code)}.ToFloat()));
  }
  for (int code = 0; code < 16; ++code) EXPECT_EQ(E2m1Value(code), kE2m1Values[code]);
}

}  // namespace
}  // namespace mxmla::test
