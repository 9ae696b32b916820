#include "cuda/grouped_linear.h"

#include <vector>

#include "cuda/expert_sets.cuh"
#include "cuda/matrix_tile.cuh"
#include "cuda/prepared_rows.h"
#include "cuda/weight_tile.cuh"
#include "cuda/wide_tile.cuh"

namespace mxmla::cuda {
namespace {

constexpr std::string_view kOp = "cuda grouped_linear";
constexpr int kMostExperts = 512;

using Params = GroupedParams;

struct PairList : PlainColumns {  // the kernel has waited
  const Params& p;
  const int32_t* pairs;
  int rows;

  __device__ void Wait() const {}
  __device__ int count() const { return rows; }
  __device__ const uint8_t* Row(int c) const { return p.x + pairs[c] / p.pairs_per_row * p.x_row_bytes; }
  __device__ void Store(int c, int row, const float4& v) const { p.out.Store(pairs[c], row, v); }
};

// split.clusters clusters share the tiles of an expert for one set of its pairs: an expert of many does not take longer
// than the others.
template <WeightKind kKind, int kSlice, int kCols>
__global__ void __launch_bounds__((kMostThreads<kSlice, kCols>), 1)
    GroupedLinearKernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) uint8_t shared[];
  asm volatile("griddepcontrol.launch_dependents;");
  int cluster;
  asm volatile("mov.u32 %0, %%clusterid.x;" : "=r"(cluster));
  int tile0, tiles;
  TilesOf(p.split, p.n, cluster % p.split.clusters, &tile0, &tiles);
  asm volatile("griddepcontrol.wait;" ::: "memory");  // who is chosen is not known before
  constexpr int kColumns = 8 * kCols;
  const int2 set = ExpertOfSet(p.expert_begin, p.experts, cluster / p.split.clusters, kColumns);
  if (set.x < 0) return;
  const WeightPlanes weight = p.PlanesOf(p.table[set.x]);
  const int begin = p.expert_begin[set.x] + set.y * kColumns;
  PairList columns{{}, p, p.pairs + begin, min(kColumns, p.expert_begin[set.x + 1] - begin)};
  Stream<kKind, kSlice, kCols>::Run(weight, p.n, p.k, p.split, tile0, tiles, shared, columns, 0);
}

template <WeightKind kKind, int kSlice, int kCols>
void Launch(Params p, int64_t pairs, int64_t most_chosen, uint64_t scales, const LaunchOptions& options) {
  StreamSplit& split = p.split;
  // Enough clusters to fill the card, if need be in several waves, of CTAs of which two find room on a multiprocessor
  // and which are short where many experts may be chosen: those that are not, and those of many pairs, make the load
  // uneven.
  const int64_t most_sets = most_chosen + (pairs - most_chosen) / (8 * kCols);
  const int most_tiles = most_chosen <= 16 ? 32 : 16;
  const int64_t an_expert = std::max<int64_t>(ClustersAtOnce(split.ranks) / most_chosen, 1);
  int64_t waves = 1;
  do {
    Share<Stream<kKind, kSlice, kCols>>(split, p.n, scales, an_expert * waves++);
  } while (split.tiles > most_tiles || (split.SharedBytes() > kHalfOfShared && split.tiles > 4));
  LaunchStream<GroupedLinearKernel<kKind, kSlice, kCols>>(kOp, p, split, split.clusters * most_sets, options);
}

// The width follows from how many pairs an expert has on average.
template <WeightKind kKind>
void ForShape(const Params& p, int64_t pairs, int64_t most_chosen, uint64_t scales, const LaunchOptions& options) {
  const bool narrow = pairs <= 4 * most_chosen;
  if (p.split.slice == 256) {
    if (narrow) return Launch<kKind, 256, 1>(p, pairs, most_chosen, scales, options);
    return Launch<kKind, 256, 2>(p, pairs, most_chosen, scales, options);
  }
  if (narrow) return Launch<kKind, 128, 1>(p, pairs, most_chosen, scales, options);
  Launch<kKind, 128, 2>(p, pairs, most_chosen, scales, options);
}

// --- many pairs an expert: the tensor cores' own tiles ---

// The rows of one tile, once it is known whose they are.
struct MatrixPairs {
  const Params& p;
  const int32_t* pairs;
  int count;
  int64_t first;  // of prepared rows

  __device__ void Wait() const {}
  __device__ const uint8_t* Row(int r) const {
    return r < count ? p.x + pairs[r] / p.pairs_per_row * p.x_row_bytes : nullptr;
  }
  // Of WeightTile.
  __device__ const uint8_t* Stages() const { return p.x + first * TileRowBytes(p.k); }
  __device__ float Inverse(int r) const { return p.inverses[first + r]; }
  __device__ void Store(int r, int column, float a, float b) const {
    if (r < count) StorePair(p.out, pairs[r], column, a, b);
  }
};

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kCtas)
    MatrixGroupedLinearKernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(1024) uint8_t tile[];
  AllowDependents();
  const int n_tiles = (p.n + Tile::kColumns - 1) / Tile::kColumns;
  WaitForPredecessor();  // who is chosen is not known before
  const int index = static_cast<int>(blockIdx.x) / n_tiles;
  const int2 set = ExpertOfSet(p.expert_begin, p.experts, index, Tile::kRows);
  if (set.x < 0) return;
  const WeightPlanes weight = p.PlanesOf(p.table[set.x]);
  const int begin = p.expert_begin[set.x] + set.y * Tile::kRows;
  const int count = min(Tile::kRows, p.expert_begin[set.x + 1] - begin);
  const MatrixPairs rows{p, p.pairs + begin, count, int64_t{index} * Tile::kRows};
  Tile::Run(weight, p.n, p.k, static_cast<int>(blockIdx.x) % n_tiles * Tile::kColumns, tile, rows);
}

template <class Tile>
void LaunchMatrixGrouped(Params p, int64_t pairs, int64_t most_chosen, const LaunchOptions& options) {
  const int64_t ctas = (pairs / Tile::kRows + most_chosen) * CeilDiv(p.n, Tile::kColumns);
  CheckLayout(ctas < int64_t{1} << 31, kOp, "extents", "at most 2^31 tiles", std::to_string(ctas));
  if constexpr (requires { Tile::kPreparedFor; }) {
    const RowsToPrepare rows{p.x, p.x_row_bytes, pairs, p.k, p.experts, p.expert_begin, p.pairs, p.pairs_per_row};
    const PreparedRows prepared = LaunchTiledRows(Tile::kPreparedFor, rows, Tile::kRows, options);
    p.x = prepared.values;
    p.inverses = prepared.inverses;
  }
  LaunchMatrix<MatrixGroupedLinearKernel<Tile>, Tile>(kOp, p, ctas, options);
}

// The pairs of an expert, shared evenly by as few tiles as hold them.
template <WeightKind kKind>
struct WidePairs {
  const Params& p;
  const int* set_begin;  // shared, (experts + 1)
  const int32_t* pairs;
  int count;

  __device__ bool Find(int i, typename WideTile<kKind>::Tile* tile) {
    const int n_tiles = (p.n + WideTile<kKind>::kColumns - 1) / WideTile<kKind>::kColumns, set = i / n_tiles;
    if (set >= set_begin[p.experts]) return false;
    int expert = 0;  // the last that begins at the set or before and has any
    for (int step = 256; step > 0; step /= 2) {
      if (expert + step < p.experts && set_begin[expert + step] <= set) expert += step;
    }
    const int begin = p.expert_begin[expert], all = p.expert_begin[expert + 1] - begin;
    const int sets = set_begin[expert + 1] - set_begin[expert], of_set = (all + sets - 1) / sets;
    const int first = (set - set_begin[expert]) * of_set;
    pairs = p.pairs + begin + first;
    count = min(of_set, all - first);
    *tile = {p.PlanesOf(p.table[expert]), i % n_tiles * WideTile<kKind>::kColumns, count};
    return true;
  }
  __device__ const uint8_t* Row(int r) const { return p.x + pairs[r] / p.pairs_per_row * p.x_row_bytes; }
  __device__ float Inverse(int r) const { return p.inverses[pairs[min(r, count - 1)] / p.pairs_per_row]; }
  __device__ bool in_eights() const { return p.out.in_eights; }
  __device__ void Store(int r, int column, float a, float b) const {
    if (r < count) StorePair(p.out, pairs[r], column, a, b);
  }
  __device__ void StoreEight(int r, int column, const uint4& v) const {
    if (r < count) mxmla::cuda::StoreEight(p.out, pairs[r], column, v);
  }
};

template <WeightKind kKind>
__global__ void __launch_bounds__(WideTile<kKind>::kThreads, 1)
    WideGroupedLinearKernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(1024) uint8_t shared[];
  __shared__ int set_begin[kMostExperts + 1];
  AllowDependents();
  WaitForPredecessor();  // who is chosen is not known before
  if (threadIdx.x < 32) CountSets(p.expert_begin, p.experts, WideTile<kKind>::kMostRows, set_begin);
  __syncthreads();
  WideTile<kKind>::Run(WidePairs<kKind>{p, set_begin, nullptr, 0}, p.n, p.k, shared);
}

template <WeightKind kKind>
void LaunchWideGrouped(const Params& p, int64_t pairs, int64_t most_chosen, const LaunchOptions& options) {
  using Tile = WideTile<kKind>;
  const int64_t tiles = (pairs / Tile::kMostRows + most_chosen) * CeilDiv(p.n, Tile::kColumns);
  LaunchMatrix<WideGroupedLinearKernel<kKind>, Tile>(kOp, p, std::min(tiles, kMultiprocessors), options);
}

// Wide tiles from so many pairs an expert on as was measured (docs/kernels/matrix_tiles.md); FP8 weights are decoded in
// registers where they are fewer.
template <WeightKind kKind>
constexpr int64_t kMostOfOtherTiles = kKind == WeightKind::kMxfp4 ? 32 : 64;
constexpr int64_t kRowsOfWeightTile = 64;

template <WeightKind kKind>
void ForMatrix(Params p, int64_t pairs, int64_t most_chosen, const LaunchOptions& options) {
  constexpr bool kFp8 = kKind == WeightKind::kFp8;
  if (pairs > kMostOfOtherTiles<kKind> * most_chosen) {
    if constexpr (kFp8) {
      const RowsToPrepare rows{p.x, p.x_row_bytes, pairs / p.pairs_per_row, p.k};
      const PreparedRows prepared = LaunchHalfRows(rows, options);
      p.x = prepared.values;
      p.x_row_bytes = int64_t{p.k} * 2;
      p.inverses = prepared.inverses;
    }
    return LaunchWideGrouped<kKind>(p, pairs, most_chosen, options);
  }
  if constexpr (kFp8) {
    LaunchMatrixGrouped<WeightTile<kKind, kRowsOfWeightTile>>(p, pairs, most_chosen, options);
  } else {
    LaunchMatrixGrouped<MatrixTile<kKind, 64, 128>>(p, pairs, most_chosen, options);
  }
}

}  // namespace

ExpertTable::ExpertTable(std::span<const LinearWeight> weights) : experts_(static_cast<int64_t>(weights.size())) {
  CheckLayout(!weights.empty() && weights.size() <= kMostExperts, kOp, "weights",
              std::to_string(kMostExperts) + " experts at most, one at least", std::to_string(weights.size()));
  first_ = weights.front();
  WeightPlanes common{};
  std::vector<Expert> table;
  for (const LinearWeight& weight : weights) {
    WeightPlanes planes{};
    StreamedPlanes(kOp, weight, &planes);
    if (table.empty()) common = planes;
    const bool alike = weight.index() == first_.index() && RowCount(weight) == RowCount(first_) &&
                       ColumnCount(weight) == ColumnCount(first_) && planes.row_bytes == common.row_bytes &&
                       planes.scale_row_stride == common.scale_row_stride &&
                       planes.scale_column_stride == common.scale_column_stride;
    CheckLayout(alike, kOp, "weights", "one format, shape and set of strides", "different ones");
    scales_ |= reinterpret_cast<uintptr_t>(planes.scales) | static_cast<uint64_t>(planes.scale_row_stride);
    table.push_back({planes.values, planes.scales, planes.first_row});
  }
  CheckCuda(cudaMalloc(&device_, table.size() * sizeof(Expert)), kOp, "memory for the table of experts");
  const cudaError_t copied = cudaMemcpy(device_, table.data(), table.size() * sizeof(Expert), cudaMemcpyHostToDevice);
  if (copied != cudaSuccess) cudaFree(device_);
  CheckCuda(copied, kOp, "a copy of the table of experts");
}

ExpertTable::~ExpertTable() { cudaFree(device_); }

GroupedParams ParamsOf(const GroupedLinearArgs& args, const ExpertTable& table) {
  CheckLayout(!args.x_quantized, kOp, "x_quantized", "none", "some");
  const auto* x = std::get_if<View<const bf16, 2>>(&args.x);
  CheckLayout(x != nullptr, kOp, "x", "bf16", "another format");
  const int64_t pairs = args.pairs.shape[0], k = x->shape[1], n = RowCount(table.first());
  CheckLayout(static_cast<int64_t>(args.weights.size()) == table.experts(), kOp, "weights",
              std::to_string(table.experts()) + " experts (of the table)", std::to_string(args.weights.size()));
  CheckLayout(ColumnCount(table.first()) == k, kOp, "weights", std::to_string(k) + " columns (k of x)",
              std::to_string(ColumnCount(table.first())));
  CheckLayout(args.pairs_per_row >= 1 && x->shape[0] * args.pairs_per_row == pairs, kOp, "pairs",
              "pairs_per_row for each row of x", std::to_string(pairs));
  CheckLayout(args.expert_begin.shape[0] == table.experts() + 1 && args.expert_begin.stride[0] == 1, kOp,
              "expert_begin", std::to_string(table.experts() + 1) + " contiguous",
              FormatDims(args.expert_begin.shape.data(), 1));
  CheckLayout(pairs <= 1 || args.pairs.stride[0] == 1, kOp, "pairs", "contiguous", "a stride");
  const auto out_shape = std::visit([](const auto& out) { return out.shape; }, args.out);
  CheckLayout(out_shape[0] == pairs && out_shape[1] == n, kOp, "out", FormatDims(std::array{pairs, n}.data(), 2),
              FormatDims(out_shape.data(), 2));
  constexpr int64_t kMost = 1 << 30;
  CheckLayout(n <= kMost && k <= kMost && pairs <= kMost, kOp, "extents", "at most 2^30", "more");
  if (pairs > 0) CheckPlane(kOp, "x", *x, 16);

  GroupedParams p{};
  p.kind = StreamedPlanes(kOp, table.first(), &p.weight);
  p.table = static_cast<const Expert*>(table.device());
  p.n = static_cast<int>(n);
  p.k = static_cast<int>(k);
  p.experts = static_cast<int>(table.experts());
  p.x = reinterpret_cast<const uint8_t*>(x->data);
  p.x_row_bytes = x->stride[0] * 2;
  p.pairs_per_row = static_cast<int>(args.pairs_per_row);
  p.expert_begin = args.expert_begin.data;
  p.pairs = args.pairs.data;
  p.out = OutputOf(kOp, args.out);
  return p;
}

int64_t GroupedLinearWorkspaceBytes(const GroupedLinearArgs& args, int64_t most_streamed_pairs) {
  const int64_t pairs = args.pairs.shape[0], experts = std::ssize(args.weights), most_chosen = std::min(pairs, experts);
  if (experts == 0 || !std::holds_alternative<Fp8Block>(args.weights.front())) return 0;
  if (pairs <= most_streamed_pairs * most_chosen) return 0;
  const int64_t rows = Extent(args.x, 0), k = Extent(args.x, 1),
                in_wide = kMostOfOtherTiles<WeightKind::kFp8> * experts;
  const RowsToPrepare tiled{nullptr, 0, std::min(pairs, in_wide), k, experts};  // or what fewer pairs would take
  const int64_t bytes = TiledRowsBytes(MostTiles(tiled, kRowsOfWeightTile), kRowsOfWeightTile, k);
  return pairs > in_wide ? std::max(bytes, HalfRowsBytes(rows, k)) : bytes;
}

void GroupedLinear(const GroupedLinearArgs& args, const ExpertTable& table, const LaunchOptions& options,
                   int64_t most_streamed_pairs) {
  Params p = ParamsOf(args, table);
  const int64_t pairs = args.pairs.shape[0];
  if (pairs == 0 || p.n == 0) return;
  const WeightKind kind = p.kind;
  const int64_t most_chosen = std::min(pairs, table.experts());
  if (pairs > most_streamed_pairs * most_chosen) {
    if (kind == WeightKind::kMxfp4) return ForMatrix<WeightKind::kMxfp4>(p, pairs, most_chosen, options);
    if (kind == WeightKind::kBf16) return ForMatrix<WeightKind::kBf16>(p, pairs, most_chosen, options);
    return ForMatrix<WeightKind::kFp8>(p, pairs, most_chosen, options);
  }
  p.split = DivideExperts(p.n, p.k);
  if (kind == WeightKind::kMxfp4) return ForShape<WeightKind::kMxfp4>(p, pairs, most_chosen, table.scales(), options);
  if (kind == WeightKind::kBf16) return ForShape<WeightKind::kBf16>(p, pairs, most_chosen, table.scales(), options);
  ForShape<WeightKind::kFp8>(p, pairs, most_chosen, table.scales(), options);
}

}  // namespace mxmla::cuda
