#include "ops/linear.h"

#include "cpu/kernels.h"
#include "cpu/packed_rows.h"
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
          RunStreams(context, (n + tile_w - 1) / tile_w, [&](int64_t task, int, int64_t) {
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

#if defined(MXMLA_PACKED_PRODUCTS)
// Activations are packed once, then every task reads them.
template <class Weight, class T>
void RunPackedRows(const ExecContext& context, const LinearArgs& args, const Weight& weight, const View<T, 2>& out,
                   int64_t rows) {
  using Form = PackedForm<Weight>;
  using Element = typename Form::Element;
  const int64_t k = Extent(args.x, 1), n = out.shape[1];
  const int64_t x_stride = Form::Stride(k);
  auto* packed = context.SharedScratch<Element>(0, static_cast<size_t>(rows * x_stride));
  PackRows(context, args.x, weight, rows, packed);
  const int64_t tile_w = TileW(rows);
  const int64_t w_tiles = (n + tile_w - 1) / tile_w;
  RunStreams(context, TileCountX(rows) * w_tiles, [&](int64_t task, int worker, int64_t end) {
    const int64_t x_begin = TileBeginX(rows, task / w_tiles);
    const int64_t x_count = TileBeginX(rows, task / w_tiles + 1) - x_begin;
    const int64_t w_begin = task % w_tiles * tile_w;
    const int64_t w_count = std::min(tile_w, n - w_begin);
    const Element* x_rows[kTileX] = {};
    for (int64_t c = 0; c < x_count; ++c) x_rows[c] = packed + (x_begin + c) * x_stride;
    alignas(64) float results[kTileX * kTileW];
    StreamEnd stream;
    if (task + kLastTasks >= end && (end - 1) / w_tiles == task / w_tiles) {
      const int64_t row_end = std::min(n, ((end - 1) % w_tiles + 1) * tile_w);
      stream = EndOfStretch(weight, row_end, FirstPlace(context, args.next, worker));
    }
    Form::Product(x_rows, x_count, weight, w_begin, w_count, k, stream, results);
    for (int64_t c = 0; c < x_count; ++c) {
      StoreResults(out.data + (x_begin + c) * out.stride[0] + w_begin, results + c * kTileW, w_count);
    }
  });
}

#if defined(MXMLA_TILED_PROMPTS)
// Rows first .. of x as tiles.
template <class Weight, class T>
void RunTiledRows(const ExecContext& context, const View<const bf16, 2>& x, const Weight& weight, const View<T, 2>& out,
                  int64_t first) {
  const int64_t rows = x.shape[0] - first, k = x.shape[1], n = out.shape[1];
  const int64_t group_step = kTileSide * DotStride(k);
  bf16* tiles =
      context.SharedScratch<bf16>(PackedBytes(weight, first, k), static_cast<size_t>(TileElements(rows, 1, k)));
  if (context.profiler) {
    context.profiler->AddRepacked(TileRowsUp(rows) * DotStride(k) * static_cast<int64_t>(sizeof(bf16)));
  }
  RunTasks(context, TileRowsUp(rows) / kTileSide, [&](int64_t group, int) {
    const int64_t begin = group * kTileSide, count = std::min(kTileSide, rows - begin);
    const bf16* from[kTileSide];
    for (int64_t r = 0; r < count; ++r) from[r] = x.data + (first + begin + r) * x.stride[0];
    PackTileGroup<decltype(RowOf(weight, 0))>(from, count, k, tiles + group * group_step);
  });
  const int64_t w_tiles = (n + kTileW - 1) / kTileW;
  RunTasks(context, (rows + kAmxX - 1) / kAmxX * w_tiles, [&](int64_t task, int) {
    const int64_t x_begin = task / w_tiles * kAmxX, x_count = std::min(kAmxX, rows - x_begin);
    const int64_t w_begin = task % w_tiles * kTileW, w_count = std::min(kTileW, n - w_begin);
    alignas(64) float results[kAmxX * kTileW];
    AmxProductTile(tiles + x_begin / kTileSide * group_step, x_count, weight, w_begin, w_count, k, results);
    for (int64_t c = 0; c < x_count; ++c) {
      StoreResults(out.data + (first + x_begin + c) * out.stride[0] + w_begin, results + c * kTileW, w_count);
    }
  });
}
#endif

#if defined(MXMLA_PANEL_PROMPTS)
// Rows first .. of x, packed behind the others, by panels of weights.
template <class Weight, class T>
void RunPromptRows(const ExecContext& context, const View<const bf16, 2>& x, const Weight& weight,
                   const View<T, 2>& out, int64_t first) {
  const int64_t rows = x.shape[0] - first, k = x.shape[1], n = out.shape[1];
  const int64_t stride = PromptStretches(k);
  auto* packed =
      context.SharedScratch<PromptStretch>(PackedBytes(weight, first, k), static_cast<size_t>(rows * stride));
  PackPrompts(context, x, weight, first, packed);
  const int64_t w_tiles = (n + kTileW - 1) / kTileW;
  RunTasks(context, (rows + kPromptX - 1) / kPromptX * w_tiles, [&](int64_t task, int) {
    const int64_t x_begin = task / w_tiles * kPromptX, x_count = std::min(kPromptX, rows - x_begin);
    const int64_t w_begin = task % w_tiles * kTileW, w_count = std::min(kTileW, n - w_begin);
    const PromptStretch* x_rows[kPromptX] = {};
    for (int64_t c = 0; c < x_count; ++c) x_rows[c] = packed + (x_begin + c) * stride;
    alignas(64) float results[kPromptX * kTileW];
    PromptProductTile(x_rows, x_count, weight, w_begin, w_count, k, results);
    for (int64_t c = 0; c < x_count; ++c) {
      StoreResults(out.data + (first + x_begin + c) * out.stride[0] + w_begin, results + c * kTileW, w_count);
    }
  });
}
#endif

// Rows whose activations are packed.
int64_t PackedRowCount(const LinearArgs& args) { return std::min(Extent(args.x, 0), args.prompt_begin); }

void RunPacked(const ExecContext& context, const LinearArgs& args) {
  const int64_t rows = PackedRowCount(args), rest = Extent(args.x, 0) - rows;
  [[maybe_unused]] const auto* x = std::get_if<View<const bf16, 2>>(&args.x);
  bool done = rest == 0;
  std::visit(
      [&](const auto& weight, const auto& out) {
        if constexpr (kPackedWeight<std::decay_t<decltype(weight)>>) {
          if (rows > 0) RunPackedRows(context, args, weight, out, rows);
          if (done) return;
#if defined(MXMLA_TILED_PROMPTS)
          if (!x) return;
          RunTiledRows(context, *x, weight, out, rows);
          done = true;
#elif defined(MXMLA_PANEL_PROMPTS)
          if (!x) return;
          RunPromptRows(context, *x, weight, out, rows);
          done = true;
#endif
        }
      },
      args.weight, args.out);
  if (done) return;
  LinearArgs prompts = args;
  prompts.x = std::visit([&](const auto& v) -> Activation<2> { return v.Rows(rows, rest); }, args.x);
  prompts.out = std::visit([&](const auto& v) -> FloatOutput<2> { return v.Rows(rows, rest); }, args.out);
  RunLinear(context, prompts);
}

WorkspaceSize PackedWorkspace(const LinearArgs& args, int) {
  if (!HasPackedProduct(args.x, args.weight)) return {};
  const int64_t rows = Extent(args.x, 0), k = Extent(args.x, 1);
#if defined(MXMLA_PANEL_PROMPTS)
  return {.shared = PromptBytes(rows, k)};
#else
  WorkspaceSize size{.shared = PackedBytes(args.weight, rows, k)};
#if defined(MXMLA_TILED_PROMPTS)
  // Rows take no more as tiles than packed.
  const bool tiled = std::holds_alternative<View<const bf16, 2>>(args.x);
  if (tiled) size.shared += static_cast<size_t>(TileElements(0, 1, k)) * sizeof(bf16);
#endif
  return size;
#endif
}
#endif

}  // namespace

KernelTable<LinearArgs> MakeLinearKernels() {
  const std::vector<Requirement> layouts = {{.operand = "x", .inner_stride_one = true},
                                            {.operand = "weight", .inner_stride_one = true},
                                            {.operand = "out", .inner_stride_one = true}};
  static_assert(kFusedMaxX == 12, "the condition's text says 12");
  return {
#if defined(MXMLA_PACKED_PRODUCTS)
    {kPackedName,
     layouts,
     &RunPacked,
     &PackedWorkspace,
     {{"operands whose activations are packed",
       [](const LinearArgs& args) { return HasPackedProduct(args.x, args.weight); }}}},
#endif
        {kFewRowsName,
         layouts,
         &RunFewRows,
         nullptr,
         {{"at most 12 rows", [](const LinearArgs& args) { return Extent(args.x, 0) <= kFusedMaxX; }}}},
    {
      kKernelName, layouts, &RunLinear
    }
  };
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
