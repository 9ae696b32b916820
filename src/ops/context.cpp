#include "ops/context.h"

#include "core/error.h"

namespace mxmla {
namespace {

void CheckRoom(const std::string& whose, size_t byte_offset, size_t bytes, size_t room) {
  if (byte_offset <= room && bytes <= room - byte_offset) return;
  Fail(ErrorCode::kInternal, whose, "at least " + std::to_string(byte_offset + bytes) + " bytes", std::to_string(room));
}

}  // namespace

std::byte* ExecContext::ScratchBytes(int worker, size_t byte_offset, size_t bytes) const {
  const size_t room = workspace.size.per_worker;
  CheckRoom("workspace of worker " + std::to_string(worker), byte_offset, bytes, room);
  return workspace.workers + static_cast<size_t>(worker) * room + byte_offset;
}

std::byte* ExecContext::SharedBytes(size_t byte_offset, size_t bytes) const {
  CheckRoom("shared workspace", byte_offset, bytes, workspace.size.shared);
  return workspace.shared + byte_offset;
}

std::byte* ExecContext::CounterBytes(size_t bytes) const {
  CheckRoom("workspace's counters", 0, bytes, workspace.size.counters);
  return workspace.counters;
}

}  // namespace mxmla
