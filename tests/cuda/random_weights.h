// Weights and rows of the tests of products on the GPU.
#pragma once

#include <random>

#include "core/scaled.h"
#include "gpu_test.h"
#include "shared_memory.h"

namespace mxmla::testing {

enum class Format { kBf16, kMxfp4, kFp8 };
constexpr Format kFormats[] = {Format::kBf16, Format::kMxfp4, Format::kFp8};

// Random weights (n, k) whose rows are padded; the padding stays poison.
class RandomWeight {
 public:
  RandomWeight(std::mt19937_64& rng, Format format, int64_t n, int64_t k)
      : values_(static_cast<size_t>((n + 1) * (k + 32) * (format == Format::kBf16 ? 2 : 1)) + 64),
        scales_(static_cast<size_t>((n + 130) * (k / 32 + 16)) + 64) {
    std::normal_distribution<float> normal(0, 1);
    const auto byte = [&](int low, int high) {
      return static_cast<uint8_t>(low + static_cast<int>(rng() % static_cast<uint64_t>(high - low + 1)));
    };
    if (format == Format::kBf16) {
      View<bf16, 2> w{values_.As<bf16>(32), {n, k}, {(k + 7) / 8 * 8 + 8, 1}};
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < k; ++j) w(i, j) = bf16::FromFloat(normal(rng) * 0.05f);
      }
      weight = View<const bf16, 2>(w);
    } else if (format == Format::kMxfp4) {
      View<e2m1x2, 2> w{values_.As<e2m1x2>(16), {n, k / 2}, {k / 2 + 16, 1}};
      // Scales in no alignment at all when k / 32 is odd.
      View<e8m0, 2> s{scales_.As<e8m0>(k / 32 % 2 ? 5 : 16), {n, k / 32}, {k / 32 + (k / 32 % 2 ? 2 : 16), 1}};
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < k / 2; ++j) w(i, j) = {byte(0, 255)};
        for (int64_t j = 0; j < k / 32; ++j) s(i, j) = {byte(118, 126)};
      }
      weight = Mxfp4<const e2m1x2, 2>{w, s};
    } else {
      // The view begins inside a square, as a slice of a larger tensor does.
      const int64_t first_row = 64, squares = (first_row + n + 127) / 128;
      View<e4m3, 2> w{values_.As<e4m3>(16), {n, k}, {(k + 15) / 16 * 16 + 16, 1}};
      View<float, 2> s{scales_.As<float>(4), {squares, (k + 127) / 128}, {1, squares}};
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < k; ++j) w(i, j) = {static_cast<uint8_t>(byte(0, 0x7e) | byte(0, 1) << 7)};
      }
      for (int64_t i = 0; i < squares; ++i) {
        for (int64_t j = 0; j < s.shape[1]; ++j) s(i, j) = std::uniform_real_distribution<float>(1e-4f, 1e-3f)(rng);
      }
      weight = Fp8Block{w, s, first_row};
    }
  }

  LinearWeight weight;

 private:
  MappedMemory values_, scales_;
};

// Rows of normal bf16 values with poison between them.
class RandomRows {
 public:
  RandomRows(std::mt19937_64& rng, int64_t rows, int64_t k) : memory_(static_cast<size_t>(rows * (k + 32)) * 2 + 64) {
    std::normal_distribution<float> normal(0, 1);
    View<bf16, 2> x{memory_.As<bf16>(16), {rows, k}, {(k + 7) / 8 * 8 + 8, 1}};
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < k; ++j) x(r, j) = bf16::FromFloat(normal(rng));
    }
    view = x;
  }

  View<bf16, 2> view;

 private:
  MappedMemory memory_;
};

}  // namespace mxmla::testing
