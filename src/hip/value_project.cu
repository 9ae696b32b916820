#include "hip/value_project.h"

#include <algorithm>

#include "hip/attention_splits.cuh"
#include "hip/product_launch.cuh"
#include "hip/quantized_store.cuh"
#include "hip/shared_rows.cuh"

namespace mxmla::hip {
namespace {

constexpr int kOfWave = 32;                 // features of a wave: an MX block
constexpr int kOfBlock = kWaves * kOfWave;  // features of a block: an FP8 group
constexpr int kTilesOfWave = kOfWave / kTile;

enum class Out { kF32, kBf16, kMxfp4, kFp8 };

struct Params {
  Plane x;  // (rows, heads, k)
  Plane w;  // the tensor's rows
  int64_t head_stride, head_offset;
  int head_rows, rows, k;
  Out kind;
  void* out;  // F32, BF16: element (r, h, c) at r * out_row + h * out_head + c
  int64_t out_row, out_head;
  gpu::QuantizedPlane quantized;  // (rows, heads * head_rows): columns are counted over all heads
  const int32_t* row_end;         // null, or where the row lies before which rows are computed
  int first_row;                  // the first one's number among those that row_end counts
};

// Where a block works: kTiles * 16 rows and 128 features of a head, a wave 32 of them and all of k.
struct Place {
  int wave, lane, head, row0, rows;
  int column0;  // of the head

  __device__ __forceinline__ Place(const Params& p, int rows_of_block)
      : wave(static_cast<int>(threadIdx.x) / kWave),
        lane(static_cast<int>(threadIdx.x) % kWave),
        head(static_cast<int>(blockIdx.z)),
        row0(static_cast<int>(blockIdx.y) * rows_of_block),
        rows(min(rows_of_block, (p.row_end ? min(p.rows, *p.row_end - p.first_row) : p.rows) - row0)),
        column0(static_cast<int>(blockIdx.x) * kOfBlock + wave * kOfWave) {}
};

// `x` gives the block's rows.
template <Format kX, Format kW, int kTiles, class Rows>
__device__ __forceinline__ void Project(const Params& p, const Place& at, const Rows& x) {
  __shared__ uint32_t largest[kWaves][kTiles][kTile];
  const int wave = at.wave, g = at.lane / kTile, i = at.lane % kTile;
  const int head = at.head, row0 = at.row0, rows = at.rows, column0 = at.column0;
  const bool works = column0 < p.head_rows;  // whole waves
  Float4 value[kTiles][kTilesOfWave];
  if (works) {
#pragma unroll
    for (int half = 0; half < kTilesOfWave; ++half) {
      const int64_t weight_row = head * p.head_stride + p.head_offset + column0 + half * kTile;
      Float4 sum[kTiles] = {};
      MultiplyRows<kX, kW, kTiles>(x, p.w, weight_row, kTile, p.k, 0, 1, sum);
#pragma unroll
      for (int t = 0; t < kTiles; ++t) value[t][half] = sum[t];
    }
  }
  if (p.kind == Out::kF32 || p.kind == Out::kBf16) {
    if (!works) return;
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      const int row = t * kTile + i;
      if (row >= rows) continue;
      const int64_t at = (int64_t{row0} + row) * p.out_row + head * p.out_head + column0 + 4 * g;
#pragma unroll
      for (int half = 0; half < kTilesOfWave; ++half) {
        StoreFour(p.out, at + half * kTile, value[t][half], 4, p.kind == Out::kF32);
      }
    }
    return;
  }
  // Rounded to the type of plain activations before it is quantised.
  if (works) {
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (Float4& four : value[t]) {
#pragma unroll
        for (int r = 0; r < 4; ++r) four[r] = gpu::RoundToHalf(four[r]);
      }
    }
  }
  const int64_t j = int64_t{head} * p.head_rows + column0;
  if (p.kind == Out::kMxfp4) {
    if (!works) return;
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      const int row = t * kTile + i;
      StoreMxfp4(p.quantized, int64_t{row0} + row, row < rows, j, value[t]);
    }
    return;
  }
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    const uint32_t of_wave = LargestOfRow(value[t]);
    if (g == 0) largest[wave][t][i] = of_wave;
  }
  __syncthreads();
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    const int row = t * kTile + i;
    uint32_t of_group = 0;
#pragma unroll
    for (int from = 0; from < kWaves; ++from) of_group = max(of_group, largest[from][t][i]);
    if (row < rows) StoreFp8(p.quantized, int64_t{row0} + row, j, of_group, wave == 0, value[t]);
  }
}

template <Format kX, Format kW, int kTiles>
MXMLA_PRODUCT_KERNEL ValueProjectKernel(const Params p) {
  const Place at(p, kTiles * kTile);
  if (at.rows <= 0) return;
  const auto row_at = [&](int j) { return int64_t{at.row0} + min(j, at.rows - 1); };
  Project<kX, kW, kTiles>(p, at, PlaneRows<kX, kTiles>(p.x, row_at, at.head));
}

// The rows are merged into LDS, a wave a row, and quantised there where the product takes them so.
template <Format kX, Format kW, int kTiles>
MXMLA_PRODUCT_KERNEL MergeAndProjectKernel(const Params p, const AttentionSplits splits, const ScaleMode mode) {
  constexpr SharedLayout<kX> kLayout{kLatents, kTiles * kTile};
  __shared__ __align__(16) uint8_t merged[kLayout.Bytes()];
  const Place at(p, kTiles * kTile);
  const int latent = at.lane * gpu::kPiece;
  for (int r = at.wave; r < at.rows; r += kWaves) {
    float value[gpu::kPiece];
    splits.Merge(at.row0 + r, at.head, latent, value);
    kLayout.Store(merged, r, latent, gpu::kPiece, mode, value);
  }
  __syncthreads();
  Project<kX, kW, kTiles>(p, at, SharedRows<kX, kTiles>{merged, kLayout, at.rows});
}

void SetOut(Params& p, const FloatOutput<3>& any) {
  std::visit(
      [&](const auto& out) {
        p.kind = std::is_same_v<typename std::decay_t<decltype(out)>::Element, float> ? Out::kF32 : Out::kBf16;
        p.out = out.data;
        p.out_row = out.stride[0];
        p.out_head = out.stride[1];
      },
      any);
}
void SetOut(Params& p, int64_t heads, ScaleMode mode, const ActivationOutput<2>& any) {
  std::visit(
      [&](const auto& out) {
        using V = std::decay_t<decltype(out)>;
        if constexpr (requires { out.values; }) {
          p.kind = std::is_same_v<V, Mxfp4<e2m1x2, 2>> ? Out::kMxfp4 : Out::kFp8;
          p.quantized = gpu::QuantizedPlaneOf(out, mode);
        } else {
          SetOut(p, FloatOutput<3>(out.Split(1, heads, p.head_rows)));
        }
      },
      any);
}

bool WritesFp8(const ValueProjectArgs& args) {
  const auto* flat = std::get_if<ActivationOutput<2>>(&args.out);
  return flat && std::holds_alternative<Fp8Group<e4m3, 2>>(*flat);
}

}  // namespace

bool HonoursValueProject(const ValueProjectArgs& args) {
  const int64_t columns = WritesFp8(args) ? kOfBlock : kOfWave;
  return FormatsOf(args.attn, args.w_vc.tensor) && Honours(args.attn) && Honours(args.w_vc.tensor) &&
         args.w_vc.head_rows % columns == 0;
}

namespace {

Params ParamsOf(const ValueProjectArgs& args) {
  Params p{};
  p.x = PlaneOf(args.attn);
  p.w = PlaneOf(args.w_vc.tensor);
  p.head_stride = args.w_vc.head_stride;
  p.head_offset = args.w_vc.head_offset;
  p.head_rows = static_cast<int>(args.w_vc.head_rows);
  p.rows = static_cast<int>(Extent(args.attn, 0));
  p.k = static_cast<int>(Extent(args.attn, 2));
  std::visit(
      [&](const auto& out) {
        if constexpr (std::is_same_v<std::decay_t<decltype(out)>, FloatOutput<3>>) {
          SetOut(p, out);
        } else {
          SetOut(p, args.w_vc.heads, args.scale_mode, out);
        }
      },
      args.out);
  return p;
}

dim3 BlocksOf(const Params& p, int64_t heads, int tiles) {
  return {static_cast<unsigned>((p.head_rows + kOfBlock - 1) / kOfBlock),
          static_cast<unsigned>((p.rows + kTile * tiles - 1) / (kTile * tiles)), static_cast<unsigned>(heads)};
}

}  // namespace

void ValueProject(const ExecContext& context, const ValueProjectArgs& args) { ProjectRows(context, args, nullptr, 0); }

void ProjectRows(const ExecContext& context, const ValueProjectArgs& args, const int32_t* row_end, int64_t first_row) {
  Params p = ParamsOf(args);
  p.row_end = row_end;
  p.first_row = static_cast<int>(first_row);
  const int64_t heads = args.w_vc.heads;
  if (p.rows == 0 || p.head_rows == 0 || heads == 0) return;
  const auto stream = static_cast<hipStream_t>(context.stream);
  ForProduct(*FormatsOf(args.attn, args.w_vc.tensor), p.rows, [&](auto x, auto w, auto tiles) {
    ValueProjectKernel<x(), w(), tiles()><<<BlocksOf(p, heads, tiles()), kWaves * kWave, 0, stream>>>(p);
  });
  CheckStarted("hip value_project");
}

void MergeAndProject(const ExecContext& context, const AttentionSplits& splits, const ValueProjectArgs& args,
                     ScaleMode mode) {
  const Params p = ParamsOf(args);
  const int64_t heads = args.w_vc.heads;
  if (p.rows == 0 || p.head_rows == 0 || heads == 0) return;
  const auto stream = static_cast<hipStream_t>(context.stream);
  ForProduct(*FormatsOf(args.attn, args.w_vc.tensor), p.rows, [&](auto x, auto w, auto tiles) {
    constexpr int kTiles = std::min(tiles(), 2);  // of rows that LDS holds
    MergeAndProjectKernel<x(), w(), kTiles><<<BlocksOf(p, heads, kTiles), kWaves * kWave, 0, stream>>>(p, splits, mode);
  });
  CheckStarted("hip value_project, merging");
}

}  // namespace mxmla::hip
