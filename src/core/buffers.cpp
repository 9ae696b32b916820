#include "core/buffers.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace mxmla {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

size_t RoundUp(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

void BufferPlan::Free::operator()(std::byte* memory) const { std::free(memory); }

int BufferPlan::Add(const std::string& name, DType dtype, size_t bytes) {
  if (memory_) Fail(ErrorCode::kInternal, "buffer " + name, "a reservation before the allocation", "one after it");
  buffers_.push_back({name, dtype, bytes, total_});
  total_ += RoundUp(std::max<size_t>(bytes, 1), kAlignment);
  return static_cast<int>(buffers_.size()) - 1;
}

void BufferPlan::Allocate() {
  const size_t bytes = RoundUp(std::max<size_t>(total_, 1), total_ >= kHugePage ? kHugePage : kAlignment);
  void* memory = std::aligned_alloc(total_ >= kHugePage ? kHugePage : kAlignment, bytes);
  if (!memory) {
    const auto largest = std::max_element(buffers_.begin(), buffers_.end(),
                                          [](const Buffer& a, const Buffer& b) { return a.bytes < b.bytes; });
    Fail(ErrorCode::kMemory, "activation buffers", fmt::format("{} bytes of memory", total_), "too little",
         fmt::format("the largest is {} with {} bytes; choose a shorter context or a smaller batch", largest->name,
                     largest->bytes));
  }
  if (total_ >= kHugePage) madvise(memory, bytes, MADV_HUGEPAGE);
  std::memset(memory, 0, bytes);
  memory_.reset(static_cast<std::byte*>(memory));
}

std::byte* BufferPlan::Address(int id, DType dtype) const {
  const Buffer& buffer = buffers_.at(id);
  if (!memory_ || buffer.dtype != dtype) {
    Fail(ErrorCode::kInternal, "buffer " + buffer.name, memory_ ? DTypeName(buffer.dtype) : "an allocated plan",
         memory_ ? DTypeName(dtype) : "none");
  }
  return memory_.get() + buffer.offset;
}

}  // namespace mxmla
