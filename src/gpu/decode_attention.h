// Decode attention over a part of a call's rows, for the kernels that are made of it.
#pragma once

#include "gpu/head_product.h"
#include "ops/attention.h"

namespace mxmla::gpu {

// Rows that one pair of launches takes: as many as keep its partial results small.
int64_t AttentionRowsAtOnce(int64_t heads);
size_t AttentionPartialBytes(int64_t rows, int64_t heads, int64_t kv_lora_rank);
// Rows whose result nobody reads, which `limits` leaves out, may be written or not. `workspace` has
// AttentionPartialBytes of any row count up to AttentionRowsAtOnce.
void RunDecodeAttention(const DecodeAttentionArgs& args, const RowLimits& limits, void* workspace, Stream stream);

}  // namespace mxmla::gpu
