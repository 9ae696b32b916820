// Rotary position embedding, written into place. Angles come from the model (YaRN included, model/rope.h).
#pragma once

#include <optional>

#include "core/scaled.h"
#include "ops/context.h"

namespace mxmla {

// Pair i of a head is elements (2i, 2i+1) when interleaved (DeepSeek), else (i, i + n/2), and becomes
//   (a cos - b sin, b cos + a sin), in float32, rounded once.
// out may be x itself. Pairs keep their places, so queries and keys agree.
struct RopeArgs {
  FloatInput<3> x;           // (rows, heads, n), n even
  View<const float, 2> cos;  // (rows, n/2)
  View<const float, 2> sin;  // (rows, n/2)
  bool interleaved = true;
  FloatOutput<3> out;                               // (rows, heads, n), or any rows with out_index
  std::optional<View<const int64_t, 1>> out_index;  // (rows): row r is written to out row out_index[r]
};
void Rope(const ExecContext& context, const RopeArgs& args);

// cos(position * inverse_frequency) * factor and the sine, of every pair; the angle is the float32 product, as the
// models were trained with.
struct RopeAnglesArgs {
  View<const int32_t, 1> positions;          // (rows)
  View<const float, 1> inverse_frequencies;  // (n/2)
  float factor = 1;
  View<float, 2> cos;  // (rows, n/2)
  View<float, 2> sin;  // (rows, n/2)
};
void RopeAngles(const ExecContext& context, const RopeAnglesArgs& args);

}  // namespace mxmla
