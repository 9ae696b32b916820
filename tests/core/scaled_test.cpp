#include "core/scaled.h"

#include <gtest/gtest.h>

#include <vector>

namespace mxmla {
namespace {

TEST(Scaled, Mxfp4ExtentsAndSlices) {
  std::vector<e2m1x2> values(6 * 48);
  std::vector<e8m0> scales(6 * 3);
  const Mxfp4<e2m1x2, 2> matrix{View<e2m1x2, 2>::Contiguous(values.data(), {6, 48}),
                                View<e8m0, 2>::Contiguous(scales.data(), {6, 3})};
  EXPECT_EQ(matrix.extent(0), 6);
  EXPECT_EQ(matrix.extent(1), 96);
  const auto rows = matrix.Rows(2, 3);
  EXPECT_EQ(rows.values.data, values.data() + 2 * 48);
  EXPECT_EQ(rows.scales.data, scales.data() + 2 * 3);
  const LinearWeight weight = Mxfp4<const e2m1x2, 2>(matrix);
  EXPECT_EQ(RowCount(weight), 6);
  EXPECT_EQ(ColumnCount(weight), 96);
  EXPECT_EQ(FormatName(weight), "mxfp4");
  EXPECT_EQ(ByteCount(weight), 6 * 48 + 6 * 3);
  EXPECT_TRUE(IsQuantized(weight));
}

TEST(Scaled, Fp8BlockRowsRememberWhereTheyBegin) {
  std::vector<e4m3> values(300 * 200);
  std::vector<float> scales(3 * 2);
  const LinearWeight weight = Fp8Block{View<const e4m3, 2>::Contiguous(values.data(), {300, 200}),
                                       View<const float, 2>::Contiguous(scales.data(), {3, 2})};
  EXPECT_EQ(ByteCount(weight), 300 * 200 + 3 * 2 * 4);
  const LinearWeight slice = Rows(Rows(weight, 100, 150), 20, 10);
  const auto& block = std::get<Fp8Block>(slice);
  EXPECT_EQ(block.first_row, 120);
  EXPECT_EQ(block.values.data, values.data() + 120 * 200);
  EXPECT_EQ(block.scales.data, scales.data());
}

TEST(Scaled, HeadsOfKvBProj) {
  std::vector<bf16> values(3 * (8 + 4) * 16);
  const LinearWeight tensor = View<const bf16, 2>::Contiguous(values.data(), {3 * (8 + 4), 16});
  const HeadWeight w_vc{tensor, 3, 8 + 4, 8, 4};
  const auto head = std::get<View<const bf16, 2>>(w_vc.Head(2));
  EXPECT_EQ(head.data, values.data() + (2 * 12 + 8) * 16);
  EXPECT_EQ(head.shape, (std::array<int64_t, 2>{4, 16}));
  EXPECT_FALSE(IsQuantized(tensor));
}

}  // namespace
}  // namespace mxmla
