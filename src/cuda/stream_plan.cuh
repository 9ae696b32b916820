// The host's side of streamed products: which layouts are honoured and how a product is divided over the card.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <string>

#include "core/scaled.h"
#include "cuda/launch_options.h"
#include "cuda/weight_stream.cuh"

namespace mxmla::cuda {

inline void CheckLayout(bool honoured, std::string_view op, const std::string& what, const std::string& expected,
                        const std::string& found) {
  if (!honoured) Fail(ErrorCode::kLayout, std::string(op) + ", " + what, expected, found);
}
inline void CheckCuda(cudaError_t status, std::string_view op, const std::string& what) {
  if (status != cudaSuccess) Fail(ErrorCode::kDevice, std::string(op), what, cudaGetErrorString(status));
}

// The last dimension is contiguous; the first element and the rows lie at multiples of `alignment` bytes.
template <class T>
void CheckPlane(std::string_view op, const std::string& what, const View<T, 2>& view, int64_t alignment) {
  CheckLayout(view.shape[1] <= 1 || view.stride[1] == 1, op, what, "a contiguous last dimension",
              "strides " + FormatDims(view.stride.data(), 2));
  const bool aligned = reinterpret_cast<uintptr_t>(view.data) % static_cast<uintptr_t>(alignment) == 0 &&
                       (view.shape[0] <= 1 || view.stride[0] * static_cast<int64_t>(sizeof(T)) % alignment == 0);
  CheckLayout(aligned, op, what, std::to_string(alignment) + "-byte aligned rows",
              "strides " + FormatDims(view.stride.data(), 2));
}

// The planes of a weight that a stream can read, and its kind; anything else is an Error.
inline WeightKind StreamedPlanes(std::string_view op, const LinearWeight& weight, WeightPlanes* planes) {
  const int64_t k = ColumnCount(weight);
  const auto check_k = [&](int64_t unit) {
    CheckLayout(k > 0 && k % unit == 0, op, "k", std::to_string(unit) + " or a multiple", std::to_string(k));
  };
  if (const auto* w = std::get_if<Mxfp4<const e2m1x2, 2>>(&weight)) {
    check_k(32);
    CheckPlane(op, "weight values", w->values, 16);
    CheckPlane(op, "weight scales", w->scales, 1);
    *planes = {&w->values.data->bits, w->values.stride[0], w->scales.data, w->scales.stride[0], 1, 0};
    return WeightKind::kMxfp4;
  }
  if (const auto* w = std::get_if<View<const bf16, 2>>(&weight)) {
    check_k(8);
    CheckPlane(op, "weight", *w, 16);
    *planes = {reinterpret_cast<const uint8_t*>(w->data), w->stride[0] * 2, nullptr, 0, 0, 0};
    return WeightKind::kBf16;
  }
  const auto* w = std::get_if<Fp8Block>(&weight);
  CheckLayout(w && w->in_squares(), op, "weight", "mxfp4, bf16 or fp8-block128", std::string(FormatName(weight)));
  check_k(16);
  CheckPlane(op, "weight values", w->values, 16);
  *planes = {&w->values.data->bits, w->values.stride[0], w->scales.data,
             w->scales.stride[0],   w->scales.stride[1], w->first_row};
  return WeightKind::kFp8;
}

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

constexpr int64_t kMultiprocessors = 132;

// Clusters that the card runs at once with a CTA on each multiprocessor. Its groups of multiprocessors do not divide by
// four without a rest, so larger clusters leave some idle.
inline int64_t ClustersAtOnce(int ranks) {
  return ranks == 1 ? kMultiprocessors : ranks == 2 ? 66 : ranks == 4 ? 30 : 14;
}

// Of all divisions of k among at most `most_ranks`: the least work of one multiprocessor, and among like ones the
// fewest ranks.
inline StreamSplit Divide(int64_t n, int64_t k, int most_ranks = 8, double* cost_of_best = nullptr) {
  StreamSplit best{};
  double best_cost = 0;
  const int64_t tiles = CeilDiv(n, kTileRows);
  for (int slice : {256, 128}) {
    const int most_warps = slice == 256 ? 8 : 12;
    const int64_t slices = CeilDiv(k, slice);
    for (int ranks = 1; ranks <= most_ranks; ranks *= 2) {
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
  if (cost_of_best) *cost_of_best = best_cost;
  return best;
}

constexpr int kSharedOfBlock = 227 * 1024;          // static and dynamic
constexpr int kMostShared = kSharedOfBlock - 1024;  // of a stream in a kernel without more

// Divides the tiles of n rows over `clusters` clusters. `scales` has a bit set wherever the address or the stride of a
// plane of MXFP4 scales has one. `sets`: at most, of Columns::kSets; `paired`: Columns::kPaired.
template <class S>
void Share(StreamSplit& split, int64_t n, uint64_t scales, int64_t clusters, int sets = 1, bool paired = false) {
  constexpr WeightKind kKind = S::kWeights;
  constexpr int kSlice = S::kSliceK, kCols = S::kColumns / 8;
  const int64_t together = paired ? 2 : 1, tiles = CeilDiv(n, kTileRows);
  split.clusters = static_cast<int>(std::min(tiles / together, clusters));
  split.tiles = static_cast<int>(CeilDiv(tiles / together, split.clusters) * together);
  if (split.ranks == 8) split.tiles += split.tiles % 2;  // a rank's rows in fours
  if (paired) split.tiles = static_cast<int>(CeilDiv(split.tiles, 2 * split.ranks)) * 2 * split.ranks;  // whole pairs
  const int rank_k = split.rounds * split.warps * kSlice;
  split.ring_bytes = split.warps * S::kRingBytes;
  split.scale_bytes = 0;
  if constexpr (kKind == WeightKind::kMxfp4) {
    split.scale_pitch = static_cast<int>(CeilDiv(rank_k / 32, 16) | 1) * 16;
    split.scale_bytes = sets * split.tiles * kTileRows * split.scale_pitch;
    const uint64_t address = scales | static_cast<uint64_t>(rank_k / 32);
    split.scale_vector = address % 16 == 0 ? 16 : address % 8 == 0 ? 8 : address % 4 == 0 ? 4 : 1;
    split.scale_units_log2 = 0;
    while ((1 << split.scale_units_log2) * split.scale_vector < rank_k / 32) ++split.scale_units_log2;
  } else if constexpr (kKind == WeightKind::kFp8) {
    split.scale_pitch = rank_k / 128;
    split.scale_squares = split.tiles * kTileRows / 128 + 2;
    const int parts = paired ? 2 : sets;
    split.scale_bytes = static_cast<int>(CeilDiv(parts * split.scale_squares * split.scale_pitch, 4)) * 16;
  }
  const int64_t tile_partials = int64_t{split.warps} * kCols * kPartialFloats * 4;
  const int64_t apart = sets * split.tiles * tile_partials;
  split.apart = split.rounds == 1 && apart <= (sets > 1 ? 96 : 32) * 1024;
  split.partial_bytes = static_cast<int>(split.apart ? apart : 2 * S::kGroupTiles * tile_partials);
  split.inbox_bytes = split.ranks > 1 ? split.tiles * kTileRows * 8 * kCols * 4 : 0;
  split.carried_bytes = split.rounds > 1 ? split.tiles * kTileRows * 8 * kCols * 4 : 0;
}

// Registers for two CTAs of 8 warps (12 of slices of 128) on a multiprocessor, so that the next kernel of a chain finds
// room; for 32 columns there are not enough.
template <int kSlice, int kCols>
constexpr int kMostThreads = kCols == 4 ? (kSlice == 256 ? 256 : 384) : (kSlice == 256 ? 512 : 768);

// Launches clusters of split.ranks CTAs of split.warps warps, with `bytes_behind` of shared memory behind the stream's.
template <auto kKernel, class Params>
void LaunchStream(std::string_view op, const Params& p, const StreamSplit& split, int64_t clusters,
                  const LaunchOptions& options, int64_t bytes_behind = 0) {
  static const cudaError_t prepared = [] {
    cudaFuncAttributes attributes{};
    const cudaError_t known = cudaFuncGetAttributes(&attributes, kKernel);
    if (known != cudaSuccess) return known;
    const int most = kSharedOfBlock - static_cast<int>(attributes.sharedSizeBytes);
    return cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
  }();
  CheckCuda(prepared, op, "a kernel");
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(clusters * split.ranks));
  config.blockDim = dim3(static_cast<unsigned>(split.warps * 32));
  config.dynamicSmemBytes = static_cast<size_t>(split.SharedBytes() + bytes_behind);
  config.stream = options.stream;
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {static_cast<unsigned>(split.ranks), 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  config.attrs = attributes;
  config.numAttrs = options.programmatic ? 2 : 1;
  CheckCuda(cudaLaunchKernelEx(&config, kKernel, p), op, "a launch");
}

// The sum of the values of this lane and of those before; the whole warp calls.
__device__ __forceinline__ int SumUpToLane(int value) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int delta = 1; delta < 32; delta *= 2) {
    const int before = __shfl_up_sync(~0u, value, static_cast<unsigned>(delta));
    if (lane >= delta) value += before;
  }
  return value;
}

// Which tiles are cluster `cluster`'s; `together` of them have one.
__device__ __forceinline__ void TilesOf(const StreamSplit& split, int n, int cluster, int* tile0, int* tiles,
                                        int together = 1) {
  const int all = (n + kTileRows - 1) / kTileRows / together, more = all % split.clusters;
  *tile0 = (cluster * (all / split.clusters) + min(cluster, more)) * together;
  *tiles = (all / split.clusters + (cluster < more ? 1 : 0)) * together;
}

// Where results go: f32 or bf16, a row of `stride` elements a row of activations.
struct StreamOutput {
  uint8_t* data;
  int64_t stride;
  int n;
  bool is_float;
  bool in_fours;   // 4 results lie at a multiple of their size
  bool in_eights;  // and 8 of bf16

  __device__ void Store(int64_t out_row, int row, const float4& v) const {
    const int64_t at = out_row * stride + row;
    const float values[4] = {v.x, v.y, v.z, v.w};
    if (is_float) {
      float* const to = reinterpret_cast<float*>(data) + at;
      if (in_fours && row + 4 <= n) {
        *reinterpret_cast<float4*>(to) = v;
        return;
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (row + i < n) to[i] = values[i];
      }
    } else {
      auto* const to = reinterpret_cast<__nv_bfloat16*>(data) + at;
      const __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(v.x, v.y), __floats2bfloat162_rn(v.z, v.w)};
      if (in_fours && row + 4 <= n) {
        *reinterpret_cast<uint2*>(to) =
            make_uint2(*reinterpret_cast<const uint32_t*>(&pairs[0]), *reinterpret_cast<const uint32_t*>(&pairs[1]));
        return;
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (row + i < n) to[i] = __float2bfloat16_rn(values[i]);
      }
    }
  }
};

inline StreamOutput OutputOf(std::string_view op, const FloatOutput<2>& any) {
  return std::visit(
      [&](const auto& out) {
        using Element = typename std::decay_t<decltype(out)>::Element;
        CheckPlane(op, "out", out, sizeof(Element));
        const auto in_bytes = reinterpret_cast<uintptr_t>(out.data) |
                              static_cast<uintptr_t>(out.stride[0] * static_cast<int64_t>(sizeof(Element)));
        return StreamOutput{reinterpret_cast<uint8_t*>(out.data),  out.stride[0],
                            static_cast<int>(out.shape[1]),        std::is_same_v<Element, float>,
                            in_bytes % (4 * sizeof(Element)) == 0, sizeof(Element) == 2 && in_bytes % 16 == 0};
      },
      any);
}

}  // namespace mxmla::cuda
