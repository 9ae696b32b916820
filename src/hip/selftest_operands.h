// Sizes, views and operands of the selftest's cases.
#pragma once

#include "hip/selftest_case.h"

namespace mxmla::hip {

inline constexpr int64_t kHeads = 16, kNope = 128, kRotated = 64, kLatents = 512, kValues = 128;
inline constexpr float kExact = 1e-5f;    // float32 sums of exact products
inline constexpr float kRounded = 1e-2f;  // of results rounded to bf16, perhaps twice

using Report = std::function<void(const Finding&)>;

template <class T>
View<T, 1> Vector(Buffer<T>& buffer, Side side, int64_t n) {
  return View<T, 1>::Contiguous(buffer.On(side), {n});
}
template <class T>
View<T, 2> Matrix(Buffer<T>& buffer, Side side, int64_t rows, int64_t n) {
  return View<T, 2>::Contiguous(buffer.On(side), {rows, n});
}
template <class T>
View<T, 3> Cube(Buffer<T>& buffer, Side side, int64_t rows, int64_t heads, int64_t n) {
  return View<T, 3>::Contiguous(buffer.On(side), {rows, heads, n});
}
template <class T, int Rank>
View<const T, Rank> Const(const View<T, Rank>& view) {
  return view;
}

// The norm of x + residual, both (rows, n), whose sum goes to `summed`; what it writes is the caller's to name.
inline RmsNormArgs NormOfSum(Buffer<float>& x, Buffer<float>& residual, Buffer<float>& summed, Buffer<float>& gain,
                             Side side, int64_t rows, int64_t n) {
  RmsNormArgs norm;
  norm.x = FloatInput<2>(Const(Matrix(x, side, rows, n)));
  norm.residual = Matrix(residual, side, rows, n);
  norm.residual_out = Matrix(summed, side, rows, n);
  norm.weight = Const(Vector(gain, side, n));
  norm.eps = 1e-6f;
  return norm;
}

enum class Kind { kBf16, kFp8, kMxfp4 };

// (rows, k) of one format, as weights or as activations.
class Operand {
 public:
  Operand(OpCase& c, Kind kind, int64_t rows, int64_t k) : kind_(kind), rows_(rows), k_(k) {
    if (kind == Kind::kBf16) half_ = &c.Random<bf16>(rows * k, 0.1f);
    if (kind == Kind::kFp8) {
      fp8_ = &c.Random<e4m3>(rows * k, 300);
      scales_ = &c.Make<float>(rows * ((k + 127) / 128));
      for (float& scale : scales_->host()) scale = 1e-4f + 1e-5f * static_cast<float>(c.rng()() % 8);
    }
    if (kind == Kind::kMxfp4) {
      codes_ = &c.Make<e2m1x2>(rows * k / 2);
      block_scales_ = &c.Make<e8m0>(rows * k / 32);
      for (e2m1x2& code : codes_->host()) code.bits = static_cast<uint8_t>(c.rng()());
      for (e8m0& scale : block_scales_->host()) scale.bits = static_cast<uint8_t>(120 + c.rng()() % 5);
    }
  }

  LinearWeight Weight(Side side) const {
    if (kind_ == Kind::kBf16) return Half(side);
    if (kind_ == Kind::kMxfp4) return Mx(side);
    return Fp8Block{Codes(side), View<const float, 2>::Contiguous(scales_->On(side), {(rows_ + 127) / 128, Groups()})};
  }
  Activation<2> Input(Side side) const {
    if (kind_ == Kind::kBf16) return Half(side);
    if (kind_ == Kind::kMxfp4) return Mx(side);
    return Fp8Group<const e4m3, 2>{Codes(side), View<const float, 2>::Contiguous(scales_->On(side), {rows_, Groups()})};
  }

 private:
  int64_t Groups() const { return (k_ + 127) / 128; }
  View<const bf16, 2> Half(Side side) const { return View<const bf16, 2>::Contiguous(half_->On(side), {rows_, k_}); }
  View<const e4m3, 2> Codes(Side side) const { return View<const e4m3, 2>::Contiguous(fp8_->On(side), {rows_, k_}); }
  Mxfp4<const e2m1x2, 2> Mx(Side side) const {
    return {View<const e2m1x2, 2>::Contiguous(codes_->On(side), {rows_, k_ / 2}),
            View<const e8m0, 2>::Contiguous(block_scales_->On(side), {rows_, k_ / 32})};
  }

  Kind kind_;
  int64_t rows_, k_;
  Buffer<bf16>* half_ = nullptr;
  Buffer<e4m3>* fp8_ = nullptr;
  Buffer<float>* scales_ = nullptr;  // as weights, of squares: fewer are read
  Buffer<e2m1x2>* codes_ = nullptr;
  Buffer<e8m0>* block_scales_ = nullptr;
};

struct NamedPair {
  const char* name;
  Kind x, w;
};
inline constexpr NamedPair kPairs[] = {{"bf16 x BF16", Kind::kBf16, Kind::kBf16},
                                       {"bf16 x FP8 block", Kind::kBf16, Kind::kFp8},
                                       {"bf16 x MXFP4", Kind::kBf16, Kind::kMxfp4},
                                       {"FP8 group x FP8 block", Kind::kFp8, Kind::kFp8},
                                       {"MXFP4 x MXFP4", Kind::kMxfp4, Kind::kMxfp4}};

}  // namespace mxmla::hip
