// Free reshaping of plain and quantised activations whose element type is known only at run time.
#pragma once

#include "core/scaled.h"

namespace mxmla {

template <int Rank>
FloatOutput<Rank> Slice(const FloatOutput<Rank>& view, int dim, int64_t begin, int64_t count) {
  return std::visit([&](const auto& v) -> FloatOutput<Rank> { return v.Slice(dim, begin, count); }, view);
}
template <int Rank>
FloatOutput<Rank + 1> Split(const FloatOutput<Rank>& view, int dim, int64_t outer, int64_t inner) {
  return std::visit([&](const auto& v) -> FloatOutput<Rank + 1> { return v.Split(dim, outer, inner); }, view);
}
template <int Rank>
FloatOutput<Rank> Permute(const FloatOutput<Rank>& view, std::array<int, Rank> order) {
  return std::visit([&](const auto& v) -> FloatOutput<Rank> { return v.Permute(order); }, view);
}
template <int Rank>
FloatOutput<Rank - 1> Flatten(const FloatOutput<Rank>& view, int dim) {
  return std::visit([&](const auto& v) -> FloatOutput<Rank - 1> { return v.Flatten(dim); }, view);
}

template <int Rank>
QuantizedOutput<Rank> Slice(const QuantizedOutput<Rank>& view, int dim, int64_t begin, int64_t count) {
  return std::visit([&](const auto& v) -> QuantizedOutput<Rank> { return v.Slice(dim, begin, count); }, view);
}
// The first dimension (outer * inner) becomes two.
template <int Rank>
QuantizedOutput<Rank + 1> SplitRows(const QuantizedOutput<Rank>& view, int64_t outer, int64_t inner) {
  return std::visit(
      [&](const auto& v) -> QuantizedOutput<Rank + 1> {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, Fp8Group<e4m3, Rank>>) {
          return Fp8Group<e4m3, Rank + 1>{v.values.Split(0, outer, inner), v.scales.Split(0, outer, inner)};
        } else {
          return Mxfp4<e2m1x2, Rank + 1>{v.values.Split(0, outer, inner), v.scales.Split(0, outer, inner)};
        }
      },
      view);
}

// A plain or a quantised destination as the one type that ops with an epilogue take.
template <int Rank>
ActivationOutput<Rank> AsDestination(const FloatOutput<Rank>& view) {
  return std::visit([](const auto& v) -> ActivationOutput<Rank> { return v; }, view);
}
template <int Rank>
ActivationOutput<Rank> AsDestination(const QuantizedOutput<Rank>& view) {
  return std::visit([](const auto& v) -> ActivationOutput<Rank> { return v; }, view);
}

}  // namespace mxmla
