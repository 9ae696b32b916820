#include "cuda/linear.h"

#include <algorithm>
#include <string>

#include "cuda/weight_stream.cuh"

namespace mxmla::cuda {
namespace {

struct Params {
  WeightPlanes weight;
  int n, k;
  StreamSplit split;
  const uint8_t* x;
  int64_t x_row_bytes;
  int rows, passes;
  uint8_t* out;
  int64_t out_row_stride;
  bool out_is_float;
  bool out_in_fours;  // 4 results lie at a multiple of their size
};

struct RowRange {
  const Params& p;
  int first, rows;

  __device__ void Wait() const { asm volatile("griddepcontrol.wait;" ::: "memory"); }
  __device__ int count() const { return rows; }
  __device__ const uint8_t* Row(int c) const { return p.x + (first + c) * p.x_row_bytes; }
  __device__ void Store(int c, int row, const float4& v) const {
    const int64_t at = (first + c) * p.out_row_stride + row;
    const float values[4] = {v.x, v.y, v.z, v.w};
    if (p.out_is_float) {
      float* const to = reinterpret_cast<float*>(p.out) + at;
      if (p.out_in_fours && row + 4 <= p.n) {
        *reinterpret_cast<float4*>(to) = v;
        return;
      }
      for (int i = 0; i < min(4, p.n - row); ++i) to[i] = values[i];
    } else {
      auto* const to = reinterpret_cast<__nv_bfloat16*>(p.out) + at;
      const __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(v.x, v.y), __floats2bfloat162_rn(v.z, v.w)};
      if (p.out_in_fours && row + 4 <= p.n) {
        *reinterpret_cast<uint2*>(to) =
            make_uint2(*reinterpret_cast<const uint32_t*>(&pairs[0]), *reinterpret_cast<const uint32_t*>(&pairs[1]));
        return;
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (row + i < p.n) to[i] = __float2bfloat16_rn(values[i]);
      }
    }
  }
};

// Registers for two CTAs of 8 warps (12 of slices of 128) on a multiprocessor, so that the next kernel of a chain finds
// room; for 32 columns there are not enough.
template <int kSlice, int kCols>
constexpr int kMostThreads = kCols == 4 ? (kSlice == 256 ? 256 : 384) : (kSlice == 256 ? 512 : 768);

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
  const int tiles = (p.n + kTileRows - 1) / kTileRows, more = tiles % p.split.clusters;
  const int tile0 = cluster * (tiles / p.split.clusters) + min(cluster, more);
  const int own_tiles = tiles / p.split.clusters + (cluster < more ? 1 : 0);
  RowRange columns{p, pass * 8 * kCols, min(8 * kCols, p.rows - pass * 8 * kCols)};
  Stream<kKind, kSlice, kCols>::Run(p.weight, p.n, p.k, p.split, tile0, own_tiles, shared, columns);
}

// --- the launcher ---

void Check(bool honoured, const std::string& what, const std::string& expected, const std::string& found) {
  if (!honoured) Fail(ErrorCode::kLayout, "cuda linear, " + what, expected, found);
}
void CheckCuda(cudaError_t status) {
  if (status != cudaSuccess) Fail(ErrorCode::kDevice, "cuda linear", "a launch", cudaGetErrorString(status));
}

// The last dimension is contiguous; the first element and the rows lie at multiples of `alignment` bytes.
template <class T>
void CheckPlane(const std::string& what, const View<T, 2>& view, int64_t alignment) {
  Check(view.shape[1] <= 1 || view.stride[1] == 1, what, "a contiguous last dimension",
        "strides " + FormatDims(view.stride.data(), 2));
  const bool aligned = reinterpret_cast<uintptr_t>(view.data) % static_cast<uintptr_t>(alignment) == 0 &&
                       (view.shape[0] <= 1 || view.stride[0] * static_cast<int64_t>(sizeof(T)) % alignment == 0);
  Check(aligned, what, std::to_string(alignment) + "-byte aligned rows",
        "strides " + FormatDims(view.stride.data(), 2));
}

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Clusters that the card runs at once with a CTA on each multiprocessor. Its groups of multiprocessors do not divide by
// four without a rest, so larger clusters leave some idle.
int64_t ClustersAtOnce(int ranks) { return ranks == 1 ? 132 : ranks == 2 ? 66 : ranks == 4 ? 30 : 14; }

constexpr int kMostShared = 226 * 1024;

// Divides the tiles over `clusters` clusters.
template <WeightKind kKind, int kSlice, int kCols>
void Share(Params& p, int64_t clusters) {
  using S = Stream<kKind, kSlice, kCols>;
  StreamSplit& split = p.split;
  const int64_t tiles = CeilDiv(p.n, kTileRows);
  split.clusters = static_cast<int>(std::min(tiles, clusters));
  split.tiles = static_cast<int>(CeilDiv(tiles, split.clusters));
  if (split.ranks == 8) split.tiles += split.tiles % 2;  // a rank's rows in fours
  const int rank_k = split.rounds * split.warps * kSlice;
  split.ring_bytes = split.warps * S::kRingBytes;
  split.scale_bytes = 0;
  if constexpr (kKind == WeightKind::kMxfp4) {
    split.scale_pitch = static_cast<int>(CeilDiv(rank_k / 32, 16) | 1) * 16;
    split.scale_bytes = split.tiles * kTileRows * split.scale_pitch;
    const auto address = reinterpret_cast<uintptr_t>(p.weight.scales) |
                         static_cast<uintptr_t>(p.weight.scale_row_stride) | static_cast<uintptr_t>(rank_k / 32);
    split.scale_vector = address % 16 == 0 ? 16 : address % 8 == 0 ? 8 : address % 4 == 0 ? 4 : 1;
    split.scale_units_log2 = 0;
    while ((1 << split.scale_units_log2) * split.scale_vector < rank_k / 32) ++split.scale_units_log2;
  } else if constexpr (kKind == WeightKind::kFp8) {
    split.scale_pitch = rank_k / 128;
    split.scale_bytes = static_cast<int>(CeilDiv((split.tiles * kTileRows / 128 + 2) * split.scale_pitch, 4)) * 16;
  }
  split.partial_bytes = 2 * S::kGroupTiles * split.warps * kCols * kPartialFloats * 4;
  split.inbox_bytes = split.ranks > 1 ? split.tiles * kTileRows * 8 * kCols * 4 : 0;
  split.carried_bytes = split.rounds > 1 ? split.tiles * kTileRows * 8 * kCols * 4 : 0;
}

template <WeightKind kKind, int kSlice, int kCols>
void Launch(Params p, const LaunchOptions& options) {
  StreamSplit& split = p.split;
  split.programmatic = options.programmatic;
  p.passes = static_cast<int>(CeilDiv(p.rows, 8 * kCols));
  // One wave of CTAs, or the fewest whose scales and sums find room.
  const int64_t at_once = std::max<int64_t>(ClustersAtOnce(split.ranks) / p.passes, 1);
  int64_t waves = 1;
  do {
    Share<kKind, kSlice, kCols>(p, at_once * waves++);
  } while (split.SharedBytes() > kMostShared && split.tiles > 1);

  constexpr auto kKernel = LinearKernel<kKind, kSlice, kCols>;
  static const cudaError_t prepared =
      cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMostShared);
  CheckCuda(prepared);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(split.clusters * p.passes * split.ranks));
  config.blockDim = dim3(static_cast<unsigned>(split.warps * 32));
  config.dynamicSmemBytes = static_cast<size_t>(split.SharedBytes());
  config.stream = options.stream;
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {static_cast<unsigned>(split.ranks), 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  config.attrs = attributes;
  config.numAttrs = options.programmatic ? 2 : 1;
  CheckCuda(cudaLaunchKernelEx(&config, kKernel, p));
}

// Of all divisions of k: the least work of one multiprocessor, and among like ones the fewest ranks.
StreamSplit Divide(int64_t n, int64_t k) {
  StreamSplit best{};
  double best_cost = 0;
  const int64_t tiles = CeilDiv(n, kTileRows);
  for (int slice : {256, 128}) {
    const int most_warps = slice == 256 ? 8 : 12;
    const int64_t slices = CeilDiv(k, slice);
    for (int ranks : {1, 2, 4, 8}) {
      const int64_t of_rank = CeilDiv(slices, ranks);
      const int64_t rounds = CeilDiv(of_rank, most_warps);
      const int64_t warps = CeilDiv(of_rank, rounds);
      const int64_t tiles_a_cta = CeilDiv(tiles, ClustersAtOnce(ranks));
      const double work = static_cast<double>(tiles_a_cta * rounds * warps * slice);
      // A little for every exchange between ranks and reload of activations, and for few warps; then for the
      // activations that each CTA reads.
      const double cost =
          work * (1.0 + 0.01 * ranks + (ranks > 2 ? 0.06 : 0.0) + 0.03 * static_cast<double>(rounds - 1) +
                  0.005 * static_cast<double>(12 - warps) + (warps < 6 ? 0.1 : 0.0)) +
          0.05 * static_cast<double>(rounds * warps * slice);
      if (best_cost == 0 || cost < best_cost) {
        best_cost = cost;
        best.slice = slice;
        best.warps = static_cast<int>(warps);
        best.ranks = ranks;
        best.rounds = static_cast<int>(rounds);
      }
    }
  }
  return best;
}

template <WeightKind kKind, int kSlice>
void ForRows(const Params& p, const LaunchOptions& options) {
  if (p.rows <= 8) return Launch<kKind, kSlice, 1>(p, options);
  if (p.rows <= 16) return Launch<kKind, kSlice, 2>(p, options);
  Launch<kKind, kSlice, 4>(p, options);
}
template <WeightKind kKind>
void ForSlice(Params p, const LaunchOptions& options) {
  p.split = Divide(p.n, p.k);
  if (p.split.slice == 256) return ForRows<kKind, 256>(p, options);
  ForRows<kKind, 128>(p, options);
}

}  // namespace

void Linear(const LinearArgs& args, const LaunchOptions& options) {
  const auto* x = std::get_if<View<const bf16, 2>>(&args.x);
  Check(x != nullptr, "x", "bf16", "another format");
  const int64_t rows = x->shape[0], k = x->shape[1], n = RowCount(args.weight);
  Check(ColumnCount(args.weight) == k, "weight", std::to_string(k) + " columns (k of x)",
        std::to_string(ColumnCount(args.weight)));
  const auto out_shape = std::visit([](const auto& out) { return out.shape; }, args.out);
  Check(out_shape[0] == rows && out_shape[1] == n, "out", "(" + std::to_string(rows) + ", " + std::to_string(n) + ")",
        FormatDims(out_shape.data(), 2));
  constexpr int64_t kMost = 1 << 30;
  Check(n <= kMost && k <= kMost && rows <= kMost, "extents", "at most 2^30", "more");
  if (rows == 0 || n == 0) return;
  const int64_t unit = std::holds_alternative<Mxfp4<const e2m1x2, 2>>(args.weight) ? 32
                       : std::holds_alternative<Fp8Block>(args.weight)             ? 16
                                                                                   : 8;
  Check(k > 0 && k % unit == 0, "k", "a multiple of " + std::to_string(unit), std::to_string(k));
  CheckPlane("x", *x, 16);

  Params p{};
  p.n = static_cast<int>(n);
  p.k = static_cast<int>(k);
  p.x = reinterpret_cast<const uint8_t*>(x->data);
  p.x_row_bytes = x->stride[0] * 2;
  p.rows = static_cast<int>(rows);
  std::visit(
      [&](const auto& out) {
        using Element = typename std::decay_t<decltype(out)>::Element;
        CheckPlane("out", out, sizeof(Element));
        p.out = reinterpret_cast<uint8_t*>(out.data);
        p.out_row_stride = out.stride[0];
        p.out_is_float = std::is_same_v<Element, float>;
        const auto in_bytes = reinterpret_cast<uintptr_t>(out.data) |
                              static_cast<uintptr_t>(out.stride[0] * static_cast<int64_t>(sizeof(Element)));
        p.out_in_fours = in_bytes % (4 * sizeof(Element)) == 0;
      },
      args.out);
  if (const auto* w = std::get_if<Mxfp4<const e2m1x2, 2>>(&args.weight)) {
    CheckPlane("weight values", w->values, 16);
    CheckPlane("weight scales", w->scales, 1);
    p.weight = {&w->values.data->bits, w->values.stride[0], w->scales.data, w->scales.stride[0], 1, 0};
    return ForSlice<WeightKind::kMxfp4>(p, options);
  }
  if (const auto* w = std::get_if<View<const bf16, 2>>(&args.weight)) {
    CheckPlane("weight", *w, 16);
    p.weight = {reinterpret_cast<const uint8_t*>(w->data), w->stride[0] * 2, nullptr, 0, 0, 0};
    return ForSlice<WeightKind::kBf16>(p, options);
  }
  if (const auto* w = std::get_if<Fp8Block>(&args.weight)) {
    CheckPlane("weight values", w->values, 16);
    p.weight = {&w->values.data->bits, w->values.stride[0], w->scales.data,
                w->scales.stride[0],   w->scales.stride[1], w->first_row};
    return ForSlice<WeightKind::kFp8>(p, options);
  }
  Check(false, "weight", "mxfp4, bf16 or fp8-block128", std::string(FormatName(args.weight)));
}

}  // namespace mxmla::cuda
