#include "cuda/linear.h"

#include <algorithm>
#include <limits>

#include "cuda/matrix_tile.cuh"
#include "cuda/prepared_rows.h"
#include "cuda/weight_tile.cuh"
#include "cuda/wide_tile.cuh"
#include "gpu/norm_row.cuh"

namespace mxmla::cuda {
namespace {

constexpr std::string_view kOp = "cuda linear";

struct Params {
  WeightPlanes weight;
  int n, k;
  StreamSplit split;
  const uint8_t* x;
  int64_t x_row_bytes;
  const float* inverses;  // of PreparedRows, which x then is
  int rows, passes;
  int ranks;     // of tiles: CTAs that share k
  int row_tile;  // of wide tiles: rows
  StreamOutput out;
};

struct RowRange : PlainColumns {
  const Params& p;
  int first, rows;

  __device__ void Wait() const { asm volatile("griddepcontrol.wait;" ::: "memory"); }
  __device__ int count() const { return rows; }
  __device__ const uint8_t* Row(int c) const { return p.x + (first + c) * p.x_row_bytes; }
  __device__ void Store(int c, int row, const float4& v) const { p.out.Store(first + c, row, v); }
};

// The CTAs of a cluster share tiles; `passes` clusters in a row share them too, each with other rows of activations.
template <WeightKind kKind, int kSlice, int kCols>
__global__ void __launch_bounds__((kMostThreads<kSlice, kCols>), 1) LinearKernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) uint8_t shared[];
  asm volatile("griddepcontrol.launch_dependents;");
  int cluster, pass = 0;
  asm volatile("mov.u32 %0, %%clusterid.x;" : "=r"(cluster));
  if (p.passes > 1) {
    pass = cluster % p.passes;
    cluster /= p.passes;
  }
  int tile0, tiles;
  TilesOf(p.split, p.n, cluster, &tile0, &tiles);
  RowRange columns{{}, p, pass * 8 * kCols, min(8 * kCols, p.rows - pass * 8 * kCols)};
  Stream<kKind, kSlice, kCols>::Run(p.weight, p.n, p.k, p.split, tile0, tiles, shared, columns, 0);
}

template <WeightKind kKind, int kSlice, int kCols>
void Launch(Params p, const LaunchOptions& options) {
  StreamSplit& split = p.split;
  split.late = options.programmatic;
  p.passes = static_cast<int>(CeilDiv(p.rows, 8 * kCols));
  const uint64_t scales =
      reinterpret_cast<uintptr_t>(p.weight.scales) | static_cast<uint64_t>(p.weight.scale_row_stride);
  // One wave of CTAs, or the fewest whose scales and sums find room.
  const int64_t at_once = std::max<int64_t>(ClustersAtOnce(split.ranks) / p.passes, 1);
  int64_t waves = 1;
  do {
    Share<Stream<kKind, kSlice, kCols>>(split, p.n, scales, at_once * waves++);
  } while (split.SharedBytes() > kMostShared && split.tiles > 1);
  LaunchStream<LinearKernel<kKind, kSlice, kCols>>(kOp, p, split, int64_t{split.clusters} * p.passes, options);
}

template <WeightKind kKind, int kSlice>
void ForRows(const Params& p, const LaunchOptions& options) {
  if (p.rows <= 8) return Launch<kKind, kSlice, 1>(p, options);
  if (p.rows <= 16) return Launch<kKind, kSlice, 2>(p, options);
  Launch<kKind, kSlice, 4>(p, options);
}
template <WeightKind kKind>
void ForSlice(const Params& p, const LaunchOptions& options) {
  if (p.split.slice == 256) return ForRows<kKind, 256>(p, options);
  ForRows<kKind, 128>(p, options);
}

// --- few rows, normed first ---

constexpr int kMostNormedRows = 2;      // a CTA norms them one after the other
constexpr int64_t kMostNormed = 16384;  // elements of all rows

struct NormParams {
  Params linear;
  gpu::FloatPlane<const void> x;         // (rows, k) float32, or bf16
  gpu::FloatPlane<const void> residual;  // (rows, k) float32, or absent
  gpu::FloatPlane<void> residual_out;    // (rows, k) float32, or absent
  gpu::FloatPlane<const void> weight;    // (k) float32
  gpu::Strided<const float> row_scale;   // (rows) or absent
  float eps;
};

// The rank's part of k of all rows, normed, in shared memory; with the sums of gpu::RmsNorm.
struct NormedRows : PlainColumns {
  const NormParams& p;
  uint16_t* normed;  // shared, (rows, rank_k)
  float* waves;      // shared, (rows, 32)
  int rank_k0, rank_k;
  bool first_cluster;

  __device__ void Load(int r, int64_t begin, float v[gpu::kPiece]) const {
    if (p.x.half) return gpu::LoadPiece<gpu::Access::kHalf>(p.x, r, 0, begin, gpu::kPiece, v);
    gpu::LoadPiece<gpu::Access::kFull>(p.x, r, 0, begin, gpu::kPiece, v);
    if (p.residual.data == nullptr) return;
    float residual[gpu::kPiece];
    gpu::LoadPiece<gpu::Access::kFull>(p.residual, r, 0, begin, gpu::kPiece, residual);
#pragma unroll
    for (int i = 0; i < gpu::kPiece; ++i) v[i] += residual[i];
  }
  __device__ void Wait() {
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    const int64_t k = p.linear.k, end = min(int64_t{rank_k0} + rank_k, k);
    float gain[gpu::kPiece];
    const int64_t mine = rank_k0 + int64_t{thread} * gpu::kPiece;
    if (mine < end) gpu::LoadPiece<gpu::Access::kFull>(p.weight, 0, 0, mine, gpu::kPiece, gain);
    asm volatile("griddepcontrol.wait;" ::: "memory");
    for (int r = 0; r < p.linear.rows; ++r) {
      gpu::NormWaves(k, waves + r * 32, [&](int64_t begin, int, float v[gpu::kPiece]) { Load(r, begin, v); });
    }
    __syncthreads();
    for (int r = 0; r < p.linear.rows; ++r) {
      const float scale = p.row_scale ? p.row_scale(r) : 1.0f;
      const float factor = gpu::NormFactor(gpu::NormTotal(k, waves + r * 32), k, p.eps, scale);
      for (int64_t begin = mine; begin < end; begin += int64_t{threads} * gpu::kPiece) {
        if (begin > mine || r > 0) gpu::LoadPiece<gpu::Access::kFull>(p.weight, 0, 0, begin, gpu::kPiece, gain);
        float v[gpu::kPiece];
        Load(r, begin, v);
        if (first_cluster && p.residual_out.data != nullptr) {
          gpu::StorePiece<gpu::Access::kFull>(p.residual_out, r, 0, begin, gpu::kPiece, v);
        }
#pragma unroll
        for (int i = 0; i < gpu::kPiece; ++i) v[i] = gain[i] * (v[i] * factor);
        const gpu::FloatPlane<void> here{normed, rank_k, 0, 1, true};
        gpu::StorePiece<gpu::Access::kHalf>(here, r, 0, begin - rank_k0, gpu::kPiece, v);
      }
    }
    __syncthreads();
  }
  __device__ int count() const { return p.linear.rows; }
  __device__ const uint8_t* Row(int c) const {
    return reinterpret_cast<const uint8_t*>(normed + int64_t{c} * rank_k - rank_k0);
  }
  __device__ void Store(int c, int row, const float4& v) const { p.linear.out.Store(c, row, v); }
};

template <WeightKind kKind, int kSlice>
__global__ void __launch_bounds__((kMostThreads<kSlice, 1>), 1) NormLinearKernel(const __grid_constant__ NormParams p) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ float waves[kMostNormedRows * 32];
  asm volatile("griddepcontrol.launch_dependents;");
  int cluster;
  asm volatile("mov.u32 %0, %%clusterid.x;" : "=r"(cluster));
  const StreamSplit& split = p.linear.split;
  int tile0, tiles;
  TilesOf(split, p.linear.n, cluster, &tile0, &tiles);
  const int rank_k = split.rounds * split.warps * kSlice;
  const int rank = split.ranks > 1 ? static_cast<int>(ClusterRank()) : 0;
  NormedRows columns{
      {}, p, reinterpret_cast<uint16_t*>(shared + split.SharedBytes()), waves, rank * rank_k, rank_k, cluster == 0};
  Stream<kKind, kSlice, 1>::Run(p.linear.weight, p.linear.n, p.linear.k, split, tile0, tiles, shared, columns, 0);
}

template <WeightKind kKind, int kSlice>
void LaunchNormed(NormParams p, const LaunchOptions& options) {
  StreamSplit& split = p.linear.split;
  split.late = true;  // the norm takes longer than the weights
  const uint64_t scales =
      reinterpret_cast<uintptr_t>(p.linear.weight.scales) | static_cast<uint64_t>(p.linear.weight.scale_row_stride);
  const int64_t normed = int64_t{p.linear.rows} * split.rounds * split.warps * kSlice * 2;
  int64_t waves = 1;
  do {
    Share<Stream<kKind, kSlice, 1>>(split, p.linear.n, scales, ClustersAtOnce(split.ranks) * waves++);
  } while (split.SharedBytes() + normed > kMostShared - 1024 && split.tiles > 1);
  LaunchStream<NormLinearKernel<kKind, kSlice>>(kOp, p, split, split.clusters, options, normed);
}
template <WeightKind kKind>
void ForNormed(const NormParams& p, const LaunchOptions& options) {
  if (p.linear.split.slice == 256) return LaunchNormed<kKind, 256>(p, options);
  LaunchNormed<kKind, 128>(p, options);
}

// --- many rows: the tensor cores' own tiles ---

constexpr int64_t kMostRowsOfWeightTiles = 256;  // MXFP4: docs/kernels/matrix_tiles.md

struct MatrixRows {
  const Params& p;
  int first;

  __device__ void Wait() const { WaitForPredecessor(); }
  __device__ const uint8_t* Row(int r) const {
    return first + r < p.rows ? p.x + (first + r) * p.x_row_bytes : nullptr;
  }
  // Of WeightTile.
  __device__ const uint8_t* Stages() const { return p.x + first * TileRowBytes(p.k); }
  __device__ float Inverse(int r) const { return p.inverses[first + r]; }
  __device__ void Store(int r, int column, float a, float b) const {
    if (first + r < p.rows) StorePair(p.out, first + r, column, a, b);
  }
};

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kCtas) MatrixLinearKernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(1024) uint8_t tile[];
  AllowDependents();
  const int row_tiles = (p.rows + Tile::kRows - 1) / Tile::kRows;  // neighbours share weights
  const int rank = static_cast<int>(blockIdx.x) % p.ranks, item = static_cast<int>(blockIdx.x) / p.ranks;
  const MatrixRows rows{p, item % row_tiles * Tile::kRows};
  Tile::Run(p.weight, p.n, p.k, item / row_tiles * Tile::kColumns, tile, rows, p.ranks, rank);
}

RowsToPrepare RowsOf(const Params& p) { return {p.x, p.x_row_bytes, p.rows, p.k}; }

template <class Tile>
void LaunchMatrixLinear(Params p, LaunchOptions options) {
  // Where the tiles would leave multiprocessors idle, up to four CTAs share k, in parts of at least 512. Clusters of
  // four CTAs of a whole multiprocessor find room on 120 of them.
  constexpr int64_t kLeastOfRank = 512;
  const int64_t tiles = CeilDiv(p.rows, Tile::kRows) * CeilDiv(p.n, Tile::kColumns);
  const auto fits = [&](int ranks) {
    return tiles * ranks <= (Tile::kCtas == 1 && ranks == 4 ? 120 : kMultiprocessors * Tile::kCtas) &&
           p.k >= ranks * kLeastOfRank;
  };
  p.ranks = 1;
  while (p.ranks < 4 && fits(2 * p.ranks)) p.ranks *= 2;
  const int64_t ctas = tiles * p.ranks;
  CheckLayout(ctas < int64_t{1} << 31, kOp, "extents", "at most 2^31 tiles", std::to_string(ctas));
  if constexpr (requires { Tile::kPreparedFor; }) {
    const PreparedRows prepared = LaunchTiledRows(Tile::kPreparedFor, RowsOf(p), Tile::kRows, options);
    p.x = prepared.values;
    p.inverses = prepared.inverses;
    options.programmatic = true;  // the weights come while the rows are prepared
  }
  LaunchMatrix<MatrixLinearKernel<Tile>, Tile>(kOp, p, ctas, options, p.ranks);
}

template <WeightKind kKind>
struct WideRows {
  const Params& p;
  int first;

  __device__ bool Find(int i, typename WideTile<kKind>::Tile* tile) {
    const int row_tiles = (p.rows + p.row_tile - 1) / p.row_tile;  // neighbours share weights
    const int n0 = i / row_tiles * WideTile<kKind>::kColumns;
    first = i % row_tiles * p.row_tile;
    *tile = {p.weight, n0, min(p.row_tile, p.rows - first)};
    return n0 < p.n;
  }
  __device__ const uint8_t* Row(int r) const { return p.x + (first + r) * p.x_row_bytes; }
  __device__ float Inverse(int r) const { return p.inverses[min(first + r, p.rows - 1)]; }
  __device__ bool Has(int r) const { return r < p.row_tile && first + r < p.rows; }
  __device__ bool in_eights() const { return p.out.in_eights; }
  __device__ void Store(int r, int column, float a, float b) const {
    if (Has(r)) StorePair(p.out, first + r, column, a, b);
  }
  __device__ void StoreEight(int r, int column, const uint4& v) const {
    if (Has(r)) mxmla::cuda::StoreEight(p.out, first + r, column, v);
  }
};

template <WeightKind kKind>
__global__ void __launch_bounds__(WideTile<kKind>::kThreads, 1) WideLinearKernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(1024) uint8_t shared[];
  AllowDependents();
  WaitForPredecessor();
  WideTile<kKind>::Run(WideRows<kKind>{p, 0}, p.n, p.k, shared);
}

// Wide tiles, where they are sooner done: of as many rows as keep the multiprocessors busy for the shortest time, of
// the larger where that is the same. Rows of a tile below 128 save nothing. False: the other tiles are.
template <WeightKind kKind>
bool LaunchWideLinear(Params p, LaunchOptions options) {
  using Tile = WideTile<kKind>;
  int64_t ctas = 0, least = std::numeric_limits<int64_t>::max();
  for (int rows = Tile::kMostRows; rows >= 64; rows -= 64) {
    const int64_t tiles = CeilDiv(p.rows, rows) * CeilDiv(p.n, Tile::kColumns);
    const int64_t time = CeilDiv(tiles, kMultiprocessors) * std::max(rows, 128);
    if (time >= least) continue;
    least = time;
    p.row_tile = rows;
    ctas = std::min<int64_t>(tiles, kMultiprocessors);
  }
  // Measured: docs/kernels/matrix_tiles.md. The others share k where tiles are few, and waste less of a last round.
  constexpr double kSlower = kKind == WeightKind::kFp8 ? 1.45 : 1.26;
  const double others = kSlower * static_cast<double>(p.rows) * p.n / (kMultiprocessors * Tile::kColumns);
  if (p.rows <= 128 || static_cast<double>(least) > others) return false;
  if constexpr (kKind == WeightKind::kFp8) {
    const PreparedRows prepared = LaunchHalfRows(RowsOf(p), options);
    p.x = prepared.values;
    p.x_row_bytes = int64_t{p.k} * 2;
    p.inverses = prepared.inverses;
    options.programmatic = true;
  }
  LaunchMatrix<WideLinearKernel<kKind>, Tile>(kOp, p, ctas, options);
  return true;
}

// Quantised weights are decoded in registers where rows are few.
template <WeightKind kKind>
void ForMatrix(const Params& p, const LaunchOptions& options) {
  if (LaunchWideLinear<kKind>(p, options)) return;
  if constexpr (kKind != WeightKind::kBf16) {
    if (kKind == WeightKind::kFp8 || p.rows <= kMostRowsOfWeightTiles) {
      if (p.rows <= 64) return LaunchMatrixLinear<WeightTile<kKind, 64>>(p, options);
      return LaunchMatrixLinear<WeightTile<kKind, 128>>(p, options);
    }
  }
  if constexpr (kKind != WeightKind::kFp8) {
    if (CeilDiv(p.rows, 128) * CeilDiv(p.n, 128) > kMultiprocessors) {
      return LaunchMatrixLinear<MatrixTile<kKind, 128, 128>>(p, options);
    }
    if (p.rows > 64) return LaunchMatrixLinear<MatrixTile<kKind, 128, 64>>(p, options);
    LaunchMatrixLinear<MatrixTile<kKind, 64, 64>>(p, options);
  }
}

}  // namespace

namespace {

// All but the division; the kind of weights.
WeightKind ParamsOf(const LinearArgs& args, Params* params) {
  const auto* x = std::get_if<View<const bf16, 2>>(&args.x);
  CheckLayout(x != nullptr, kOp, "x", "bf16", "another format");
  const int64_t rows = x->shape[0], k = x->shape[1], n = RowCount(args.weight);
  CheckLayout(ColumnCount(args.weight) == k, kOp, "weight", std::to_string(k) + " columns (k of x)",
              std::to_string(ColumnCount(args.weight)));
  const auto out_shape = std::visit([](const auto& out) { return out.shape; }, args.out);
  CheckLayout(out_shape[0] == rows && out_shape[1] == n, kOp, "out", FormatDims(std::array{rows, n}.data(), 2),
              FormatDims(out_shape.data(), 2));
  constexpr int64_t kMost = 1 << 30;
  CheckLayout(n <= kMost && k <= kMost && rows <= kMost, kOp, "extents", "at most 2^30", "more");
  if (rows > 0) CheckPlane(kOp, "x", *x, 16);
  Params& p = *params;
  const WeightKind kind = StreamedPlanes(kOp, args.weight, &p.weight);
  p.n = static_cast<int>(n);
  p.k = static_cast<int>(k);
  p.x = reinterpret_cast<const uint8_t*>(x->data);
  p.x_row_bytes = x->stride[0] * 2;
  p.rows = static_cast<int>(rows);
  p.out = OutputOf(kOp, args.out);
  return kind;
}

// Large quantised weights are sooner decoded once for all rows than streamed past pieces of them.
bool InTiles(const LinearArgs& args, int64_t most_streamed_rows) {
  constexpr int64_t kLarge = 8 << 20;
  const int64_t rows = Extent(args.x, 0), n = RowCount(args.weight), k = ColumnCount(args.weight);
  const bool large = !std::holds_alternative<View<const bf16, 2>>(args.weight) && n * k >= kLarge;
  return rows > most_streamed_rows ||
         (large && most_streamed_rows == kMostStreamedRows && rows > kMostStreamedRows / 2);
}

NormParams NormPlanesOf(const RmsNormArgs& norm) {
  NormParams p{};
  p.x = gpu::FloatPlaneOf(norm.x);
  if (norm.residual) p.residual = gpu::FloatPlaneOf(View<const float, 2>(*norm.residual));
  if (norm.residual_out) p.residual_out = gpu::FloatPlaneOf(*norm.residual_out);
  p.weight = gpu::FloatPlaneOf(norm.weight);
  p.row_scale = gpu::StridedOf(norm.row_scale);
  p.eps = norm.eps;
  return p;
}

}  // namespace

bool HonoursNormLinear(const NormLinearArgs& args) {
  using gpu::Access;
  const RmsNormArgs& norm = args.norm;
  const auto* x = std::get_if<View<const bf16, 2>>(&args.linear.x);
  if (!x || !norm.out || norm.quantized || norm.row_index || norm.out_index) return false;
  const auto* between = std::get_if<View<bf16, 2>>(&*norm.out);
  const int64_t rows = Extent(norm.x, 0), k = Extent(norm.x, 1);
  if (!between || between->data != x->data || rows < 1 || rows > kMostNormedRows || rows * k > kMostNormed)
    return false;
  if (norm.residual && !norm.residual_out) return false;
  const NormParams p = NormPlanesOf(norm);
  const bool input = p.x.half ? Has(p.x, Access::kHalf, k) && !norm.residual : Has(p.x, Access::kFull, k);
  return input && Has(p.residual, Access::kFull, k) && Has(p.residual_out, Access::kFull, k) &&
         Has(p.weight, Access::kFull, k);
}

void NormLinear(const NormLinearArgs& args, const LaunchOptions& options) {
  CheckLayout(HonoursNormLinear(args), kOp, "norm", "as HonoursNormLinear says", "others");
  NormParams p = NormPlanesOf(args.norm);
  const WeightKind kind = ParamsOf(args.linear, &p.linear);
  if (p.linear.rows == 0 || p.linear.n == 0) return;
  p.linear.split = Divide(p.linear.n, p.linear.k);
  if (kind == WeightKind::kMxfp4) return ForNormed<WeightKind::kMxfp4>(p, options);
  if (kind == WeightKind::kBf16) return ForNormed<WeightKind::kBf16>(p, options);
  ForNormed<WeightKind::kFp8>(p, options);
}

int64_t LinearWorkspaceBytes(const LinearArgs& args, int64_t most_streamed_rows) {
  if (!InTiles(args, most_streamed_rows)) return 0;
  int64_t rows = Extent(args.x, 0);
  if (std::holds_alternative<Mxfp4<const e2m1x2, 2>>(args.weight)) {
    rows = std::min(rows, kMostRowsOfWeightTiles);  // what fewer rows would take
  } else if (!std::holds_alternative<Fp8Block>(args.weight)) {
    return 0;
  }
  const int64_t tile_rows = rows <= 64 ? 64 : 128;
  return TiledRowsBytes(CeilDiv(rows, tile_rows), tile_rows, Extent(args.x, 1));  // more than HalfRowsBytes
}

void Linear(const LinearArgs& args, const LaunchOptions& options, int64_t most_streamed_rows) {
  Params p{};
  const WeightKind kind = ParamsOf(args, &p);
  if (p.rows == 0 || p.n == 0) return;
  if (InTiles(args, most_streamed_rows)) {
    if (kind == WeightKind::kMxfp4) return ForMatrix<WeightKind::kMxfp4>(p, options);
    if (kind == WeightKind::kBf16) return ForMatrix<WeightKind::kBf16>(p, options);
    return ForMatrix<WeightKind::kFp8>(p, options);
  }
  p.split = Divide(p.n, p.k);
  if (kind == WeightKind::kMxfp4) return ForSlice<WeightKind::kMxfp4>(p, options);
  if (kind == WeightKind::kBf16) return ForSlice<WeightKind::kBf16>(p, options);
  ForSlice<WeightKind::kFp8>(p, options);
}

}  // namespace mxmla::cuda
