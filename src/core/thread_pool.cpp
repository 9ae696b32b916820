#include "core/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/cgroup.h"
#include "core/error.h"
#include "core/note.h"

namespace mxmla {
namespace {

// Ops follow one another within microseconds, so a worker looks for the next loop for a while before it sleeps.
constexpr int kSpins = 4000;

// A loop's number above a count of tasks, in one word.
constexpr uint64_t kCountBits = 32;
constexpr uint64_t kCountMask = (uint64_t{1} << kCountBits) - 1;
constexpr uint64_t Word(uint64_t loop, int64_t count) { return loop << kCountBits | static_cast<uint64_t>(count); }
constexpr uint64_t LoopOf(uint64_t word) { return word >> kCountBits; }
constexpr int64_t CountOf(uint64_t word) { return static_cast<int64_t>(word & kCountMask); }

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

// Every thread has a stretch of each loop's tasks, and takes from the others' when its own is through. What threads
// write lies in lines of their own: tens of threads at one counter cost microseconds a loop.
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): so that lines are apart
struct ThreadPool::State {
  struct alignas(64) OfThread {  // NOLINT(clang-analyzer-optin.performance.Padding): likewise
    // The number of a loop and the first task of the thread's stretch of it that nobody has taken. A loop ends when all
    // its tasks were taken, so what still names another loop while one is the current was not begun. Because the
    // loop's number is in the same word, a thread that was late cannot take a task of another loop than the one it saw.
    std::atomic<uint64_t> next{0};
    // In a line apart, which only the calling thread reads: a loop and how many of its tasks this thread has run.
    alignas(64) std::atomic<uint64_t> done{0};
  };

  std::vector<std::thread> workers;
  std::unique_ptr<OfThread[]> threads;
  int spins = kSpins;
  // Of the current loop; read only after a task was taken, which keeps the loop from ending.
  const std::function<void(int64_t, int, int64_t)>* body = nullptr;
  std::atomic<bool> failed{false};
  std::mutex error_mutex;
  std::exception_ptr error;
  alignas(64) std::atomic<uint64_t> current{0};  // the loop and its tasks
  std::atomic<bool> stop{false};
  alignas(64) std::atomic<int> sleepers{0};
  std::mutex mutex;
  std::condition_variable wake;

  int64_t count() const { return static_cast<int64_t>(workers.size()) + 1; }

  // A task of begin .. end, thread `of`'s stretch of the loop; -1: none is left.
  int64_t Take(uint64_t loop_and_tasks, int64_t of, int64_t begin, int64_t end) {
    std::atomic<uint64_t>& next = threads[static_cast<size_t>(of)].next;
    const uint64_t loop = LoopOf(loop_and_tasks);
    uint64_t seen = next.load(std::memory_order_acquire);
    for (;;) {
      if (LoopOf(seen) != loop && current.load(std::memory_order_acquire) != loop_and_tasks) return -1;
      const int64_t task = LoopOf(seen) == loop ? CountOf(seen) : begin;
      if (task >= end) return -1;
      if (next.compare_exchange_weak(seen, Word(loop, task + 1), std::memory_order_acq_rel)) return task;
    }
  }

  // Takes and runs tasks until none is left.
  void Drain(uint64_t loop_and_tasks, int worker) {
    const int64_t tasks = CountOf(loop_and_tasks);
    int64_t ran = 0;
    for (int64_t i = 0; i < count(); ++i) {
      const int64_t of = (worker + i) % count();
      const int64_t begin = tasks * of / count(), end = tasks * (of + 1) / count();
      if (begin == end) continue;
      for (int64_t task; (task = Take(loop_and_tasks, of, begin, end)) >= 0; ++ran) Run(task, worker, end);
    }
    if (ran == 0) return;
    threads[static_cast<size_t>(worker)].done.store(Word(LoopOf(loop_and_tasks), ran), std::memory_order_release);
  }

  bool Done(uint64_t loop_and_tasks) const {
    int64_t done = 0;
    for (int64_t i = 0; i < count(); ++i) {
      const uint64_t seen = threads[static_cast<size_t>(i)].done.load(std::memory_order_acquire);
      if (LoopOf(seen) == LoopOf(loop_and_tasks)) done += CountOf(seen);
    }
    return done == CountOf(loop_and_tasks);
  }

  void Run(int64_t task, int worker, int64_t end) {
    if (failed.load(std::memory_order_relaxed)) return;
    try {
      (*body)(task, worker, end);
    } catch (...) {
      const std::lock_guard lock(error_mutex);
      if (!error) error = std::current_exception();
      failed.store(true, std::memory_order_relaxed);
    }
  }

  void Work(int worker) {
    uint64_t seen = 0;
    const auto waiting = [&] { return current.load() == seen && !stop.load(); };
    for (;;) {
      for (int spin = 0; spin < spins && waiting(); ++spin) Pause();
      if (waiting()) {
        std::unique_lock lock(mutex);
        sleepers.fetch_add(1);
        wake.wait(lock, [&] { return !waiting(); });
        sleepers.fetch_sub(1);
      }
      if (stop.load(std::memory_order_acquire)) return;
      seen = current.load(std::memory_order_acquire);
      Drain(seen, worker);
    }
  }

  void Wake() {
    // A worker that is about to sleep holds the mutex until it waits, so it cannot miss this.
    if (sleepers.load() == 0) return;
    { const std::lock_guard lock(mutex); }
    wake.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  // With fewer processors than threads a spinning worker only keeps the others from their work.
  if (threads > AvailableProcessors()) state_->spins = 0;
  state_->threads = std::make_unique<State::OfThread[]>(static_cast<size_t>(std::max(threads, 1)));
  if (threads > 1) state_->workers.reserve(static_cast<size_t>(threads) - 1);
  try {
    for (int worker = 1; worker < threads; ++worker) {
      state_->workers.emplace_back([state = state_.get(), worker] { state->Work(worker); });
    }
  } catch (const std::exception&) {
    // A limit on threads or on memory: the pool works with those that started, which must not be left waiting.
    ReportNote("only " + std::to_string(this->threads()) + " of " + std::to_string(threads) +
               " threads could be started; a limit on processes or memory is in the way");
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop.store(true, std::memory_order_release);
  }
  state_->wake.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::ParallelFor(int64_t tasks, const std::function<void(int64_t, int)>& body) {
  ParallelStretches(tasks, [&body](int64_t task, int worker, int64_t) { body(task, worker); });
}

void ThreadPool::ParallelStretches(int64_t tasks, const std::function<void(int64_t, int, int64_t)>& body) {
  State& state = *state_;
  if (tasks <= 0) return;
  if (tasks == 1 || state.workers.empty()) {
    for (int64_t task = 0; task < tasks; ++task) body(task, 0, tasks);
    return;
  }
  if (static_cast<uint64_t>(tasks) > kCountMask) {
    Fail(ErrorCode::kInternal, "parallel loop", "at most 2^32 - 1 tasks", std::to_string(tasks));
  }
  state.body = &body;
  state.error = nullptr;
  state.failed.store(false, std::memory_order_relaxed);
  const uint64_t last = LoopOf(state.current.load(std::memory_order_relaxed));
  const uint64_t loop_and_tasks = Word((last + 1) & kCountMask, tasks);
  state.current.store(loop_and_tasks);
  state.Wake();
  state.Drain(loop_and_tasks, 0);
  // Tasks, not workers, are waited for: a worker that never woke has none.
  for (int spin = 0; !state.Done(loop_and_tasks); ++spin) {
    if (spin < state.spins) {
      Pause();
    } else {
      std::this_thread::yield();
    }
  }
  if (state.error) std::rethrow_exception(state.error);
}

int ThreadPool::AvailableProcessors() {
  static const int processors = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    const unsigned hardware = std::thread::hardware_concurrency();
    int count = hardware ? static_cast<int>(hardware) : 1;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) count = CPU_COUNT(&set);
    return std::min(count, CgroupProcessors());
  }();
  return processors;
}

}  // namespace mxmla
