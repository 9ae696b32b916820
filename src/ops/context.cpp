#include "ops/context.h"

#include "core/error.h"

namespace mxmla {

std::byte* ExecContext::ScratchBytes(int worker, size_t byte_offset, size_t bytes) const {
  if (byte_offset > scratch.bytes_per_worker || bytes > scratch.bytes_per_worker - byte_offset) {
    Fail(ErrorCode::kInternal, "scratch memory of worker " + std::to_string(worker),
         "at least " + std::to_string(byte_offset + bytes) + " bytes", std::to_string(scratch.bytes_per_worker));
  }
  return scratch.base + static_cast<size_t>(worker) * scratch.bytes_per_worker + byte_offset;
}

}  // namespace mxmla
