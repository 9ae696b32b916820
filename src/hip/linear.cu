#include "hip/linear.h"

#include <algorithm>

#include "gpu/platform.h"
#include "hip/operand_planes.h"
#include "hip/product_launch.cuh"

namespace mxmla::hip {
namespace {

struct Params {
  Plane x, w;
  void* out;  // (rows, n)
  int64_t out_row;
  int rows, n, k;
  bool out_float;
};

// A block takes 16 features and kTiles * 16 rows. Its waves take every fourth step of k and add their sums in the
// waves' order, so that a row's bits depend on k alone.
template <Format kX, Format kW, int kTiles>
MXMLA_PRODUCT_KERNEL LinearKernel(const Params p) {
  __shared__ Float4 sums[kWaves][kTiles][kWave];
  const int wave = static_cast<int>(threadIdx.x) / kWave;
  const int feature0 = static_cast<int>(blockIdx.x) * kTile, row0 = static_cast<int>(blockIdx.y) * kTiles * kTile;
  const int features = min(kTile, p.n - feature0), rows = min(kTiles * kTile, p.rows - row0);
  Float4 sum[kTiles] = {};
  const auto row_at = [&](int j) { return int64_t{row0} + min(j, rows - 1); };
  MultiplySteps<kX, kW, kTiles>(p.x, p.w, feature0, features, row_at, 0, p.k, wave, kWaves, sum);
  AddWaves(sums, sum, [&](int j, int feature, const Float4& all) {
    if (j < rows) StoreFour(p.out, row_at(j) * p.out_row + feature0 + feature, all, features - feature, p.out_float);
  });
}

// Prompts' rows in MXFP4 by MXFP4: v_mfma_scale_f32_32x32x64_f8f6f4 takes 32 features and 32 rows, twice as many
// multiplications a byte of operands. Lane (g, i) = (lane / 32, lane % 32) holds elements 32 g to 32 g + 31 of a step
// of 64, of row i of both operands, and gets features 8 q + 4 g to 8 q + 4 g + 3 of activation row i, q = 0 .. 3.
constexpr int kSquare = 32, kSquareStep = 64;
constexpr int kQuads = 4;  // of four features that a lane gets

template <int kTiles>
MXMLA_PRODUCT_KERNEL SquareLinearKernel(const Params p) {
  __shared__ Float4 sums[kWaves][kTiles * kQuads][kWave];
  const int wave = static_cast<int>(threadIdx.x) / kWave, lane = static_cast<int>(threadIdx.x) % kWave;
  const int g = lane / kSquare, i = lane % kSquare;
  const int feature0 = static_cast<int>(blockIdx.x) * kSquare, row0 = static_cast<int>(blockIdx.y) * kTiles * kSquare;
  const int rows = min(kTiles * kSquare, p.rows - row0);
  const RowOf weights(p.w, min(feature0 + i, p.n - 1), 0);
  Float16 sum[kTiles] = {};
  for (int k0 = wave * kSquareStep; k0 < p.k; k0 += kWaves * kSquareStep) {
    Fragment<Format::kMxfp4> of_w;
    of_w.Load(weights.values, weights.scales, k0 + g * kOfLane, p.k);
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      const RowOf activations(p.x, row0 + min(t * kSquare + i, rows - 1), 0);
      Fragment<Format::kMxfp4> of_x;
      of_x.Load(activations.values, activations.scales, k0 + g * kOfLane, p.k);
      sum[t] = __builtin_amdgcn_mfma_scale_f32_32x32x64_f8f6f4(
          of_w.Words(), of_x.Words(), sum[t], 4, 4, 0, static_cast<int>(of_w.scale), 0, static_cast<int>(of_x.scale));
    }
  }
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      sums[wave][t * kQuads + q][lane] = Float4{sum[t][4 * q], sum[t][4 * q + 1], sum[t][4 * q + 2], sum[t][4 * q + 3]};
    }
  }
  __syncthreads();
  for (int at = wave; at < kTiles * kQuads; at += kWaves) {
    const int row = at / kQuads * kSquare + i, feature = feature0 + at % kQuads * 8 + 4 * g;
    const Float4 all = SumOfWaves(sums, at, lane);
    if (row < rows) StoreFour(p.out, (row0 + row) * p.out_row + feature, all, p.n - feature, p.out_float);
  }
}

void StartSquares(const Params& p, hipStream_t stream) {
  const auto start = [&](auto tiles) {
    constexpr int kRows = kSquare * tiles();
    const dim3 blocks(static_cast<unsigned>((p.n + kSquare - 1) / kSquare),
                      static_cast<unsigned>((p.rows + kRows - 1) / kRows));
    SquareLinearKernel<tiles()><<<blocks, kWaves * kWave, 0, stream>>>(p);
  };
  if (p.rows <= kSquare) return start(std::integral_constant<int, 1>{});
  start(std::integral_constant<int, 2>{});
}

}  // namespace

bool HonoursLinear(const LinearArgs& args) {
  return FormatsOf(args.x, args.weight) && Honours(args.x) && Honours(args.weight);
}

void Linear(const ExecContext& context, const LinearArgs& args) {
  Params p{};
  p.x = PlaneOf(args.x);
  p.w = PlaneOf(args.weight);
  p.rows = static_cast<int>(Extent(args.x, 0));
  p.n = static_cast<int>(RowCount(args.weight));
  p.k = static_cast<int>(ColumnCount(args.weight));
  SetRowsOut(args.out, &p);
  if (p.n == 0) return;
  const ProductFormats formats = *FormatsOf(args.x, args.weight);
  const auto stream = static_cast<hipStream_t>(context.stream);
  const bool squares = formats.x == Format::kMxfp4;
  const auto decoded = static_cast<int>(squares ? std::min<int64_t>(args.prompt_begin, p.rows) : p.rows);
  if (decoded < p.rows) {
    Params of_prompts = p;
    of_prompts.rows = p.rows - decoded;
    of_prompts.x.values += decoded * p.x.row;
    of_prompts.x.scales = static_cast<const uint8_t*>(p.x.scales) + decoded * p.x.scale_row;
    of_prompts.out = static_cast<uint8_t*>(p.out) + decoded * p.out_row * (p.out_float ? 4 : 2);
    StartSquares(of_prompts, stream);
    p.rows = decoded;
  }
  if (p.rows > 0) {
    ForProduct(formats, p.rows, [&](auto x, auto w, auto tiles) {
      const dim3 blocks(static_cast<unsigned>((p.n + kTile - 1) / kTile),
                        static_cast<unsigned>((p.rows + kTile * tiles() - 1) / (kTile * tiles())));
      LinearKernel<x(), w(), tiles()><<<blocks, kWaves * kWave, 0, stream>>>(p);
    });
  }
  CheckStarted("hip linear");
}

}  // namespace mxmla::hip
