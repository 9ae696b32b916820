// Steps as CUDA graphs: what a sequence of op calls launches is captured once and launched at once from then on.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <list>
#include <vector>

#include "ops/backend.h"

namespace mxmla::cuda {

class GraphRecorder final : public Recorder {
 public:
  explicit GraphRecorder(cudaStream_t stream);
  ~GraphRecorder() override;

  // The first time that `key` is seen the calls are run as they are, which prepares each kernel that was never launched
  // (no graph may be captured meanwhile); the second time they are captured.
  void Run(std::span<const int64_t> key, const std::function<void()>& calls) override;
  int64_t launches() const override { return launches_; }
  double seconds() const override;

 private:
  struct Graph {
    std::vector<int64_t> key;
    cudaGraphExec_t exec = nullptr;  // null until captured
    int64_t kernels = 0;
  };

  void Capture(const std::function<void()>& calls, Graph* graph) const;

  static constexpr size_t kMostGraphs = 64;

  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;  // around the last graph
  std::list<Graph> graphs_;                      // the last used one first
  int64_t launches_ = 0;
};

}  // namespace mxmla::cuda
