#include "hip/fused_experts.h"

#include "gpu/row_io.cuh"
#include "hip/expert_launch.cuh"
#include "hip/quantized_store.cuh"

namespace mxmla::hip {
namespace {

// --- gate and up, and silu(gate) * up ---

struct GatedParams {
  Plane x;
  ExpertPairs grouped;
  void* out;  // (pairs, width) of bf16, or
  int64_t out_row;
  gpu::QuantizedPlane quantized;  // the same, quantised
  int width, k;
};

// Both are rounded as they would be in memory.
__device__ __forceinline__ float Gated(float gate, float up) {
  gate = gpu::RoundToHalf(gate);
  return gpu::RoundToHalf(up) * (gate / (1.0f + expf(-gate)));
}

// Tiles of features that a block takes: a block of MXFP4, a group of FP8.
constexpr int FeatureTiles(Format out) {
  return static_cast<int>(out == Format::kMxfp4 ? kMxBlock / kTile : out == Format::kFp8 ? kFp8Group / kTile : 1);
}

// A block takes features of gate and of up of one expert, for a set of its pairs, 16 at a time as GroupedLinear does.
template <Format kX, Format kW, Format kOut, int kTiles>
MXMLA_PRODUCT_KERNEL GatedExpertsKernel(const GatedParams p) {
  constexpr int kFeatureTiles = FeatureTiles(kOut);
  static_assert(kTiles <= kWaves);
  __shared__ Float4 sums[2][kWaves][kTiles][kWave];
  __shared__ uint2 gated[kOut == Format::kBf16 ? 1 : kFeatureTiles][kTiles][kWave];  // four of bf16
  const ChosenPairs chosen = ChooseSet<kTiles * kTile>(p.grouped, static_cast<int>(blockIdx.y));
  if (chosen.expert >= p.grouped.expert_count) return;
  const Plane w = p.grouped.WeightsOf(chosen.expert);
  const int wave = static_cast<int>(threadIdx.x) / kWave, lane = static_cast<int>(threadIdx.x) % kWave;
  const int first = static_cast<int>(blockIdx.x) * kFeatureTiles * kTile;
  const auto pair_at = [&](int j) { return p.grouped.PairAt(chosen.begin + min(j, chosen.count - 1)); };
  const PlaneRows<kX, kTiles> rows(
      p.x, [&](int j) { return pair_at(j) / p.grouped.pairs_per_row; }, 0);
  const int row = wave * kTile + lane % kTile;  // of the set, of the waves that store
#pragma unroll 1
  for (int tile = 0; tile < kFeatureTiles; ++tile) {
    const int feature0 = first + tile * kTile, features = min(kTile, p.width - feature0);
#pragma unroll
    for (int which = 0; which < 2; ++which) {
      Float4 sum[kTiles] = {};
      MultiplyRows<kX, kW, kTiles>(rows, w, which * p.width + feature0, features, p.k, wave, kWaves, sum);
#pragma unroll
      for (int t = 0; t < kTiles; ++t) sums[which][wave][t][lane] = sum[t];
    }
    __syncthreads();
    if (wave < kTiles) {
      const Float4 gate = SumOfWaves(sums[0], wave, lane), up = SumOfWaves(sums[1], wave, lane);
      Float4 value;
#pragma unroll
      for (int r = 0; r < 4; ++r) value[r] = Gated(gate[r], up[r]);
      if constexpr (kOut == Format::kBf16) {
        const int feature = lane / kTile * 4;
        if (row < chosen.count) {
          StoreFour(p.out, pair_at(row) * p.out_row + feature0 + feature, value, features - feature, false);
        }
      } else {
        gated[tile][wave][lane] = make_uint2(gpu::PackHalves(value[0], value[1]), gpu::PackHalves(value[2], value[3]));
      }
    }
    if constexpr (kFeatureTiles > 1) __syncthreads();  // the sums have been read
  }
  if constexpr (kOut != Format::kBf16) {
    if (wave >= kTiles) return;
    Float4 value[kFeatureTiles];
#pragma unroll
    for (int tile = 0; tile < kFeatureTiles; ++tile) {
      const uint2 four = gated[tile][wave][lane];
      value[tile] = Float4{gpu::FromHalf(four.x), gpu::FromHalf(four.x >> 16), gpu::FromHalf(four.y),
                           gpu::FromHalf(four.y >> 16)};
    }
    if constexpr (kOut == Format::kMxfp4) {
      StoreMxfp4(p.quantized, pair_at(row), row < chosen.count, first, value);
    } else {
      const uint32_t largest = LargestOfRow(value);
      if (row < chosen.count) StoreFp8(p.quantized, pair_at(row), first, largest, true, value);
    }
  }
}

// --- down, and each row's weighted sum ---

constexpr int kMostPairs = 128;

struct CombinedParams {
  Plane x;
  ExpertPairs grouped;
  const float* weights;  // (rows, slots)
  int64_t weight_row, weight_step;
  gpu::FloatPlane<const void> shared;  // (rows, n), or absent
  void* out;                           // (rows, n)
  int64_t out_row;
  int rows, slots, n, k;
  bool out_float;
};

// Four features of a row.
__device__ __forceinline__ Float4 LoadFour(const gpu::FloatPlane<const void>& x, int64_t row, int64_t begin,
                                           int count) {
  Float4 four{};
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    if (r >= count) break;
    const int64_t at = row * x.row + (begin + r) * x.step;
    four[r] = x.half ? gpu::FromHalf(static_cast<const uint16_t*>(x.data)[at]) : static_cast<const float*>(x.data)[at];
  }
  return four;
}

// A block takes 16 features of all experts that were chosen, so that it can add up what they contribute to each row. A
// wave takes every fourth set of pairs, with the four partial sums that GroupedLinear's waves have.
template <Format kX, Format kW>
MXMLA_PRODUCT_KERNEL CombinedExpertsKernel(const CombinedParams p) {
  __shared__ Float4 results[kMostPairs][kTile / 4];  // by pair
  const int thread = static_cast<int>(threadIdx.x), wave = thread / kWave, lane = thread % kWave;
  const int feature0 = static_cast<int>(blockIdx.x) * kTile, features = min(kTile, p.n - feature0);
  // A padding row's pairs are nobody's.
  for (int at = thread; at < p.rows * p.slots * (kTile / 4); at += kWaves * kWave) {
    results[at / (kTile / 4)][at % (kTile / 4)] = Float4{};
  }
  __syncthreads();
  for (int set = wave;; set += kWaves) {
    const ChosenPairs chosen = ChooseSet<kTile>(p.grouped, set);
    if (chosen.expert >= p.grouped.expert_count) break;
    const Plane w = p.grouped.WeightsOf(chosen.expert);
    const auto pair_at = [&](int j) { return p.grouped.PairAt(chosen.begin + min(j, chosen.count - 1)); };
    const PlaneRows<kX, 1> rows(
        p.x, [&](int j) { return pair_at(j) / p.grouped.pairs_per_row; }, 0);
    Float4 all{};
#pragma unroll 1
    for (int of_wave = 0; of_wave < kWaves; ++of_wave) {
      Float4 part[1] = {};
      MultiplyRows<kX, kW, 1>(rows, w, feature0, features, p.k, of_wave, kWaves, part);
      all = of_wave == 0 ? part[0] : all + part[0];
    }
    if (lane % kTile < chosen.count) results[pair_at(lane % kTile)][lane / kTile] = all;
  }
  __syncthreads();
  for (int at = thread; at < p.rows * (kTile / 4); at += kWaves * kWave) {
    const int row = at / (kTile / 4), feature = at % (kTile / 4) * 4;
    if (feature >= features) continue;
    Float4 sum{};
    if (p.shared.data != nullptr) sum = LoadFour(p.shared, row, feature0 + feature, features - feature);
    for (int slot = 0; slot < p.slots; ++slot) {
      const float weight = p.weights[row * p.weight_row + slot * p.weight_step];
      const Float4 value = results[row * p.slots + slot][feature / 4];
#pragma unroll
      for (int r = 0; r < 4; ++r) sum[r] = __builtin_fmaf(weight, value[r], sum[r]);
    }
    StoreFour(p.out, row * p.out_row + feature0 + feature, sum, features - feature, p.out_float);
  }
}

}  // namespace

bool HonoursGatedExperts(const GatedExpertsArgs& args) {
  const auto* between = std::get_if<View<bf16, 2>>(&args.product.out);
  const auto* gate = std::get_if<View<const bf16, 2>>(&args.gating.gate);
  const auto* up = std::get_if<View<const bf16, 2>>(&args.gating.up);
  if (!between || !gate || !up || !HonoursGroupedLinear(args.product)) return false;
  const int64_t width = gate->shape[1];
  const Format x = FormatsOf(args.product.InputOf(args.product.weights.front()), args.product.weights.front())->x;
  const bool out = std::visit(
      [&](const auto& view) {
        using V = std::decay_t<decltype(view)>;
        if constexpr (std::is_same_v<V, View<bf16, 2>>) return view.stride[1] == 1;
        if constexpr (std::is_same_v<V, Fp8Group<e4m3, 2>>) return x == Format::kFp8 && width % kFp8Group == 0;
        return std::is_same_v<V, Mxfp4<e2m1x2, 2>> && x == Format::kMxfp4;
      },
      args.gating.out);
  return out && gate->data == between->data && up->data == between->data + width &&
         2 * width == RowCount(args.product.weights.front());
}

void GatedExperts(const ExecContext& context, const GatedExpertsArgs& args) {
  const int64_t pairs = args.product.pairs.shape[0];
  GatedParams p{};
  p.x = PlaneOf(args.product.InputOf(args.product.weights.front()));
  p.grouped = ExpertPairsOf(args.product);
  p.width = static_cast<int>(Extent(args.gating.gate, 1));
  p.k = static_cast<int>(ColumnCount(args.product.weights.front()));
  if (p.width == 0 || pairs == 0) return;
  const auto stream = static_cast<hipStream_t>(context.stream);
  const auto start = [&](auto format) {
    constexpr int kFeatures = FeatureTiles(format()) * kTile;
    constexpr int kMostTiles = format() == Format::kFp8 ? 2 : 4;  // of rows that LDS holds
    ForExperts<kMostTiles>(args.product, [&](auto x, auto w, auto tiles, int64_t sets) {
      if constexpr (format() == Format::kBf16 || format() == x()) {
        const dim3 blocks(static_cast<unsigned>((p.width + kFeatures - 1) / kFeatures), static_cast<unsigned>(sets));
        GatedExpertsKernel<x(), w(), format(), tiles()><<<blocks, kWaves * kWave, 0, stream>>>(p);
      }
    });
  };
  std::visit(
      [&](const auto& out) {
        if constexpr (requires { out.values; }) {
          constexpr bool kFp8 = std::is_same_v<std::decay_t<decltype(out)>, Fp8Group<e4m3, 2>>;
          p.quantized = gpu::QuantizedPlaneOf(out, args.gating.scale_mode);
          start(std::integral_constant < Format, kFp8 ? Format::kFp8 : Format::kMxfp4 > {});
        } else {
          p.out = out.data;
          p.out_row = out.stride[0];
          start(std::integral_constant<Format, Format::kBf16>{});
        }
      },
      args.gating.out);
  CheckStarted("hip gated_experts");
}

bool HonoursCombinedExperts(const CombinedExpertsArgs& args) {
  const auto* between = std::get_if<View<float, 2>>(&args.product.out);
  const auto* summed = std::get_if<View<const float, 2>>(&args.combine.pairs);
  const int64_t pairs = args.product.pairs.shape[0];
  return between && summed && summed->data == between->data && pairs <= kMostPairs &&
         pairs == args.combine.expert_weights.size() && HonoursGroupedLinear(args.product);
}

void CombinedExperts(const ExecContext& context, const CombinedExpertsArgs& args) {
  CombinedParams p{};
  const Activation<2>& x = args.product.InputOf(args.product.weights.front());
  p.x = PlaneOf(x);
  p.grouped = ExpertPairsOf(args.product);
  p.weights = args.combine.expert_weights.data;
  p.weight_row = args.combine.expert_weights.stride[0];
  p.weight_step = args.combine.expert_weights.stride[1];
  if (args.combine.shared) p.shared = gpu::FloatPlaneOf(*args.combine.shared);
  SetRowsOut(args.combine.out, &p);
  p.rows = static_cast<int>(args.combine.expert_weights.shape[0]);
  p.slots = static_cast<int>(args.combine.expert_weights.shape[1]);
  p.n = static_cast<int>(RowCount(args.product.weights.front()));
  p.k = static_cast<int>(ColumnCount(args.product.weights.front()));
  if (p.n == 0 || p.rows == 0) return;
  const auto stream = static_cast<hipStream_t>(context.stream);
  ForProduct(*FormatsOf(x, args.product.weights.front()), 1, [&](auto of_x, auto of_w, auto tiles) {
    if constexpr (tiles() == 1) {
      const auto blocks = static_cast<unsigned>((p.n + kTile - 1) / kTile);
      CombinedExpertsKernel<of_x(), of_w()><<<blocks, kWaves * kWave, 0, stream>>>(p);
    }
  });
  CheckStarted("hip combined_experts");
}

}  // namespace mxmla::hip
