// The formats of weights against what their own packages make of the same bytes, bit for bit
// (tools/golden/weight_format_fixtures.py).
#include <gtest/gtest.h>

#include <cmath>

#include "core/scaled.h"
#include "fixture.h"

namespace mxmla::test {
namespace {

FixtureArray Load(const std::string& name) { return LoadFixture(name, "weights"); }

// gguf decodes E2M1 by a table of integers, which has no -0.
bool SameValue(float a, float b) { return SameFloat(a, b) || (a == 0 && b == 0); }

// Every row, and the same from the middle of a row on and through a slice of rows.
void ExpectValues(const LinearWeight& weight, const std::vector<float>& expected) {
  const int64_t n = RowCount(weight), k = ColumnCount(weight);
  ASSERT_EQ(static_cast<size_t>(n * k), expected.size());
  const LinearWeight last = Rows(weight, n - 1, 1);
  std::vector<float> row(static_cast<size_t>(k)), part(static_cast<size_t>(k));
  for (int64_t r = 0; r < n; ++r) {
    DequantizeRow(weight, r, row.data());
    Dequantize(r == n - 1 ? last : weight, r == n - 1 ? 0 : r, k / 2 + 3, k - k / 2 - 3, part.data());
    for (int64_t i = 0; i < k; ++i) {
      const float value = expected[static_cast<size_t>(r * k + i)];
      ASSERT_TRUE(SameValue(row[static_cast<size_t>(i)], value)) << r << ", " << i << ": " << row[i] << " " << value;
      if (i < k / 2 + 3) continue;
      ASSERT_TRUE(SameValue(part[static_cast<size_t>(i - k / 2 - 3)], value)) << r << ", " << i;
    }
  }
}

template <class Block>
void ExpectBlocks(const std::string& name) {
  const FixtureArray bytes = Load(name + "_blocks");
  ASSERT_EQ(bytes.shape[1], static_cast<int64_t>(sizeof(Block)));
  const auto blocks = bytes.As<Block>();
  // Two blocks a row where they are even in number, else one.
  const int64_t across = bytes.shape[0] % 2 == 0 ? 2 : 1;
  const LinearWeight weight =
      GgmlMatrix<Block>{View<const Block, 2>::Contiguous(blocks.data(), {bytes.shape[0] / across, across})};
  ExpectValues(weight, Load(name + "_values").As<float>());
}

TEST(WeightFormats, GgmlBlocks) {
  ExpectBlocks<q8_0>("q8_0");
  ExpectBlocks<q4_k>("q4_k");
  ExpectBlocks<q6_k>("q6_k");
  ExpectBlocks<ggml_mxfp4>("ggml_mxfp4");
}

TEST(WeightFormats, Int4) {
  const FixtureArray words = Load("int4_words");
  const auto values = words.As<int4x2>();
  const auto scales = Load("int4_scales").As<bf16>();
  const int64_t n = words.shape[0], k = 8 * words.shape[1];
  ExpectValues(Int4Group{View<const int4x2, 2>::Contiguous(values.data(), {n, k / 2}),
                         View<const bf16, 2>::Contiguous(scales.data(), {n, k / 32})},
               Load("int4_values").As<float>());
}

TEST(WeightFormats, Nvfp4) {
  const FixtureArray codes = Load("nvfp4_codes");
  const auto values = codes.As<e2m1x2>();
  const auto scales = Load("nvfp4_scales").As<e4m3>();
  const float whole = Load("nvfp4_whole").As<float>().front();
  const int64_t n = codes.shape[0], k = 2 * codes.shape[1];
  Nvfp4 weight{View<const e2m1x2, 2>::Contiguous(values.data(), {n, k / 2}),
               View<const e4m3, 2>::Contiguous(scales.data(), {n, k / 16}), whole, true};
  ExpectValues(weight, Load("nvfp4_divided").As<float>());
  weight.divides = false;
  ExpectValues(weight, Load("nvfp4_multiplied").As<float>());
}

TEST(WeightFormats, Mxfp8) {
  const FixtureArray codes = Load("mxfp8_codes");
  const auto values = codes.As<e4m3>();
  const auto scales = Load("mxfp8_scales").As<e8m0>();
  const int64_t n = codes.shape[0], k = codes.shape[1];
  ExpectValues(Mxfp8{View<const e4m3, 2>::Contiguous(values.data(), {n, k}),
                     View<const e8m0, 2>::Contiguous(scales.data(), {n, k / 32})},
               Load("mxfp8_values").As<float>());
}

TEST(WeightFormats, Halves) {
  const auto bits = Load("f16_bits").As<f16>();
  const auto expected = Load("f16_values").As<float>();
  ASSERT_GT(bits.size(), 1000u);
  for (size_t i = 0; i < bits.size(); ++i) EXPECT_TRUE(SameFloat(bits[i].ToFloat(), expected[i])) << bits[i].bits;
}

}  // namespace
}  // namespace mxmla::test
