// FP8 group-128 activations and 128x128-block weights against ml_dtypes, bit for bit.
#include <gtest/gtest.h>

#include <cmath>

#include "fixture.h"
#include "ops/quantize.h"
#include "ops/quantize_block.h"
#include "ref/backend.h"
#include "ref/values.h"

namespace mxmla::test {
namespace {

// Whether the scales are column-major, and how they are chosen.
class Fp8GroupQuantize : public testing::TestWithParam<std::tuple<bool, ScaleMode>> {};

TEST_P(Fp8GroupQuantize, RowsWithAShortLastGroup) {
  const FixtureArray fixture = LoadFixture("fp8_group_x");
  const int64_t rows = fixture.shape[0];
  const int64_t k = fixture.shape[1];
  const auto x = fixture.As<float>();
  const auto [column_major, mode] = GetParam();
  const std::string suffix = mode == ScaleMode::kCeil ? "_ue8m0" : "";
  const auto expected_codes = LoadFixture("fp8_group_codes" + suffix).As<uint8_t>();
  const FixtureArray scales_fixture = LoadFixture("fp8_group_scales" + suffix);
  const auto expected_scales = scales_fixture.As<float>();
  const int64_t groups = scales_fixture.shape[1];

  std::vector<e4m3> codes(rows * k);
  std::vector<float> scales(rows * groups);
  const auto x_view = View<const float, 3>::Contiguous(x.data(), {rows, 1, k});
  Fp8Group<e4m3, 3> out{View<e4m3, 3>::Contiguous(codes.data(), {rows, 1, k}),
                        View<float, 3>::Contiguous(scales.data(), {rows, 1, groups})};
  if (column_major) out.scales.stride = {1, 1, rows};
  ThreadPool pool(1);
  ExecContext context;
  context.kernels = &RefKernels();
  context.pool = &pool;
  Quantize(context, {x_view, out, mode});

  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t g = 0; g < groups; ++g) {
      const float expected = expected_scales[r * groups + g];
      ASSERT_TRUE(SameFloat(out.scales(r, 0, g), expected)) << "row " << r << " group " << g;
      for (int64_t i = g * kFp8Group; i < std::min(k, (g + 1) * kFp8Group); ++i) {
        const e4m3 found = out.values(r, 0, i);
        if (std::isnan(expected)) {
          if (std::isnan(x[r * k + i])) {
            EXPECT_TRUE(std::isnan(found.ToFloat())) << "row " << r << " element " << i;
          }
        } else {
          ASSERT_EQ(found.bits, expected_codes[r * k + i]) << "row " << r << " element " << i;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Scales, Fp8GroupQuantize,
                         testing::Combine(testing::Bool(), testing::Values(ScaleMode::kEven, ScaleMode::kCeil)),
                         [](const auto& test) {
                           const std::string scales = std::get<0>(test.param) ? "ColumnMajor" : "RowMajor";
                           return scales + (std::get<1>(test.param) == ScaleMode::kCeil ? "PowersOfTwo" : "");
                         });

TEST(Fp8Block, DequantisesRaggedSquaresAndSlices) {
  const FixtureArray fixture = LoadFixture("fp8_block_codes");
  const auto bytes = fixture.As<uint8_t>();
  const int64_t n = fixture.shape[0];
  const int64_t k = fixture.shape[1];
  std::vector<e4m3> codes;
  for (uint8_t byte : bytes) codes.push_back({byte});
  const FixtureArray scales_fixture = LoadFixture("fp8_block_scales");
  const auto scales = scales_fixture.As<float>();
  const mxmla::Fp8Block block{
      View<const e4m3, 2>::Contiguous(codes.data(), {n, k}),
      View<const float, 2>::Contiguous(scales.data(), {scales_fixture.shape[0], scales_fixture.shape[1]})};
  const auto rows = LoadFixture("fp8_block_rows").As<int32_t>();
  const auto expected = LoadFixture("fp8_block_values").As<float>();
  std::vector<float> row(k);
  for (size_t i = 0; i < rows.size(); ++i) {
    ref::LoadWeight(block, rows[i], 0, k, row.data());
    for (int64_t c = 0; c < k; ++c) ASSERT_TRUE(SameFloat(row[c], expected[i * k + c])) << rows[i] << ", " << c;
    // The same row through a slice that begins off the squares' edges, in two pieces.
    if (rows[i] < 100) continue;
    const LinearWeight slice = block.Rows(100, n - 100);
    ref::LoadWeight(slice, rows[i] - 100, 0, 70, row.data());
    ref::LoadWeight(slice, rows[i] - 100, 70, k - 70, row.data() + 70);
    for (int64_t c = 0; c < k; ++c) ASSERT_TRUE(SameFloat(row[c], expected[i * k + c])) << rows[i] << ", " << c;
  }
}

}  // namespace
}  // namespace mxmla::test
