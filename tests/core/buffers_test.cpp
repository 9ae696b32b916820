#include "core/buffers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>

namespace mxmla {
namespace {

TEST(BufferPlan, BuffersAreZeroedAlignedAndDisjoint) {
  BufferPlan plan;
  const int a = plan.Reserve<float>("a", 3);
  const int empty = plan.Reserve<bf16>("empty", 0);
  const int b = plan.Reserve<bf16>("b", 100);
  plan.Allocate();
  float* floats = plan.Get<float>(a);
  bf16* halves = plan.Get<bf16>(b);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(floats) % 64, 0u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(halves) % 64, 0u);
  EXPECT_NE(plan.Get<bf16>(empty), nullptr);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(floats[i], 0.0f);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(halves[i].bits, 0);
    halves[i].bits = 0xffff;
  }
  for (int i = 0; i < 3; ++i) EXPECT_EQ(floats[i], 0.0f);
  EXPECT_GE(plan.total_bytes(), 3 * sizeof(float) + 100 * sizeof(bf16));
}

TEST(BufferPlan, LargePlansAreZeroedToo) {
  BufferPlan plan;
  const int big = plan.Reserve<float>("big", int64_t{1} << 20);
  plan.Allocate();
  const float* values = plan.Get<float>(big);
  for (int64_t i = 0; i < int64_t{1} << 20; ++i) ASSERT_EQ(values[i], 0.0f);
}

TEST(BufferPlan, MisuseIsNamed) {
  BufferPlan plan;
  const int a = plan.Reserve<float>("queries", 3);
  EXPECT_THROW(plan.Get<float>(a), Error);
  plan.Allocate();
  try {
    plan.Get<bf16>(a);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInternal);
    EXPECT_THAT(error.what(),
                testing::AllOf(testing::HasSubstr("queries"), testing::HasSubstr("f32"), testing::HasSubstr("bf16")));
  }
  EXPECT_THROW(plan.Reserve<float>("late", 1), Error);
}

#if !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)  // their allocator stops the program instead of answering null
TEST(BufferPlan, TooLittleMemoryNamesTheLargestBuffer) {
  BufferPlan plan;
  plan.Reserve<float>("small", 10);
  plan.Reserve<float>("kv_pages", int64_t{1} << 48);
  try {
    plan.Allocate();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kMemory);
    EXPECT_THAT(error.what(), testing::HasSubstr("kv_pages"));
  }
}
#endif

}  // namespace
}  // namespace mxmla
