// A device that models run on: its kernels, the threads that run or launch them, and its memory. One instance serves
// one model and its sessions; it is for one thread at a time.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "core/memory.h"
#include "core/thread_pool.h"
#include "ops/context.h"
#include "ops/kernel_set.h"
#include "ops/vendor_products.h"

namespace mxmla {

// A stretch of the host's memory, pageable or mapped from a file, and where it goes.
struct Transfer {
  std::byte* device = nullptr;
  const std::byte* host = nullptr;
  size_t bytes = 0;
};

// Sequences of op calls that are run again and again: a device may keep what they launched and launch it at once.
class Recorder {
 public:
  virtual ~Recorder() = default;

  // Has the effect of `calls`, which are the same op calls on the same memory whenever `key` is the same.
  virtual void Run(std::span<const int64_t> key, const std::function<void()>& calls) = 0;
  // Kernels that the last Run launched and how long they took on the device, once they are done; 0 where it cannot
  // tell.
  virtual int64_t launches() const { return 0; }
  virtual double seconds() const { return 0; }
};

// A point in a device's queue.
class Fence {
 public:
  virtual ~Fence() = default;

  // The point is behind everything that was queued so far.
  virtual void Set() = 0;
  // Returns when the device has come to the point; at once where none was set.
  virtual void Wait() = 0;
};

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
  // Copies staging memory to memory from Allocate, behind the kernels that were started before and ahead of those
  // after. The staging memory may be written again once FinishUploads returned.
  virtual void Upload(std::byte* device, const std::byte* staging, size_t bytes) = 0;
  virtual void FinishUploads() {}
  // Copies the other way, behind the kernels that were started before. The bytes are there when a fence that was set
  // behind it is reached.
  virtual void QueueDownload(std::byte* staging, const std::byte* device, size_t bytes) = 0;
  // The same; returns when the bytes are there.
  void Download(std::byte* staging, const std::byte* device, size_t bytes);
  // The default is for kernels that return when their work is done.
  virtual std::unique_ptr<Fence> MakeFence();
  // Copies much of the host's memory to memory from Allocate; returns when it is there. `progress` hears at times, from
  // this thread, how many bytes are done.
  virtual void UploadAll(std::span<const Transfer> transfers, const std::function<void(size_t done)>& progress);
  // Bytes that Allocate can still give, where there is a limit that is known.
  virtual std::optional<size_t> FreeMemory() const { return std::nullopt; }

  // Whether the kernels of products are faster with weights in BF16 than in F16.
  virtual bool prefers_bf16() const { return false; }
  // Rows of prompts of which a step gains little by taking more.
  virtual int64_t prefill_rows() const { return 512; }

  // What kernels read beside the weights of a mixture's experts (views of memory that they read and that outlives the
  // result), for GroupedLinearArgs::placed: made once at load. Null where they need nothing.
  virtual std::shared_ptr<const void> PlaceExperts(std::span<const LinearWeight> weights);

  // The default runs every call.
  virtual std::unique_ptr<Recorder> MakeRecorder();
  // Whether recorders keep what they ran, so that a step should come in few shapes.
  virtual bool replays() const { return false; }
  // What times op calls; null where they return when their work is done.
  virtual QueueClock* clock() { return nullptr; }
  // Bytes a second at which kernels read memory far larger than the caches: the best of a few passes. Refused
  // (kInternal) by a backend that cannot tell.
  virtual double MeasureReadBandwidth();
  // Products of the vendor's own library, on this backend's queue and memory. Null where there are none; `why` says so.
  virtual std::unique_ptr<VendorProducts> OpenVendorProducts(std::string* why);

 protected:
  // For ExecContext::stream.
  virtual void* stream() const { return nullptr; }

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
  void QueueDownload(std::byte* staging, const std::byte* device, size_t bytes) override;
  double MeasureReadBandwidth() override;
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

  size_t bytes() const { return memory_.bytes() + counters_.bytes(); }
  size_t scratch_bytes() const { return memory_.bytes(); }  // at data(); without the counters
  std::byte* data() const { return memory_.data(); }

 private:
  void Take(ExecContext& context, Backend& backend, WorkspaceSize size);

  Memory memory_, counters_;
};

}  // namespace mxmla
