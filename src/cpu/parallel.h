// Running a kernel's tasks on the pool without allocating.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>

#include "ops/context.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

// Calls body(task, worker) for every task. A std::function made of a reference holds no memory of its own.
template <class Body>
void RunTasks(const ExecContext& context, int64_t tasks, const Body& body) {
  if (tasks <= 1 || context.pool->threads() == 1) {
    for (int64_t task = 0; task < tasks; ++task) body(task, 0);
    return;
  }
  context.pool->ParallelFor(tasks, std::cref(body));
}

// The same where tasks read what lies behind one another: a thread takes neighbours, of a stretch of its own while
// there are any, so that what is asked for ahead of a task is the thread's own. Calls body(task, worker, end), where
// the task's stretch ends before task `end`.
template <class Body>
void RunStreams(const ExecContext& context, int64_t tasks, const Body& body) {
  constexpr int64_t kMostStretches = 128;  // a bound for the list on the stack
  const int64_t threads = context.pool->threads();
  const int64_t stretches = std::min({tasks, threads, kMostStretches});
  if (stretches <= 1) return RunTasks(context, tasks, [&](int64_t task, int worker) { body(task, worker, tasks); });
  struct alignas(64) Taken {
    std::atomic<int64_t> next;
  };
  Taken taken[kMostStretches];
  const auto begin_of = [&](int64_t s) { return tasks * s / stretches; };
  for (int64_t s = 0; s < stretches; ++s) taken[s].next.store(begin_of(s), std::memory_order_relaxed);
  // By worker, not by task: a thread has the same share of every op, of which it may ask for the next one's.
  RunTasks(context, threads, [&](int64_t, int worker) {
    for (int64_t i = 0; i < stretches; ++i) {
      const int64_t s = (worker + i) % stretches;
      const int64_t end = begin_of(s + 1);
      for (;;) {
        const int64_t task = taken[s].next.fetch_add(1, std::memory_order_relaxed);
        if (task >= end) break;
        body(task, worker, end);
      }
    }
  });
}

// Calls body(first, last, worker) over 0 .. count in pieces of about `grain` elements, a few for each thread.
template <class Body>
void RunRanges(const ExecContext& context, int64_t count, int64_t grain, const Body& body) {
  const int64_t most = 4 * static_cast<int64_t>(context.pool->threads());
  const int64_t wanted = grain > 0 ? (count + grain - 1) / grain : count;
  const int64_t pieces = wanted < most ? wanted : most;
  if (pieces <= 1) {
    if (count > 0) body(int64_t{0}, count, 0);
    return;
  }
  RunTasks(context, pieces,
           [&](int64_t piece, int worker) { body(count * piece / pieces, count * (piece + 1) / pieces, worker); });
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
