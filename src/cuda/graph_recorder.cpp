#include "cuda/graph_recorder.h"

#include "cuda/row_experts.h"
#include "cuda/status.h"
#include "gpu/graph_recorder.h"

namespace mxmla::cuda {
namespace {

constexpr std::string_view kWhat = "a step's graph";

struct Api {
  using Stream = cudaStream_t;
  using Event = cudaEvent_t;
  using Graph = cudaGraph_t;
  using Exec = cudaGraphExec_t;

  static Event MakeEvent() {
    Event event = nullptr;
    Check(cudaEventCreate(&event), kWhat, "an event");
    return event;
  }
  static void Record(Event event, Stream stream) { Check(cudaEventRecord(event, stream), kWhat, "an event"); }
  static double SecondsBetween(Event begin, Event end) {
    float milliseconds = 0;
    Check(cudaEventSynchronize(end), kWhat, "kernels that end");
    Check(cudaEventElapsedTime(&milliseconds, begin, end), kWhat, "an event's time");
    return static_cast<double>(milliseconds) * 1e-3;
  }
  static void TrySynchronize(Stream stream) { cudaStreamSynchronize(stream); }
  static void Synchronize(Stream stream) { Check(cudaStreamSynchronize(stream), "a step", "kernels that end"); }
  static void BeginCapture(Stream stream) {
    Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), kWhat, "a capture");
  }
  static Graph TryEndCapture(Stream stream) {
    Graph graph = nullptr;
    cudaStreamEndCapture(stream, &graph);
    return graph;
  }
  static Graph EndCapture(Stream stream) {
    Graph graph = nullptr;
    Check(cudaStreamEndCapture(stream, &graph), kWhat, "launches alone");
    return graph;
  }
  static Exec Instantiate(Graph graph) {
    Exec exec = nullptr;
    Check(cudaGraphInstantiate(&exec, graph, 0), kWhat, "a graph that can be launched");
    return exec;
  }
  static void Launch(Exec exec, Stream stream) { Check(cudaGraphLaunch(exec, stream), kWhat, "a launch"); }
  static int64_t CountKernels(Graph graph) {
    size_t count = 0;
    Check(cudaGraphGetNodes(graph, nullptr, &count), kWhat, "its nodes");
    std::vector<cudaGraphNode_t> nodes(count);
    Check(cudaGraphGetNodes(graph, nodes.data(), &count), kWhat, "its nodes");
    return std::ranges::count_if(nodes, [](cudaGraphNode_t node) {
      cudaGraphNodeType type{};
      Check(cudaGraphNodeGetType(node, &type), kWhat, "its nodes");
      return type == cudaGraphNodeTypeKernel;
    });
  }
  static void Destroy(Event event) { cudaEventDestroy(event); }
  static void Destroy(Graph graph) { cudaGraphDestroy(graph); }
  static void Destroy(Exec exec) { cudaGraphExecDestroy(exec); }
};

// The experts of a row are launched together while its calls are recorded.
class JoiningRecorder final : public Recorder {
 public:
  explicit JoiningRecorder(cudaStream_t stream) : graphs_(stream), experts_(stream) {}

  void Run(std::span<const int64_t> key, const std::function<void()>& calls) override {
    graphs_.Run(key, [&] {
      experts_.Begin();
      try {
        calls();
        experts_.LaunchNoted();
      } catch (...) {
        experts_.End();
        throw;
      }
      experts_.End();
    });
  }
  int64_t launches() const override { return graphs_.launches(); }
  double seconds() const override { return graphs_.seconds(); }

 private:
  gpu::GraphRecorder<Api> graphs_;
  RowExperts experts_;
};

}  // namespace

std::unique_ptr<Recorder> MakeGraphRecorder(cudaStream_t stream) { return std::make_unique<JoiningRecorder>(stream); }

}  // namespace mxmla::cuda
