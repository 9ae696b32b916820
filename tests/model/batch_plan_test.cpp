#include <gtest/gtest.h>

#include "model/batch.h"

namespace mxmla {
namespace {

constexpr AttentionCost kDeepSeek{512, 128, 64, 128};

SequenceInput Input(const std::vector<int32_t>& tokens, int64_t first_position) {
  SequenceInput input;
  input.tokens = tokens;
  input.first_position = first_position;
  return input;
}

TEST(BatchPlan, OneTokenStaysInTheLatentSpace) {
  EXPECT_FALSE(ExpandedIsCheaper(kDeepSeek, 1, 0));
  EXPECT_FALSE(ExpandedIsCheaper(kDeepSeek, 1, 100000));
}

TEST(BatchPlan, AFreshPromptExpandsAndAShortContinuationDoesNot) {
  EXPECT_TRUE(ExpandedIsCheaper(kDeepSeek, 512, 0));
  EXPECT_TRUE(ExpandedIsCheaper(kDeepSeek, 2, 0));
  EXPECT_FALSE(ExpandedIsCheaper(kDeepSeek, 4, 10000));
}

TEST(BatchPlan, AbsorbedRowsComeFirst) {
  const std::vector<int32_t> prompt(100, 1), one(1, 2);
  const std::vector<SequenceInput> inputs = {Input(prompt, 0), Input(one, 30), Input(prompt, 0), Input(one, 7)};
  const BatchPlan plan = PlanBatch(inputs, kDeepSeek, true);
  ASSERT_EQ(plan.sequences.size(), 4u);
  EXPECT_EQ(plan.rows, 202);
  EXPECT_EQ(plan.absorbed_rows, 2);
  EXPECT_EQ(plan.sequences[0].input, 1);
  EXPECT_EQ(plan.sequences[1].input, 3);
  EXPECT_EQ(plan.sequences[2].input, 0);
  EXPECT_EQ(plan.sequences[2].first_row, 2);
  EXPECT_EQ(plan.sequences[3].first_row, 102);
}

TEST(BatchPlan, ExpansionCanBeForbidden) {
  const std::vector<int32_t> prompt(100, 1);
  std::vector<SequenceInput> inputs = {Input(prompt, 0)};
  EXPECT_EQ(PlanBatch(inputs, kDeepSeek, false).absorbed_rows, 100);
  inputs[0].absorbed = true;
  EXPECT_EQ(PlanBatch(inputs, kDeepSeek, true).absorbed_rows, 100);
}

}  // namespace
}  // namespace mxmla
