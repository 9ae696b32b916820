// What each op cost: calls, seconds and bytes, summed by name, and, on request, every call for a Chrome trace.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
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

// The clock of a device's queue, where an op's call returns before its work is done. A mark stands behind the work that
// was queued before it.
class QueueClock {
 public:
  virtual ~QueueClock() = default;

  // The number of a new mark, counted from 0.
  virtual int64_t Mark() = 0;
  // Waits for the queue and gives the time of each mark, in seconds since the first; the marks are forgotten.
  virtual std::vector<double> Read() = 0;
};

// Not thread-safe: ops are called from one thread (their work is what is spread over threads).
class Profiler {
 public:
  Profiler() { Reset(); }

  void Reset();
  // Calls are timed by `clock` (null: the host's), which must outlive them. Their seconds are known after Settle.
  void UseClock(QueueClock* clock) { clock_ = clock; }
  void Settle();
  // While paused, a model runs as if it had no profiler.
  void Pause(bool paused) { paused_ = paused; }
  bool paused() const { return paused_; }
  void KeepEvents(bool keep) { keep_events_ = keep; }

  const std::vector<OpCost>& costs() const { return costs_; }
  const std::vector<OpEvent>& events() const { return events_; }

  // Calls of the op `copy` and the bytes they moved: the copies between kernels.
  int64_t copies() const;
  int64_t copied_bytes() const;

  // Adds to the bytes of the call that is being timed: for a kernel whose traffic depends on values that only it reads.
  void AddBytes(int64_t bytes) { extra_bytes_ += bytes; }
  // The same for bytes that take time to find out: `bytes` is called once the call's end is marked.
  void AddBytesLater(std::function<int64_t()> bytes) { later_ = std::move(bytes); }

  // Adds to what the call that is being timed repacked.
  void AddRepacked(int64_t bytes) { repacked_ += bytes; }
  // Of all ops.
  int64_t repacked_bytes() const;

  // Times one call of op `name` from construction to destruction. A null profiler costs nothing.
  class Scope {
   public:
    Scope(Profiler* profiler, std::string_view name, int64_t bytes) : profiler_(profiler), name_(name), bytes_(bytes) {
      if (!profiler_) return;
      begin_ = Clock::now();
      if (profiler_->clock_) mark_ = profiler_->clock_->Mark();
    }
    ~Scope() {
      if (profiler_) profiler_->Add(*this);
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
    int64_t mark_ = 0;
  };

 private:
  using Clock = std::chrono::steady_clock;
  // A call whose seconds the queue's clock still holds.
  struct Pending {
    int op = 0;
    int64_t begin = 0, end = 0;  // marks
    int64_t bytes = 0;
  };

  void Add(const Scope& scope);
  void Count(int op, double begin, double seconds, int64_t bytes);

  Clock::time_point start_;
  QueueClock* clock_ = nullptr;
  Clock::time_point first_mark_;
  std::vector<Pending> pending_;
  std::function<int64_t()> later_;
  bool paused_ = false;
  bool keep_events_ = false;
  int64_t extra_bytes_ = 0;
  int64_t repacked_ = 0;
  std::vector<OpCost> costs_;
  std::vector<OpEvent> events_;
};

}  // namespace mxmla
