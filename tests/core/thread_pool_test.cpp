#include "core/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace mxmla {
namespace {

class ThreadPoolTest : public testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, EveryTaskRunsOnceAndWorkersAreInRange) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.threads(), GetParam());
  for (int64_t tasks : {0, 1, 2, 7, 1000}) {
    std::vector<std::atomic<int>> count(tasks);
    std::atomic<bool> in_range{true};
    pool.ParallelFor(tasks, [&](int64_t task, int worker) {
      ++count[task];
      if (worker < 0 || worker >= GetParam()) in_range = false;
    });
    for (int64_t task = 0; task < tasks; ++task) ASSERT_EQ(count[task], 1) << "task " << task << " of " << tasks;
    EXPECT_TRUE(in_range);
  }
}

TEST_P(ThreadPoolTest, AWorkerRunsOneTaskAtATime) {
  ThreadPool pool(GetParam());
  std::vector<std::atomic<int>> inside(GetParam());
  std::atomic<bool> shared{false};
  pool.ParallelFor(2000, [&](int64_t, int worker) {
    if (inside[worker]++ != 0) shared = true;
    --inside[worker];
  });
  EXPECT_FALSE(shared);
}

TEST_P(ThreadPoolTest, ManyLoopsInARow) {
  ThreadPool pool(GetParam());
  std::atomic<int64_t> sum{0};
  for (int loop = 0; loop < 3000; ++loop) {
    pool.ParallelFor(5, [&](int64_t task, int) { sum += task; });
    ASSERT_EQ(sum, (loop + 1) * int64_t{10});  // all done on return
  }
}

// Loops of few and of many tasks in turn: a stretch that was empty for long is taken from again.
TEST_P(ThreadPoolTest, LoopsOfAllSizesInTurn) {
  ThreadPool pool(GetParam());
  std::atomic<int64_t> sum{0};
  int64_t expected = 0;
  for (int64_t loop = 0; loop < 3000; ++loop) {
    const int64_t tasks = loop % 97 == 0 ? 200 : 1 + loop % 9;
    pool.ParallelFor(tasks, [&](int64_t task, int) { sum += task + loop; });
    expected += tasks * (tasks - 1) / 2 + tasks * loop;
    ASSERT_EQ(sum, expected) << loop;
  }
}

TEST_P(ThreadPoolTest, AnExceptionArrivesAndThePoolGoesOn) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 20; ++round) {
    EXPECT_THROW(pool.ParallelFor(100,
                                  [](int64_t task, int) {
                                    if (task == 37) throw std::runtime_error("task 37");
                                  }),
                 std::runtime_error);
    std::atomic<int> done{0};
    pool.ParallelFor(100, [&](int64_t, int) { ++done; });
    ASSERT_EQ(done, 100);
  }
}

TEST_P(ThreadPoolTest, AStretchIsTakenInItsOrder) {
  const int64_t threads = GetParam();
  ThreadPool pool(GetParam());
  for (int64_t tasks : {0, 1, 2, 7, 1000}) {
    std::vector<std::atomic<int64_t>> end_of(tasks);
    // Of each worker and stretch, the last task that was taken.
    std::vector<std::vector<int64_t>> last(threads, std::vector<int64_t>(tasks + 1, -1));
    std::atomic<bool> rising{true};
    pool.ParallelStretches(tasks, [&](int64_t task, int worker, int64_t end) {
      end_of[task] += end;
      int64_t& before = last[worker][end];
      if (task <= before) rising = false;
      before = task;
    });
    EXPECT_TRUE(rising);
    for (int64_t s = 0; s < threads; ++s) {
      const int64_t end = tasks * (s + 1) / threads;
      for (int64_t task = tasks * s / threads; task < end; ++task) {
        const bool alone = tasks == 1 || threads == 1;
        ASSERT_EQ(end_of[task], alone ? tasks : end) << "task " << task << " of " << tasks;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, testing::Values(1, 2, 3, 8));

TEST(ThreadPool, ThisProcessHasAProcessor) { EXPECT_GE(ThreadPool::AvailableProcessors(), 1); }

}  // namespace
}  // namespace mxmla
