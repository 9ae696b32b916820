// What src/gpu and src/hip use of HIP, so that clang-22 alone compiles them: neither ROCm's headers nor its device
// library are needed (-nogpuinc -nogpulib). Names and values are those of HIP's public interface; hip/launch.cpp
// carries out the calls of the host's side by a library opened at run time.
#pragma once

#include <hip/hip_api.h>

#if defined(__HIP__)
#define __host__ __attribute__((host))
#define __device__ __attribute__((device))
#define __global__ __attribute__((global))
#define __shared__ __attribute__((shared))
#define __constant__ __attribute__((constant))
#define __forceinline__ inline __attribute__((always_inline))
// The threads of a block; how many blocks are wanted on a compute unit is left to the compiler.
#define MXMLA_LAUNCH_BOUNDS(threads, ...) __attribute__((amdgpu_flat_work_group_size(1, threads)))
#define __launch_bounds__(...) MXMLA_LAUNCH_BOUNDS(__VA_ARGS__, )
#define __align__(bytes) __attribute__((aligned(bytes)))
#else
#define __host__
#define __device__
#endif

struct dim3 {
  unsigned x = 1, y = 1, z = 1;

  __host__ __device__ constexpr dim3(unsigned of_x = 1, unsigned of_y = 1, unsigned of_z = 1)  // NOLINT
      : x(of_x), y(of_y), z(of_z) {}
};

// What clang makes of kernel<<<grid, block, shared_bytes, stream>>>(arguments).
extern "C" hipError_t __hipPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, hipStream_t stream);
extern "C" hipError_t __hipPopCallConfiguration(dim3* grid, dim3* block, size_t* shared_bytes, hipStream_t* stream);
extern "C" hipError_t hipLaunchKernel(const void* stub, dim3 grid, dim3 block, void** arguments, size_t shared_bytes,
                                      hipStream_t stream);
enum hipFuncAttribute { hipFuncAttributeMaxDynamicSharedMemorySize = 8 };
extern "C" hipError_t hipFuncSetAttribute(const void* stub, hipFuncAttribute attribute, int value);
extern "C" hipError_t hipGetLastError();
extern "C" const char* hipGetErrorString(hipError_t status);

struct alignas(8) int2 {
  int x, y;
};
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

#if defined(__HIP__)
#include <hip/device_functions.h>
#endif
