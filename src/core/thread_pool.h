// A pool of threads that share one parallel loop at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace mxmla {

class ThreadPool {
 public:
  // `threads` counts the calling thread; at least 1. Where the system starts fewer, so has the pool, and a note says
  // so.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Calls body(task, worker) once for each task in 0 .. tasks-1, spread over the threads, and returns when all are
  // done; worker is in 0 .. threads-1 and names the thread, for its scratch memory. Which thread runs a task is not
  // fixed, so a result must not depend on it. The first exception is rethrown here. Not reentrant.
  void ParallelFor(int64_t tasks, const std::function<void(int64_t task, int worker)>& body);

  // The same where neighbours belong together: worker w takes the tasks of its stretch, tasks * w / threads ..
  // tasks * (w + 1) / threads, in their order, then what is left of the others'. The stretch that a task is of ends
  // before task `end`.
  void ParallelStretches(int64_t tasks, const std::function<void(int64_t task, int worker, int64_t end)>& body);

  // The processors this process may run on.
  static int AvailableProcessors();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mxmla
