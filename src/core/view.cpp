#include "core/view.h"

#include <fmt/format.h>

namespace mxmla {

std::string FormatDims(const int64_t* dims, int rank) {
  std::string text = "(";
  for (int d = 0; d < rank; ++d) text += (d ? ", " : "") + std::to_string(dims[d]);
  return text + ")";
}

namespace internal {

void FailFlatten(int dim, const int64_t* shape, const int64_t* stride, int rank) {
  Fail(ErrorCode::kLayout, fmt::format("flatten of dimensions {} and {}", dim, dim + 1),
       fmt::format("stride {} in dimension {}", shape[dim + 1] * stride[dim + 1], dim),
       fmt::format("shape {} with strides {}", FormatDims(shape, rank), FormatDims(stride, rank)),
       "a flatten never copies: write the buffer in this order, or call the op copy");
}

void FailSlice(int dim, int64_t begin, int64_t count, int64_t extent) {
  Fail(ErrorCode::kLayout, fmt::format("slice of dimension {}", dim), fmt::format("a range inside 0..{}", extent),
       fmt::format("{} elements from {}", count, begin));
}

void FailSplit(int dim, int64_t outer, int64_t inner, int64_t extent) {
  Fail(ErrorCode::kLayout, fmt::format("split of dimension {}", dim), fmt::format("factors of {}", extent),
       fmt::format("{} x {}", outer, inner));
}

}  // namespace internal
}  // namespace mxmla
