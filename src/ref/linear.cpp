#include "ref/kernels.h"
#include "ref/product.h"
#include "ref/values.h"

namespace mxmla::ref {

void Linear(const ExecContext& context, const LinearArgs& args) {
  const int64_t rows = Extent(args.x, 0);
  const int64_t k = Extent(args.x, 1);
  const int64_t n = RowCount(args.weight);
  const auto tile = [&](int64_t task, int) {
    const int64_t c0 = task * kTileColumns;
    const int64_t columns = std::min(kTileColumns, n - c0);
    const auto load_w = [&](int64_t c, int64_t begin, int64_t count, float* out) {
      LoadWeight(args.weight, c0 + c, begin, count, out);
    };
    for (int64_t r0 = 0; r0 < rows; r0 += kTileRows) {
      const auto load_x = [&](int64_t r, int64_t begin, int64_t count, float* out) {
        LoadRow(args.x, r0 + r, begin, count, out);
      };
      ProductTile(std::min(kTileRows, rows - r0), columns, k, load_x, load_w,
                  [&](int64_t r, int64_t c, float value) { StoreRow(args.out, r0 + r, c0 + c, 1, &value); });
    }
  };
  ParallelFor(context, Tiles(n, kTileColumns), tile);
}

void GroupedLinear(const ExecContext& context, const GroupedLinearArgs& args) {
  if (context.profiler) context.profiler->AddBytes(ExpertBytesRead(args));
  const int64_t k = Extent(args.x, 1);
  const int64_t n = RowCount(args.weights.front());
  const int64_t column_tiles = Tiles(n, kTileColumns);
  const auto tile = [&](int64_t task, int) {
    const int64_t expert = task / column_tiles;
    const int64_t c0 = task % column_tiles * kTileColumns;
    const int64_t end = args.expert_begin(expert + 1);
    const Activation<2>& x = args.InputOf(args.weights[expert]);
    const auto load_w = [&](int64_t c, int64_t begin, int64_t count, float* out) {
      LoadWeight(args.weights[expert], c0 + c, begin, count, out);
    };
    for (int64_t p0 = args.expert_begin(expert); p0 < end; p0 += kTileRows) {
      const auto load_x = [&](int64_t p, int64_t begin, int64_t count, float* out) {
        LoadRow(x, args.pairs(p0 + p) / args.pairs_per_row, begin, count, out);
      };
      ProductTile(
          std::min(kTileRows, end - p0), std::min(kTileColumns, n - c0), k, load_x, load_w,
          [&](int64_t p, int64_t c, float value) { StoreRow(args.out, args.pairs(p0 + p), c0 + c, 1, &value); });
    }
  };
  ParallelFor(context, static_cast<int64_t>(args.weights.size()) * column_tiles, tile);
}

}  // namespace mxmla::ref
