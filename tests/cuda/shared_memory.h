// Memory that both sides address, so that ref and a kernel read the very same views.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

namespace mxmla::testing {

// Filled, unless asked otherwise, with 0xff: NaN in every float format, poison in every code.
template <cudaError_t (*kAllocate)(void**, size_t), cudaError_t (*kFree)(void*)>
class SharedMemory {
 public:
  explicit SharedMemory(size_t bytes, int fill = 0xff) : bytes_(bytes) {
    if (kAllocate(&data_, bytes + kBehind) != cudaSuccess) throw std::bad_alloc();
    std::memset(data_, fill, bytes + kBehind);
  }
  ~SharedMemory() { kFree(data_); }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

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

inline cudaError_t AllocateMapped(void** data, size_t bytes) { return cudaHostAlloc(data, bytes, cudaHostAllocMapped); }
inline cudaError_t AllocateManaged(void** data, size_t bytes) {
  return cudaMallocManaged(data, bytes, cudaMemAttachGlobal);
}

using MappedMemory = SharedMemory<AllocateMapped, cudaFreeHost>;
using ManagedMemory = SharedMemory<AllocateManaged, cudaFree>;

}  // namespace mxmla::testing
