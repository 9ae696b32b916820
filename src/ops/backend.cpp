#include "ops/backend.h"

#include <fmt/format.h>

#include <algorithm>
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
  context.stream = stream();
  return context;
}

std::shared_ptr<const void> Backend::PlaceExperts(std::span<const LinearWeight>) { return nullptr; }

void Backend::UploadAll(std::span<const Transfer> transfers, const std::function<void(size_t done)>& progress) {
  constexpr size_t kPiece = size_t{1} << 20;
  const Memory staging = AllocateStaging(kPiece, "memory for uploads", "");
  size_t done = 0;
  for (const Transfer& transfer : transfers) {
    for (size_t begin = 0; begin < transfer.bytes; begin += kPiece) {
      const size_t bytes = std::min(kPiece, transfer.bytes - begin);
      FinishUploads();
      std::memcpy(staging.data(), transfer.host + begin, bytes);
      Upload(transfer.device + begin, staging.data(), bytes);
      progress(done += bytes);
    }
  }
  FinishUploads();
}

double Backend::MeasureReadBandwidth() {
  Fail(ErrorCode::kInternal, "read bandwidth", "a backend that measures it", Name());
}

std::unique_ptr<VendorProducts> Backend::OpenVendorProducts(std::string* why) {
  *why = fmt::format("none is known for device {}", Name());
  return nullptr;
}

void Backend::Download(std::byte* staging, const std::byte* device, size_t bytes) {
  const std::unique_ptr<Fence> fence = MakeFence();
  QueueDownload(staging, device, bytes);
  fence->Set();
  fence->Wait();
}

std::unique_ptr<Fence> Backend::MakeFence() {
  class Reached final : public Fence {
    void Set() override {}
    void Wait() override {}
  };
  return std::make_unique<Reached>();
}

std::unique_ptr<Recorder> Backend::MakeRecorder() {
  class Direct final : public Recorder {
    void Run(std::span<const int64_t>, const std::function<void()>& calls) override { calls(); }
  };
  return std::make_unique<Direct>();
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

void HostBackend::QueueDownload(std::byte* staging, const std::byte* device, size_t bytes) {
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
  counters_ = {};
  const std::string what = "kernels' workspace", hint = "choose a shorter context, a smaller batch or fewer threads";
  // Untouched: what no step needs stays unmapped.
  if (bytes > 0) memory_ = backend.Allocate(bytes, Fill::kUntouched, what, hint);
  if (size.counters > 0) counters_ = backend.Allocate(size.counters, Fill::kZero, what, hint);
  if (bytes > 0) context.workspace = {memory_.data(), memory_.data() + shared, size, nullptr};
  context.workspace.size = size;
  context.workspace.counters = counters_.data();
}

}  // namespace mxmla
