#include "random_operands.h"

#include <cstring>

namespace mxmla::app {
namespace {

int64_t Blocks(int64_t n) { return (n + kFp8Block - 1) / kFp8Block; }

}  // namespace

int RandomBuffers::ReserveValues(const std::string& name, int64_t count) {
  return activation_ == DType::kF32 ? Reserve<float>(name, count, 0x80ffffffu, 0x3f000000u)
                                    : Reserve<bf16>(name, count, 0x80ff80ffu, 0x3f003f00u);
}

int RandomBuffers::ReserveResult(const std::string& name, int64_t count) {
  return activation_ == DType::kF32 ? Reserve<float>(name, count, 0, 0) : Reserve<bf16>(name, count, 0, 0);
}

int RandomBuffers::ReserveIndices(const std::string& name, std::vector<int32_t> values) {
  const auto count = static_cast<int64_t>(values.size());
  fills_.push_back({0, 0, std::move(values)});
  return plan_.Reserve<int32_t>(name, count);
}

void RandomBuffers::Write(size_t id, std::byte* to) const {
  const size_t bytes = plan_.buffers()[id].bytes;
  const Content& content = fills_[id];
  if (!content.indices.empty()) {
    std::memcpy(to, content.indices.data(), bytes);
    return;
  }
  for (size_t i = 0; i < bytes; i += sizeof(uint32_t)) {
    uint32_t word = static_cast<uint32_t>(i) * 2654435761u + static_cast<uint32_t>(id);
    word ^= word >> 15, word *= 2246822519u, word ^= word >> 13, word *= 3266489917u, word ^= word >> 16;
    word = (word & content.random_bits) | content.set_bits;
    std::memcpy(to + i, &word, std::min(sizeof(word), bytes - i));
  }
}

void RandomBuffers::Allocate(Backend& backend) {
  plan_.Allocate([&](size_t bytes, const std::string& hint) {
    return backend.Allocate(bytes, Fill::kUntouched, "a benchmark's operands", hint);
  });
  if (backend.reads_host_memory()) {
    for (size_t id = 0; id < fills_.size(); ++id) Write(id, plan_.data() + plan_.buffers()[id].offset);
    return;
  }
  const Memory host =
      AllocateHostMemory(plan_.total_bytes(), Fill::kUntouched, "a benchmark's operands", "choose smaller operands");
  for (size_t id = 0; id < fills_.size(); ++id) Write(id, host.data() + plan_.buffers()[id].offset);
  const Transfer all{plan_.data(), host.data(), plan_.total_bytes()};
  backend.UploadAll({&all, 1}, [](size_t) {});
}

RandomMatrices::RandomMatrices(RandomBuffers* buffers, std::string format, int64_t count, int64_t n, int64_t k)
    : buffers_(*buffers), format_(std::move(format)), n_(n), k_(k) {
  if (format_ == "mxfp4") {
    values_ = buffers->Reserve<e2m1x2>("weights", count * n * k / 2, ~0u, 0);
    scales_ = buffers->Reserve<e8m0>("scales", count * n * k / kMxBlock, 0x03030303u, 0x78787878u);
  } else if (format_ == "fp8") {
    values_ = buffers->Reserve<e4m3>("weights", count * n * k, 0xb7b7b7b7u, 0);  // no NaN
    scales_ = buffers->Reserve<float>("scales", count * Blocks(n) * Blocks(k), 0x007fffffu, 0x3b000000u);
  } else {
    values_ = buffers->Reserve<bf16>("weights", count * n * k, 0x807f807fu, 0x3c803c80u);
  }
}

int64_t RandomMatrices::Bytes(const std::string& format, int64_t n, int64_t k) {
  if (format == "mxfp4") return n * k / 2 + n * k / kMxBlock;
  if (format == "fp8") return n * k + Blocks(n) * Blocks(k) * static_cast<int64_t>(sizeof(float));
  return n * k * 2;
}

LinearWeight RandomMatrices::Get(int64_t i) const {
  if (format_ == "mxfp4") {
    return Mxfp4<const e2m1x2, 2>{
        View<const e2m1x2, 2>::Contiguous(buffers_.Get<e2m1x2>(values_) + i * n_ * k_ / 2, {n_, k_ / 2}),
        View<const e8m0, 2>::Contiguous(buffers_.Get<e8m0>(scales_) + i * n_ * k_ / kMxBlock, {n_, k_ / kMxBlock})};
  }
  if (format_ == "fp8") {
    const int64_t down = Blocks(n_), across = Blocks(k_);
    return Fp8Block{View<const e4m3, 2>::Contiguous(buffers_.Get<e4m3>(values_) + i * n_ * k_, {n_, k_}),
                    View<const float, 2>::Contiguous(buffers_.Get<float>(scales_) + i * down * across, {down, across})};
  }
  return View<const bf16, 2>::Contiguous(buffers_.Get<bf16>(values_) + i * n_ * k_, {n_, k_});
}

}  // namespace mxmla::app
