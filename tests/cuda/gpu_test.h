// What the tests of CUDA kernels share: a suite that is skipped by name without a GPU, and memory for both sides.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <new>
#include <random>
#include <vector>

namespace mxmla::testing {

class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "no CUDA device";
    cudaDeviceProp properties{};
    ASSERT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
    if (properties.major != 9) GTEST_SKIP() << "no device of compute capability 9.x";
  }
  std::mt19937_64 rng_{42};
};

// Managed memory, so that ref and the kernel read the very same views; filled, unless asked otherwise, with 0xff: NaN
// in every float format, poison in every code.
class ManagedMemory {
 public:
  explicit ManagedMemory(size_t bytes, int fill = 0xff) : bytes_(bytes) {
    if (cudaMallocManaged(&data_, bytes + kBehind) != cudaSuccess) throw std::bad_alloc();
    std::memset(data_, fill, bytes + kBehind);
  }
  ~ManagedMemory() { cudaFree(data_); }
  ManagedMemory(const ManagedMemory&) = delete;
  ManagedMemory& operator=(const ManagedMemory&) = delete;

  template <class T>
  T* As(size_t offset_bytes = 0) const {
    return reinterpret_cast<T*>(static_cast<uint8_t*>(data_) + offset_bytes);
  }
  size_t bytes() const { return bytes_; }
  std::vector<uint8_t> Bytes() const { return {As<uint8_t>(), As<uint8_t>() + bytes_}; }

 private:
  static constexpr size_t kBehind = 64;  // so that views of no bytes have an address

  void* data_ = nullptr;
  size_t bytes_;
};

}  // namespace mxmla::testing
