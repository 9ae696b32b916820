#include "hip/grouped_linear.h"

#include <algorithm>
#include <vector>

#include "gpu/platform.h"
#include "hip/library.h"
#include "hip/operand_planes.h"
#include "hip/product_launch.cuh"

namespace mxmla::hip {
namespace {

// What differs between experts: bytes from the first one's planes. A pointer that is itself loaded would be one to any
// memory, LDS too, for the compiler.
struct Expert {
  int64_t values;
  int64_t scales;
  int64_t first_row;
};

struct Params {
  Plane x, w;  // w: the first expert's, with the strides that all share
  const Expert* experts;
  const int32_t* expert_begin;  // (expert_count + 1)
  int64_t expert_begin_step;
  const int32_t* pairs;
  int64_t pairs_step;
  int expert_count, pairs_per_row;
  void* out;  // (pairs, n)
  int64_t out_row;
  int n, k;
  bool out_float;
};

// Which expert the wanted one of all experts' sets of kRows pairs belongs to, and its first pair; an expert beyond the
// last when there are fewer sets. A wave looks at 64 experts at a time.
struct Chosen {
  int expert, begin, count;
};
template <int kRows>
__device__ Chosen Choose(const Params& p, int wanted) {
  const int lane = static_cast<int>(__lane_id());
  const auto begin_of = [&](int e) { return p.expert_begin[min(e, p.expert_count) * p.expert_begin_step]; };
  for (int first = 0; first < p.expert_count; first += kWave) {
    const int begin = begin_of(first + lane), end = begin_of(first + lane + 1);
    const int sets = (end - begin + kRows - 1) / kRows;
    int behind = sets;  // sets up to this lane's expert
#pragma unroll
    for (int lanes = 1; lanes < kWave; lanes *= 2) {
      const int other = __shfl_up(behind, static_cast<unsigned>(lanes));
      if (lane >= lanes) behind += other;
    }
    const uint64_t found = __ballot(wanted < behind);
    if (found != 0) {
      const int owner = __ffsll(static_cast<long long>(found)) - 1;
      const int set = wanted - __shfl(behind - sets, owner);
      const int from = __shfl(begin, owner) + set * kRows;
      return {first + owner, from, min(kRows, __shfl(end, owner) - from)};
    }
    wanted -= __shfl(behind, kWave - 1);
  }
  return {p.expert_count, 0, 0};
}

// A block takes 16 features of one expert for a set of its pairs.
template <Format kX, Format kW, int kTiles>
__global__ void __launch_bounds__(kWaves* kWave) GroupedLinearKernel(const Params p) {
  __shared__ Float4 sums[kWaves][kTiles][kWave];
  const Chosen chosen = Choose<kTiles * kTile>(p, static_cast<int>(blockIdx.y));
  if (chosen.expert >= p.expert_count) return;
  Plane w = p.w;
  w.values += p.experts[chosen.expert].values;
  w.scales = static_cast<const uint8_t*>(w.scales) + p.experts[chosen.expert].scales;
  w.first_row = p.experts[chosen.expert].first_row;
  const int feature0 = static_cast<int>(blockIdx.x) * kTile, features = min(kTile, p.n - feature0);
  const auto pair_at = [&](int j) {
    return int64_t{p.pairs[(chosen.begin + min(j, chosen.count - 1)) * p.pairs_step]};
  };
  const auto row_at = [&](int j) { return pair_at(j) / p.pairs_per_row; };
  Float4 sum[kTiles] = {};
  MultiplySteps<kX, kW, kTiles>(p.x, w, feature0, features, row_at, 0, p.k, static_cast<int>(threadIdx.x) / kWave,
                                kWaves, sum);
  AddWaves(sums, sum, [&](int j, int feature, const Float4& all) {
    if (j >= chosen.count) return;
    StoreFour(p.out, pair_at(j) * p.out_row + feature0 + feature, all, features - feature, p.out_float);
  });
}

bool SameLayout(const Plane& a, const Plane& b) {
  return a.row == b.row && a.scale_row == b.scale_row && a.scale_column == b.scale_column;
}

}  // namespace

PlacedExperts::PlacedExperts(std::span<const LinearWeight> weights) {
  if (weights.empty()) return;
  std::vector<Expert> experts;
  const Plane first = PlaneOf(weights.front());
  const auto bytes_from = [](const void* from, const void* to) {
    return static_cast<int64_t>(reinterpret_cast<intptr_t>(to) - reinterpret_cast<intptr_t>(from));
  };
  for (const LinearWeight& weight : weights) {
    if (weight.index() != weights.front().index() || !Honours(weight)) return;
    const Plane plane = PlaneOf(weight);
    if (!SameLayout(plane, first)) return;
    experts.push_back(
        {bytes_from(first.values, plane.values), bytes_from(first.scales, plane.scales), plane.first_row});
  }
  const size_t bytes = experts.size() * sizeof(Expert);
  Check(Hip().malloc(&table_, bytes), "table of experts", "memory of the device");
  Check(Hip().memcpy_async(table_, experts.data(), bytes, hipMemcpyHostToDevice, nullptr), "table of experts",
        "a copy to the device");
  Check(Hip().stream_synchronize(nullptr), "table of experts", "a copy to the device");
}

PlacedExperts::~PlacedExperts() {
  if (table_) static_cast<void>(Hip().free(table_));
}

bool HonoursGroupedLinear(const GroupedLinearArgs& args) {
  if (!args.placed || !static_cast<const PlacedExperts*>(args.placed)->table()) return false;
  const Activation<2>& x = args.InputOf(args.weights.front());
  return FormatsOf(x, args.weights.front()) && Honours(x);
}

void GroupedLinear(const ExecContext& context, const GroupedLinearArgs& args) {
  const Activation<2>& x = args.InputOf(args.weights.front());
  const int64_t pairs = args.pairs.shape[0];
  Params p{};
  p.x = PlaneOf(x);
  p.w = PlaneOf(args.weights.front());
  p.experts = static_cast<const Expert*>(static_cast<const PlacedExperts*>(args.placed)->table());
  p.expert_count = static_cast<int>(args.weights.size());
  p.expert_begin = args.expert_begin.data;
  p.expert_begin_step = args.expert_begin.stride[0];
  p.pairs = args.pairs.data;
  p.pairs_step = args.pairs.stride[0];
  p.pairs_per_row = static_cast<int>(args.pairs_per_row);
  p.n = static_cast<int>(RowCount(args.weights.front()));
  p.k = static_cast<int>(ColumnCount(args.weights.front()));
  std::visit(
      [&](const auto& out) {
        p.out = out.data;
        p.out_row = out.stride[0];
        p.out_float = std::is_same_v<typename std::decay_t<decltype(out)>::Element, float>;
      },
      args.out);
  if (p.n == 0 || pairs == 0) return;
  const auto stream = static_cast<hipStream_t>(context.stream);
  // As many tiles as the average of the experts that can have pairs asks for.
  const int64_t most_chosen = std::min<int64_t>(pairs, p.expert_count);
  ForProduct(*FormatsOf(x, args.weights.front()), pairs / most_chosen, [&](auto of_x, auto of_w, auto tiles) {
    const int64_t sets = pairs / (kTile * tiles()) + most_chosen;
    const dim3 blocks(static_cast<unsigned>((p.n + kTile - 1) / kTile), static_cast<unsigned>(sets));
    GroupedLinearKernel<of_x(), of_w(), tiles()><<<blocks, kWaves * kWave, 0, stream>>>(p);
  });
  CheckStarted("hip grouped_linear");
}

}  // namespace mxmla::hip
