// A device that models run on: its kernels, the threads that run or launch them, and its memory. One instance serves one
// model and its sessions; it is for one thread at a time.
#pragma once

#include <string>

#include "core/memory.h"
#include "core/thread_pool.h"
#include "ops/context.h"
#include "ops/kernel_set.h"

namespace mxmla {

class Backend {
 public:
  // `kernels` must outlive the backend.
  Backend(const KernelSet& kernels, int threads) : kernels_(kernels), pool_(threads) {}
  virtual ~Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  const KernelSet& kernels() const { return kernels_; }
  ThreadPool& pool() const { return pool_; }
  // "ref", "cpu/avx512"
  std::string Name() const;
  // What ops run on, without a workspace.
  ExecContext Context() const;

  // Whether kernels read the host's memory, so that nothing is ever uploaded.
  virtual bool reads_host_memory() const = 0;
  // Memory that kernels read and write. Errors: kMemory with `what` and `hint`.
  virtual Memory Allocate(size_t bytes, Fill fill, const std::string& what, const std::string& hint) = 0;
  // Memory that the host fills for Upload, untouched.
  virtual Memory AllocateStaging(size_t bytes, const std::string& what, const std::string& hint) = 0;
  // Copies staging memory to memory from Allocate, behind the kernels that were started before and ahead of those after.
  virtual void Upload(std::byte* device, const std::byte* staging, size_t bytes) = 0;
  // Copies the other way; returns when the kernels before it have run and the bytes are there.
  virtual void Download(std::byte* staging, const std::byte* device, size_t bytes) = 0;

 private:
  const KernelSet& kernels_;
  mutable ThreadPool pool_;
};

// A backend whose kernels run in the process's own threads and memory.
class HostBackend final : public Backend {
 public:
  using Backend::Backend;

  bool reads_host_memory() const override { return true; }
  Memory Allocate(size_t bytes, Fill fill, const std::string& what, const std::string& hint) override;
  Memory AllocateStaging(size_t bytes, const std::string& what, const std::string& hint) override;
  void Upload(std::byte* device, const std::byte* staging, size_t bytes) override;
  void Download(std::byte* staging, const std::byte* device, size_t bytes) override;
};

// The memory of a context's workspace. Plan calls `calls(context)` once without running anything, to find out what the
// kernels of those calls ask for, takes it from `backend` and gives it to `context`, for as long as this lives.
class WorkspaceMemory {
 public:
  template <class Calls>
  void Plan(ExecContext& context, Backend& backend, const Calls& calls) {
    WorkspaceSize size;
    context.planned = &size;
    calls(context);
    context.planned = nullptr;
    Take(context, backend, size);
  }

  size_t bytes() const { return memory_.bytes(); }
  std::byte* data() const { return memory_.data(); }

 private:
  void Take(ExecContext& context, Backend& backend, WorkspaceSize size);

  Memory memory_;
};

}  // namespace mxmla
