// What each op cost: calls, seconds and bytes, summed by name, and, on request, every call for a Chrome trace.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mxmla {

struct OpCost {
  std::string name;
  int64_t calls = 0;
  double seconds = 0;
  int64_t bytes = 0;     // the fewest bytes the calls had to read and write
  int64_t repacked = 0;  // bytes of activations that the kernels wrote once more for themselves, decoded or reordered
};

struct OpEvent {
  int op = 0;        // index into costs()
  double begin = 0;  // seconds since the profiler was made or last reset
  double seconds = 0;
  int64_t bytes = 0;
};

// Not thread-safe: ops are called from one thread (their work is what is spread over threads).
class Profiler {
 public:
  Profiler() { Reset(); }

  void Reset();
  void KeepEvents(bool keep) { keep_events_ = keep; }

  const std::vector<OpCost>& costs() const { return costs_; }
  const std::vector<OpEvent>& events() const { return events_; }

  // Calls of the op `copy` and the bytes they moved: the copies between kernels.
  int64_t copies() const;
  int64_t copied_bytes() const;

  // Adds to the bytes of the call that is being timed: for a kernel whose traffic depends on values that only it reads.
  void AddBytes(int64_t bytes) { extra_bytes_ += bytes; }

  // Adds to what the call that is being timed repacked.
  void AddRepacked(int64_t bytes) { repacked_ += bytes; }
  // Of all ops.
  int64_t repacked_bytes() const;

  // Times one call of op `name` from construction to destruction. A null profiler costs nothing.
  class Scope {
   public:
    Scope(Profiler* profiler, std::string_view name, int64_t bytes) : profiler_(profiler), name_(name), bytes_(bytes) {
      if (profiler_) begin_ = Clock::now();
    }
    ~Scope() {
      if (profiler_) profiler_->Add(name_, begin_, Clock::now(), bytes_);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    friend class Profiler;
    using Clock = std::chrono::steady_clock;
    Profiler* profiler_;
    std::string_view name_;
    int64_t bytes_;
    Clock::time_point begin_;
  };

 private:
  using Clock = std::chrono::steady_clock;
  void Add(std::string_view name, Clock::time_point begin, Clock::time_point end, int64_t bytes);

  Clock::time_point start_;
  bool keep_events_ = false;
  int64_t extra_bytes_ = 0;
  int64_t repacked_ = 0;
  std::vector<OpCost> costs_;
  std::vector<OpEvent> events_;
};

}  // namespace mxmla
