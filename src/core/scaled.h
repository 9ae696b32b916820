// Values and the scales that give them meaning, as one type a format. A slice of one slices both planes.
#pragma once

#include <variant>

#include "core/view.h"
#include "core/weight_formats.h"

namespace mxmla {

// MXFP4: 32 consecutive elements of the last dimension share an E8M0 scale. Value of element (.., k):
// E2M1(values(.., k/2)) * 2^(scales(.., k/32) - 127). The last dimension must be a multiple of 32. The last dimension
// of each plane has stride 1; the others are free. `Values` is e2m1x2 or const e2m1x2, and the scales follow.
template <class Values, int Rank>
struct Mxfp4 {
  using Scale = std::conditional_t<std::is_const_v<Values>, const e8m0, e8m0>;
  static constexpr int kRank = Rank;

  View<Values, Rank> values;  // (.., k/2)
  View<Scale, Rank> scales;   // (.., k/32)

  // NOLINTNEXTLINE(google-explicit-constructor)
  operator Mxfp4<const Values, Rank>() const requires(!std::is_const_v<Values>) { return {values, scales}; }

  // The extent of dimension d in elements.
  int64_t extent(int d) const { return d == Rank - 1 ? 2 * values.shape[d] : values.shape[d]; }
  // Any dimension but the last.
  Mxfp4 Slice(int dim, int64_t begin, int64_t count) const {
    return {values.Slice(dim, begin, count), scales.Slice(dim, begin, count)};
  }
  Mxfp4 Rows(int64_t begin, int64_t count) const { return Slice(0, begin, count); }
};

// FP8 with a float32 scale for each 128 consecutive elements of the last dimension (the last group may be short).
// Value of element (.., k): values(.., k) * scales(.., k/128). Values have stride 1 in the last dimension; the scales'
// strides are free (row-major or column-major).
template <class Values, int Rank>
struct Fp8Group {
  using Scale = std::conditional_t<std::is_const_v<Values>, const float, float>;
  static constexpr int kRank = Rank;

  View<Values, Rank> values;  // (.., k), e4m3
  View<Scale, Rank> scales;   // (.., ceil(k/128))

  // NOLINTNEXTLINE(google-explicit-constructor)
  operator Fp8Group<const Values, Rank>() const requires(!std::is_const_v<Values>) { return {values, scales}; }

  int64_t extent(int d) const { return values.shape[d]; }
  Fp8Group Slice(int dim, int64_t begin, int64_t count) const {
    return {values.Slice(dim, begin, count), scales.Slice(dim, begin, count)};
  }
  Fp8Group Rows(int64_t begin, int64_t count) const { return Slice(0, begin, count); }
};

// A matrix of weights (n, k), as the checkpoint holds it.
using LinearWeight =
    std::variant<View<const float, 2>, View<const bf16, 2>, Fp8Block, Mxfp4<const e2m1x2, 2>, View<const f16, 2>, Mxfp8,
                 Int4Group, Nvfp4, GgmlMatrix<q8_0>, GgmlMatrix<q4_k>, GgmlMatrix<q6_k>, GgmlMatrix<ggml_mxfp4>>;

inline int64_t RowCount(const LinearWeight& weight) {
  return std::visit(
      [](const auto& w) {
        if constexpr (requires { w.shape; })
          return w.shape[0];
        else
          return w.extent(0);
      },
      weight);
}
inline int64_t ColumnCount(const LinearWeight& weight) {
  return std::visit(
      [](const auto& w) {
        if constexpr (requires { w.shape; })
          return w.shape[1];
        else
          return w.extent(1);
      },
      weight);
}
inline LinearWeight Rows(const LinearWeight& weight, int64_t begin, int64_t count) {
  return std::visit([&](const auto& w) -> LinearWeight { return w.Rows(begin, count); }, weight);
}
// Whether its elements are no plain floats.
inline bool IsQuantized(const LinearWeight& weight) {
  return std::visit(
      [](const auto& w) {
        return !requires { w.shape; };
      },
      weight);
}

// Calls visit(plane) for the values and, where they lie apart, the scales of a view, a `Mxfp4`, ... (no variant).
template <class Weight, class Visit>
void ForEachPlane(Weight&& weight, const Visit& visit) {
  if constexpr (requires { weight.values; }) {
    visit(weight.values);
    if constexpr (requires { weight.scales; }) visit(weight.scales);
  } else {
    visit(weight);
  }
}

// "f32", "bf16", "f16", "fp8-block128", "fp8-channel", "fp8-tensor", "mxfp8", "mxfp4", "nvfp4", "int4-g32", "q8_0",
// "q4_k", "q6_k" or "ggml-mxfp4"
std::string_view FormatName(const LinearWeight& weight);
// Bytes of values and scales that one reading of the matrix moves.
int64_t ByteCount(const LinearWeight& weight);

// Elements begin .. begin + count of row `row` of `weight`, dequantised: exact but for the roundings that a format's
// value names (FP8: one of value * scale).
void Dequantize(const Mxfp4<const e2m1x2, 2>& weight, int64_t row, int64_t begin, int64_t count, float* out);
void Dequantize(const LinearWeight& weight, int64_t row, int64_t begin, int64_t count, float* out /* (count) */);
inline void DequantizeRow(const LinearWeight& weight, int64_t row, float* out /* (k) */) {
  Dequantize(weight, row, 0, ColumnCount(weight), out);
}

// One matrix a head, inside one tensor: head h is rows h*head_stride + head_offset .. + head_rows of `tensor`. This is
// how w_kc and w_vc lie in kv_b_proj (heads * (qk_nope_head_dim + v_head_dim), kv_lora_rank).
struct HeadWeight {
  LinearWeight tensor;
  int64_t heads = 0;
  int64_t head_stride = 0;
  int64_t head_offset = 0;
  int64_t head_rows = 0;

  LinearWeight Head(int64_t h) const { return Rows(tensor, h * head_stride + head_offset, head_rows); }
};

// Activations. A backend's plain activations are float32 (ref) or bf16 (cpu); the quantised ones feed products with
// FP8 or MXFP4 weights.
template <int Rank>
using FloatInput = std::variant<View<const float, Rank>, View<const bf16, Rank>>;
template <int Rank>
using FloatOutput = std::variant<View<float, Rank>, View<bf16, Rank>>;
template <int Rank>
using QuantizedInput = std::variant<Fp8Group<const e4m3, Rank>, Mxfp4<const e2m1x2, Rank>>;
template <int Rank>
using QuantizedOutput = std::variant<Fp8Group<e4m3, Rank>, Mxfp4<e2m1x2, Rank>>;
template <int Rank>
using Activation = std::variant<View<const float, Rank>, View<const bf16, Rank>, Fp8Group<const e4m3, Rank>,
                                Mxfp4<const e2m1x2, Rank>>;
template <int Rank>
using ActivationOutput = std::variant<View<float, Rank>, View<bf16, Rank>, Fp8Group<e4m3, Rank>, Mxfp4<e2m1x2, Rank>>;

// A writable view as an input of the next op.
template <int Rank>
FloatInput<Rank> AsInput(const FloatOutput<Rank>& out) {
  return std::visit(
      [](const auto& v) -> FloatInput<Rank> {
        return View<const typename std::decay_t<decltype(v)>::Element, Rank>(v);
      },
      out);
}
template <int Rank>
Activation<Rank> AsActivation(const FloatOutput<Rank>& out) {
  return std::visit(
      [](const auto& v) -> Activation<Rank> {
        return View<const typename std::decay_t<decltype(v)>::Element, Rank>(v);
      },
      out);
}
template <int Rank>
Activation<Rank> AsActivation(const QuantizedOutput<Rank>& out) {
  return std::visit(
      [](const auto& v) -> Activation<Rank> {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, Fp8Group<e4m3, Rank>>) {
          return Fp8Group<const e4m3, Rank>(v);
        } else {
          return Mxfp4<const e2m1x2, Rank>(v);
        }
      },
      out);
}
template <int Rank>
Activation<Rank> AsActivation(const ActivationOutput<Rank>& out) {
  return std::visit(
      [](const auto& v) -> Activation<Rank> {
        using V = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<V, Fp8Group<e4m3, Rank>>) {
          return Fp8Group<const e4m3, Rank>(v);
        } else if constexpr (std::is_same_v<V, Mxfp4<e2m1x2, Rank>>) {
          return Mxfp4<const e2m1x2, Rank>(v);
        } else {
          return View<const typename V::Element, Rank>(v);
        }
      },
      out);
}

// Extent of dimension d in elements, whatever the format.
template <class Variant>
int64_t Extent(const Variant& activation, int d) {
  return std::visit(
      [d](const auto& v) {
        if constexpr (requires { v.shape; })
          return v.shape[d];
        else
          return v.extent(d);
      },
      activation);
}

}  // namespace mxmla
