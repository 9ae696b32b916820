// What the splits of a row's context leave for each other, and their merging.
#pragma once

#include "gpu/row_io.cuh"
#include "hip/matrix_step.cuh"

namespace mxmla::hip {

inline constexpr int kLatents = 512;
inline constexpr int kTokens = 32;  // of a step
inline constexpr int kSplits = 16;  // of a row that is decoded, at most

struct AttentionSplits {
  float* partials;            // (rows, heads, splits, 512): sums of weighted latents
  float2* sums;               // (rows, heads, splits): maximum score, sum of weights
  const int32_t* row_length;  // (rows)
  int64_t length_step;
  int most_attended;  // tokens of a row, which has chosen them where it sees more
  int heads;
  int most;    // splits that a row's length is cut into: kSplits, or 1
  int splits;  // the most that a row of the call has

  // What the row attends to, and whether that is less than it sees.
  __device__ __forceinline__ int LengthOf(int row) const { return min(row_length[row * length_step], most_attended); }
  __device__ __forceinline__ bool Chooses(int row) const { return row_length[row * length_step] > most_attended; }

  // A row is cut by its own length alone.
  __device__ __forceinline__ int TokensOfSplit(int length) const {
    const int steps = (length + kTokens - 1) / kTokens;
    return (steps + most - 1) / most * kTokens;
  }

  // Eight latents of a head of a row, of all splits in their order.
  __device__ __forceinline__ void Merge(int row, int head, int latent, float (&value)[gpu::kPiece]) const {
    const int length = LengthOf(row), of_split = TokensOfSplit(length);
    const int count = length == 0 ? 0 : (length + of_split - 1) / of_split;
    const int64_t slot = (int64_t{row} * heads + head) * splits;
    float maximum = -__builtin_inff();
    for (int s = 0; s < count; ++s) maximum = fmaxf(maximum, sums[slot + s].x);
    float weights = 0;
    Float4 sum[2] = {};
    for (int s = 0; s < count; ++s) {
      const float factor = __builtin_amdgcn_exp2f(sums[slot + s].x - maximum);
      weights = __builtin_fmaf(sums[slot + s].y, factor, weights);
      const auto* part = reinterpret_cast<const Float4*>(partials + (slot + s) * kLatents + latent);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const Float4 four = part[half];
#pragma unroll
        for (int r = 0; r < 4; ++r) sum[half][r] = __builtin_fmaf(four[r], factor, sum[half][r]);
      }
    }
#pragma unroll
    for (int i = 0; i < gpu::kPiece; ++i) value[i] = count == 0 ? 0.0f : sum[i / 4][i % 4] / weights;
  }
};

}  // namespace mxmla::hip
