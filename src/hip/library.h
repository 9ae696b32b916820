// HIP's library, opened at run time: the program runs on machines without it. MXMLA_HIP_LIB names another file than
// libamdhip64.so (tools/gfx950emu builds one).
#pragma once

#include <hip/hip_api.h>

#include <string>
#include <string_view>

namespace mxmla::hip {

struct Library {
  hipError_t (*init)(unsigned flags);
  hipError_t (*get_device_count)(int* count);
  hipError_t (*set_device)(int index);
  hipError_t (*mem_get_info)(size_t* free, size_t* total);
  hipError_t (*malloc)(void** data, size_t bytes);
  hipError_t (*free)(void* data);
  hipError_t (*host_malloc)(void** data, size_t bytes, unsigned flags);
  hipError_t (*host_free)(void* data);
  hipError_t (*memcpy_async)(void* to, const void* from, size_t bytes, hipMemcpyKind kind, hipStream_t stream);
  hipError_t (*memset_async)(void* to, int value, size_t bytes, hipStream_t stream);
  hipError_t (*stream_create)(hipStream_t* stream, unsigned flags);
  hipError_t (*stream_destroy)(hipStream_t stream);
  hipError_t (*stream_synchronize)(hipStream_t stream);
  hipError_t (*event_create)(hipEvent_t* event, unsigned flags);
  hipError_t (*event_destroy)(hipEvent_t event);
  hipError_t (*event_record)(hipEvent_t event, hipStream_t stream);
  hipError_t (*event_synchronize)(hipEvent_t event);
  hipError_t (*event_elapsed_time)(float* milliseconds, hipEvent_t begin, hipEvent_t end);
  hipError_t (*module_load_data)(hipModule_t* module, const void* image);
  hipError_t (*module_get_function)(hipFunction_t* function, hipModule_t module, const char* name);
  hipError_t (*module_launch_kernel)(hipFunction_t function, unsigned groups_x, unsigned groups_y, unsigned groups_z,
                                     unsigned threads_x, unsigned threads_y, unsigned threads_z, unsigned shared_bytes,
                                     hipStream_t stream, void** arguments, void** extra);
  hipError_t (*stream_begin_capture)(hipStream_t stream, hipStreamCaptureMode mode);
  hipError_t (*stream_end_capture)(hipStream_t stream, hipGraph_t* graph);
  hipError_t (*graph_instantiate)(hipGraphExec_t* exec, hipGraph_t graph, unsigned long long flags);
  hipError_t (*graph_launch)(hipGraphExec_t exec, hipStream_t stream);
  hipError_t (*graph_get_nodes)(hipGraph_t graph, hipGraphNode_t* nodes, size_t* count);
  hipError_t (*graph_node_get_type)(hipGraphNode_t node, hipGraphNodeType* type);
  hipError_t (*graph_destroy)(hipGraph_t graph);
  hipError_t (*graph_exec_destroy)(hipGraphExec_t exec);
  hipError_t (*get_last_error)();
  const char* (*get_error_string)(hipError_t status);
};

// Opened once. Null where it cannot be: then WhyNotOpened says why.
const Library* TryLibrary();
const std::string& WhyNotOpened();
// Only where it could be opened.
const Library& Hip();

// Fails with kDevice, naming `what` and HIP's own text.
void Check(hipError_t status, std::string_view what, std::string_view expected);

}  // namespace mxmla::hip
