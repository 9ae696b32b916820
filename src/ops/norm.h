// RMSNorm with an optional residual add, an optional quantised output, and free placement of its rows.
#pragma once

#include <optional>

#include "core/scaled.h"
#include "ops/context.h"

namespace mxmla {

// For each row r: v = x[r]; with `residual`, v = residual[r] + x[r] in float32, which is stored in residual[r], or in
// residual_out[r] where that is given, unless there is a row_index, whose rows may repeat; then
//   y = row_scale[r] * weight * v / sqrt(mean(v^2) + eps)
// rounded to the output type. The mean is a float32 sum (or better). `quantized` holds y rounded first to the backend's
// activation type (float32 for ref, bf16 for cpu), then quantised.
struct RmsNormArgs {
  FloatInput<2> x;                                  // (x_rows, n)
  std::optional<View<float, 2>> residual;           // (x_rows, n), updated without either below
  std::optional<View<float, 2>> residual_out;       // (x_rows, n), other memory than residual
  std::optional<View<const int32_t, 1>> row_index;  // (rows): output row r reads row row_index[r]
  View<const float, 1> weight;                      // (n)
  std::optional<View<const float, 1>> row_scale;    // (rows), of the output's rows; absent: 1
  float eps = 0;
  std::optional<FloatOutput<2>> out;                // (rows, n), or any rows with out_index
  std::optional<QuantizedOutput<2>> quantized;      // (rows, n), or any rows with out_index
  std::optional<View<const int64_t, 1>> out_index;  // (rows): row r is written to row out_index[r] of both outputs
  ScaleMode scale_mode = ScaleMode::kEven;
};
void RmsNorm(const ExecContext& context, const RmsNormArgs& args);

}  // namespace mxmla
