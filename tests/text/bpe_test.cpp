#include "text/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace mxmla {
namespace {

using Ids = std::vector<int32_t>;

Vocabulary::Token Text(int64_t id, std::string bytes) {
  return {id, std::move(bytes), Vocabulary::Kind::kOrdinary, true};
}

// Ids: a 0, b 1, c 2, aa 3, ab 4, bc 5, abc 6.
class BpeTest : public testing::Test {
 protected:
  BpeTest()
      : vocabulary_(
            {Text(0, "a"), Text(1, "b"), Text(2, "c"), Text(3, "aa"), Text(4, "ab"), Text(5, "bc"), Text(6, "abc")},
            "test") {
    byte_ids_.fill(-1);
    byte_ids_['a'] = 0;
    byte_ids_['b'] = 1;
    byte_ids_['c'] = 2;
  }

  Ids Encode(const std::vector<Merge>& merges, std::string_view piece, bool ignore_merges = false) const {
    Ids ids;
    MergeListBpe(&vocabulary_, byte_ids_, merges, ignore_merges).Encode(piece, &ids);
    return ids;
  }

  Vocabulary vocabulary_;
  std::array<int32_t, 256> byte_ids_;
};

TEST_F(BpeTest, LowestRankFirst) {
  EXPECT_EQ(Encode({{1, 2, 5}, {0, 1, 4}, {0, 5, 6}}, "abc"), (Ids{6}));
  EXPECT_EQ(Encode({{0, 1, 4}, {1, 2, 5}}, "abc"), (Ids{4, 2}));
}

TEST_F(BpeTest, LeftmostOfEquals) {
  EXPECT_EQ(Encode({{0, 0, 3}}, "aaa"), (Ids{3, 0}));
  EXPECT_EQ(Encode({{0, 0, 3}}, "aaaaa"), (Ids{3, 3, 0}));
}

TEST_F(BpeTest, LaterDuplicateCounts) { EXPECT_EQ(Encode({{0, 1, 4}, {1, 2, 5}, {0, 1, 4}}, "abc"), (Ids{0, 5})); }

TEST_F(BpeTest, IgnoreMergesTakesWholePieces) {
  EXPECT_EQ(Encode({}, "abc", true), (Ids{6}));
  EXPECT_EQ(Encode({}, "abc", false), (Ids{0, 1, 2}));
}

TEST_F(BpeTest, DropsBytesWithoutAToken) { EXPECT_EQ(Encode({{0, 1, 4}}, "a!b?"), (Ids{4})); }

TEST_F(BpeTest, EmptyPiece) { EXPECT_EQ(Encode({}, ""), Ids{}); }

// Pieces of every length against the rule itself: the lowest rank of all pairs, the leftmost of equals.
TEST_F(BpeTest, FollowsTheRuleAtEveryLength) {
  std::mt19937 random(5);
  for (int round = 0; round < 40; ++round) {
    std::vector<Merge> merges;
    int32_t ids = 3;
    for (int i = 0; i < 60; ++i) {
      const auto some = [&] { return static_cast<int32_t>(random() % static_cast<uint32_t>(ids)); };
      const int32_t left = some(), right = some();
      const bool known = std::any_of(merges.begin(), merges.end(),
                                     [&](const Merge& merge) { return merge.left == left && merge.right == right; });
      if (!known) merges.push_back({left, right, ids++});
    }
    for (size_t length = 0; length < 60; ++length) {
      std::string piece;
      Ids expected;
      for (size_t i = 0; i < length; ++i) {
        expected.push_back(static_cast<int32_t>(random() % 3));
        piece += "abc"[expected.back()];
      }
      for (bool merged = true; merged;) {
        merged = false;
        for (const Merge& merge : merges) {
          for (size_t i = 0; i + 1 < expected.size() && !merged; ++i) {
            if (expected[i] != merge.left || expected[i + 1] != merge.right) continue;
            expected[i] = merge.joined;
            expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(i) + 1);
            merged = true;
          }
          if (merged) break;
        }
      }
      ASSERT_EQ(Encode(merges, piece), expected) << piece;
    }
  }
}

// Quadratic merging would not end in a test's time.
TEST_F(BpeTest, LongPieces) {
  const size_t n = 1 << 19;
  EXPECT_EQ(Encode({{0, 0, 3}}, std::string(n, 'a')).size(), n / 2);
  std::string mixed;
  for (size_t i = 0; i < n; ++i) mixed += "abc"[(i * i) % 3];
  EXPECT_GT(Encode({{1, 2, 5}, {0, 1, 4}, {0, 5, 6}}, mixed).size(), n / 4);
}

}  // namespace
}  // namespace mxmla
