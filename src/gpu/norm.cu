// RMSNorm: a block a row, whose threads hold it between the two passes.
#include "gpu/norm_row.cuh"
#include "gpu/quantized_rows.cuh"
#include "gpu/row_kernels.h"

namespace mxmla::gpu {
namespace {

struct Params {
  FloatPlane<const void> x;          // (x_rows, n)
  FloatPlane<const void> residual;   // (x_rows, n) or absent
  FloatPlane<void> residual_out;     // (x_rows, n), perhaps `residual`
  FloatPlane<const void> weight;     // (n)
  Strided<const int32_t> row_index;  // (rows) or absent
  Strided<const int64_t> out_index;  // (rows) or absent
  Strided<const float> row_scale;    // (rows) or absent
  FloatPlane<void> out;              // or absent
  QuantizedPlane quantized;          // or absent
  float eps;
  int64_t n;
};

// The sum over the block's threads, in an order that their number fixes.
__device__ float BlockSum(float value) {
  __shared__ float waves[kMostNormThreads / kWave];
  value = WaveSum(value);
  const int lane = static_cast<int>(threadIdx.x) % kWave;
  if (lane == 0) waves[threadIdx.x / kWave] = value;
  __syncthreads();
  return WaveSum(lane < static_cast<int>(blockDim.x) / kWave ? waves[lane] : 0.0f);
}

// kFast: x and out are whole pieces of bf16, weight and residual of float32.
template <bool kFast, bool kResidual>
__global__ void __launch_bounds__(kMostNormThreads) RmsNormKernel(const Params p) {
  constexpr Access kActivation = kFast ? Access::kHalf : Access::kAny;
  constexpr Access kFloat = kFast ? Access::kFull : Access::kAny;
  const int64_t r = blockIdx.x;
  const int64_t round = int64_t{blockDim.x} * kPiece;  // elements that all threads take at once
  const int64_t mine = int64_t{threadIdx.x} * kPiece;
  const auto count_at = [&](int64_t begin) {
    return static_cast<int>(max(min(p.n - begin, int64_t{kPiece}), int64_t{0}));
  };
  float weight[kPiece] = {};
  if (count_at(mine) > 0) LoadPiece<kFloat>(p.weight, 0, 0, mine, count_at(mine), weight);
  WaitForPredecessor();
  const int64_t from = p.row_index ? p.row_index(r) : r;
  const int64_t to = p.out_index ? p.out_index(r) : r;
  float v[kPiece] = {};
  const auto load = [&](int64_t begin, int count) {
    float residual[kPiece];
    if constexpr (kResidual) LoadPiece<kFloat>(p.residual, from, 0, begin, count, residual);
    LoadPiece<kActivation>(p.x, from, 0, begin, count, v);
    if constexpr (kResidual) {
#pragma unroll
      for (int i = 0; i < kPiece; ++i) v[i] += residual[i];
    }
  };
  float squares = 0;
  for (int64_t begin = mine; begin < p.n; begin += round) {
    load(begin, count_at(begin));
#pragma unroll
    for (int i = 0; i < kPiece; ++i) squares = fmaf(v[i], v[i], squares);
  }
  const float scale = p.row_scale ? p.row_scale(r) : 1.0f;
  const float factor = scale / sqrtf(BlockSum(squares) / static_cast<float>(p.n) + p.eps);
  for (int64_t begin = mine; begin - mine < p.n; begin += round) {  // whole waves: they quantise together
    const int count = count_at(begin);
    if (p.n > round && count > 0) {  // else v and weight are still the row's piece
      load(begin, count);
      LoadPiece<kFloat>(p.weight, 0, 0, begin, count, weight);
    }
    if (kResidual && p.residual_out.data != nullptr && count > 0) {
      StorePiece<kFloat>(p.residual_out, from, 0, begin, count, v);
    }
#pragma unroll
    for (int i = 0; i < kPiece; ++i) v[i] = count > 0 ? weight[i] * (v[i] * factor) : 0.0f;
    if (p.out.data != nullptr && count > 0) StorePiece<kActivation>(p.out, to, 0, begin, count, v);
    if (p.quantized.codes != nullptr) {
#pragma unroll
      for (int i = 0; i < kPiece; ++i) v[i] = RoundToHalf(v[i]);
      StoreQuantized(p.quantized, to, 0, begin, count, v);
    }
  }
}

}  // namespace

void RmsNorm(const ExecContext& context, const RmsNormArgs& args) {
  const int64_t n = Extent(args.x, 1);
  const int64_t rows = args.row_index ? args.row_index->shape[0] : Extent(args.x, 0);
  if (rows == 0 || n == 0) return;
  Params p{};
  p.x = FloatPlaneOf(args.x);
  if (args.residual) {
    p.residual = FloatPlaneOf(View<const float, 2>(*args.residual));
    if (!args.row_index) p.residual_out = FloatPlaneOf(args.residual_out ? *args.residual_out : *args.residual);
  }
  p.weight = FloatPlaneOf(args.weight);
  p.row_index = StridedOf(args.row_index);
  p.out_index = StridedOf(args.out_index);
  p.row_scale = StridedOf(args.row_scale);
  if (args.out) p.out = FloatPlaneOf(*args.out);
  if (args.quantized) p.quantized = QuantizedPlaneOf(*args.quantized, args.scale_mode);
  p.eps = args.eps;
  p.n = n;
  const bool fast = Has(p.x, Access::kHalf, n) && Has(p.out, Access::kHalf, n) && Has(p.weight, Access::kFull, n) &&
                    Has(p.residual, Access::kFull, n) && Has(p.residual_out, Access::kFull, n);
  const auto kernel = args.residual ? (fast ? RmsNormKernel<true, true> : RmsNormKernel<false, true>)
                                    : (fast ? RmsNormKernel<true, false> : RmsNormKernel<false, false>);
  Launch(context, "rms_norm", kernel, rows, NormThreads(n), 0, p);
}

}  // namespace mxmla::gpu
