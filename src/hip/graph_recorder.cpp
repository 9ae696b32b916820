#include "hip/graph_recorder.h"

#include "gpu/graph_recorder.h"
#include "hip/library.h"

namespace mxmla::hip {
namespace {

constexpr std::string_view kWhat = "a step's graph";

struct Api {
  using Stream = hipStream_t;
  using Event = hipEvent_t;
  using Graph = hipGraph_t;
  using Exec = hipGraphExec_t;

  static Event MakeEvent() {
    Event event = nullptr;
    Check(Hip().event_create(&event, hipEventDefault), kWhat, "an event");
    return event;
  }
  static void Record(Event event, Stream stream) { Check(Hip().event_record(event, stream), kWhat, "an event"); }
  static double SecondsBetween(Event begin, Event end) {
    float milliseconds = 0;
    Check(Hip().event_synchronize(end), kWhat, "kernels that end");
    Check(Hip().event_elapsed_time(&milliseconds, begin, end), kWhat, "an event's time");
    return static_cast<double>(milliseconds) * 1e-3;
  }
  static void TrySynchronize(Stream stream) { static_cast<void>(Hip().stream_synchronize(stream)); }
  static void Synchronize(Stream stream) { Check(Hip().stream_synchronize(stream), "a step", "kernels that end"); }
  static void BeginCapture(Stream stream) {
    Check(Hip().stream_begin_capture(stream, hipStreamCaptureModeThreadLocal), kWhat, "a capture");
  }
  static Graph TryEndCapture(Stream stream) {
    Graph graph = nullptr;
    static_cast<void>(Hip().stream_end_capture(stream, &graph));
    return graph;
  }
  static Graph EndCapture(Stream stream) {
    Graph graph = nullptr;
    Check(Hip().stream_end_capture(stream, &graph), kWhat, "launches alone");
    return graph;
  }
  static Exec Instantiate(Graph graph) {
    Exec exec = nullptr;
    Check(Hip().graph_instantiate(&exec, graph, 0), kWhat, "a graph that can be launched");
    return exec;
  }
  static void Launch(Exec exec, Stream stream) { Check(Hip().graph_launch(exec, stream), kWhat, "a launch"); }
  static int64_t CountKernels(Graph graph) {
    size_t count = 0;
    Check(Hip().graph_get_nodes(graph, nullptr, &count), kWhat, "its nodes");
    std::vector<hipGraphNode_t> nodes(count);
    Check(Hip().graph_get_nodes(graph, nodes.data(), &count), kWhat, "its nodes");
    return std::ranges::count_if(nodes, [](hipGraphNode_t node) {
      hipGraphNodeType type{};
      Check(Hip().graph_node_get_type(node, &type), kWhat, "its nodes");
      return type == hipGraphNodeTypeKernel;
    });
  }
  static void Destroy(Event event) { static_cast<void>(Hip().event_destroy(event)); }
  static void Destroy(Graph graph) { static_cast<void>(Hip().graph_destroy(graph)); }
  static void Destroy(Exec exec) { static_cast<void>(Hip().graph_exec_destroy(exec)); }
};

}  // namespace

std::unique_ptr<Recorder> MakeGraphRecorder(hipStream_t stream) {
  return std::make_unique<gpu::GraphRecorder<Api>>(stream);
}

}  // namespace mxmla::hip
