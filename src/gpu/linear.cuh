// The kernel of linear layers and of experts' products; instantiated a format of activations a source file, in which
// kAnyActivation serves the weights that are no activation's format.
#pragma once

#include "gpu/row_products.cuh"
#include "ops/linear.h"

namespace mxmla::gpu {

constexpr int kColumnsOfWarp = 4;
constexpr int kColumnsOfBlock = kWarps * kColumnsOfWarp;
constexpr int kMostExperts = 512;

struct LinearParams {
  Operand x;  // (rows, k)
  Operand w;  // (n, k)
  int rows, n, k;
  void* out;  // (rows, n)
  int64_t out_row;
  bool out_float;
};

// An expert's weights: what differs between those of one format.
struct ExpertPlanes {
  const void* values;
  const void* scales;
  int32_t first_row;
  float tensor_scale;
  bool divides;
  Format format;
};

struct GroupedParams {
  LinearParams product;
  int experts;
  int pairs_per_row;
  const int32_t* expert_begin;
  int64_t expert_begin_step;
  const int32_t* pairs;
  int64_t pairs_step;
  ExpertPlanes expert[kMostExperts];
};

// kRows rows of x by the block's columns. x_row(i) and out_row(i) name the i-th of `rows` rows.
template <Format kX, Format kW, int kRows, class XRow, class OutRow>
__device__ __forceinline__ void ProductTile(const LinearParams& p, const Operand& weight, int rows, const XRow& x_row,
                                            const OutRow& out_row) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int column0 =
      static_cast<int>(blockIdx.x) * kColumnsOfBlock + static_cast<int>(threadIdx.x) / 32 * kColumnsOfWarp;
  if (column0 >= p.n) return;
  Row x[kRows], w[kColumnsOfWarp];
#pragma unroll
  for (int r = 0; r < kRows; ++r) x[r] = RowAt<kX>(p.x, x_row(min(r, rows - 1)), 0);
#pragma unroll
  for (int c = 0; c < kColumnsOfWarp; ++c) w[c] = RowAt<kW>(weight, min(column0 + c, p.n - 1), 0);
  const float sum = RowProducts<kX, kW, kRows, kColumnsOfWarp>(x, w, p.k, p.x.whole_pieces, weight.whole_pieces,
                                                               p.x.scale_column, weight.scale_column, lane);
  constexpr int kLanesOfSum = 32 / (kRows * kColumnsOfWarp);
  const int r = lane / kLanesOfSum / kColumnsOfWarp, c = lane / kLanesOfSum % kColumnsOfWarp;
  if (lane % kLanesOfSum == 0 && r < rows && column0 + c < p.n) {
    StoreFloat(p.out, out_row(r) * p.out_row + column0 + c, sum, p.out_float);
  }
}

template <Format kX, Format kW, int kRows>
__global__ void __launch_bounds__(kThreads) LinearKernel(const LinearParams p) {
  const int row0 = static_cast<int>(blockIdx.y) * kRows;
  const auto row = [&](int r) { return int64_t{row0 + r}; };
  ProductTile<kX, kW, kRows>(p, p.w, min(kRows, p.rows - row0), row, row);
}

// Block (.., y) takes the y-th of the experts' sets of kRows pairs; the blocks behind the last have nothing to do.
template <Format kX, Format kW, int kRows>
__global__ void __launch_bounds__(kThreads) GroupedLinearKernel(const GroupedParams p) {
  __shared__ int chosen, set;
  if (threadIdx.x == 0) chosen = -1;
  __syncthreads();
  if (threadIdx.x < 32) {
    const int lane = static_cast<int>(threadIdx.x);
    const int experts_of_lane = (p.experts + 31) / 32;
    const int first = min(lane * experts_of_lane, p.experts), last = min(first + experts_of_lane, p.experts);
    const auto begin_of = [&](int e) { return p.expert_begin[e * p.expert_begin_step]; };
    const auto sets_of = [&](int e) { return (begin_of(e + 1) - begin_of(e) + kRows - 1) / kRows; };
    int sets = 0;
    for (int e = first; e < last; ++e) sets += sets_of(e);
    int behind = sets;  // sets of this lane's experts and of those before
#pragma unroll
    for (int delta = 1; delta < 32; delta *= 2) {
      const int before = ShuffleUp(behind, delta);
      if (lane >= delta) behind += before;
    }
    const int wanted = static_cast<int>(blockIdx.y);
    if (wanted >= behind - sets && wanted < behind) {
      int left = wanted - (behind - sets);
      int e = first;
      while (left >= sets_of(e)) left -= sets_of(e++);
      chosen = e;
      set = left;
    }
  }
  __syncthreads();
  if (chosen < 0) return;
  const ExpertPlanes& expert = p.expert[chosen];
  if (expert.format != kW) return;
  Operand weight = p.product.w;
  weight.values = expert.values;
  weight.scales = expert.scales;
  weight.first_row = expert.first_row;
  weight.tensor_scale = expert.tensor_scale;
  weight.divides = expert.divides;
  const int begin = p.expert_begin[chosen * p.expert_begin_step] + set * kRows;
  const int pairs = min(kRows, p.expert_begin[(chosen + 1) * p.expert_begin_step] - begin);
  const auto pair = [&](int i) { return int64_t{p.pairs[(begin + i) * p.pairs_step]}; };
  ProductTile<kX, kW, kRows>(
      p.product, weight, pairs, [&](int i) { return pair(i) / p.pairs_per_row; }, pair);
}

constexpr int kRowsOfTile = 8;

template <Format kX>
void LaunchLinear(const LinearParams& p, Stream stream) {
  const auto blocks = [&](int rows) {
    return dim3(static_cast<unsigned>((p.n + kColumnsOfBlock - 1) / kColumnsOfBlock),
                static_cast<unsigned>((p.rows + rows - 1) / rows));
  };
  ForWeightFormat<kX>(p.w.format, [&](auto w) {
    if (p.rows == 1) {
      LinearKernel<kX, w(), 1><<<blocks(1), kThreads, 0, stream>>>(p);
    } else {
      LinearKernel<kX, w(), kRowsOfTile><<<blocks(kRowsOfTile), kThreads, 0, stream>>>(p);
    }
  });
  CheckLaunch("gpu linear");
}

// One launch for the experts whose weights are of p.product.w's format.
template <Format kX>
void LaunchGroupedLinear(const GroupedParams& p, int64_t pairs, Stream stream) {
  const int64_t most_chosen = std::min<int64_t>(pairs, p.experts);
  const auto blocks = [&](int64_t sets) {
    return dim3(static_cast<unsigned>((p.product.n + kColumnsOfBlock - 1) / kColumnsOfBlock),
                static_cast<unsigned>(sets));
  };
  ForWeightFormat<kX>(p.product.w.format, [&](auto w) {
    // A pair by itself where an expert has hardly more.
    if (pairs <= most_chosen) {
      GroupedLinearKernel<kX, w(), 1><<<blocks(pairs), kThreads, 0, stream>>>(p);
    } else {
      const int64_t sets = pairs / kRowsOfTile + most_chosen;
      GroupedLinearKernel<kX, w(), kRowsOfTile><<<blocks(sets), kThreads, 0, stream>>>(p);
    }
  });
  CheckLaunch("gpu grouped_linear");
}

// One source file a format of x.
void LaunchLinearF32(const LinearParams& p, Stream stream);
void LaunchLinearBf16(const LinearParams& p, Stream stream);
void LaunchLinearFp8(const LinearParams& p, Stream stream);
void LaunchLinearMxfp4(const LinearParams& p, Stream stream);
void LaunchLinearAny(const LinearParams& p, Stream stream);
void LaunchGroupedLinearF32(const GroupedParams& p, int64_t pairs, Stream stream);
void LaunchGroupedLinearBf16(const GroupedParams& p, int64_t pairs, Stream stream);
void LaunchGroupedLinearFp8(const GroupedParams& p, int64_t pairs, Stream stream);
void LaunchGroupedLinearMxfp4(const GroupedParams& p, int64_t pairs, Stream stream);
void LaunchGroupedLinearAny(const GroupedParams& p, int64_t pairs, Stream stream);

}  // namespace mxmla::gpu
