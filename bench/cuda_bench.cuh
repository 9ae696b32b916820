// What the benchmarks of CUDA kernels share: memory of random bytes, times of runs and of graphs, the read bandwidth.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

namespace mxmla::bench {

inline cudaStream_t stream;  // of everything that is timed; created by main

inline void Must(cudaError_t status) {
  if (status != cudaSuccess) std::printf("CUDA: %s\n", cudaGetErrorString(status)), std::exit(1);
}
inline void Must(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS) std::printf("cuBLAS: %d\n", static_cast<int>(status)), std::exit(1);
}

static __global__ void Fill(uint32_t* to, int64_t words, uint32_t keep, uint32_t set, uint32_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < words; i += int64_t{gridDim.x} * blockDim.x) {
    uint32_t h = static_cast<uint32_t>(i) * 2654435761u + seed;
    h ^= h >> 15, h *= 2246822519u, h ^= h >> 13, h *= 3266489917u, h ^= h >> 16;
    to[i] = (h & keep) | set;
  }
}

// Device memory of random words, of which the bits `keep` are random and the bits `set` are 1.
template <class T>
T* Random(int64_t bytes, uint32_t keep, uint32_t set) {
  void* data = nullptr;
  Must(cudaMalloc(&data, static_cast<size_t>(bytes)));
  Fill<<<1024, 256>>>(static_cast<uint32_t*>(data), bytes / 4, keep, set, static_cast<uint32_t>(bytes));
  Must(cudaGetLastError());
  return static_cast<T*>(data);
}

// The times of runs after the first `warm_ups`, ascending.
inline std::vector<float> Milliseconds(int warm_ups, int runs, const std::function<void()>& run) {
  cudaEvent_t begin, end;
  Must(cudaEventCreate(&begin));
  Must(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < warm_ups + runs; ++i) {
    Must(cudaEventRecord(begin, stream));
    run();
    Must(cudaEventRecord(end, stream));
    Must(cudaEventSynchronize(end));
    float ms = 0;
    Must(cudaEventElapsedTime(&ms, begin, end));
    if (i >= warm_ups) times.push_back(ms);
  }
  Must(cudaEventDestroy(begin));
  Must(cudaEventDestroy(end));
  std::sort(times.begin(), times.end());
  return times;
}

// The median time of a graph of `links` calls of link(i), divided by their number.
inline double GraphMicroseconds(int links, const std::function<void(int)>& link, int warm_ups = 5, int runs = 20) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  Must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  for (int l = 0; l < links; ++l) link(l);
  Must(cudaStreamEndCapture(stream, &graph));
  Must(cudaGraphInstantiate(&exec, graph, 0));
  const std::vector<float> times = Milliseconds(warm_ups, runs, [&] { Must(cudaGraphLaunch(exec, stream)); });
  Must(cudaGraphExecDestroy(exec));
  Must(cudaGraphDestroy(graph));
  return times[times.size() / 2] * 1e3 / links;
}

static __global__ void ReadAll(const uint4* from, int64_t count, uint32_t* sink) {
  uint32_t sum = 0;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x;
  for (; i + 3 * step < count; i += 4 * step) {
    const uint4 a = from[i], b = from[i + step], c = from[i + 2 * step], d = from[i + 3 * step];
    sum += a.x ^ b.y ^ c.z ^ d.w ^ a.y ^ b.x ^ c.w ^ d.z;
  }
  if (sum == 0x12345678u) *sink = sum;
}

// Times of reading `bytes` once, ascending. `sink` is a word of the device's that may be written.
inline std::vector<float> ReadMilliseconds(int warm_ups, int runs, const void* data, int64_t bytes, void* sink) {
  return Milliseconds(warm_ups, runs, [&] {
    ReadAll<<<132 * 8, 512, 0, stream>>>(static_cast<const uint4*>(data), bytes / 16, static_cast<uint32_t*>(sink));
  });
}

// The best of eight readings, in TB/s.
inline double ReadBandwidth(const void* data, int64_t bytes, void* sink) {
  return static_cast<double>(bytes) / ReadMilliseconds(0, 8, data, bytes, sink).front() / 1e9;
}

}  // namespace mxmla::bench
