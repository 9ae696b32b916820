// MLA decode attention on the GPU (sm_90a).
#pragma once

#include <cuda_runtime_api.h>

#include "ops/attention.h"

namespace mxmla::cuda {

// Bytes of device memory that DecodeAttention needs for batches up to `rows` (and heads up to `heads`); aligned as
// cudaMalloc's. The counters must be zero before their first use, and every call leaves them zero.
size_t DecodeAttentionWorkspaceBytes(int64_t rows, int64_t heads);
size_t DecodeAttentionCounterBytes(int64_t rows, int64_t heads);

struct DecodeAttentionOptions {
  cudaStream_t stream = nullptr;
  // Launches as a link of a chain of programmatic dependent launches: the work is divided while the kernel before it in
  // the stream still runs. That kernel must not write row_length or row_sequence.
  bool programmatic = false;
  // A row's bits depend on its own query and context alone. Otherwise they also depend on how the batch shares the
  // card, which costs less where many rows are long.
  bool batch_invariant = true;
  void* workspace = nullptr;  // of DecodeAttentionWorkspaceBytes, used by one call at a time
  void* counters = nullptr;   // of DecodeAttentionCounterBytes, likewise
};

// Where a row's context was cut, what was left of it, of at most kMostRowsInParts rows: joining it in order
// (cuda/chunk_joins.cuh) and dividing by the sum gives the row's result.
struct AttentionParts {
  const float* values;  // (slots, heads, 512): sums of exponentials times latents
  const float* sums;    // (slots, heads, 2): largest score times log2 e, sum of exponentials
  const int* rows;      // (rows, 4): slot of the first part, of the second one less the first's (if any), parts, unused
  int64_t heads;        // rounded up
};
constexpr int64_t kMostRowsInParts = 2;

// As mxmla::DecodeAttention, over views of device memory. Honoured: query and out bf16, kv_pages bf16 or FP8, all with
// a contiguous last dimension and 16-byte aligned rows (of an FP8 cache those of each plane), kv_lora_rank 512 and 64
// rotated columns, pages of 8, 16, 32 or a multiple of 64 tokens; free strides of everything else. Anything else is an
// Error (kLayout). No length is read on the host: a call may be captured in a graph and replayed with other lengths.
// Results repeat bit for bit.
// The kernel's CTAs wait for each other: no kernel that waits for this one may hold a multiprocessor of the card.
void DecodeAttention(const DecodeAttentionArgs& args, const DecodeAttentionOptions& options);
// The same without the merge; args.out is not written. At most kMostRowsInParts rows.
AttentionParts DecodeAttentionInParts(const DecodeAttentionArgs& args, const DecodeAttentionOptions& options);

}  // namespace mxmla::cuda
