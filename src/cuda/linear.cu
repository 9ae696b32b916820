#include "cuda/linear.h"

#include "cuda/matrix_tile.cuh"

namespace mxmla::cuda {
namespace {

constexpr std::string_view kOp = "cuda linear";

struct Params {
  WeightPlanes weight;
  int n, k;
  StreamSplit split;
  const uint8_t* x;
  int64_t x_row_bytes;
  int rows, passes;
  int ranks;  // of tiles: CTAs that share k
  StreamOutput out;
};

struct RowRange {
  static constexpr bool kWaits = true;
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
  RowRange columns{p, pass * 8 * kCols, min(8 * kCols, p.rows - pass * 8 * kCols)};
  Stream<kKind, kSlice, kCols>::Run(p.weight, p.n, p.k, p.split, tile0, tiles, shared, columns, 0);
}

template <WeightKind kKind, int kSlice, int kCols>
void Launch(Params p, const LaunchOptions& options) {
  StreamSplit& split = p.split;
  split.programmatic = options.programmatic;
  p.passes = static_cast<int>(CeilDiv(p.rows, 8 * kCols));
  const uint64_t scales =
      reinterpret_cast<uintptr_t>(p.weight.scales) | static_cast<uint64_t>(p.weight.scale_row_stride);
  // One wave of CTAs, or the fewest whose scales and sums find room.
  const int64_t at_once = std::max<int64_t>(ClustersAtOnce(split.ranks) / p.passes, 1);
  int64_t waves = 1;
  do {
    Share<kKind, kSlice, kCols>(split, p.n, scales, at_once * waves++);
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

// --- many rows: the tensor cores' own tiles ---

struct MatrixRows {
  const Params& p;
  int first;

  __device__ void Wait() const { WaitForPredecessor(); }
  __device__ const uint8_t* Row(int r) const {
    return first + r < p.rows ? p.x + (first + r) * p.x_row_bytes : nullptr;
  }
  __device__ void Store(int r, int column, float a, float b) const {
    if (first + r < p.rows) StorePair(p.out, first + r, column, a, b);
  }
};

template <WeightKind kKind, int kM, int kN>
__global__ void __launch_bounds__(kMatrixThreads, kKind == WeightKind::kFp8 ? 1 : 2)
    MatrixLinearKernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(1024) uint8_t tile[];
  AllowDependents();
  const int row_tiles = (p.rows + kM - 1) / kM;  // neighbours share weights
  const int rank = static_cast<int>(blockIdx.x) % p.ranks, item = static_cast<int>(blockIdx.x) / p.ranks;
  const MatrixRows rows{p, item % row_tiles * kM};
  MatrixTile<kKind, kM, kN>::Run(p.weight, p.n, p.k, item / row_tiles * kN, tile, rows, p.ranks, rank);
}

template <WeightKind kKind, int kM, int kN>
void LaunchMatrixLinear(Params p, const LaunchOptions& options) {
  // Where the tiles would leave multiprocessors idle, up to four CTAs share k, in parts of at least 512.
  constexpr int64_t kMultiprocessors = 132, kLeastOfRank = 512;
  const int64_t tiles = CeilDiv(p.rows, kM) * CeilDiv(p.n, kN);
  p.ranks = 1;
  while (p.ranks < 4 && tiles * p.ranks * 2 <= 2 * kMultiprocessors && p.k >= 2 * p.ranks * kLeastOfRank) p.ranks *= 2;
  const int64_t ctas = tiles * p.ranks;
  CheckLayout(ctas < int64_t{1} << 31, kOp, "extents", "at most 2^31 tiles", std::to_string(ctas));
  LaunchMatrix<MatrixLinearKernel<kKind, kM, kN>, MatrixTile<kKind, kM, kN>>(kOp, p, ctas, options, p.ranks);
}

// Wide tiles where they fill the card.
template <WeightKind kKind>
void ForMatrix(const Params& p, const LaunchOptions& options) {
  constexpr int64_t kMultiprocessors = 132;
  if (CeilDiv(p.rows, 128) * CeilDiv(p.n, 128) > kMultiprocessors)
    return LaunchMatrixLinear<kKind, 128, 128>(p, options);
  if (p.rows > 64) return LaunchMatrixLinear<kKind, 128, 64>(p, options);
  LaunchMatrixLinear<kKind, 64, 64>(p, options);
}

}  // namespace

void Linear(const LinearArgs& args, const LaunchOptions& options, int64_t most_streamed_rows) {
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
  if (rows == 0 || n == 0) return;
  CheckPlane(kOp, "x", *x, 16);

  Params p{};
  const WeightKind kind = StreamedPlanes(kOp, args.weight, &p.weight);
  p.n = static_cast<int>(n);
  p.k = static_cast<int>(k);
  p.x = reinterpret_cast<const uint8_t*>(x->data);
  p.x_row_bytes = x->stride[0] * 2;
  p.rows = static_cast<int>(rows);
  p.out = OutputOf(kOp, args.out);
  if (rows > most_streamed_rows) {
    if (kind == WeightKind::kMxfp4) return ForMatrix<WeightKind::kMxfp4>(p, options);
    if (kind == WeightKind::kBf16) return ForMatrix<WeightKind::kBf16>(p, options);
    return ForMatrix<WeightKind::kFp8>(p, options);
  }
  p.split = Divide(n, k);
  if (kind == WeightKind::kMxfp4) return ForSlice<WeightKind::kMxfp4>(p, options);
  if (kind == WeightKind::kBf16) return ForSlice<WeightKind::kBf16>(p, options);
  ForSlice<WeightKind::kFp8>(p, options);
}

}  // namespace mxmla::cuda
