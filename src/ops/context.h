// What an op runs on: a backend's kernels, the threads, the workspace its kernels asked for, and the profiler.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/profiler.h"
#include "core/thread_pool.h"

namespace mxmla {

struct KernelSet;

// Bytes of working memory that a kernel asks for: shared by all workers of one call, for each worker, and of counters
// that are zero when a call begins and that it leaves zero.
struct WorkspaceSize {
  size_t shared = 0;
  size_t per_worker = 0;
  size_t counters = 0;

  void Include(WorkspaceSize other) {
    shared = std::max(shared, other.shared);
    per_worker = std::max(per_worker, other.per_worker);
    counters = std::max(counters, other.counters);
  }
};

// Working memory, planned at start-up: ops never allocate. Its content between two calls is nobody's, but for the
// counters.
struct Workspace {
  std::byte* shared = nullptr;
  std::byte* workers = nullptr;
  WorkspaceSize size;  // per_worker is a multiple of 64
  std::byte* counters = nullptr;
};

struct ExecContext {
  const KernelSet* kernels = nullptr;
  ThreadPool* pool = nullptr;
  Profiler* profiler = nullptr;  // may be null
  void* stream = nullptr;        // the device's queue of launches (a cudaStream_t); null where kernels run on the host
  Workspace workspace;
  // Launches are links of a chain whose next kernel may begin, up to what depends on the one before it, while that one
  // still runs (CUDA's programmatic dependent launches); other devices take no notice. Only for kernels that the
  // backend alone launches one behind the other on `stream`, and whose planned arrays and weights none of them writes.
  bool programmatic = false;
  // While not null, ops run nothing: they add what their kernels would ask for here.
  WorkspaceSize* planned = nullptr;
  // While not null, ops run nothing: they check their operands and add the bytes that they would move here.
  int64_t* counted = nullptr;

  // Room for `count` elements of T at `byte_offset` of worker's memory, or of the shared memory; an Error (kInternal)
  // when the plan was too small.
  template <class T>
  T* Scratch(int worker, size_t byte_offset, size_t count) const {
    return reinterpret_cast<T*>(ScratchBytes(worker, byte_offset, count * sizeof(T)));
  }
  template <class T>
  T* SharedScratch(size_t byte_offset, size_t count) const {
    return reinterpret_cast<T*>(SharedBytes(byte_offset, count * sizeof(T)));
  }
  template <class T>
  T* Counters(size_t count) const {
    return reinterpret_cast<T*>(CounterBytes(count * sizeof(T)));
  }

 private:
  std::byte* ScratchBytes(int worker, size_t byte_offset, size_t bytes) const;
  std::byte* SharedBytes(size_t byte_offset, size_t bytes) const;
  std::byte* CounterBytes(size_t bytes) const;
};

}  // namespace mxmla
