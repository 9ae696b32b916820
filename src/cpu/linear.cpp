#include "ops/linear.h"

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/product.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

template <class Weight, class T>
void LinearTile(const Activation<2>& x, const Weight& weight, const View<T, 2>& out, int64_t k, int64_t x_begin,
                int64_t x_count, int64_t w_begin, int64_t w_count) {
  AnyRow rows[kTileX];
  for (int64_t c = 0; c < x_count; ++c) rows[c] = RowOf(x, x_begin + c);
  alignas(64) float results[kTileX * kTileW];
  ProductTile(rows, x_count, weight, w_begin, w_count, k, results);
  for (int64_t c = 0; c < x_count; ++c) {
    StoreResults(out.data + (x_begin + c) * out.stride[0] + w_begin, results + c * kTileW, w_count);
  }
}

// Few rows: the weights stream past rows that stay in registers.
void RunFewRows(const ExecContext& context, const LinearArgs& args) {
  const int64_t n = RowCount(args.weight);
  const int64_t k = ColumnCount(args.weight);
  const int64_t rows = Extent(args.x, 0);
  const int64_t tile_w = TileW(rows);
  if (context.profiler) context.profiler->AddRepacked(RepackedBytes((n + tile_w - 1) / tile_w, rows, k));
  VisitWeight(args.weight, [&](const auto& weight) {
    std::visit(
        [&](const auto& out) {
          RunTasks(context, (n + tile_w - 1) / tile_w, [&](int64_t task, int) {
            const int64_t w_begin = task * tile_w;
            LinearTile(args.x, weight, out, k, 0, rows, w_begin, std::min(tile_w, n - w_begin));
          });
        },
        args.out);
  });
}

void RunLinear(const ExecContext& context, const LinearArgs& args) {
  const int64_t n = RowCount(args.weight);
  const int64_t k = ColumnCount(args.weight);
  const int64_t rows = Extent(args.x, 0);
  const int64_t tile_w = TileW(rows);
  const int64_t w_tiles = (n + tile_w - 1) / tile_w;
  const int64_t x_tiles = TileCountX(rows);
  if (context.profiler) context.profiler->AddRepacked(RepackedBytes(w_tiles, rows, k));
  VisitWeight(args.weight, [&](const auto& weight) {
    std::visit(
        [&](const auto& out) {
          // Neighbouring tasks share the activation rows.
          RunTasks(context, x_tiles * w_tiles, [&](int64_t task, int) {
            const int64_t x_begin = TileBeginX(rows, task / w_tiles);
            const int64_t x_end = TileBeginX(rows, task / w_tiles + 1);
            const int64_t w_begin = task % w_tiles * tile_w;
            LinearTile(args.x, weight, out, k, x_begin, x_end - x_begin, w_begin, std::min(tile_w, n - w_begin));
          });
        },
        args.out);
  });
}

}  // namespace

KernelTable<LinearArgs> MakeLinearKernels() {
  const std::vector<Requirement> layouts = {{.operand = "x", .inner_stride_one = true},
                                            {.operand = "weight", .inner_stride_one = true},
                                            {.operand = "out", .inner_stride_one = true}};
  static_assert(kFusedMaxX == 12, "the condition's text says 12");
  return {{kFewRowsName,
           layouts,
           &RunFewRows,
           nullptr,
           {{"at most 12 rows", [](const LinearArgs& args) { return Extent(args.x, 0) <= kFusedMaxX; }}}},
          {kKernelName, layouts, &RunLinear}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
