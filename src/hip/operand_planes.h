// What the matrix kernels ask of their operands, and the operands as they see them.
#pragma once

#include <optional>

#include "core/scaled.h"
#include "hip/matrix_step.cuh"
#include "ops/kernel_table.h"

namespace mxmla::hip {

// The formats of a product that the matrix kernels compute; none when they do not.
struct ProductFormats {
  Format x, w;
};
template <int Rank>
std::optional<ProductFormats> FormatsOf(const Activation<Rank>& x, const LinearWeight& w);

// The values' rows lie on 16-byte boundaries, whatever their number, and k is a whole number of 16-byte pieces.
template <int Rank>
bool Honours(const Activation<Rank>& x);
bool Honours(const LinearWeight& w);

// Where the values of an input or output begin.
template <class... Views>
const void* DataOf(const std::variant<Views...>& any) {
  return std::visit(
      [](const auto& view) -> const void* {
        if constexpr (requires { view.values; }) {
          return view.values.data;
        } else {
          return view.data;
        }
      },
      any);
}

template <int Rank>
Plane PlaneOf(const Activation<Rank>& x);
Plane PlaneOf(const LinearWeight& w);

}  // namespace mxmla::hip
