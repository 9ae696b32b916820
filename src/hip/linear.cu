#include "hip/linear.h"

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
__global__ void __launch_bounds__(kWaves* kWave) LinearKernel(const Params p) {
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
  std::visit(
      [&](const auto& out) {
        p.out = out.data;
        p.out_row = out.stride[0];
        p.out_float = std::is_same_v<typename std::decay_t<decltype(out)>::Element, float>;
      },
      args.out);
  if (p.n == 0 || p.rows == 0) return;
  const auto stream = static_cast<hipStream_t>(context.stream);
  ForProduct(*FormatsOf(args.x, args.weight), p.rows, [&](auto x, auto w, auto tiles) {
    const dim3 blocks(static_cast<unsigned>((p.n + kTile - 1) / kTile),
                      static_cast<unsigned>((p.rows + kTile * tiles() - 1) / (kTile * tiles())));
    LinearKernel<x(), w(), tiles()><<<blocks, kWaves * kWave, 0, stream>>>(p);
  });
  CheckStarted("hip linear");
}

}  // namespace mxmla::hip
