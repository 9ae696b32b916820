// Random operands of an op's benchmark, in a backend's memory.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/buffers.h"
#include "core/scaled.h"
#include "ops/backend.h"

namespace mxmla::app {

// Buffers of 32-bit words of which some bits are random. First Reserve, then Allocate once, then Get.
class RandomBuffers {
 public:
  explicit RandomBuffers(const Backend& backend) : activation_(backend.kernels().activation_dtype) {}

  template <class T>
  int Reserve(const std::string& name, int64_t count, uint32_t random_bits, uint32_t set_bits) {
    fills_.push_back({random_bits, set_bits});
    return plan_.Reserve<T>(name, count);
  }
  // Activations, of the backend's type: of +-[0.5, 2), and memory for results. Floats names them, row-major.
  int ReserveValues(const std::string& name, int64_t count);
  int ReserveResult(const std::string& name, int64_t count);
  template <int Rank>
  FloatOutput<Rank> Floats(int id, std::array<int64_t, Rank> dims) const {
    if (activation_ == DType::kF32) return View<float, Rank>::Contiguous(Get<float>(id), dims);
    return View<bf16, Rank>::Contiguous(Get<bf16>(id), dims);
  }
  // What the host decides, written before Allocate's uploads: `values` becomes the content.
  int ReserveIndices(const std::string& name, std::vector<int32_t> values);

  void Allocate(Backend& backend);

  template <class T>
  T* Get(int id) const {
    return plan_.Get<T>(id);
  }

 private:
  struct Content {
    uint32_t random_bits = 0, set_bits = 0;
    std::vector<int32_t> indices = {};  // instead, where not empty
  };
  void Write(size_t id, std::byte* to) const;

  DType activation_;
  BufferPlan plan_;
  std::vector<Content> fills_;  // of each buffer
};

// `count` matrices of (n, k) in one format: "mxfp4", "fp8" (block 128) or "bf16", one behind another.
class RandomMatrices {
 public:
  RandomMatrices(RandomBuffers* buffers, std::string format, int64_t count, int64_t n, int64_t k);

  // The bytes of values and scales of one matrix.
  static int64_t Bytes(const std::string& format, int64_t n, int64_t k);
  LinearWeight Get(int64_t i) const;

 private:
  const RandomBuffers& buffers_;
  std::string format_;
  int64_t n_, k_;
  int values_ = -1, scales_ = -1;
};

}  // namespace mxmla::app
