#include <algorithm>
#include <cstdint>

#include "cuda/read_bandwidth.h"
#include "cuda/status.h"

namespace mxmla::cuda {
namespace {

constexpr std::string_view kWhat = "bandwidth measurement";

__global__ void ReadAll(const uint4* from, int64_t count, uint32_t* sink) {
  uint32_t sum = 0;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i + 3 * step < count; i += 4 * step) {
    const uint4 a = from[i], b = from[i + step], c = from[i + 2 * step], d = from[i + 3 * step];
    sum += a.x ^ b.y ^ c.z ^ d.w ^ a.y ^ b.x ^ c.w ^ d.z;
  }
  if (sum == 0x12345678u) *sink = sum;  // keeps the reads from being dropped
}

struct Resources {
  Resources() {
    Check(cudaMalloc(&data, kBytes), kWhat, "1 GiB of the device's memory");
    Check(cudaEventCreate(&begin), kWhat, "an event");
    Check(cudaEventCreate(&end), kWhat, "an event");
  }
  ~Resources() {
    cudaEventDestroy(end);
    cudaEventDestroy(begin);
    cudaFree(data);
  }
  static constexpr size_t kBytes = size_t{1} << 30;
  void* data = nullptr;
  cudaEvent_t begin = nullptr, end = nullptr;
};

}  // namespace

double ReadBandwidth(cudaStream_t stream) {
  constexpr int kReadings = 8;
  const Resources own;
  Check(cudaMemsetAsync(own.data, 1, Resources::kBytes, stream), kWhat, "memory that can be written");
  float best = 0;
  for (int i = 0; i < kReadings; ++i) {
    Check(cudaEventRecord(own.begin, stream), kWhat, "an event");
    ReadAll<<<132 * 8, 512, 0, stream>>>(static_cast<const uint4*>(own.data), Resources::kBytes / sizeof(uint4),
                                         static_cast<uint32_t*>(own.data));
    Check(cudaGetLastError(), kWhat, "a launch");
    Check(cudaEventRecord(own.end, stream), kWhat, "an event");
    Check(cudaEventSynchronize(own.end), kWhat, "a kernel that ends");
    float milliseconds = 0;
    Check(cudaEventElapsedTime(&milliseconds, own.begin, own.end), kWhat, "an event's time");
    best = best == 0 ? milliseconds : std::min(best, milliseconds);
  }
  return static_cast<double>(Resources::kBytes) / (static_cast<double>(best) * 1e-3);
}

}  // namespace mxmla::cuda
