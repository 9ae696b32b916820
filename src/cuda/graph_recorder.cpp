#include "cuda/graph_recorder.h"

#include <algorithm>

#include "cuda/status.h"

namespace mxmla::cuda {
namespace {

int64_t CountKernels(cudaGraph_t graph) {
  size_t count = 0;
  Check(cudaGraphGetNodes(graph, nullptr, &count), "a step's graph", "its nodes");
  std::vector<cudaGraphNode_t> nodes(count);
  Check(cudaGraphGetNodes(graph, nodes.data(), &count), "a step's graph", "its nodes");
  return std::ranges::count_if(nodes, [](cudaGraphNode_t node) {
    cudaGraphNodeType type{};
    Check(cudaGraphNodeGetType(node, &type), "a step's graph", "its nodes");
    return type == cudaGraphNodeTypeKernel;
  });
}

}  // namespace

GraphRecorder::GraphRecorder(cudaStream_t stream) : stream_(stream) {
  for (cudaEvent_t* event : {&begin_, &end_}) Check(cudaEventCreate(event), "a step's graph", "an event");
}

GraphRecorder::~GraphRecorder() {
  cudaStreamSynchronize(stream_);
  for (const cudaEvent_t event : {begin_, end_}) cudaEventDestroy(event);
  for (const Graph& graph : graphs_) {
    if (graph.exec) cudaGraphExecDestroy(graph.exec);
  }
}

void GraphRecorder::Run(std::span<const int64_t> key, const std::function<void()>& calls) {
  const auto known =
      std::ranges::find_if(graphs_, [&](const Graph& graph) { return std::ranges::equal(graph.key, key); });
  if (known == graphs_.end()) {
    calls();
    graphs_.push_front({{key.begin(), key.end()}, nullptr, 0});
    if (graphs_.size() > kMostGraphs) {
      Check(cudaStreamSynchronize(stream_), "a step", "kernels that end");
      if (graphs_.back().exec) cudaGraphExecDestroy(graphs_.back().exec);
      graphs_.pop_back();
    }
    launches_ = 0;
    return;
  }
  graphs_.splice(graphs_.begin(), graphs_, known);
  Graph& graph = graphs_.front();
  if (!graph.exec) Capture(calls, &graph);
  Check(cudaEventRecord(begin_, stream_), "a step's graph", "an event");
  Check(cudaGraphLaunch(graph.exec, stream_), "a step's graph", "a launch");
  Check(cudaEventRecord(end_, stream_), "a step's graph", "an event");
  launches_ = graph.kernels;
}

double GraphRecorder::seconds() const {
  if (launches_ == 0) return 0;
  float milliseconds = 0;
  Check(cudaEventSynchronize(end_), "a step's graph", "kernels that end");
  Check(cudaEventElapsedTime(&milliseconds, begin_, end_), "a step's graph", "an event's time");
  return static_cast<double>(milliseconds) * 1e-3;
}

void GraphRecorder::Capture(const std::function<void()>& calls, Graph* graph) const {
  Check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "a step's graph", "a capture");
  cudaGraph_t captured = nullptr;
  try {
    calls();
  } catch (...) {
    cudaStreamEndCapture(stream_, &captured);
    if (captured) cudaGraphDestroy(captured);
    throw;
  }
  Check(cudaStreamEndCapture(stream_, &captured), "a step's graph", "launches alone");
  const cudaError_t made = cudaGraphInstantiate(&graph->exec, captured, 0);
  if (made == cudaSuccess) graph->kernels = CountKernels(captured);
  cudaGraphDestroy(captured);
  Check(made, "a step's graph", "a graph that can be launched");
}

}  // namespace mxmla::cuda
