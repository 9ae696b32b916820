// Operands of the products' tests: memory that both sides address, random rows in every format, and what the emulator
// counted.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>

#include "core/thread_pool.h"
#include "hip/backend.h"
#include "hip/library.h"
#include "ref/backend.h"

namespace mxmla {

inline constexpr uint8_t kCanary = 0xa5;

// Memory that both sides address, in rows that begin on 16-byte boundaries, full of canaries.
class Bytes {
 public:
  explicit Bytes(size_t bytes) : bytes_(bytes) {
    void* data = nullptr;
    hip::Check(hip::Hip().host_malloc(&data, bytes + 1, hipHostMallocDefault), "test", "memory");
    data_ = static_cast<uint8_t*>(data);
    std::memset(data_, kCanary, bytes);
  }
  ~Bytes() { static_cast<void>(hip::Hip().host_free(data_)); }
  Bytes(const Bytes&) = delete;

  uint8_t* data() const { return data_; }
  size_t size() const { return bytes_; }
  std::vector<uint8_t> Copy() const { return {data_, data_ + bytes_}; }

 private:
  uint8_t* data_ = nullptr;
  size_t bytes_;
};

template <class T>
struct Matrix {
  Bytes bytes;
  View<T, 2> view;

  // `padding` elements behind each row.
  Matrix(int64_t rows, int64_t columns, int64_t padding)
      : bytes(static_cast<size_t>((rows + 1) * (columns + padding)) * sizeof(T)),
        view{reinterpret_cast<T*>(bytes.data()), {rows, columns}, {columns + padding, 1}} {}

  bool UntouchedOutside() const {
    for (int64_t r = 0; r <= view.shape[0]; ++r) {
      const auto* row = reinterpret_cast<const uint8_t*>(view.data + r * view.stride[0]);
      const int64_t begin = r < view.shape[0] ? view.shape[1] * int64_t{sizeof(T)} : 0;
      for (int64_t at = begin; at < view.stride[0] * int64_t{sizeof(T)}; ++at) {
        if (row[at] != kCanary) return false;
      }
    }
    return true;
  }
};

enum class Kind { kBf16, kFp8, kMxfp4 };
inline const char* Name(Kind kind) { return kind == Kind::kBf16 ? "bf16" : kind == Kind::kFp8 ? "fp8" : "mxfp4"; }

using Rng = std::mt19937_64;

// Rows of random finite values; also as weights, whose FP8 scales are of squares.
class Tensor {
 public:
  Tensor(Rng& rng, Kind kind, int64_t rows, int64_t k) : kind_(kind), rows_(rows), k_(k) {
    std::uniform_real_distribution<float> uniform(-1, 1);
    std::uniform_real_distribution<float> scale(1e-3f, 1e-2f);
    if (kind == Kind::kBf16) {
      half_ = std::make_unique<Matrix<bf16>>(rows, k, 16);
      ForEach(half_->view, [&](bf16& v) { v = bf16::FromFloat(uniform(rng)); });
    } else if (kind == Kind::kFp8) {
      fp8_ = std::make_unique<Matrix<e4m3>>(rows, k, 32);
      ForEach(fp8_->view, [&](e4m3& v) { v = e4m3::FromFloat(100 * uniform(rng)); });
      group_scales_ = std::make_unique<Matrix<float>>(rows, (k + 127) / 128, 3);
      block_scales_ = std::make_unique<Matrix<float>>((rows + kFirstRow + 127) / 128, (k + 127) / 128, 1);
      ForEach(group_scales_->view, [&](float& v) { v = scale(rng); });
      ForEach(block_scales_->view, [&](float& v) { v = scale(rng); });
    } else {
      fp4_ = std::make_unique<Matrix<e2m1x2>>(rows, k / 2, 16);
      ForEach(fp4_->view, [&](e2m1x2& v) { v.bits = static_cast<uint8_t>(rng()); });
      fp4_scales_ = std::make_unique<Matrix<e8m0>>(rows, k / 32, 5);
      ForEach(fp4_scales_->view, [&](e8m0& v) { v.bits = static_cast<uint8_t>(120 + rng() % 10); });
    }
  }

  Activation<2> Input() const {
    if (kind_ == Kind::kBf16) return View<const bf16, 2>(half_->view);
    if (kind_ == Kind::kFp8) return Fp8Group<const e4m3, 2>{fp8_->view, group_scales_->view};
    return Mxfp4<const e2m1x2, 2>{fp4_->view, fp4_scales_->view};
  }
  LinearWeight Weights() const {
    if (kind_ == Kind::kBf16) return View<const bf16, 2>(half_->view);
    if (kind_ == Kind::kFp8) return Fp8Block{fp8_->view, block_scales_->view, kFirstRow};
    return Mxfp4<const e2m1x2, 2>{fp4_->view, fp4_scales_->view};
  }
  // (rows / heads, heads, k) of (rows, k).
  Activation<3> Heads(int64_t heads) const {
    const auto split = [&](const auto& view) { return view.Split(0, rows_ / heads, heads); };
    if (kind_ == Kind::kBf16) return View<const bf16, 3>(split(half_->view));
    if (kind_ == Kind::kFp8) return Fp8Group<const e4m3, 3>{split(fp8_->view), split(group_scales_->view)};
    return Mxfp4<const e2m1x2, 3>{split(fp4_->view), split(fp4_scales_->view)};
  }
  e8m0& Scale(int64_t r, int64_t block) { return fp4_scales_->view(r, block); }
  e2m1x2& Codes(int64_t r, int64_t pair) { return fp4_->view(r, pair); }
  bf16& Half(int64_t r, int64_t k) { return half_->view(r, k); }

 private:
  template <class T, class Body>
  static void ForEach(const View<T, 2>& view, const Body& body) {
    for (int64_t r = 0; r < view.shape[0]; ++r) {
      for (int64_t c = 0; c < view.shape[1]; ++c) body(view(r, c));
    }
  }

  static constexpr int64_t kFirstRow = 88;  // weights begin inside a square of scales

  Kind kind_;
  int64_t rows_, k_;
  std::unique_ptr<Matrix<bf16>> half_;
  std::unique_ptr<Matrix<e4m3>> fp8_;
  std::unique_ptr<Matrix<float>> group_scales_, block_scales_;
  std::unique_ptr<Matrix<e2m1x2>> fp4_;
  std::unique_ptr<Matrix<e8m0>> fp4_scales_;
};

class HipProducts : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = hip::WhyUnusable(0); !why.empty()) GTEST_SKIP() << why;
    on_device_.kernels = &hip::Kernels();
    on_device_.pool = &pool_;
    on_host_.kernels = &RefKernels();
    on_host_.pool = &pool_;
  }

  // What the emulator counted since the last call: of every kernel, or of one whose name has `part` in it.
  static nlohmann::json CountedAll() {
    void* library = dlopen(std::getenv("MXMLA_HIP_LIB"), RTLD_NOW | RTLD_NOLOAD);
    const auto json = reinterpret_cast<const char* (*)()>(dlsym(library, "gfx950emu_counters_json"));
    const auto reset = reinterpret_cast<void (*)()>(dlsym(library, "gfx950emu_reset_counters"));
    nlohmann::json all = nlohmann::json::parse(json());
    reset();
    return all;
  }
  static nlohmann::json Counted(const std::string& part) {
    const nlohmann::json all = CountedAll();
    for (const auto& [name, counters] : all.items()) {
      if (name.find(part) != std::string::npos) return counters;
    }
    return {};
  }
  static bool Emulated() {
    void* library = dlopen(std::getenv("MXMLA_HIP_LIB"), RTLD_NOW | RTLD_NOLOAD);
    return library && dlsym(library, "gfx950emu_set_seed");
  }
  static void SetSeed(uint64_t seed) {
    void* library = dlopen(std::getenv("MXMLA_HIP_LIB"), RTLD_NOW | RTLD_NOLOAD);
    reinterpret_cast<void (*)(uint64_t)>(dlsym(library, "gfx950emu_set_seed"))(seed);
  }

  Rng rng_{20261130};
  ThreadPool pool_{2};
  ExecContext on_device_, on_host_;
};

// Sums of magnitudes are of the order of `scale`: the largest magnitude of a row of results bounds their errors.
inline void ExpectNear(const View<float, 2>& found, const View<float, 2>& expected, float tolerance) {
  for (int64_t r = 0; r < expected.shape[0]; ++r) {
    float largest = 0;
    for (int64_t c = 0; c < expected.shape[1]; ++c) {
      if (std::isfinite(expected(r, c))) largest = std::max(largest, std::fabs(expected(r, c)));
    }
    for (int64_t c = 0; c < expected.shape[1]; ++c) {
      if (std::isnan(expected(r, c))) {
        ASSERT_TRUE(std::isnan(found(r, c))) << r << ", " << c;
      } else {
        ASSERT_NEAR(found(r, c), expected(r, c), tolerance * largest) << r << ", " << c;
      }
    }
  }
}

struct Pair {
  Kind x, w;
};
inline constexpr Pair kPairs[] = {{Kind::kBf16, Kind::kBf16},
                                  {Kind::kBf16, Kind::kFp8},
                                  {Kind::kBf16, Kind::kMxfp4},
                                  {Kind::kFp8, Kind::kFp8},
                                  {Kind::kMxfp4, Kind::kMxfp4}};

}  // namespace mxmla
