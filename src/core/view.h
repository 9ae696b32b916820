// View: a pointer, a shape and strides, both in elements. Permuting, slicing and splitting are free; flattening is free
// or an error that names the strides. Nothing here copies or allocates.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#include "core/dtype.h"
#include "core/error.h"

namespace mxmla {

// "(3, 16, 128)"
std::string FormatDims(const int64_t* dims, int rank);

namespace internal {
[[noreturn]] void FailFlatten(int dim, const int64_t* shape, const int64_t* stride, int rank);
[[noreturn]] void FailSlice(int dim, int64_t begin, int64_t count, int64_t extent);
[[noreturn]] void FailSplit(int dim, int64_t outer, int64_t inner, int64_t extent);
}  // namespace internal

template <class T, int Rank>
struct View {
  static_assert(Rank >= 1);
  using Element = T;
  static constexpr int kRank = Rank;
  using Dims = std::array<int64_t, Rank>;

  T* data = nullptr;
  Dims shape{};
  Dims stride{};

  // A row-major view of `dims` elements from `pointer` on.
  static View Contiguous(T* pointer, Dims dims) {
    View view{pointer, dims, {}};
    int64_t step = 1;
    for (int d = Rank - 1; d >= 0; --d) {
      view.stride[d] = step;
      step *= dims[d];
    }
    return view;
  }

  // NOLINTNEXTLINE(google-explicit-constructor): a view of T is a view of const T
  operator View<const T, Rank>() const requires(!std::is_const_v<T>) { return {data, shape, stride}; }

  int64_t size() const {
    int64_t n = 1;
    for (int64_t extent : shape) n *= extent;
    return n;
  }
  bool empty() const { return size() == 0; }

  template <class... Index>
  T& operator()(Index... index) const {
    static_assert(sizeof...(Index) == Rank);
    const int64_t at[] = {static_cast<int64_t>(index)...};
    int64_t offset = 0;
    for (int d = 0; d < Rank; ++d) offset += at[d] * stride[d];
    return data[offset];
  }

  // Dimension d of the result is dimension order[d] of this view.
  View Permute(std::array<int, Rank> order) const {
    View result{data, {}, {}};
    for (int d = 0; d < Rank; ++d) {
      result.shape[d] = shape[order[d]];
      result.stride[d] = stride[order[d]];
    }
    return result;
  }

  View Slice(int dim, int64_t begin, int64_t count) const {
    if (begin < 0 || count < 0 || begin > shape[dim] - count) internal::FailSlice(dim, begin, count, shape[dim]);
    View result = *this;
    if (count > 0) result.data += begin * stride[dim];
    result.shape[dim] = count;
    return result;
  }

  // Rows begin .. begin+count of the first dimension.
  View Rows(int64_t begin, int64_t count) const { return Slice(0, begin, count); }

  // The view at `index` of dimension `dim`, which vanishes.
  View<T, Rank - 1> Select(int dim, int64_t index) const requires(Rank > 1) {
    if (index < 0 || index >= shape[dim]) internal::FailSlice(dim, index, 1, shape[dim]);
    View<T, Rank - 1> result;
    result.data = data + index * stride[dim];
    for (int d = 0, to = 0; d < Rank; ++d) {
      if (d == dim) continue;
      result.shape[to] = shape[d];
      result.stride[to++] = stride[d];
    }
    return result;
  }

  // Dimension `dim` becomes two: (outer, inner).
  View<T, Rank + 1> Split(int dim, int64_t outer, int64_t inner) const {
    if (outer < 0 || inner < 0 || outer * inner != shape[dim]) internal::FailSplit(dim, outer, inner, shape[dim]);
    View<T, Rank + 1> result;
    result.data = data;
    for (int d = 0, to = 0; d < Rank; ++d) {
      if (d == dim) {
        result.shape[to] = outer;
        result.stride[to++] = inner * stride[d];
        result.shape[to] = inner;
      } else {
        result.shape[to] = shape[d];
      }
      result.stride[to++] = stride[d];
    }
    return result;
  }

  // Dimensions `dim` and `dim + 1` become one, when the strides allow it; else an Error (kLayout) that names them.
  View<T, Rank - 1> Flatten(int dim) const requires(Rank > 1) {
    const bool joined = shape[dim] <= 1 || shape[dim + 1] <= 1 || stride[dim] == shape[dim + 1] * stride[dim + 1];
    if (!joined) internal::FailFlatten(dim, shape.data(), stride.data(), Rank);
    View<T, Rank - 1> result;
    result.data = data;
    for (int d = 0, to = 0; d < Rank; ++d, ++to) {
      if (d == dim) {
        result.shape[to] = shape[d] * shape[d + 1];
        result.stride[to] = shape[d + 1] == 1 ? stride[d] : stride[d + 1];
        ++d;
      } else {
        result.shape[to] = shape[d];
        result.stride[to] = stride[d];
      }
    }
    return result;
  }
};

}  // namespace mxmla
