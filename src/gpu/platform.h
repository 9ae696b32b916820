// What differs between CUDA and HIP: names, the width of a wave, and what only one of them has. The row kernels use
// nothing of either that is not here.
#pragma once

#if defined(__HIP__)
#include <hip/hip_bf16.h>
#include <hip/hip_runtime.h>
#else
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>
#endif

#include <cstdint>
#include <string>
#include <string_view>

#include "core/dtype.h"
#include "core/error.h"
#include "ops/context.h"

namespace mxmla::gpu {

#if defined(__HIP__)
using Stream = hipStream_t;
inline constexpr int kWave = 64;   // threads that run in step
inline constexpr int kBlocks = 1;  // blocks that can work on one row together and read each other's shared memory
#define MXMLA_CLUSTER
#else
using Stream = cudaStream_t;
inline constexpr int kWave = 32;
inline constexpr int kBlocks = 8;
#define MXMLA_CLUSTER __cluster_dims__(8, 1, 1)
#endif

#if defined(__CUDACC__) || defined(__HIP__)

template <class T>
__device__ __forceinline__ T ShuffleXor(T value, int mask) {
#if defined(__HIP__)
  return __shfl_xor(value, mask);
#else
  return __shfl_xor_sync(~0u, value, mask);
#endif
}
template <class T>
__device__ __forceinline__ T ShuffleUp(T value, int lanes) {
#if defined(__HIP__)
  return __shfl_up(value, lanes);
#else
  return __shfl_up_sync(~0u, value, lanes);
#endif
}
// What `lane` has.
template <class T>
__device__ __forceinline__ T ShuffleFrom(T value, int lane) {
#if defined(__HIP__)
  return __shfl(value, lane);
#else
  return __shfl_sync(~0u, value, lane);
#endif
}
// The largest of the wave's values.
__device__ __forceinline__ uint32_t WaveMax(uint32_t value) {
#if defined(__HIP__)
  for (int step = kWave / 2; step > 0; step /= 2) {
    const uint32_t other = ShuffleXor(value, step);
    value = other > value ? other : value;
  }
  return value;
#else
  return __reduce_max_sync(~0u, value);
#endif
}
// The sum of the wave's values, lanes kWave / 2, .., 2 and 1 apart: always in that order.
__device__ __forceinline__ float WaveSum(float value) {
  for (int step = kWave / 2; step > 0; step /= 2) value += ShuffleXor(value, step);
  return value;
}
// Two values rounded to bf16, the first in the low half.
__device__ __forceinline__ uint32_t PackHalves(float low, float high) {
#if defined(__HIP__)
  return bf16::FromFloat(low).bits | uint32_t{bf16::FromFloat(high).bits} << 16;
#else
  const __nv_bfloat162 packed = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&packed);
#endif
}
// Two finite values as e4m3, saturated at 448, the first in the low byte.
__device__ __forceinline__ uint32_t PackE4m3(float low, float high) {
#if defined(__HIP__)
  return e4m3::FromFloat(low).bits | uint32_t{e4m3::FromFloat(high).bits} << 8;
#else
  return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, __NV_E4M3);
#endif
}
// 2^x to a few units in the last place; 0 for -inf.
__device__ __forceinline__ float Exp2(float x) {
#if defined(__HIP__)
  return __builtin_amdgcn_exp2f(x);
#else
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#endif
}
// A bit for each thread of the wave.
__device__ __forceinline__ uint64_t Ballot(bool predicate) {
#if defined(__HIP__)
  return __ballot(predicate);
#else
  return __ballot_sync(~0u, predicate);
#endif
}
// What another block of the same launch has written.
template <class T>
__device__ __forceinline__ T LoadFresh(const T* from) {
#if defined(__HIP__)
  return __builtin_nontemporal_load(from);
#else
  return __ldcg(from);
#endif
}
__device__ __forceinline__ void WaveBarrier() {
#if defined(__HIP__)
  __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
  __builtin_amdgcn_wave_barrier();
#else
  __syncwarp();
#endif
}

// Stands before a kernel's first read of what the kernel before it in the stream wrote, and before its first write: it
// begins while that one still runs. The next row kernel may begin while it does.
__device__ __forceinline__ void WaitForPredecessor() {
#if !defined(__HIP__)
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The place of a block among the kBlocks of its cluster, a barrier over all their threads, and another block's copy of
// a shared variable.
__device__ __forceinline__ int BlockRank() { return static_cast<int>(blockIdx.x) % kBlocks; }
__device__ __forceinline__ void ClusterBarrier() {
#if defined(__HIP__)
  __syncthreads();
#else
  asm volatile("barrier.cluster.arrive;\n\tbarrier.cluster.wait;" ::: "memory");
#endif
}
template <class T>
__device__ __forceinline__ const T* InBlock(const T* shared, int rank) {
#if defined(__HIP__)
  return shared;
#else
  uint64_t address;
  asm("mapa.u64 %0, %1, %2;" : "=l"(address) : "l"(reinterpret_cast<uint64_t>(shared)), "r"(rank));
  return reinterpret_cast<const T*>(address);
#endif
}

// Dynamic shared memory beyond what every launch may ask for.
template <class Kernel>
void AllowSharedBytes(Kernel* kernel, size_t bytes, std::string_view name) {
#if defined(__HIP__)
  const hipError_t status = hipFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                hipFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  const bool allowed = status == hipSuccess;
  const auto text = [&] { return hipGetErrorString(status); };
#else
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  const bool allowed = status == cudaSuccess;
  const auto text = [&] { return cudaGetErrorString(status); };
#endif
  if (!allowed) {
    Fail(ErrorCode::kDevice, std::string(name), std::to_string(bytes) + " bytes of shared memory", text());
  }
}

// Starts `kernel` with `blocks` blocks of `threads` threads on the context's stream. Everything that a launch is, is
// known from extents. The blocks may start before the kernel before has ended, and wait (WaitForPredecessor); with HIP
// they start behind it.
template <class Params>
void Launch(const ExecContext& context, std::string_view op, void (*kernel)(Params), int64_t blocks, int threads,
            size_t shared_bytes, const Params& params) {
  constexpr int64_t kMostBlocks = 0x7fffffff;
  if (blocks == 0) return;
  if (blocks > kMostBlocks) {
    Fail(ErrorCode::kLayout, std::string(op), "at most 2^31 blocks of work", std::to_string(blocks),
         "choose a smaller batch");
  }
  const auto stream = static_cast<Stream>(context.stream);
#if defined(__HIP__)
  kernel<<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads), shared_bytes, stream>>>(params);
  const hipError_t status = hipGetLastError();
  const bool started = status == hipSuccess;
  const auto text = [&] { return hipGetErrorString(status); };
#else
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &overlap;
  config.numAttrs = 1;
  const cudaError_t status = cudaLaunchKernelEx(&config, kernel, params);
  const bool started = status == cudaSuccess;
  const auto text = [&] { return cudaGetErrorString(status); };
#endif
  if (!started) Fail(ErrorCode::kDevice, std::string(op), "a launch", text());
}

#endif

}  // namespace mxmla::gpu
