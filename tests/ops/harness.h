// The test bench of the kernels: operands inside larger canary-filled memory, random bytes of every format with their
// values by formulas of this file's own, a comparator, and the list of backends.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <random>
#include <vector>

#include "operand_memory.h"
#include "ops/backend.h"
#include "ref/backend.h"

namespace mxmla::test {

using Rng = std::mt19937_64;

// Fresh in every run; MXMLA_TEST_SEED repeats one.
inline uint64_t Seed() {
  static const uint64_t seed = [] {
    const char* given = std::getenv("MXMLA_TEST_SEED");
    const uint64_t value = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::cout << "MXMLA_TEST_SEED=" << value << std::endl;
    return value;
  }();
  return seed;
}
inline int64_t Uniform(Rng& rng, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(rng);
}

// A NaN (or an absurd number) that no kernel writes by accident: poison around inputs, canary around outputs.
template <class T>
T Canary() {
  T value;
  if constexpr (std::is_same_v<T, float>) {
    value = std::bit_cast<float>(0xffa5a5a5u);
  } else if constexpr (std::is_same_v<T, bf16>) {
    value = {0xffa5};
  } else if constexpr (std::is_same_v<T, e4m3> || std::is_same_v<T, e8m0>) {
    value = {0xff};
  } else if constexpr (std::is_same_v<T, e2m1x2>) {
    value = {0xa5};
  } else {
    value = static_cast<T>(0xa5a5a5a5a5a5a5a5u);
  }
  return value;
}

struct Layout {
  bool shuffle = true;     // the order of the outer dimensions in memory is random
  int64_t inner_step = 1;  // stride of the last dimension
};

// A view at a random offset and with random strides inside memory filled with canaries.
template <class T, int Rank>
class Plane {
 public:
  using Element = T;

  Plane(Rng& rng, std::array<int64_t, Rank> shape, Layout layout = {}) {
    std::array<int, Rank> order;
    for (int d = 0; d < Rank; ++d) order[d] = d;
    if (layout.shuffle) std::shuffle(order.begin(), order.end() - 1, rng);
    view.shape = shape;
    int64_t step = 1;
    int64_t offset = 0;
    for (int i = Rank - 1; i >= 0; --i) {
      const int d = order[i];
      const int64_t spread = i == Rank - 1 ? layout.inner_step : 1;
      const int64_t before = Uniform(rng, 0, 3);
      view.stride[d] = step * spread;
      offset += before * step;
      step *= before + shape[d] * spread + Uniform(rng, 0, 3);
    }
    count_ = std::max<int64_t>(step, 1);
    memory_.assign(count_, Canary<T>());
    view.data = memory_.data() + std::min(offset, count_ - 1);
  }

  // Calls body(element) in row-major order.
  template <class Body>
  void ForEach(const Body& body) const {
    if (view.empty()) return;
    std::array<int64_t, Rank> at{};
    for (;;) {
      int64_t offset = 0;
      for (int d = 0; d < Rank; ++d) offset += at[d] * view.stride[d];
      body(view.data[offset]);
      int d = Rank - 1;
      while (d >= 0 && ++at[d] == view.shape[d]) at[d--] = 0;
      if (d < 0) return;
    }
  }
  bool UntouchedOutside() const {
    std::vector<bool> inside(count_);
    ForEach([&](T& element) { inside[&element - memory_.data()] = true; });
    const T canary = Canary<T>();
    for (int64_t i = 0; i < count_; ++i) {
      if (!inside[i] && std::memcmp(&memory_[i], &canary, sizeof(T)) != 0) return false;
    }
    return true;
  }
  std::vector<uint8_t> Bits() const {
    std::vector<uint8_t> bits;
    ForEach([&](const T& element) {
      const auto* bytes = reinterpret_cast<const uint8_t*>(&element);
      bits.insert(bits.end(), bytes, bytes + sizeof(T));
    });
    return bits;
  }
  std::vector<T> Elements() const {
    std::vector<T> elements;
    ForEach([&](const T& element) { elements.push_back(element); });
    return elements;
  }
  void Set(const std::vector<T>& elements) {
    size_t i = 0;
    ForEach([&](T& element) { element = elements.at(i++); });
  }

  View<T, Rank> view;

 private:
  OperandVector<T> memory_;
  int64_t count_ = 0;
};

enum class Format { kF32, kBf16, kFp8, kMxfp4 };
constexpr Format kFormats[] = {Format::kF32, Format::kBf16, Format::kFp8, Format::kMxfp4};
inline const char* Name(Format format) {
  constexpr const char* kNames[] = {"f32", "bf16", "fp8", "mxfp4"};
  return kNames[static_cast<int>(format)];
}
inline Format PlainFormat(DType dtype) { return dtype == DType::kF32 ? Format::kF32 : Format::kBf16; }

// Values by the formats' definitions, not by the library's conversions.
inline double E4m3Value(uint8_t bits) {
  const int exponent = (bits >> 3) & 15;
  const int mantissa = bits & 7;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(1.0 + mantissa / 8.0, exponent - 7);
  return bits & 0x80 ? -magnitude : magnitude;
}
inline double E2m1Value(int code) {
  const int exponent = (code >> 1) & 3;
  const double magnitude = exponent == 0 ? 0.5 * (code & 1) : std::ldexp(1.0 + 0.5 * (code & 1), exponent - 1);
  return code & 8 ? -magnitude : magnitude;
}
inline double Bf16Value(bf16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

// An operand of any format: random values for an input, canaries for an output.
template <int Rank>
class Tensor {
 public:
  using Dims = std::array<int64_t, Rank>;

  Tensor(Rng& rng, Format format, Dims shape, Layout layout = {}) : format_(format), shape_(shape) {
    Dims scales = shape;
    switch (format) {
      case Format::kF32:
        f32 = std::make_unique<Plane<float, Rank>>(rng, shape, layout);
        break;
      case Format::kBf16:
        half = std::make_unique<Plane<bf16, Rank>>(rng, shape, layout);
        break;
      case Format::kFp8:
        scales[Rank - 1] = (shape[Rank - 1] + 127) / 128;
        fp8 = std::make_unique<Plane<e4m3, Rank>>(rng, shape, layout);
        fp8_scales = std::make_unique<Plane<float, Rank>>(rng, scales, layout);
        break;
      case Format::kMxfp4:
        scales[Rank - 1] = shape[Rank - 1] / 32;
        shape[Rank - 1] /= 2;
        fp4 = std::make_unique<Plane<e2m1x2, Rank>>(rng, shape, layout);
        fp4_scales = std::make_unique<Plane<e8m0, Rank>>(rng, scales, layout);
        break;
    }
  }

  Tensor& Randomize(Rng& rng, double scale = 1) {
    std::normal_distribution<float> normal(0, static_cast<float>(scale));
    if (f32) f32->ForEach([&](float& v) { v = normal(rng); });
    if (half) half->ForEach([&](bf16& v) { v = {static_cast<uint16_t>(std::bit_cast<uint32_t>(normal(rng)) >> 16)}; });
    if (fp8) {
      fp8->ForEach([&](e4m3& v) { v = {static_cast<uint8_t>(Uniform(rng, 0, 1) * 128 + Uniform(rng, 0, 0x7e))}; });
      fp8_scales->ForEach([&](float& v) { v = static_cast<float>(scale) * 0.01f * (0.5f + std::abs(normal(rng))); });
    }
    if (fp4) {
      fp4->ForEach([&](e2m1x2& v) { v = {static_cast<uint8_t>(Uniform(rng, 0, 255))}; });
      fp4_scales->ForEach([&](e8m0& v) { v = {static_cast<uint8_t>(Uniform(rng, 121, 127))}; });
    }
    return *this;
  }

  // In row-major order.
  std::vector<double> Values() const {
    std::vector<double> values;
    if (f32) f32->ForEach([&](float v) { values.push_back(v); });
    if (half) half->ForEach([&](bf16 v) { values.push_back(Bf16Value(v)); });
    const int64_t n = shape_[Rank - 1];
    if (fp8) {
      const std::vector<float> scales = fp8_scales->Elements();
      int64_t i = 0;
      fp8->ForEach([&](e4m3 v) {
        values.push_back(E4m3Value(v.bits) * static_cast<double>(scales[i / n * ((n + 127) / 128) + i % n / 128]));
        ++i;
      });
    }
    if (fp4) {
      const std::vector<e8m0> scales = fp4_scales->Elements();
      fp4->ForEach([&](e2m1x2 v) {
        const double scale = std::ldexp(1.0, scales[values.size() / 32].bits - 127);
        values.push_back(E2m1Value(v.bits & 15) * scale);
        values.push_back(E2m1Value(v.bits >> 4) * scale);
      });
    }
    return values;
  }

  FloatOutput<Rank> Out() const {
    if (f32) return f32->view;
    return half->view;
  }
  FloatInput<Rank> In() const {
    if (f32) return View<const float, Rank>(f32->view);
    return View<const bf16, Rank>(half->view);
  }
  QuantizedOutput<Rank> QuantizedOut() const {
    if (fp8) return Fp8Group<e4m3, Rank>{fp8->view, fp8_scales->view};
    return Mxfp4<e2m1x2, Rank>{fp4->view, fp4_scales->view};
  }
  ActivationOutput<Rank> AnyOut() const {
    if (f32) return f32->view;
    if (half) return half->view;
    if (fp8) return Fp8Group<e4m3, Rank>{fp8->view, fp8_scales->view};
    return Mxfp4<e2m1x2, Rank>{fp4->view, fp4_scales->view};
  }
  Activation<Rank> AnyIn() const { return AsActivation<Rank>(AnyOut()); }

  std::vector<uint8_t> Bits() const {
    std::vector<uint8_t> bits;
    const auto append = [&](const auto& plane) {
      if (!plane) return;
      const auto more = plane->Bits();
      bits.insert(bits.end(), more.begin(), more.end());
    };
    append(f32), append(half), append(fp8), append(fp8_scales), append(fp4), append(fp4_scales);
    return bits;
  }
  bool UntouchedOutside() const {
    const auto fine = [](const auto& plane) { return !plane || plane->UntouchedOutside(); };
    return fine(f32) && fine(half) && fine(fp8) && fine(fp8_scales) && fine(fp4) && fine(fp4_scales);
  }
  Format format() const { return format_; }

  std::unique_ptr<Plane<float, Rank>> f32;
  std::unique_ptr<Plane<bf16, Rank>> half;
  std::unique_ptr<Plane<e4m3, Rank>> fp8;
  std::unique_ptr<Plane<float, Rank>> fp8_scales;
  std::unique_ptr<Plane<e2m1x2, Rank>> fp4;
  std::unique_ptr<Plane<e8m0, Rank>> fp4_scales;

 private:
  Format format_;
  Dims shape_;
};

// A random matrix of weights (n, k); FP8 means 128x128 blocks.
class Weight {
 public:
  Weight(Rng& rng, Format format, int64_t n, int64_t k) : n_(n), k_(k), tensor_(rng, format, {n, k}) {
    tensor_.Randomize(rng, 0.5);
    if (format == Format::kFp8) {
      block_scales_ = std::make_unique<Plane<float, 2>>(rng, std::array{(n + 127) / 128, (k + 127) / 128});
      block_scales_->ForEach([&](float& v) { v = std::uniform_real_distribution<float>(1e-3f, 1e-2f)(rng); });
    }
  }
  LinearWeight View() const {
    if (tensor_.f32) return mxmla::View<const float, 2>(tensor_.f32->view);
    if (tensor_.half) return mxmla::View<const bf16, 2>(tensor_.half->view);
    if (tensor_.fp8) return Fp8Block{tensor_.fp8->view, block_scales_->view};
    return Mxfp4<const e2m1x2, 2>{tensor_.fp4->view, tensor_.fp4_scales->view};
  }
  std::vector<double> Values() const {
    if (!tensor_.fp8) return tensor_.Values();
    std::vector<double> values;
    for (int64_t i = 0; i < n_; ++i) {
      for (int64_t j = 0; j < k_; ++j) {
        values.push_back(E4m3Value(tensor_.fp8->view(i, j).bits) *
                         static_cast<double>(block_scales_->view(i / 128, j / 128)));
      }
    }
    return values;
  }

 private:
  int64_t n_;
  int64_t k_;
  Tensor<2> tensor_;
  std::unique_ptr<Plane<float, 2>> block_scales_;
};

// |found - expected| <= relative * |expected| + absolute * rms(expected), and the cosine.
struct Tolerance {
  double relative = 0;
  double absolute = 0;
  double cosine = 1e-4;  // at most 1 - cosine
};

inline testing::AssertionResult Close(const std::vector<double>& expected, const std::vector<double>& found,
                                      Tolerance tolerance) {
  if (expected.size() != found.size()) {
    return testing::AssertionFailure() << "expected " << expected.size() << " elements, found " << found.size();
  }
  double squares = 0;
  double found_squares = 0;
  double product = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    squares += expected[i] * expected[i];
    found_squares += found[i] * found[i];
    product += expected[i] * found[i];
  }
  const double rms = expected.empty() ? 0 : std::sqrt(squares / static_cast<double>(expected.size()));
  for (size_t i = 0; i < expected.size(); ++i) {
    const double limit = tolerance.relative * std::abs(expected[i]) + tolerance.absolute * rms;
    if (!(std::abs(found[i] - expected[i]) <= limit)) {  // a NaN fails
      return testing::AssertionFailure() << "element " << i << ": expected " << expected[i] << ", found " << found[i]
                                         << ", limit " << limit << "; MXMLA_TEST_SEED=" << Seed();
    }
  }
  if (squares > 0 && !(product / std::sqrt(squares * found_squares) >= 1 - tolerance.cosine)) {
    return testing::AssertionFailure() << "cosine " << product / std::sqrt(squares * found_squares);
  }
  return testing::AssertionSuccess();
}

struct Backend {
  std::string name;
  const KernelSet* kernels;
  bool partial = false;     // it may lack kernels: tests of ops without any are skipped by name
  std::string absent = {};  // why its kernels cannot run here: its tests are skipped by name

  bool is_ref() const { return kernels->backend == "ref"; }
  // Of a result rounded to `format` once. `work` scales what float32 sums may differ by (ref sums in float64).
  Tolerance For(Format format, double work = 1) const {
    const double rounding = format == Format::kBf16 ? 0.00391 : 1e-6;
    return {rounding, is_ref() ? 1e-6 : 2e-5 * work, 1e-4};
  }
  Format plain() const { return PlainFormat(kernels->activation_dtype); }
  // Inner strides other than 1 are for ref alone.
  Layout AnyLayout() const { return {true, is_ref() ? 2 : 1}; }

  friend void PrintTo(const Backend& backend, std::ostream* out) { *out << backend.name; }
};

inline Backend RefBackend() { return {"ref", &RefKernels()}; }

// Those of the executable.
std::vector<Backend> Backends();

// What hands out the executable's memory for operands.
class OperandBackend final : public mxmla::Backend {
 public:
  using mxmla::Backend::Backend;

  bool reads_host_memory() const override { return true; }
  Memory Allocate(size_t bytes, Fill fill, const std::string&, const std::string&) override {
    auto* data = static_cast<std::byte*>(AllocateOperand(bytes));
    if (fill == Fill::kZero) std::memset(data, 0, bytes);
    return {data, bytes, FreeOperand};
  }
  Memory AllocateStaging(size_t bytes, const std::string& what, const std::string& hint) override {
    return Allocate(bytes, Fill::kUntouched, what, hint);
  }
  void Upload(std::byte* device, const std::byte* staging, size_t bytes) override {
    std::memcpy(device, staging, bytes);
  }
  void QueueDownload(std::byte* staging, const std::byte* device, size_t bytes) override {
    std::memcpy(staging, device, bytes);
  }
};

// Threads, kernels and workspace for the calls that `body(context)` makes: exactly the bytes that their kernels ask
// for, filled with NaN.
class Machine {
 public:
  explicit Machine(const Backend& backend, int threads = 2)
      : backend_(*backend.kernels, threads), context_(backend_.Context()) {}
  template <class Body>
  void Run(const Body& body) {
    WorkspaceMemory workspace;
    workspace.Plan(context_, backend_, body);
    if (workspace.scratch_bytes() > 0) std::memset(workspace.data(), 0xff, workspace.scratch_bytes());
    body(context_);
    context_.workspace = {};
  }
  // For ops whose kernels need no workspace.
  const ExecContext& context() const { return context_; }

 private:
  OperandBackend backend_;
  ExecContext context_;
};

// A suite over all backends, with its own stream of random numbers.
class BackendTest : public testing::TestWithParam<Backend> {
 protected:
  BackendTest()
      : rng_(Seed() ^ std::hash<std::string>{}(testing::UnitTest::GetInstance()->current_test_info()->name())) {}
  void SetUp() override {
    if (!backend().absent.empty()) GTEST_SKIP() << backend().name << ": " << backend().absent;
  }
  const Backend& backend() const { return GetParam(); }

  Rng rng_;
};
// Skips, by name, a test of an op that a partial backend has no kernel for.
#define MXMLA_NEEDS(op)                                          \
  if (backend().partial && backend().kernels->op.empty()) {      \
    GTEST_SKIP() << backend().name << ": no kernel for " << #op; \
  }                                                              \
  static_assert(true)
#define MXMLA_INSTANTIATE_BACKENDS(Suite)                                  \
  INSTANTIATE_TEST_SUITE_P(Backends, Suite, testing::ValuesIn(Backends()), \
                           [](const auto& test) { return test.param.name; })

// What the quantiser of one block (tested bit for bit in tests/formats) makes of plain values in rows of n, as the bits
// of codes, then scales.
std::vector<uint8_t> QuantizedBits(const std::vector<double>& values, int64_t n, Format format, ScaleMode mode);

}  // namespace mxmla::test
