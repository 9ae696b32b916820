#include "cuda/event_clock.h"

#include "cuda/status.h"

namespace mxmla::cuda {

EventClock::~EventClock() {
  for (const cudaEvent_t event : events_) cudaEventDestroy(event);
}

int64_t EventClock::Mark() {
  if (used_ == events_.size()) {
    cudaEvent_t event = nullptr;
    Check(cudaEventCreate(&event), "profiler", "an event");
    events_.push_back(event);
  }
  Check(cudaEventRecord(events_[used_], stream_), "profiler", "an event in the stream");
  return static_cast<int64_t>(used_++);
}

std::vector<double> EventClock::Read() {
  std::vector<double> seconds(used_);
  if (used_ > 0) Check(cudaEventSynchronize(events_[used_ - 1]), "profiler", "kernels that end");
  for (size_t i = 0; i < used_; ++i) {
    float milliseconds = 0;
    Check(cudaEventElapsedTime(&milliseconds, events_[0], events_[i]), "profiler", "an event's time");
    seconds[i] = static_cast<double>(milliseconds) * 1e-3;
  }
  used_ = 0;
  return seconds;
}

}  // namespace mxmla::cuda
