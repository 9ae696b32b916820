#include "core/buffers.h"

#include <fmt/format.h>

#include <algorithm>

namespace mxmla {
namespace {

constexpr size_t kAlignment = 64;

size_t RoundUp(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

int BufferPlan::Add(const std::string& name, DType dtype, size_t bytes) {
  if (memory_) Fail(ErrorCode::kInternal, "buffer " + name, "a reservation before the allocation", "one after it");
  buffers_.push_back({name, dtype, bytes, total_});
  total_ += RoundUp(std::max<size_t>(bytes, 1), kAlignment);
  return static_cast<int>(buffers_.size()) - 1;
}

void BufferPlan::Allocate() {
  Allocate([](size_t bytes, const std::string& hint) {
    return AllocateHostMemory(bytes, Fill::kZero, "activation buffers", hint);
  });
}

void BufferPlan::Allocate(const std::function<Memory(size_t bytes, const std::string& hint)>& allocate) {
  std::string hint;
  if (!buffers_.empty()) {
    const auto largest = std::max_element(buffers_.begin(), buffers_.end(),
                                          [](const Buffer& a, const Buffer& b) { return a.bytes < b.bytes; });
    hint = fmt::format("the largest is {} with {} bytes; choose a shorter context or a smaller batch", largest->name,
                       largest->bytes);
  }
  memory_ = allocate(std::max<size_t>(total_, 1), hint);
}

std::byte* BufferPlan::Address(int id, DType dtype) const {
  const Buffer& buffer = buffers_.at(id);
  if (!memory_ || buffer.dtype != dtype) {
    Fail(ErrorCode::kInternal, "buffer " + buffer.name, memory_ ? DTypeName(buffer.dtype) : "an allocated plan",
         memory_ ? DTypeName(dtype) : "none");
  }
  return memory_.data() + buffer.offset;
}

}  // namespace mxmla
