#include "hip/library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <optional>

#include "core/error.h"

namespace mxmla::hip {
namespace {

struct Opened {
  std::optional<Library> library;
  std::string why_not;
};

template <class Function>
bool Resolve(void* from, const char* name, Function** to, std::string* why_not) {
  *to = reinterpret_cast<Function*>(dlsym(from, name));
  if (!*to && why_not->empty()) *why_not = std::string("a HIP library without ") + name;
  return *to != nullptr;
}

Opened Open() {
  const char* named = std::getenv("MXMLA_HIP_LIB");
  const std::string path = named && *named ? named : "libamdhip64.so";
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) return {std::nullopt, "no HIP library: " + std::string(dlerror())};
  Library l{};
  std::string why_not;
  const auto resolve = [&](const char* name, auto** to) { return Resolve(handle, name, to, &why_not); };
  bool all = resolve("hipInit", &l.init);
  all &= resolve("hipGetDeviceCount", &l.get_device_count);
  all &= resolve("hipSetDevice", &l.set_device);
  all &= resolve("hipMemGetInfo", &l.mem_get_info);
  all &= resolve("hipMalloc", &l.malloc);
  all &= resolve("hipFree", &l.free);
  all &= resolve("hipHostMalloc", &l.host_malloc);
  all &= resolve("hipHostFree", &l.host_free);
  all &= resolve("hipMemcpyAsync", &l.memcpy_async);
  all &= resolve("hipMemsetAsync", &l.memset_async);
  all &= resolve("hipStreamCreateWithFlags", &l.stream_create);
  all &= resolve("hipStreamDestroy", &l.stream_destroy);
  all &= resolve("hipStreamSynchronize", &l.stream_synchronize);
  all &= resolve("hipEventCreateWithFlags", &l.event_create);
  all &= resolve("hipEventDestroy", &l.event_destroy);
  all &= resolve("hipEventRecord", &l.event_record);
  all &= resolve("hipEventSynchronize", &l.event_synchronize);
  all &= resolve("hipEventElapsedTime", &l.event_elapsed_time);
  all &= resolve("hipModuleLoadData", &l.module_load_data);
  all &= resolve("hipModuleGetFunction", &l.module_get_function);
  all &= resolve("hipModuleLaunchKernel", &l.module_launch_kernel);
  all &= resolve("hipStreamBeginCapture", &l.stream_begin_capture);
  all &= resolve("hipStreamEndCapture", &l.stream_end_capture);
  all &= resolve("hipGraphInstantiateWithFlags", &l.graph_instantiate);
  all &= resolve("hipGraphLaunch", &l.graph_launch);
  all &= resolve("hipGraphGetNodes", &l.graph_get_nodes);
  all &= resolve("hipGraphNodeGetType", &l.graph_node_get_type);
  all &= resolve("hipGraphDestroy", &l.graph_destroy);
  all &= resolve("hipGraphExecDestroy", &l.graph_exec_destroy);
  all &= resolve("hipGetLastError", &l.get_last_error);
  all &= resolve("hipGetErrorString", &l.get_error_string);
  if (!all) return {std::nullopt, why_not};
  if (const hipError_t status = l.init(0); status != hipSuccess) return {std::nullopt, l.get_error_string(status)};
  return {l, ""};
}

const Opened& TheLibrary() {
  static const Opened opened = Open();
  return opened;
}

}  // namespace

const Library* TryLibrary() { return TheLibrary().library ? &*TheLibrary().library : nullptr; }
const std::string& WhyNotOpened() { return TheLibrary().why_not; }

const Library& Hip() {
  if (!TryLibrary()) Fail(ErrorCode::kDevice, "--device hip", "HIP's library", WhyNotOpened(), "use --device cpu");
  return *TryLibrary();
}

void Check(hipError_t status, std::string_view what, std::string_view expected) {
  if (status == hipSuccess) return;
  Fail(ErrorCode::kDevice, std::string(what), std::string(expected), Hip().get_error_string(status));
}

}  // namespace mxmla::hip
