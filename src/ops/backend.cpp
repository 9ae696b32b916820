#include "ops/backend.h"

#include <fmt/format.h>

#include <cstring>

#include "core/error.h"

namespace mxmla {

std::string Backend::Name() const {
  return kernels_.isa.empty() ? std::string(kernels_.backend) : fmt::format("{}/{}", kernels_.backend, kernels_.isa);
}

ExecContext Backend::Context() const {
  ExecContext context;
  context.kernels = &kernels_;
  context.pool = &pool_;
  return context;
}

Memory HostBackend::Allocate(size_t bytes, Fill fill, const std::string& what, const std::string& hint) {
  return AllocateHostMemory(bytes, fill, what, hint);
}

Memory HostBackend::AllocateStaging(size_t bytes, const std::string& what, const std::string& hint) {
  return AllocateHostMemory(bytes, Fill::kUntouched, what, hint);
}

void HostBackend::Upload(std::byte* device, const std::byte* staging, size_t bytes) {
  std::memcpy(device, staging, bytes);
}

void HostBackend::Download(std::byte* staging, const std::byte* device, size_t bytes) {
  std::memcpy(staging, device, bytes);
}

void WorkspaceMemory::Take(ExecContext& context, Backend& backend, WorkspaceSize size) {
  constexpr size_t kAlignment = 64;
  const auto round_up = [](size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; };
  size.per_worker = round_up(size.per_worker);
  const size_t shared = round_up(size.shared);
  const size_t bytes = shared + size.per_worker * static_cast<size_t>(context.pool->threads());
  context.workspace = {};
  memory_ = {};
  if (bytes == 0) return;
  // Untouched: what no step needs stays unmapped.
  memory_ = backend.Allocate(bytes, Fill::kUntouched, "kernels' workspace",
                             "choose a shorter context, a smaller batch or fewer threads");
  context.workspace = {memory_.data(), memory_.data() + shared, size};
}

}  // namespace mxmla
