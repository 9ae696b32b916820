// Quantising activations along the last dimension, and the one op that copies.
#pragma once

#include "core/scaled.h"
#include "ops/context.h"

namespace mxmla {

// Each (row, head) vector is quantised by itself: MXFP4 blocks of 32, or FP8 groups of 128 (the last may be short).
struct QuantizeArgs {
  FloatInput<3> x;         // (rows, heads, n)
  QuantizedOutput<3> out;  // (rows, heads, n)
  ScaleMode scale_mode = ScaleMode::kEven;
};
void Quantize(const ExecContext& context, const QuantizeArgs& args);

// Flatten and quantise in one pass: out row r is the quantised concatenation of x[r, 0, :], x[r, 1, :], ... The heads
// need not be contiguous: this is what follows the V projection in the layouts `copy` and `strided`.
struct FlattenQuantizeArgs {
  FloatInput<3> x;         // (rows, heads, n); strides of rows and heads free
  QuantizedOutput<2> out;  // (rows, heads * n)
  ScaleMode scale_mode = ScaleMode::kEven;
};
void FlattenQuantize(const ExecContext& context, const FlattenQuantizeArgs& args);

// Copies x into out, element by element, whatever the strides. The profiler counts it: a copy is never implicit.
struct CopyArgs {
  FloatInput<3> x;
  FloatOutput<3> out;  // x's shape and dtype
};
void Copy(const ExecContext& context, const CopyArgs& args);

}  // namespace mxmla
