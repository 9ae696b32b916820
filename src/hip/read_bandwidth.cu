#include "hip/read_bandwidth.h"

#include <algorithm>
#include <cstdint>

#include "hip/library.h"
#include "hip/matrix_step.cuh"
#include "hip/product_launch.cuh"

namespace mxmla::hip {
namespace {

constexpr std::string_view kWhat = "bandwidth measurement";
constexpr size_t kBytes = size_t{1} << 30;  // four times the last cache
constexpr int kThreads = 256, kBlocks = 256 * 8;

__global__ void __launch_bounds__(kThreads) ReadAllKernel(const Int4* from, int count, uint32_t* sink) {
  uint32_t sum = 0;
  constexpr int kStep = kBlocks * kThreads;
  for (int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x); i + 3 * kStep < count;
       i += 4 * kStep) {
    const Int4 a = from[i], b = from[i + kStep], c = from[i + 2 * kStep], d = from[i + 3 * kStep];
    sum += static_cast<uint32_t>(a[0] ^ b[1] ^ c[2] ^ d[3]);
  }
  if (sum == 0x12345678u) *sink = sum;  // keeps the reads from being dropped
}

struct Resources {
  Resources() {
    Check(Hip().malloc(&data, kBytes), kWhat, "1 GiB of the device's memory");
    Check(Hip().event_create(&begin, hipEventDefault), kWhat, "an event");
    Check(Hip().event_create(&end, hipEventDefault), kWhat, "an event");
  }
  ~Resources() {
    for (const hipEvent_t event : {begin, end}) static_cast<void>(Hip().event_destroy(event));
    static_cast<void>(Hip().free(data));
  }
  Resources(const Resources&) = delete;

  void* data = nullptr;
  hipEvent_t begin = nullptr, end = nullptr;
};

}  // namespace

double ReadBandwidth(hipStream_t stream) {
  const Resources own;
  Check(Hip().memset_async(own.data, 1, kBytes, stream), kWhat, "memory that can be written");
  float best = 0;
  for (int reading = 0; reading < 3; ++reading) {
    Check(Hip().event_record(own.begin, stream), kWhat, "an event");
    ReadAllKernel<<<kBlocks, kThreads, 0, stream>>>(
        static_cast<const Int4*>(own.data), static_cast<int>(kBytes / sizeof(Int4)), static_cast<uint32_t*>(own.data));
    CheckStarted(kWhat);
    Check(Hip().event_record(own.end, stream), kWhat, "an event");
    Check(Hip().event_synchronize(own.end), kWhat, "a kernel that ends");
    float milliseconds = 0;
    Check(Hip().event_elapsed_time(&milliseconds, own.begin, own.end), kWhat, "an event's time");
    best = reading == 0 ? milliseconds : std::min(best, milliseconds);
  }
  return static_cast<double>(kBytes) / (static_cast<double>(best) * 1e-3);
}

}  // namespace mxmla::hip
