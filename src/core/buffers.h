// The plan of buffers: every activation's memory, decided once at start-up and laid out where its consumer reads it.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "core/memory.h"
#include "core/view.h"

namespace mxmla {

// First Reserve every buffer, then Allocate once, then take views. A buffer's bytes start on a 64-byte boundary.
class BufferPlan {
 public:
  struct Buffer {
    std::string name;
    DType dtype;
    size_t bytes;
    size_t offset;
  };

  // Reserves room for `count` elements of T; the result names the buffer in Get.
  template <class T>
  int Reserve(const std::string& name, int64_t count) {
    return Add(name, DTypeOf<T>::value, static_cast<size_t>(count) * sizeof(T));
  }

  // Takes the host's memory, zeroed. An Error (kMemory) that names the largest buffer when there is not enough.
  void Allocate();
  // Takes memory from allocate(bytes, hint); the hint, for an error, names the largest buffer.
  void Allocate(const std::function<Memory(size_t bytes, const std::string& hint)>& allocate);

  // The first element of buffer `id`.
  template <class T>
  T* Get(int id) const {
    return reinterpret_cast<T*>(Address(id, DTypeOf<T>::value));
  }

  // The first byte of buffer `id`, counted from the plan's first.
  size_t offset(int id) const { return buffers_.at(static_cast<size_t>(id)).offset; }
  std::byte* data() const { return memory_.data(); }
  size_t total_bytes() const { return total_; }
  const std::vector<Buffer>& buffers() const { return buffers_; }

 private:
  int Add(const std::string& name, DType dtype, size_t bytes);
  std::byte* Address(int id, DType dtype) const;

  std::vector<Buffer> buffers_;
  size_t total_ = 0;
  Memory memory_;
};

}  // namespace mxmla
