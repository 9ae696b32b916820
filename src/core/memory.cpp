#include "core/memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "core/memory_nodes.h"

namespace mxmla {

void Memory::Free() {
  if (data_) release_(data_);
  data_ = nullptr;
}

Memory& Memory::operator=(Memory&& other) noexcept {
  if (this == &other) return *this;
  Free();
  data_ = std::exchange(other.data_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  release_ = std::move(other.release_);
  return *this;
}

Memory AllocateHostMemory(size_t bytes, Fill fill, const std::string& what, const std::string& hint) {
  constexpr size_t kAlignment = 64;
  constexpr size_t kHugePage = size_t{2} << 20;
  const size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
  const size_t rounded = (std::max<size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
  auto* data = static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
  if (!data) Fail(ErrorCode::kMemory, what, fmt::format("{} bytes of memory", bytes), "too little", hint);
  if (bytes >= kHugePage) {
    madvise(data, rounded, MADV_HUGEPAGE);
    if (const uint64_t nodes = MemoryNodes(); std::popcount(nodes) > 1) InterleaveMemory(data, rounded, nodes);
  }
  if (fill == Fill::kZero) std::memset(data, 0, rounded);
  return Memory(data, bytes, [](std::byte* memory) { std::free(memory); });
}

}  // namespace mxmla
