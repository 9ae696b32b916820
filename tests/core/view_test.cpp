#include "core/view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace mxmla {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ViewTest : public testing::Test {
 protected:
  ViewTest() : memory_(240) { std::iota(memory_.begin(), memory_.end(), 0); }

  std::vector<int32_t> memory_;
  View<int32_t, 3> view_ = View<int32_t, 3>::Contiguous(memory_.data(), {4, 5, 12});
};

template <class Action>
std::string LayoutError(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kLayout);
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST_F(ViewTest, ContiguousIsRowMajor) {
  EXPECT_EQ(view_.stride, (std::array<int64_t, 3>{60, 12, 1}));
  EXPECT_EQ(view_(2, 3, 7), 2 * 60 + 3 * 12 + 7);
  EXPECT_EQ(view_.size(), 240);
  EXPECT_FALSE(view_.empty());
}

TEST_F(ViewTest, PermuteMovesNoData) {
  const auto permuted = view_.Permute({2, 0, 1});
  EXPECT_EQ(permuted.data, view_.data);
  EXPECT_EQ(permuted.shape, (std::array<int64_t, 3>{12, 4, 5}));
  EXPECT_EQ(permuted(7, 2, 3), view_(2, 3, 7));
}

TEST_F(ViewTest, SliceAndSelect) {
  const auto slice = view_.Slice(1, 2, 3);
  EXPECT_EQ(slice.shape, (std::array<int64_t, 3>{4, 3, 12}));
  EXPECT_EQ(slice(1, 0, 5), view_(1, 2, 5));
  EXPECT_EQ(view_.Rows(3, 1)(0, 4, 11), view_(3, 4, 11));
  const auto selected = view_.Select(1, 4);
  EXPECT_EQ(selected.shape, (std::array<int64_t, 2>{4, 12}));
  EXPECT_EQ(selected(3, 2), view_(3, 4, 2));
}

TEST_F(ViewTest, AnEmptySliceIsAllowedAtTheEnd) {
  const auto slice = view_.Slice(0, 4, 0);
  EXPECT_TRUE(slice.empty());
  EXPECT_EQ(slice.shape[0], 0);
}

TEST_F(ViewTest, SliceOutsideIsRefused) {
  EXPECT_THAT(LayoutError([&] { view_.Slice(1, 3, 3); }),
              AllOf(HasSubstr("dimension 1"), HasSubstr("0..5"), HasSubstr("3 elements from 3")));
  EXPECT_THAT(LayoutError([&] { view_.Slice(1, -1, 2); }), HasSubstr("0..5"));
  EXPECT_THAT(LayoutError([&] { view_.Slice(1, 0, -1); }), HasSubstr("0..5"));
  EXPECT_THAT(LayoutError([&] { view_.Slice(1, INT64_MAX, 2); }), HasSubstr("0..5"));
  EXPECT_THAT(LayoutError([&] { view_.Select(0, 4); }), HasSubstr("0..4"));
}

TEST_F(ViewTest, SplitThenFlattenIsTheSameView) {
  const auto split = view_.Split(2, 3, 4);
  EXPECT_EQ(split.shape, (std::array<int64_t, 4>{4, 5, 3, 4}));
  EXPECT_EQ(split(1, 2, 2, 3), view_(1, 2, 11));
  const auto flat = split.Flatten(2);
  EXPECT_EQ(flat.shape, view_.shape);
  EXPECT_EQ(flat.stride, view_.stride);
  EXPECT_THAT(LayoutError([&] { view_.Split(2, 5, 3); }), AllOf(HasSubstr("12"), HasSubstr("5 x 3")));
}

TEST_F(ViewTest, FlattenOfATokenMajorViewIsFree) {
  const auto flat = view_.Flatten(1);
  EXPECT_EQ(flat.shape, (std::array<int64_t, 2>{4, 60}));
  EXPECT_EQ(flat(2, 43), view_(2, 3, 7));
}

TEST_F(ViewTest, FlattenOfAHeadMajorViewNamesTheStrides) {
  const auto head_major = view_.Permute({1, 0, 2});  // (5, 4, 12) with strides (12, 60, 1)
  EXPECT_THAT(LayoutError([&] { head_major.Flatten(1); }),
              AllOf(HasSubstr("dimensions 1 and 2"), HasSubstr("expected stride 12 in dimension 1"),
                    HasSubstr("shape (5, 4, 12) with strides (12, 60, 1)"), HasSubstr("never copies")));
}

TEST_F(ViewTest, FlattenIgnoresTheStrideOfOneRow) {
  const auto one = view_.Permute({1, 0, 2}).Slice(1, 2, 1);  // (5, 1, 12): the stride of extent 1 says nothing
  const auto flat = one.Flatten(1);
  EXPECT_EQ(flat.shape, (std::array<int64_t, 2>{5, 12}));
  EXPECT_EQ(flat(4, 11), view_(2, 4, 11));
  const auto narrow = view_.Slice(2, 3, 1).Flatten(1);  // (4, 5*1), stride 12
  EXPECT_EQ(narrow(3, 4), view_(3, 4, 3));
}

TEST(ViewConst, AViewConvertsToAViewOfConst) {
  float memory[6] = {0, 1, 2, 3, 4, 5};
  const View<const float, 2> view = View<float, 2>::Contiguous(memory, {2, 3});
  EXPECT_EQ(view(1, 2), 5.0f);
}

}  // namespace
}  // namespace mxmla
