// libamdhip64_emu.so: the slice of HIP that the backend calls, on the emulator. "Device memory" is the host's, filled
// with a pattern and known by its bounds; a launch has run when it returns, so that streams and events only keep order.
//
// Environment: GFX950EMU_SEED (order of waves, poison), GFX950EMU_THREADS (of the host),
// GFX950EMU_COUNTERS (a file: what each kernel did, as JSON, when the process ends).
#include <hip/hip_api.h>

#include <fmt/format.h>
#include <fmt/os.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <thread>

#include "device_memory.h"
#include "error.h"
#include "machine.h"

struct hipGraphNode {
  hipGraphNodeType type;
  std::function<hipError_t()> run;
};
struct ihipGraph {
  std::vector<std::shared_ptr<hipGraphNode>> nodes;  // in their order
};
struct hipGraphExec {
  std::vector<std::shared_ptr<hipGraphNode>> nodes;
};
struct ihipStream_t {
  std::unique_ptr<ihipGraph> captured;  // while a capture is on
};
struct ihipEvent_t {
  std::chrono::steady_clock::time_point at;
};
struct ihipModule_t {
  explicit ihipModule_t(std::vector<uint8_t> elf) : object(std::move(elf)) {}

  gfx950emu::CodeObject object;
  std::map<std::string, std::unique_ptr<ihipModuleSymbol_t>> functions;
};
struct ihipModuleSymbol_t {
  ihipModule_t* module;
  std::string name;
};

namespace {

using gfx950emu::Counters;

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 0) : otherwise;
}

class Device {
 public:
  static Device& Get() {
    static Device device;
    return device;
  }

  gfx950emu::DeviceMemory memory;
  gfx950emu::LaunchOptions options;
  std::map<std::string, Counters> counters;  // by kernel
  std::map<void*, size_t> allocated;
  std::recursive_mutex mutex;
  std::string failure;  // of the last launch that failed
  uint64_t launches = 0;

  hipError_t Fail(hipError_t status, const std::string& text) {
    failure = text;
    return last = status;
  }
  hipError_t last = hipSuccess;

  std::string Json() const {
    std::string text = "{";
    for (const auto& [name, of_kernel] : counters) {
      text += fmt::format("{}\n  \"{}\": {}", text.size() > 1 ? "," : "", name, of_kernel.Json());
    }
    return text + "\n}\n";
  }

 private:
  Device() {
    options.seed = FromEnvironment("GFX950EMU_SEED", 1);
    options.threads = static_cast<int>(FromEnvironment("GFX950EMU_THREADS", std::thread::hardware_concurrency()));
  }
  ~Device() {
    if (const char* path = std::getenv("GFX950EMU_COUNTERS")) fmt::output_file(path).print("{}", Json());
  }
};

hipError_t Allocate(void** data, size_t bytes) {
  Device& device = Device::Get();
  const std::lock_guard lock(device.mutex);
  void* made = nullptr;
  // Between pages of other buffers: what reaches out of one hits no other.
  if (posix_memalign(&made, 256, bytes + 512) != 0) return device.Fail(hipErrorOutOfMemory, "out of memory");
  std::memset(made, 0xff, bytes + 512);  // NaN in every format
  device.memory.Register(made, bytes, true);
  device.allocated[made] = bytes;
  *data = made;
  return hipSuccess;
}

hipError_t Free(void* data) {
  if (!data) return hipSuccess;
  Device& device = Device::Get();
  const std::lock_guard lock(device.mutex);
  if (device.allocated.erase(data) == 0) return device.Fail(hipErrorInvalidValue, "memory that was not allocated");
  device.memory.Forget(data);
  std::free(data);
  return hipSuccess;
}

// Carries out `work`, or keeps it for the graph that `stream` is captured into.
hipError_t Do(hipStream_t stream, hipGraphNodeType type, std::function<hipError_t()> work) {
  if (!stream || !stream->captured) return work();
  stream->captured->nodes.push_back(std::make_shared<hipGraphNode>(hipGraphNode{type, std::move(work)}));
  return hipSuccess;
}

// What waits for a stream, or asks it, cannot be captured.
hipError_t Settled(hipStream_t stream) {
  if (stream && stream->captured) {
    return Device::Get().Fail(hipErrorStreamCaptureUnsupported, "waiting for a stream that is being captured");
  }
  return Device::Get().last;
}

hipError_t Start(hipFunction_t function, const gfx950emu::Launch& launch) {
  Device& device = Device::Get();
  const std::lock_guard lock(device.mutex);
  try {
    const gfx950emu::Kernel& kernel = function->module->object.Find(function->name);
    gfx950emu::LaunchOptions options = device.options;
    options.seed += device.launches++;
    Run(function->module->object, kernel, launch, device.memory, options, &device.counters[kernel.name]);
  } catch (const std::exception& error) {
    return device.Fail(hipErrorLaunchFailure, error.what());
  }
  return hipSuccess;
}

// The side of a copy that is the device's must be allocated memory.
hipError_t CheckedCopy(void* to, const void* from, size_t bytes, hipMemcpyKind kind) {
  Device& device = Device::Get();
  const auto known = [&](const void* at) {
    return bytes == 0 || device.memory.Find(reinterpret_cast<uint64_t>(at), bytes).end != 0;
  };
  if ((kind == hipMemcpyHostToDevice || kind == hipMemcpyDeviceToDevice) && !known(to)) {
    return device.Fail(hipErrorInvalidValue, "a copy to memory that is not the device's");
  }
  if ((kind == hipMemcpyDeviceToHost || kind == hipMemcpyDeviceToDevice) && !known(from)) {
    return device.Fail(hipErrorInvalidValue, "a copy from memory that is not the device's");
  }
  std::memmove(to, from, bytes);
  return hipSuccess;
}

}  // namespace

extern "C" {

hipError_t hipInit(unsigned) { return hipSuccess; }
hipError_t hipGetDeviceCount(int* count) {
  *count = 1;
  return hipSuccess;
}
hipError_t hipSetDevice(int index) {
  return index == 0 ? hipSuccess : Device::Get().Fail(hipErrorInvalidDevice, "one device");
}
hipError_t hipDeviceGetName(char* name, int bytes, int) {
  fmt::format_to_n(name, static_cast<size_t>(bytes), "{}{}", "emulated gfx950", '\0');
  return hipSuccess;
}
hipError_t hipDriverGetVersion(int* version) {
  *version = 0;
  return hipSuccess;
}
hipError_t hipRuntimeGetVersion(int* version) {
  *version = 0;
  return hipSuccess;
}
hipError_t hipMemGetInfo(size_t* free, size_t* total) {
  *total = *free = size_t{288} << 30;
  return hipSuccess;
}
hipError_t hipMalloc(void** data, size_t bytes) { return Allocate(data, bytes); }
hipError_t hipFree(void* data) { return Free(data); }
hipError_t hipHostMalloc(void** data, size_t bytes, unsigned) { return Allocate(data, bytes); }
hipError_t hipHostFree(void* data) { return Free(data); }
hipError_t hipMemcpy(void* to, const void* from, size_t bytes, hipMemcpyKind kind) {
  return CheckedCopy(to, from, bytes, kind);
}
hipError_t hipMemcpyAsync(void* to, const void* from, size_t bytes, hipMemcpyKind kind, hipStream_t stream) {
  return Do(stream, hipGraphNodeTypeMemcpy, [=] { return CheckedCopy(to, from, bytes, kind); });
}
hipError_t hipMemsetAsync(void* to, int value, size_t bytes, hipStream_t stream) {
  return Do(stream, hipGraphNodeTypeMemset, [=] {
    if (Device::Get().memory.Find(reinterpret_cast<uint64_t>(to), bytes).end == 0) {
      return Device::Get().Fail(hipErrorInvalidValue, "a fill of memory that is not the device's");
    }
    std::memset(to, value, bytes);
    return hipSuccess;
  });
}
hipError_t hipStreamCreateWithFlags(hipStream_t* stream, unsigned) {
  *stream = new ihipStream_t;
  return hipSuccess;
}
hipError_t hipStreamDestroy(hipStream_t stream) {
  delete stream;
  return hipSuccess;
}
hipError_t hipStreamSynchronize(hipStream_t stream) { return Settled(stream); }
hipError_t hipDeviceSynchronize() { return Device::Get().last; }
hipError_t hipEventCreateWithFlags(hipEvent_t* event, unsigned) {
  *event = new ihipEvent_t;
  return hipSuccess;
}
hipError_t hipEventDestroy(hipEvent_t event) {
  delete event;
  return hipSuccess;
}
hipError_t hipEventRecord(hipEvent_t event, hipStream_t) {
  event->at = std::chrono::steady_clock::now();
  return hipSuccess;
}
hipError_t hipEventSynchronize(hipEvent_t) { return hipSuccess; }
hipError_t hipEventElapsedTime(float* milliseconds, hipEvent_t begin, hipEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(end->at - begin->at).count();
  return hipSuccess;
}

// `image` is an ELF file, whose own header says how long it is: the section table is its end.
hipError_t hipModuleLoadData(hipModule_t* module, const void* image) {
  Device& device = Device::Get();
  const std::lock_guard lock(device.mutex);
  const auto* bytes = static_cast<const uint8_t*>(image);
  uint64_t sections = 0;
  uint16_t section_bytes = 0, section_count = 0;
  if (std::memcmp(bytes,
                  "\x7f"
                  "ELF",
                  4) != 0)
    return device.Fail(hipErrorInvalidImage, "an image that is no ELF file");
  std::memcpy(&sections, bytes + 0x28, sizeof(sections));
  std::memcpy(&section_bytes, bytes + 0x3a, sizeof(section_bytes));
  std::memcpy(&section_count, bytes + 0x3c, sizeof(section_count));
  try {
    *module = new ihipModule_t({bytes, bytes + sections + uint64_t{section_bytes} * section_count});
  } catch (const std::exception& error) {
    return device.Fail(hipErrorInvalidImage, error.what());
  }
  return hipSuccess;
}
hipError_t hipModuleUnload(hipModule_t module) {
  delete module;
  return hipSuccess;
}
hipError_t hipModuleGetFunction(hipFunction_t* function, hipModule_t module, const char* name) {
  Device& device = Device::Get();
  const std::lock_guard lock(device.mutex);
  if (!module->object.Has(name)) return device.Fail(hipErrorNotFound, fmt::format("no kernel named {}", name));
  auto& symbol = module->functions[name];
  if (!symbol) symbol.reset(new ihipModuleSymbol_t{module, name});
  *function = symbol.get();
  return hipSuccess;
}
hipError_t hipModuleLaunchKernel(hipFunction_t function, unsigned groups_x, unsigned groups_y, unsigned groups_z,
                                 unsigned threads_x, unsigned threads_y, unsigned threads_z, unsigned shared_bytes,
                                 hipStream_t stream, void** arguments, void** extra) {
  Device& device = Device::Get();
  if (extra) return device.Fail(hipErrorNotSupported, "arguments in a buffer");
  gfx950emu::Launch launch;
  launch.groups = {groups_x, groups_y, groups_z};
  launch.threads = {threads_x, threads_y, threads_z};
  launch.dynamic_lds = shared_bytes;
  try {
    launch.kernarg = gfx950emu::FillKernarg(function->module->object.Find(function->name), launch, arguments);
  } catch (const std::exception& error) {
    return device.Fail(hipErrorLaunchFailure, error.what());
  }
  return Do(stream, hipGraphNodeTypeKernel, [function, launch] { return Start(function, launch); });
}

// --- graphs: what was asked of a stream between the two calls, in its order ---

hipError_t hipStreamBeginCapture(hipStream_t stream, hipStreamCaptureMode) {
  if (!stream || stream->captured) return Device::Get().Fail(hipErrorInvalidValue, "a capture of no idle stream");
  stream->captured = std::make_unique<ihipGraph>();
  return hipSuccess;
}
hipError_t hipStreamEndCapture(hipStream_t stream, hipGraph_t* graph) {
  if (!stream || !stream->captured) return Device::Get().Fail(hipErrorInvalidValue, "no capture to end");
  *graph = stream->captured.release();
  return hipSuccess;
}
hipError_t hipGraphInstantiateWithFlags(hipGraphExec_t* exec, hipGraph_t graph, unsigned long long) {
  *exec = new hipGraphExec{graph->nodes};
  return hipSuccess;
}
hipError_t hipGraphLaunch(hipGraphExec_t exec, hipStream_t) {
  for (const auto& node : exec->nodes) {
    if (const hipError_t status = node->run(); status != hipSuccess) return status;
  }
  return hipSuccess;
}
// `nodes` null: their number alone.
hipError_t hipGraphGetNodes(hipGraph_t graph, hipGraphNode_t* nodes, size_t* count) {
  const size_t given = nodes ? std::min(*count, graph->nodes.size()) : 0;
  for (size_t i = 0; i < given; ++i) nodes[i] = graph->nodes[i].get();
  *count = graph->nodes.size();
  return hipSuccess;
}
hipError_t hipGraphNodeGetType(hipGraphNode_t node, hipGraphNodeType* type) {
  *type = node->type;
  return hipSuccess;
}
hipError_t hipGraphDestroy(hipGraph_t graph) {
  delete graph;
  return hipSuccess;
}
hipError_t hipGraphExecDestroy(hipGraphExec_t exec) {
  delete exec;
  return hipSuccess;
}

hipError_t hipGetLastError() {
  Device& device = Device::Get();
  const hipError_t status = device.last;
  device.last = hipSuccess;
  return status;
}
// The reason of the last failure, which the status alone would not tell.
const char* hipGetErrorString(hipError_t status) {
  if (status == hipSuccess) return "no error";
  return Device::Get().failure.c_str();
}

// --- beside HIP: for tests ---

void gfx950emu_reset_counters() { Device::Get().counters.clear(); }
const char* gfx950emu_counters_json() {
  static std::string text;
  text = Device::Get().Json();
  return text.c_str();
}
void gfx950emu_set_seed(uint64_t seed) { Device::Get().options.seed = seed; }

}  // extern "C"
