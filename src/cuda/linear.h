// The linear layers of decode on the GPU (sm_90a): out = x W^T, the weights read as the checkpoint holds them.
#pragma once

#include "cuda/launch_options.h"
#include "ops/fused.h"
#include "ops/linear.h"

namespace mxmla::cuda {

// As mxmla::Linear, over views of device memory. Honoured: x bf16; weights MXFP4, BF16 or FP8 block-128; out f32 or
// bf16. The last dimension of every plane but FP8 scales has stride 1; rows of x and of the weights' values are 16-byte
// aligned; n is free, k a multiple of 8 (FP8: 16, MXFP4: 32). Anything else is an Error (kLayout). A result depends on
// its own row and the weights alone, and on how the batch is multiplied, each way with a fixed order of its sums: up to
// `most_streamed_rows` rows streamed (by default half as many past large quantised weights); more in tiles of the
// tensor cores, few of which share k among up to four CTAs. options.workspace: LinearWorkspaceBytes, which never
// grow smaller with more rows.
inline constexpr int64_t kMostStreamedRows = 64;
int64_t LinearWorkspaceBytes(const LinearArgs& args, int64_t most_streamed_rows = kMostStreamedRows);
void Linear(const LinearArgs& args, const LaunchOptions& options, int64_t most_streamed_rows = kMostStreamedRows);

// The same with x normed in each CTA, for few rows: as mxmla::NormLinear. norm.x and norm.residual float32, or norm.x
// bf16 alone; norm.out bf16; residual_out where there is a residual.
bool HonoursNormLinear(const NormLinearArgs& args);
void NormLinear(const NormLinearArgs& args, const LaunchOptions& options);

}  // namespace mxmla::cuda
