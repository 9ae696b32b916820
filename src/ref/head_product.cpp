#include "ref/kernels.h"
#include "ref/product.h"
#include "ref/values.h"

namespace mxmla::ref {
namespace {

// The sum runs across the rows of w_kc[h]: one row's piece of `kColumns` latents is dequantised and added to every
// activation row's results.
void AbsorbAcross(const ExecContext& context, const QueryAbsorbArgs& args) {
  constexpr int64_t kColumns = 128;
  constexpr int64_t kRows = 16;
  const int64_t rows = Extent(args.q_nope, 0);
  const int64_t nope = Extent(args.q_nope, 2);
  const int64_t kv_lora_rank = Extent(args.out, 2);
  const int64_t column_tiles = Tiles(kv_lora_rank, kColumns);
  const auto tile = [&](int64_t task, int) {
    const int64_t h = task / column_tiles;
    const int64_t c0 = task % column_tiles * kColumns;
    const int64_t columns = std::min(kColumns, kv_lora_rank - c0);
    const LinearWeight weight = args.w_kc.Head(h);
    for (int64_t r0 = 0; r0 < rows; r0 += kRows) {
      const int64_t tile_rows = std::min(kRows, rows - r0);
      double sum[kRows][kColumns] = {};
      float q[kRows][kTileDepth];
      float w[kColumns];
      for (int64_t begin = 0; begin < nope; begin += kTileDepth) {
        const int64_t depth = std::min(kTileDepth, nope - begin);
        for (int64_t r = 0; r < tile_rows; ++r) LoadRow(args.q_nope, r0 + r, h, begin, depth, q[r]);
        for (int64_t i = 0; i < depth; ++i) {
          LoadWeight(weight, begin + i, c0, columns, w);
          for (int64_t r = 0; r < tile_rows; ++r) {
            const double factor = q[r][i];
            for (int64_t c = 0; c < columns; ++c) sum[r][c] += factor * static_cast<double>(w[c]);
          }
        }
      }
      for (int64_t r = 0; r < tile_rows; ++r) {
        float result[kColumns];
        for (int64_t c = 0; c < columns; ++c) result[c] = static_cast<float>(sum[r][c]);
        StoreRow(args.out, r0 + r, h, c0, columns, result);
      }
    }
  };
  ParallelFor(context, Extent(args.q_nope, 1) * column_tiles, tile);
}

void AbsorbAlong(const ExecContext& context, const QueryAbsorbArgs& args) {
  const int64_t rows = Extent(args.q_nope, 0);
  const int64_t nope = Extent(args.q_nope, 2);
  const int64_t kv_lora_rank = Extent(args.out, 2);
  const int64_t column_tiles = Tiles(kv_lora_rank, kTileColumns);
  const auto tile = [&](int64_t task, int) {
    const int64_t h = task / column_tiles;
    const int64_t c0 = task % column_tiles * kTileColumns;
    const LinearWeight weight = args.w_kc.Head(h);
    const auto load_w = [&](int64_t c, int64_t begin, int64_t count, float* out) {
      LoadWeight(weight, c0 + c, begin, count, out);
    };
    for (int64_t r0 = 0; r0 < rows; r0 += kTileRows) {
      const auto load_x = [&](int64_t r, int64_t begin, int64_t count, float* out) {
        LoadRow(args.q_nope, r0 + r, h, begin, count, out);
      };
      ProductTile(std::min(kTileRows, rows - r0), std::min(kTileColumns, kv_lora_rank - c0), nope, load_x, load_w,
                  [&](int64_t r, int64_t c, float value) { StoreRow(args.out, r0 + r, h, c0 + c, 1, &value); });
    }
  };
  ParallelFor(context, Extent(args.q_nope, 1) * column_tiles, tile);
}

}  // namespace

void QueryAbsorb(const ExecContext& context, const QueryAbsorbArgs& args) {
  if (args.output_major) {
    AbsorbAlong(context, args);
  } else {
    AbsorbAcross(context, args);
  }
}

// A task is 128 columns of the flat result (rows, heads * v_head_dim): a whole FP8 group and four MX blocks, whatever
// heads they belong to.
void ValueProject(const ExecContext& context, const ValueProjectArgs& args) {
  const int64_t rows = Extent(args.attn, 0);
  const int64_t kv_lora_rank = Extent(args.attn, 2);
  const int64_t v_head_dim = args.w_vc.head_rows;
  const int64_t flat = args.w_vc.heads * v_head_dim;
  const auto tile = [&](int64_t task, int) {
    const int64_t j0 = task * kFp8Group;
    const int64_t j1 = std::min(flat, j0 + kFp8Group);
    for (int64_t r0 = 0; r0 < rows; r0 += kTileRows) {
      const int64_t tile_rows = std::min(kTileRows, rows - r0);
      float result[kTileRows][kFp8Group];
      for (int64_t j = j0; j < j1;) {
        const int64_t h = j / v_head_dim;
        const int64_t c0 = j % v_head_dim;
        const int64_t columns = std::min({kTileColumns, v_head_dim - c0, j1 - j});
        const LinearWeight weight = args.w_vc.Head(h);
        ProductTile(
            tile_rows, columns, kv_lora_rank,
            [&](int64_t r, int64_t begin, int64_t count, float* out) {
              LoadRow(args.attn, r0 + r, h, begin, count, out);
            },
            [&](int64_t c, int64_t begin, int64_t count, float* out) { LoadWeight(weight, c0 + c, begin, count, out); },
            [&](int64_t r, int64_t c, float value) { result[r][j - j0 + c] = value; });
        j += columns;
      }
      for (int64_t r = 0; r < tile_rows; ++r) {
        if (const auto* split = std::get_if<FloatOutput<3>>(&args.out)) {
          for (int64_t j = j0; j < j1; ++j) {
            StoreRow(*split, r0 + r, j / v_head_dim, j % v_head_dim, 1, &result[r][j - j0]);
          }
        } else {
          StoreRow(std::get<ActivationOutput<2>>(args.out), r0 + r, j0, j1 - j0, result[r], args.scale_mode);
        }
      }
    }
  };
  ParallelFor(context, Tiles(flat, kFp8Group), tile);
}

}  // namespace mxmla::ref
