// Every block norms all rows into LDS, with the sums of gpu::RmsNorm, quantises them there where the product takes them
// so, and multiplies them by 16 features, with the sums of hip::Linear. The first block writes the residual stream.
#include "hip/norm_linear.h"

#include "gpu/norm_row.cuh"
#include "hip/linear.h"
#include "hip/product_launch.cuh"
#include "hip/shared_rows.cuh"

namespace mxmla::hip {
namespace {

constexpr int kMostRows = 4;
constexpr int64_t kMostColumns = 16384;
constexpr int kThreads = kWaves * kWave;

struct Params {
  gpu::FloatPlane<const void> x;         // (rows, k) of float32, or of bf16 without a residual
  gpu::FloatPlane<const void> residual;  // (rows, k) of float32, or absent
  gpu::FloatPlane<void> residual_out;    // (rows, k) of float32, or absent
  gpu::FloatPlane<const void> gain;      // (k) of float32
  gpu::Strided<const float> row_scale;   // (rows) or absent
  float eps;
  ScaleMode mode;
  Plane w;
  void* out;  // (rows, n)
  int64_t out_row;
  int rows, n, k;
  bool out_float;
};

// LDS bounds how many blocks a compute unit holds: tests/gfx950/gates.py counts with these.
static_assert(SharedLayout<Format::kBf16>{7168, kMostRows}.Bytes() == kMostRows * 14352);
static_assert(SharedLayout<Format::kFp8>{7168, kMostRows}.Bytes() == kMostRows * 7408);
static_assert(SharedLayout<Format::kMxfp4>{7168, kMostRows}.Bytes() == kMostRows * 3824);

template <gpu::Access kX>
__device__ __forceinline__ void LoadRow(const Params& p, int row, int64_t begin, float (&v)[gpu::kPiece]) {
  gpu::LoadPiece<kX>(p.x, row, 0, begin, gpu::kPiece, v);
  if constexpr (kX == gpu::Access::kFull) {
    if (p.residual.data == nullptr) return;
    float residual[gpu::kPiece];
    gpu::LoadPiece<gpu::Access::kFull>(p.residual, row, 0, begin, gpu::kPiece, residual);
#pragma unroll
    for (int i = 0; i < gpu::kPiece; ++i) v[i] += residual[i];
  }
}

template <gpu::Access kInput, Format kX, Format kW, int kRows>
MXMLA_PRODUCT_KERNEL NormLinearKernel(const Params p) {
  extern __shared__ __align__(16) uint8_t normed[];  // SharedLayout
  __shared__ Float4 sums[kWaves][1][kWave];
  __shared__ float squares[kRows][gpu::kMostNormThreads / gpu::kWave];
  const int thread = static_cast<int>(threadIdx.x);
  const SharedLayout<kX> layout{p.k, p.rows};
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (r >= p.rows) break;
    gpu::NormWaves(p.k, squares[r],
                   [&](int64_t begin, int, float(&v)[gpu::kPiece]) { LoadRow<kInput>(p, r, begin, v); });
  }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (r >= p.rows) break;
    const float scale = p.row_scale ? p.row_scale(r) : 1.0f;
    const float factor = gpu::NormFactor(gpu::NormTotal(p.k, squares[r]), p.k, p.eps, scale);
    for (int64_t first = 0; first < p.k; first += kThreads * gpu::kPiece) {  // whole waves: they quantise together
      const int64_t begin = first + int64_t{thread} * gpu::kPiece;
      const bool there = begin < p.k;
      float v[gpu::kPiece] = {}, gain[gpu::kPiece];
      if (there) {
        LoadRow<kInput>(p, r, begin, v);
        gpu::LoadPiece<gpu::Access::kFull>(p.gain, 0, 0, begin, gpu::kPiece, gain);
        if (blockIdx.x == 0 && p.residual_out.data != nullptr) {
          gpu::StorePiece<gpu::Access::kFull>(p.residual_out, r, 0, begin, gpu::kPiece, v);
        }
#pragma unroll
        for (int i = 0; i < gpu::kPiece; ++i) v[i] = gain[i] * (v[i] * factor);
      }
      layout.Store(normed, r, begin, there ? gpu::kPiece : 0, p.mode, v);
    }
  }
  __syncthreads();
  const int wave = thread / kWave;
  const int feature0 = static_cast<int>(blockIdx.x) * kTile, features = min(kTile, p.n - feature0);
  const SharedRows<kX, 1> rows{normed, layout, p.rows};
  Float4 sum[1] = {};
  MultiplyRows<kX, kW, 1>(rows, p.w, feature0, features, p.k, wave, kWaves, sum);
  AddWaves(sums, sum, [&](int j, int feature, const Float4& all) {
    if (j < p.rows) StoreFour(p.out, j * p.out_row + feature0 + feature, all, features - feature, p.out_float);
  });
}

Params NormOf(const RmsNormArgs& norm) {
  Params p{};
  p.x = gpu::FloatPlaneOf(norm.x);
  if (norm.residual) p.residual = gpu::FloatPlaneOf(View<const float, 2>(*norm.residual));
  if (norm.residual_out) p.residual_out = gpu::FloatPlaneOf(*norm.residual_out);
  p.gain = gpu::FloatPlaneOf(norm.weight);
  p.row_scale = gpu::StridedOf(norm.row_scale);
  p.eps = norm.eps;
  p.mode = norm.scale_mode;
  return p;
}

// What the norm writes is the product's input, in one format.
bool WritesInputAlone(const RmsNormArgs& norm, const LinearArgs& linear) {
  if (norm.out.has_value() == norm.quantized.has_value()) return false;
  return DataOf(linear.x) == (norm.out ? DataOf(*norm.out) : DataOf(*norm.quantized));
}

}  // namespace

bool HonoursNormLinear(const NormLinearArgs& args) {
  using gpu::Access;
  const RmsNormArgs& norm = args.norm;
  const int64_t rows = Extent(norm.x, 0), k = Extent(norm.x, 1);
  if (norm.row_index || norm.out_index || rows < 1 || rows > kMostRows || k > kMostColumns ||
      (norm.residual && !norm.residual_out) || !WritesInputAlone(norm, args.linear) ||
      args.linear.prompt_begin < rows) {
    return false;
  }
  const Params p = NormOf(norm);
  const bool input = p.x.half ? Has(p.x, Access::kHalf, k) && !norm.residual : Has(p.x, Access::kFull, k);
  return input && HonoursLinear(args.linear) && Has(p.residual, Access::kFull, k) &&
         Has(p.residual_out, Access::kFull, k) && Has(p.gain, Access::kFull, k);
}

void NormLinear(const ExecContext& context, const NormLinearArgs& args) {
  Params p = NormOf(args.norm);
  p.w = PlaneOf(args.linear.weight);
  p.rows = static_cast<int>(Extent(args.norm.x, 0));
  p.n = static_cast<int>(RowCount(args.linear.weight));
  p.k = static_cast<int>(ColumnCount(args.linear.weight));
  SetRowsOut(args.linear.out, &p);
  if (p.n == 0) return;
  const auto stream = static_cast<hipStream_t>(context.stream);
  const auto blocks = static_cast<unsigned>((p.n + kTile - 1) / kTile);
  ForProduct(*FormatsOf(args.linear.x, args.linear.weight), p.rows, [&](auto x, auto w, auto tiles) {
    const auto start = [&](auto access, auto rows) {
      const auto shared = static_cast<size_t>(SharedLayout<x()>{p.k, p.rows}.Bytes());
      NormLinearKernel<access(), x(), w(), rows()><<<blocks, kThreads, shared, stream>>>(p);
    };
    using One = std::integral_constant<int, 1>;
    using More = std::integral_constant<int, kMostRows>;
    using Half = std::integral_constant<gpu::Access, gpu::Access::kHalf>;
    using Full = std::integral_constant<gpu::Access, gpu::Access::kFull>;
    if constexpr (tiles() == 1) {
      if (p.x.half) return p.rows == 1 ? start(Half{}, One{}) : start(Half{}, More{});
      p.rows == 1 ? start(Full{}, One{}) : start(Full{}, More{});
    }
  });
  CheckStarted("hip norm_linear");
}

}  // namespace mxmla::hip
