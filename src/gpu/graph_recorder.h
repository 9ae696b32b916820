// Steps as graphs of a device: what a sequence of op calls launches is captured once and launched at once from then on.
// The structure is one for CUDA and HIP; `Api` is what they call (cuda/graph_recorder.cpp, hip/graph_recorder.cpp).
#pragma once

#include <algorithm>
#include <cstdint>
#include <list>
#include <vector>

#include "ops/backend.h"

namespace mxmla::gpu {

// Api has the types Stream, Event, Graph and Exec, and functions of which those named Try.. and Destroy answer or do
// nothing where the device fails; the others are Errors then.
template <class Api>
class GraphRecorder final : public Recorder {
 public:
  explicit GraphRecorder(typename Api::Stream stream)
      : stream_(stream), begin_(Api::MakeEvent()), end_(Api::MakeEvent()) {}
  ~GraphRecorder() override {
    Api::TrySynchronize(stream_);
    Api::Destroy(begin_);
    Api::Destroy(end_);
    for (const Graph& graph : graphs_) {
      if (graph.exec) Api::Destroy(graph.exec);
    }
  }

  // The first time that `key` is seen the calls are run as they are, which prepares each kernel that was never launched
  // (no graph may be captured meanwhile); the second time they are captured.
  void Run(std::span<const int64_t> key, const std::function<void()>& calls) override {
    const auto known =
        std::ranges::find_if(graphs_, [&](const Graph& graph) { return std::ranges::equal(graph.key, key); });
    if (known == graphs_.end()) {
      calls();
      graphs_.push_front({{key.begin(), key.end()}, {}, 0});
      if (graphs_.size() > kMostGraphs) {
        Api::Synchronize(stream_);
        if (graphs_.back().exec) Api::Destroy(graphs_.back().exec);
        graphs_.pop_back();
      }
      launches_ = 0;
      return;
    }
    graphs_.splice(graphs_.begin(), graphs_, known);
    Graph& graph = graphs_.front();
    if (!graph.exec) Capture(calls, &graph);
    Api::Record(begin_, stream_);
    Api::Launch(graph.exec, stream_);
    Api::Record(end_, stream_);
    launches_ = graph.kernels;
  }
  int64_t launches() const override { return launches_; }
  double seconds() const override { return launches_ == 0 ? 0 : Api::SecondsBetween(begin_, end_); }

 private:
  struct Graph {
    std::vector<int64_t> key;
    typename Api::Exec exec{};  // null until captured
    int64_t kernels = 0;
  };

  void Capture(const std::function<void()>& calls, Graph* graph) const {
    Api::BeginCapture(stream_);
    try {
      calls();
    } catch (...) {
      if (const typename Api::Graph partial = Api::TryEndCapture(stream_)) Api::Destroy(partial);
      throw;
    }
    const typename Api::Graph captured = Api::EndCapture(stream_);
    try {
      graph->exec = Api::Instantiate(captured);
      graph->kernels = Api::CountKernels(captured);
    } catch (...) {
      Api::Destroy(captured);
      throw;
    }
    Api::Destroy(captured);
  }

  static constexpr size_t kMostGraphs = 64;

  typename Api::Stream stream_;
  typename Api::Event begin_, end_;  // around the last graph
  std::list<Graph> graphs_;          // the last used one first
  int64_t launches_ = 0;
};

}  // namespace mxmla::gpu
