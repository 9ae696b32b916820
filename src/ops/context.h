// What an op runs on: a backend's kernels, the threads, scratch memory planned at start-up, and the profiler.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/profiler.h"
#include "core/thread_pool.h"

namespace mxmla {

struct KernelSet;

// Scratch memory, one region a worker thread, planned at start-up: ops never allocate.
struct WorkerScratch {
  std::byte* base = nullptr;
  size_t bytes_per_worker = 0;  // a multiple of 64
};

struct ExecContext {
  const KernelSet* kernels = nullptr;
  ThreadPool* pool = nullptr;
  Profiler* profiler = nullptr;  // may be null
  WorkerScratch scratch;

  // Room for `count` elements of T at `byte_offset` of worker's scratch; an Error (kInternal) when the plan was too
  // small.
  template <class T>
  T* Scratch(int worker, size_t byte_offset, size_t count) const {
    return reinterpret_cast<T*>(ScratchBytes(worker, byte_offset, count * sizeof(T)));
  }

 private:
  std::byte* ScratchBytes(int worker, size_t byte_offset, size_t bytes) const;
};

}  // namespace mxmla
