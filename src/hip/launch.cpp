// What clang makes of a HIP source calls: it registers each source's code object and kernels before main, and a launch
// by <<<>>> is a pushed configuration and a call of hipLaunchKernel. Code objects are loaded when one of their kernels
// is first launched, by the library that was opened at run time.
#include <hip/hip_runtime.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/error.h"
#include "hip/library.h"

namespace mxmla::hip {
namespace {

// In the executable; `binary` is the code object.
struct Wrapper {
  uint32_t magic;
  uint32_t version;
  const void* binary;
  void* unused;
};

struct CodeObject {
  const void* image = nullptr;
  hipModule_t module = nullptr;  // null until loaded
};

struct KernelOf {
  CodeObject* object = nullptr;
  std::string name;
  hipFunction_t function = nullptr;  // null until first launched
};

struct Registry {
  std::mutex mutex;
  std::vector<std::unique_ptr<CodeObject>> objects;
  std::map<const void*, KernelOf> kernels;  // by the host's stub
};

Registry& TheRegistry() {
  static Registry registry;
  return registry;
}

hipFunction_t FunctionOf(const void* stub) {
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mutex);
  KernelOf& kernel = registry.kernels.at(stub);
  if (kernel.function) return kernel.function;
  if (!kernel.object->module) {
    Check(Hip().module_load_data(&kernel.object->module, kernel.object->image), "--device hip",
          "a code object for gfx950 that can be loaded");
  }
  Check(Hip().module_get_function(&kernel.function, kernel.object->module, kernel.name.c_str()), kernel.name,
        "a kernel of its code object");
  return kernel.function;
}

struct Configuration {
  dim3 grid, block;
  size_t shared_bytes = 0;
  hipStream_t stream = nullptr;
};
thread_local Configuration pushed;
thread_local hipError_t last_status = hipSuccess;

}  // namespace
}  // namespace mxmla::hip

extern "C" {

void** __hipRegisterFatBinary(const void* data) {
  auto object = std::make_unique<mxmla::hip::CodeObject>();
  object->image = static_cast<const mxmla::hip::Wrapper*>(data)->binary;
  auto& objects = mxmla::hip::TheRegistry().objects;
  objects.push_back(std::move(object));
  return reinterpret_cast<void**>(objects.back().get());
}
void __hipUnregisterFatBinary(void** /*object*/) {}  // the process ends
void __hipRegisterFunction(void** object, const void* stub, char* /*device_function*/, const char* name, int, void*,
                           void*, void*, void*, int*) {
  auto& kernel = mxmla::hip::TheRegistry().kernels[stub];
  kernel.object = reinterpret_cast<mxmla::hip::CodeObject*>(object);
  kernel.name = name;
}

hipError_t __hipPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, hipStream_t stream) {
  mxmla::hip::pushed = {grid, block, shared_bytes, stream};
  return hipSuccess;
}
hipError_t __hipPopCallConfiguration(dim3* grid, dim3* block, size_t* shared_bytes, hipStream_t* stream) {
  *grid = mxmla::hip::pushed.grid;
  *block = mxmla::hip::pushed.block;
  *shared_bytes = mxmla::hip::pushed.shared_bytes;
  *stream = mxmla::hip::pushed.stream;
  return hipSuccess;
}

hipError_t hipLaunchKernel(const void* stub, dim3 grid, dim3 block, void** arguments, size_t shared_bytes,
                           hipStream_t stream) {
  const hipError_t status =
      mxmla::hip::Hip().module_launch_kernel(mxmla::hip::FunctionOf(stub), grid.x, grid.y, grid.z, block.x, block.y,
                                             block.z, static_cast<unsigned>(shared_bytes), stream, arguments, nullptr);
  if (status != hipSuccess) mxmla::hip::last_status = status;
  return status;
}
// A launch may ask for all of a compute unit's shared memory.
hipError_t hipFuncSetAttribute(const void* /*stub*/, hipFuncAttribute /*attribute*/, int /*value*/) {
  return hipSuccess;
}
hipError_t hipGetLastError() {
  const hipError_t status = mxmla::hip::last_status;
  mxmla::hip::last_status = hipSuccess;
  return status;
}
const char* hipGetErrorString(hipError_t status) { return mxmla::hip::Hip().get_error_string(status); }

}  // extern "C"
