// The times of a stream's work, by events between its kernels.
#pragma once

#include <cuda_runtime_api.h>

#include <vector>

#include "core/profiler.h"

namespace mxmla::cuda {

class EventClock final : public QueueClock {
 public:
  explicit EventClock(cudaStream_t stream) : stream_(stream) {}
  ~EventClock() override;

  int64_t Mark() override;
  std::vector<double> Read() override;

 private:
  cudaStream_t stream_;
  std::vector<cudaEvent_t> events_;  // made once, used again after Read
  size_t used_ = 0;
};

}  // namespace mxmla::cuda
