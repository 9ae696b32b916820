// The experts' rows, apart from gating and products: grouping, activation, combination.
#include "gpu/quantized_rows.cuh"
#include "gpu/row_kernels.h"

namespace mxmla::gpu {
namespace {

struct GroupParams {
  const int32_t* ids;  // (rows, top_k)
  int64_t id_row, id_step;
  Strided<int32_t> begin;  // (experts + 1)
  Strided<int32_t> pairs;  // (count)
  int64_t count;
  uint32_t top_k;
  int32_t experts;

  __device__ int32_t ExpertOf(int64_t pair) const {
    const int64_t r = static_cast<uint32_t>(pair) / top_k;
    return ids[r * id_row + (pair - r * top_k) * id_step];
  }
};

constexpr int kGroupThreads = 512;
constexpr int kGroupWaves = kGroupThreads / kWave;

// A block an expert, and one for the end. Each wave has a part of the pairs: it counts those of lower experts and its
// own expert's, then sets down the latter in their order, behind those of the waves before.
__global__ void __launch_bounds__(kGroupThreads) GroupExpertsKernel(const GroupParams p) {
  __shared__ int32_t lower_of[kGroupWaves], own_of[kGroupWaves];
  WaitForPredecessor();
  const auto expert = static_cast<int32_t>(blockIdx.x);
  const int wave = static_cast<int>(threadIdx.x) / kWave, lane = static_cast<int>(threadIdx.x) % kWave;
  const int64_t part = (p.count + kGroupThreads - 1) / kGroupThreads * kWave, first = wave * part;
  const int64_t end = min(first + part, p.count);
  int32_t lower = 0, own = 0;
#pragma unroll 8
  for (int64_t pair = first + lane; pair < end; pair += kWave) {
    const int32_t id = p.ExpertOf(pair);
    lower += id >= 0 && id < expert;
    own += id == expert;
  }
  for (int step = kWave / 2; step > 0; step /= 2) {
    lower += ShuffleXor(lower, step);
    own += ShuffleXor(own, step);
  }
  if (lane == 0) lower_of[wave] = lower, own_of[wave] = own;
  __syncthreads();
  int32_t place = 0;
  for (int w = 0; w < kGroupWaves; ++w) place += lower_of[w] + (w < wave ? own_of[w] : 0);
  if (threadIdx.x == 0) p.begin(expert) = place;
  for (int64_t base = first; own > 0; base += kWave) {
    const int64_t pair = base + lane;
    const bool mine = pair < end && p.ExpertOf(pair) == expert;
    const uint64_t found = Ballot(mine);
    if (mine) p.pairs(place + __popcll(found & ((uint64_t{1} << lane) - 1))) = static_cast<int32_t>(pair);
    const int32_t placed = __popcll(found);
    place += placed;
    own -= placed;
  }
}

struct SiluMulParams {
  FloatPlane<const void> gate, up;  // (rows, n)
  FloatPlane<void> out;             // (rows, n), or absent
  QuantizedPlane quantized;         // (rows, n), or absent
  Pieces pieces;
};

// kHalf: of all operands that are not quantised.
template <Access kAccess>
__global__ void __launch_bounds__(Pieces::kThreads) SiluMulKernel(const SiluMulParams p) {
  WaitForPredecessor();
  const Piece piece(p.pieces);
  float v[kPiece] = {};
  if (piece.count > 0) {
    float gate[kPiece];
    LoadPiece<kAccess>(p.gate, piece.vector, 0, piece.begin, piece.count, gate);
    LoadPiece<kAccess>(p.up, piece.vector, 0, piece.begin, piece.count, v);
#pragma unroll
    for (int i = 0; i < kPiece; ++i) v[i] *= gate[i] / (1.0f + expf(-gate[i]));
  }
  if (p.quantized.codes == nullptr) {
    if (piece.count > 0) StorePiece<kAccess>(p.out, piece.vector, 0, piece.begin, piece.count, v);
    return;
  }
#pragma unroll
  for (int i = 0; i < kPiece; ++i) v[i] = RoundToHalf(v[i]);
  StoreQuantized(p.quantized, piece.vector, 0, piece.begin, piece.count, v);
}

struct CombineParams {
  FloatPlane<const void> pairs;   // (rows * top_k, n)
  FloatPlane<const void> shared;  // (rows, n), or absent
  const float* weights;           // (rows, top_k)
  int64_t weight_row, weight_step;
  FloatPlane<void> out;  // (rows, n)
  Pieces pieces;
  int64_t top_k;
};

// kHalf: of all operands that are not quantised.
template <Access kAccess>
__global__ void __launch_bounds__(Pieces::kThreads) CombineExpertsKernel(const CombineParams p) {
  WaitForPredecessor();
  const Piece piece(p.pieces);
  if (piece.count == 0) return;
  const int64_t r = piece.vector;
  float sum[kPiece] = {};
  if (p.shared.data != nullptr) LoadPiece<kAccess>(p.shared, r, 0, piece.begin, piece.count, sum);
  constexpr int kAhead = 4;  // slots whose loads fly together
  for (int64_t first = 0; first < p.top_k; first += kAhead) {
    float v[kAhead][kPiece], weight[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int64_t slot = min(first + a, p.top_k - 1);
      weight[a] = p.weights[r * p.weight_row + slot * p.weight_step];
      LoadPiece<kAccess>(p.pairs, r * p.top_k + slot, 0, piece.begin, piece.count, v[a]);
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (first + a >= p.top_k) break;
#pragma unroll
      for (int i = 0; i < kPiece; ++i) sum[i] = fmaf(weight[a], v[a][i], sum[i]);
    }
  }
  StorePiece<kAccess>(p.out, r, 0, piece.begin, piece.count, sum);
}

}  // namespace

void GroupExperts(const ExecContext& context, const GroupExpertsArgs& args) {
  GroupParams p{};
  p.ids = args.expert_ids.data;
  p.id_row = args.expert_ids.stride[0];
  p.id_step = args.expert_ids.stride[1];
  p.begin = StridedOf(args.expert_begin);
  p.pairs = StridedOf(args.pairs);
  p.count = args.expert_ids.size();
  p.top_k = static_cast<uint32_t>(std::max<int64_t>(args.expert_ids.shape[1], 1));
  p.experts = static_cast<int32_t>(args.expert_begin.shape[0] - 1);
  Launch(context, "group_experts", GroupExpertsKernel, int64_t{p.experts} + 1, kGroupThreads, 0, p);
}

void SiluMul(const ExecContext& context, const SiluMulArgs& args) {
  SiluMulParams p{};
  p.gate = FloatPlaneOf(args.gate);
  p.up = FloatPlaneOf(args.up);
  std::visit(
      [&](const auto& out) {
        if constexpr (requires { out.scales; }) {
          p.quantized = QuantizedPlaneOf(out, args.scale_mode);
        } else {
          p.out = FloatPlaneOf(out);
        }
      },
      args.out);
  const int64_t n = Extent(args.gate, 1);
  p.pieces = Pieces("silu_mul", Extent(args.gate, 0), n);
  const bool half = Has(p.gate, Access::kHalf, n) && Has(p.up, Access::kHalf, n) && Has(p.out, Access::kHalf, n);
  Launch(context, "silu_mul", half ? SiluMulKernel<Access::kHalf> : SiluMulKernel<Access::kAny>, p.pieces.blocks(),
         Pieces::kThreads, 0, p);
}

void CombineExperts(const ExecContext& context, const CombineExpertsArgs& args) {
  CombineParams p{};
  p.pairs = FloatPlaneOf(args.pairs);
  if (args.shared) p.shared = FloatPlaneOf(*args.shared);
  p.weights = args.expert_weights.data;
  p.weight_row = args.expert_weights.stride[0];
  p.weight_step = args.expert_weights.stride[1];
  p.out = FloatPlaneOf(args.out);
  const int64_t n = Extent(args.out, 1);
  p.pieces = Pieces("combine_experts", Extent(args.out, 0), n);
  p.top_k = args.expert_weights.shape[1];
  const bool half = Has(p.pairs, Access::kHalf, n) && Has(p.shared, Access::kHalf, n) && Has(p.out, Access::kHalf, n);
  Launch(context, "combine_experts", half ? CombineExpertsKernel<Access::kHalf> : CombineExpertsKernel<Access::kAny>,
         p.pieces.blocks(), Pieces::kThreads, 0, p);
}

}  // namespace mxmla::gpu
