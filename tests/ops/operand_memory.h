// Memory for what kernels read and write: the host's own where they run on the host, else memory that both sides
// address alike. Which one, the executable decides.
#pragma once

#include <cstddef>
#include <vector>

namespace mxmla::test {

// On a 64-byte boundary.
void* AllocateOperand(size_t bytes);
void FreeOperand(void* data);

template <class T>
struct OperandAllocator {
  using value_type = T;

  OperandAllocator() = default;
  template <class U>
  OperandAllocator(const OperandAllocator<U>&) {}  // NOLINT(google-explicit-constructor): allocators convert

  T* allocate(size_t count) { return static_cast<T*>(AllocateOperand(count * sizeof(T))); }
  void deallocate(T* data, size_t) { FreeOperand(data); }
  friend bool operator==(const OperandAllocator&, const OperandAllocator&) { return true; }
};

// A vector that kernels may read and write.
template <class T>
using OperandVector = std::vector<T, OperandAllocator<T>>;

}  // namespace mxmla::test
