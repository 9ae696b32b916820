// Running a kernel's tasks on the pool without allocating.
#pragma once

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
// there are any, so that what is asked for ahead of a task is the thread's own. It has the same share of every op, of
// which it may ask for the next one's. Calls body(task, worker, end), where the task's stretch ends before task `end`.
template <class Body>
void RunStreams(const ExecContext& context, int64_t tasks, const Body& body) {
  context.pool->ParallelStretches(tasks, std::cref(body));
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
