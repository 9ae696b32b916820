#include "hip/operand_planes.h"

#include <type_traits>

namespace mxmla::hip {
namespace {

template <class V>
inline constexpr std::optional<Format> kFormat = std::nullopt;
template <int Rank>
inline constexpr std::optional<Format> kFormat<View<const bf16, Rank>> = Format::kBf16;
template <>
inline constexpr std::optional<Format> kFormat<Fp8Block> = Format::kFp8;
template <int Rank>
inline constexpr std::optional<Format> kFormat<Fp8Group<const e4m3, Rank>> = Format::kFp8;
template <int Rank>
inline constexpr std::optional<Format> kFormat<Mxfp4<const e2m1x2, Rank>> = Format::kMxfp4;

// Bytes of an element of the values' plane.
template <class V>
constexpr int64_t ElementBytes() {
  return kFormat<V> == Format::kBf16 ? 2 : 1;
}

template <class V>
const auto& ValuesOf(const V& x) {
  if constexpr (requires { x.values; }) {
    return x.values;
  } else {
    return x;
  }
}

template <class V>
bool RowsHonoured(const V& x) {
  if constexpr (!kFormat<V>) {
    return false;
  } else {
    const auto& values = ValuesOf(x);
    constexpr int64_t kBytes = ElementBytes<V>();
    if constexpr (std::is_same_v<V, Fp8Block>) {
      if (!x.in_squares()) return false;  // a scale a row or a tensor: the general kernels'
    }
    const int last = static_cast<int>(values.shape.size()) - 1;
    if (values.shape[last] * kBytes % 16 != 0 || values.shape[last] == 0) return false;
    if (reinterpret_cast<uintptr_t>(values.data) % 16 != 0) return false;
    for (int d = 0; d < last; ++d) {
      if (values.stride[d] * kBytes % 16 != 0) return false;
    }
    return true;
  }
}

template <class V>
Plane PlaneOfRows(const V& x) {
  Plane plane;
  const auto& values = ValuesOf(x);
  constexpr int64_t kBytes = ElementBytes<V>();
  const bool heads = values.shape.size() == 3;
  plane.values = reinterpret_cast<const uint8_t*>(values.data);
  plane.row = values.stride[0] * kBytes;
  plane.head = heads ? values.stride[1] * kBytes : 0;
  if constexpr (requires { x.scales; }) {
    plane.scales = x.scales.data;
    plane.scale_row = x.scales.stride[0];
    plane.scale_head = heads ? x.scales.stride[1] : 0;
    plane.scale_column = x.scales.stride[x.scales.shape.size() - 1];
  }
  if constexpr (std::is_same_v<V, Fp8Block>) plane.first_row = x.first_row;
  return plane;
}

}  // namespace

template <int Rank>
std::optional<ProductFormats> FormatsOf(const Activation<Rank>& x, const LinearWeight& w) {
  const auto of_x = std::visit([](const auto& v) { return kFormat<std::decay_t<decltype(v)>>; }, x);
  const auto of_w = std::visit([](const auto& v) { return kFormat<std::decay_t<decltype(v)>>; }, w);
  if (!of_x || !of_w || !Multiplies(*of_x, *of_w)) return std::nullopt;
  return ProductFormats{*of_x, *of_w};
}
template <int Rank>
bool Honours(const Activation<Rank>& x) {
  return std::visit([](const auto& v) { return RowsHonoured(v); }, x);
}
bool Honours(const LinearWeight& w) {
  return std::visit([](const auto& v) { return RowsHonoured(v); }, w);
}
template <int Rank>
Plane PlaneOf(const Activation<Rank>& x) {
  return std::visit([](const auto& v) { return PlaneOfRows(v); }, x);
}
Plane PlaneOf(const LinearWeight& w) {
  return std::visit([](const auto& v) { return PlaneOfRows(v); }, w);
}

template std::optional<ProductFormats> FormatsOf(const Activation<2>&, const LinearWeight&);
template std::optional<ProductFormats> FormatsOf(const Activation<3>&, const LinearWeight&);
template bool Honours(const Activation<2>&);
template bool Honours(const Activation<3>&);
template Plane PlaneOf(const Activation<2>&);
template Plane PlaneOf(const Activation<3>&);

}  // namespace mxmla::hip
