// A stretch of memory and its owner: the host's, or a device's.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <utility>

namespace mxmla {

class Memory {
 public:
  using Release = std::function<void(std::byte*)>;

  Memory() = default;
  Memory(std::byte* data, size_t bytes, Release release) : data_(data), bytes_(bytes), release_(std::move(release)) {}
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { Free(); }

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  void Free();

  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  Release release_;
};

enum class Fill {
  kZero,
  kUntouched,  // no page of it is taken before it is written
};

// The host's memory: starts on a 64-byte boundary; where it is large, asks for huge pages, on all memory nodes in turn.
// `what` and `hint` are of the Error (kMemory) when there is not enough.
Memory AllocateHostMemory(size_t bytes, Fill fill, const std::string& what, const std::string& hint);

}  // namespace mxmla
