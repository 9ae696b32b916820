// The V projection on the matrix units, in all three layouts: its epilogue writes head-major or token-major bf16, or
// o_proj's input itself in bf16, MXFP4 or FP8 groups.
#pragma once

#include "ops/kernel_set.h"

namespace mxmla::hip {

// v_head_dim a multiple of 32, of 128 for FP8 outputs.
bool HonoursValueProject(const ValueProjectArgs& args);
void ValueProject(const ExecContext& context, const ValueProjectArgs& args);

// The same of rows `first_row` and on of those before *row_end, a number that the device has; the others are left as
// they are.
void ProjectRows(const ExecContext& context, const ValueProjectArgs& args, const int32_t* row_end, int64_t first_row);

// The same of what `splits` hold of each row and head, merged and rounded to bf16, then quantised with `mode` if
// args.attn is, which is what that would be and is not read.
struct AttentionSplits;
void MergeAndProject(const ExecContext& context, const AttentionSplits& splits, const ValueProjectArgs& args,
                     ScaleMode mode);

}  // namespace mxmla::hip
