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

constexpr uint64_t kTaskBits = 32;
constexpr uint64_t kTaskMask = (uint64_t{1} << kTaskBits) - 1;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

struct ThreadPool::State {
  std::vector<std::thread> workers;
  int spins = kSpins;
  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<int> sleepers{0};
  // The number of the current loop in the upper half, the tasks nobody has taken yet in the lower one. A thread takes a
  // task by counting the lower half down; because the loop's number is in the same word, a thread that was late cannot
  // take a task of another loop than the one it saw.
  std::atomic<uint64_t> ticket{0};
  std::atomic<int64_t> completed{0};
  std::atomic<bool> stop{false};
  std::atomic<bool> failed{false};
  // Of the current loop; read only after a task was taken, which keeps the loop from ending.
  int64_t tasks = 0;
  const std::function<void(int64_t, int)>* body = nullptr;
  std::mutex error_mutex;
  std::exception_ptr error;

  static uint64_t Loop(uint64_t value) { return value >> kTaskBits; }

  // Takes and runs tasks of loop `loop` until none is left.
  void Drain(uint64_t loop, int worker) {
    uint64_t seen = ticket.load(std::memory_order_acquire);
    while (Loop(seen) == loop && (seen & kTaskMask) != 0) {
      if (!ticket.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel)) continue;
      Run(tasks - static_cast<int64_t>(seen & kTaskMask), worker);
      completed.fetch_add(1, std::memory_order_release);
      seen = ticket.load(std::memory_order_acquire);
    }
  }

  void Run(int64_t task, int worker) {
    if (failed.load(std::memory_order_relaxed)) return;
    try {
      (*body)(task, worker);
    } catch (...) {
      const std::lock_guard lock(error_mutex);
      if (!error) error = std::current_exception();
      failed.store(true, std::memory_order_relaxed);
    }
  }

  void Work(int worker) {
    uint64_t loop = 0;
    const auto waiting = [&] { return Loop(ticket.load()) == loop && !stop.load(); };
    for (;;) {
      for (int spin = 0; spin < spins && waiting(); ++spin) Pause();
      if (waiting()) {
        std::unique_lock lock(mutex);
        sleepers.fetch_add(1);
        wake.wait(lock, [&] { return !waiting(); });
        sleepers.fetch_sub(1);
      }
      if (stop.load(std::memory_order_acquire)) return;
      loop = Loop(ticket.load(std::memory_order_acquire));
      Drain(loop, worker);
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
  State& state = *state_;
  if (tasks <= 0) return;
  if (tasks == 1 || state.workers.empty()) {
    for (int64_t task = 0; task < tasks; ++task) body(task, 0);
    return;
  }
  if (static_cast<uint64_t>(tasks) > kTaskMask) {
    Fail(ErrorCode::kInternal, "parallel loop", "at most 2^32 - 1 tasks", std::to_string(tasks));
  }
  state.tasks = tasks;
  state.body = &body;
  state.error = nullptr;
  state.failed.store(false, std::memory_order_relaxed);
  state.completed.store(0, std::memory_order_relaxed);
  const uint64_t loop = (State::Loop(state.ticket.load(std::memory_order_relaxed)) + 1) & kTaskMask;
  state.ticket.store((loop << kTaskBits) | static_cast<uint64_t>(tasks));
  state.Wake();
  state.Drain(loop, 0);
  // Tasks, not workers, are waited for: a worker that never woke has none.
  for (int spin = 0; state.completed.load(std::memory_order_acquire) != tasks; ++spin) {
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
