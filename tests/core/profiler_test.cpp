#include "core/profiler.h"

#include <gtest/gtest.h>

namespace mxmla {
namespace {

TEST(Profiler, SumsCallsByName) {
  Profiler profiler;
  { const Profiler::Scope scope(&profiler, "linear", 100); }
  { const Profiler::Scope scope(&profiler, "rope", 7); }
  { const Profiler::Scope scope(&profiler, "linear", 50); }
  ASSERT_EQ(profiler.costs().size(), 2u);
  EXPECT_EQ(profiler.costs()[0].name, "linear");
  EXPECT_EQ(profiler.costs()[0].calls, 2);
  EXPECT_EQ(profiler.costs()[0].bytes, 150);
  EXPECT_GE(profiler.costs()[0].seconds, 0.0);
  EXPECT_EQ(profiler.costs()[1].calls, 1);
  EXPECT_EQ(profiler.copies(), 0);
  EXPECT_TRUE(profiler.events().empty());
}

TEST(Profiler, CountsCopies) {
  Profiler profiler;
  { const Profiler::Scope scope(&profiler, "copy", 64); }
  { const Profiler::Scope scope(&profiler, "copy", 36); }
  EXPECT_EQ(profiler.copies(), 2);
  EXPECT_EQ(profiler.copied_bytes(), 100);
  profiler.Reset();
  EXPECT_EQ(profiler.copies(), 0);
}

TEST(Profiler, CountsWhatKernelsRepack) {
  Profiler profiler;
  {
    const Profiler::Scope scope(&profiler, "linear", 64);
    profiler.AddRepacked(10);
    profiler.AddRepacked(5);
  }
  { const Profiler::Scope scope(&profiler, "rope", 36); }
  EXPECT_EQ(profiler.costs()[0].repacked, 15);
  EXPECT_EQ(profiler.costs()[1].repacked, 0);
  EXPECT_EQ(profiler.repacked_bytes(), 15);
  profiler.Reset();
  EXPECT_EQ(profiler.repacked_bytes(), 0);
}

TEST(Profiler, KeepsEventsInOrderWhenAsked) {
  Profiler profiler;
  profiler.KeepEvents(true);
  { const Profiler::Scope scope(&profiler, "a", 1); }
  { const Profiler::Scope scope(&profiler, "b", 2); }
  { const Profiler::Scope scope(&profiler, "a", 3); }
  ASSERT_EQ(profiler.events().size(), 3u);
  EXPECT_EQ(profiler.events()[2].op, 0);
  EXPECT_EQ(profiler.events()[2].bytes, 3);
  EXPECT_LE(profiler.events()[0].begin + profiler.events()[0].seconds, profiler.events()[1].begin);
}

TEST(Profiler, ANullProfilerIsAllowed) { const Profiler::Scope scope(nullptr, "a", 1); }

}  // namespace
}  // namespace mxmla
