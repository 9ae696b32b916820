// Memory of the host that the GPU addresses too, so that ref and a kernel read the very same views.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

namespace mxmla::testing {

// Filled, unless asked otherwise, with 0xff: NaN in every float format, poison in every code.
class MappedMemory {
 public:
  explicit MappedMemory(size_t bytes, int fill = 0xff) : bytes_(bytes) {
    if (cudaHostAlloc(&data_, bytes + kBehind, cudaHostAllocMapped) != cudaSuccess) throw std::bad_alloc();
    std::memset(data_, fill, bytes + kBehind);
  }
  ~MappedMemory() { cudaFreeHost(data_); }
  MappedMemory(const MappedMemory&) = delete;
  MappedMemory& operator=(const MappedMemory&) = delete;

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
