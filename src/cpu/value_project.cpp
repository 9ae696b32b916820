#include "cpu/group_store.h"
#include "cpu/kernels.h"
#include "cpu/packed_rows.h"
#include "cpu/parallel.h"
#include "cpu/product.h"
#include "cpu/weight_stream.h"
#include "ops/head_product.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

// A task owns kColumns columns of the flat (head, v) row, whichever heads they belong to: a multiple of both formats'
// scale groups, so that the task owns its scales.
constexpr int64_t kColumns = kGroup;
static_assert(kColumns % kTileW == 0);

// A part of a task's columns that lies in one head.
struct Piece {
  int64_t head = 0;
  int64_t v_begin = 0;
  int64_t count = 0;
};
Piece PieceAt(int64_t column, int64_t end, int64_t v_head_dim) {
  const int64_t head = column / v_head_dim;
  const int64_t v_begin = column % v_head_dim;
  return {head, v_begin, std::min(end - column, v_head_dim - v_begin)};
}

// One head's input rows, as products read them.
template <class Weight>
struct HeadRows {
  AnyRow x[kTileX];

  HeadRows(const ExecContext&, int, const ValueProjectArgs& args, int64_t row_begin, int64_t rows, int64_t head) {
    for (int64_t r = 0; r < rows; ++r) x[r] = RowOf(args.attn, row_begin + r, head);
  }
  void Product(int64_t rows, const Weight& tensor, int64_t w_begin, int64_t w_count, int64_t k, const StreamEnd&,
               float* out) const {
    ProductTile(x, rows, tensor, w_begin, w_count, k, out);
  }
};

#if defined(MXMLA_PACKED_PRODUCTS)
// Packed by each task, in its worker's memory: a head's rows are read by one task, or few.
template <class Weight>
struct PackedHeadRows {
  using Form = PackedForm<Weight>;
  const typename Form::Element* x[kTileX];

  PackedHeadRows(const ExecContext& context, int worker, const ValueProjectArgs& args, int64_t row_begin, int64_t rows,
                 int64_t head) {
    const int64_t k = Extent(args.attn, 2);
    auto* to = context.Scratch<typename Form::Element>(worker, 0, static_cast<size_t>(rows * Form::Stride(k)));
    for (int64_t r = 0; r < rows; ++r, to += Form::Stride(k)) {
      Form::Pack(RowOf(args.attn, row_begin + r, head), k, to);
      x[r] = to;
    }
  }
  void Product(int64_t rows, const Weight& tensor, int64_t w_begin, int64_t w_count, int64_t k, const StreamEnd& end,
               float* out) const {
    Form::Product(x, rows, tensor, w_begin, w_count, k, end, out);
  }
};
#endif

// results[r, c] for the task's rows and columns.
template <class Rows, class Weight>
void ComputeTile(const ExecContext& context, int worker, const ValueProjectArgs& args, const Weight& tensor,
                 int64_t row_begin, int64_t rows, int64_t begin, int64_t end, bool last,
                 float* results /* (rows, kColumns) */) {
  const HeadWeight& w = args.w_vc;
  const int64_t k = Extent(args.attn, 2);
  for (int64_t column = begin; column < end;) {
    const Piece piece = PieceAt(column, end, w.head_rows);
    const Rows x(context, worker, args, row_begin, rows, piece.head);
    StreamEnd stream;
    if (last && column + piece.count == end) {
      stream = EndOfStretch(tensor, w.head_offset + piece.head * w.head_stride + piece.v_begin + piece.count,
                            FirstPlace(context, args.next, worker));
    } else if (piece.v_begin + piece.count == w.head_rows && piece.head + 1 < w.heads) {
      const int64_t head_end = w.head_offset + piece.head * w.head_stride + w.head_rows;
      stream = EndOfStretch(tensor, head_end, PlaceOfRow(tensor, head_end - w.head_rows + w.head_stride));
    }
    for (int64_t done = 0; done < piece.count; done += kTileW) {
      const int64_t count = std::min(kTileW, piece.count - done);
      alignas(64) float part[kTileX * kTileW];
      x.Product(rows, tensor, piece.head * w.head_stride + w.head_offset + piece.v_begin + done, count, k, stream,
                part);
      for (int64_t r = 0; r < rows; ++r) {
        std::memcpy(results + r * kColumns + column - begin + done, part + r * kTileW,
                    static_cast<size_t>(count) * sizeof(float));
      }
    }
    column += piece.count;
  }
}

// Writes one row of a task's results, columns begin .. end, in each kind of output.
template <class T>
void StoreRow(const View<T, 3>& out, int64_t row, int64_t begin, int64_t end, float* values, ScaleMode) {
  for (int64_t column = begin; column < end;) {
    const Piece piece = PieceAt(column, end, out.shape[2]);
    StoreResults(out.data + row * out.stride[0] + piece.head * out.stride[1] + piece.v_begin, values + column - begin,
                 piece.count);
    column += piece.count;
  }
}
template <class T>
void StoreRow(const View<T, 2>& out, int64_t row, int64_t begin, int64_t end, float* values, ScaleMode) {
  StoreResults(out.data + row * out.stride[0] + begin, values, end - begin);
}
// Quantised: rounded to the activation type first, as flattening a bf16 buffer and quantising it would.
template <class Out>
void StoreRow(const Out& out, int64_t row, int64_t begin, int64_t end, float* values, ScaleMode mode) {
  RoundGroup(values);
  StoreGroup(values, begin, end - begin, OutputRow(out, mode, row));
}

// Tiles of weight rows in all columns: a task's columns are cut at heads, and a head's part into tiles.
int64_t WeightTiles(int64_t columns, int64_t v_head_dim) {
  int64_t tiles = 0;
  for (int64_t begin = 0; begin < columns; begin += kColumns) {
    const int64_t end = std::min(columns, begin + kColumns);
    for (int64_t column = begin; column < end;) {
      const Piece piece = PieceAt(column, end, v_head_dim);
      tiles += (piece.count + kTileW - 1) / kTileW;
      column += piece.count;
    }
  }
  return tiles;
}

template <class Out>
void Run(const ExecContext& context, const ValueProjectArgs& args, const Out& out) {
  const int64_t rows = Extent(args.attn, 0);
  const int64_t columns = args.w_vc.heads * args.w_vc.head_rows;
  const int64_t column_tiles = (columns + kColumns - 1) / kColumns;
  const int64_t row_tiles = TileCountX(rows);
  if (context.profiler) {
    context.profiler->AddRepacked(RepackedBytes(WeightTiles(columns, args.w_vc.head_rows), rows, Extent(args.attn, 2)));
  }
  RunStreams(context, row_tiles * column_tiles, [&](int64_t task, int worker, int64_t stretch_end) {
    const int64_t row_begin = TileBeginX(rows, task / column_tiles);
    const int64_t row_count = TileBeginX(rows, task / column_tiles + 1) - row_begin;
    const int64_t begin = task % column_tiles * kColumns;
    const int64_t end = std::min(columns, begin + kColumns);
    alignas(64) float results[kTileX * kColumns];
    VisitWeight(args.w_vc.tensor, [&](const auto& tensor) {
      using Weight = std::decay_t<decltype(tensor)>;
#if defined(MXMLA_PACKED_PRODUCTS)
      if constexpr (kPackedWeight<Weight>) {
        if (HasPackedProduct(args.attn, args.w_vc.tensor)) {
          return ComputeTile<PackedHeadRows<Weight>>(context, worker, args, tensor, row_begin, row_count, begin, end,
                                                     task + 1 == stretch_end, results);
        }
      }
#endif
      ComputeTile<HeadRows<Weight>>(context, worker, args, tensor, row_begin, row_count, begin, end,
                                    task + 1 == stretch_end, results);
    });
    for (int64_t r = 0; r < row_count; ++r) {
      float* values = results + r * kColumns;
      std::fill(values + (end - begin), values + kColumns, 0.0f);
      StoreRow(out, row_begin + r, begin, end, values, args.scale_mode);
    }
  });
}

void RunValueProject(const ExecContext& context, const ValueProjectArgs& args) {
  std::visit([&](const auto& any) { std::visit([&](const auto& out) { Run(context, args, out); }, any); }, args.out);
}

#if defined(MXMLA_PACKED_PRODUCTS)
WorkspaceSize PackedWorkspace(const ValueProjectArgs& args, int) {
  if (!HasPackedProduct(args.attn, args.w_vc.tensor)) return {};
  const int64_t rows = std::min(Extent(args.attn, 0), kTileX);
  return {.per_worker = PackedBytes(args.w_vc.tensor, rows, Extent(args.attn, 2))};
}
#endif

}  // namespace

KernelTable<ValueProjectArgs> MakeValueProjectKernels() {
  return {{
      kKernelName,
      {{.operand = "attn", .inner_stride_one = true},
       {.operand = "w_vc", .inner_stride_one = true},
       {.operand = "out", .inner_stride_one = true}},
      &RunValueProject,
#if defined(MXMLA_PACKED_PRODUCTS)
      &PackedWorkspace,
#endif
  }};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
