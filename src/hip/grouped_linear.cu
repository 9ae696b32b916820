#include "hip/grouped_linear.h"

#include <vector>

#include "gpu/platform.h"
#include "hip/expert_launch.cuh"
#include "hip/library.h"

namespace mxmla::hip {
namespace {

struct Params {
  Plane x;
  ExpertPairs grouped;
  void* out;  // (pairs, n)
  int64_t out_row;
  int n, k;
  bool out_float;
};

// A block takes 16 features of one expert for a set of its pairs.
template <Format kX, Format kW, int kTiles>
MXMLA_PRODUCT_KERNEL GroupedLinearKernel(const Params p) {
  __shared__ Float4 sums[kWaves][kTiles][kWave];
  const ChosenPairs chosen = ChooseSet<kTiles * kTile>(p.grouped, static_cast<int>(blockIdx.y));
  if (chosen.expert >= p.grouped.expert_count) return;
  const Plane w = p.grouped.WeightsOf(chosen.expert);
  const int feature0 = static_cast<int>(blockIdx.x) * kTile, features = min(kTile, p.n - feature0);
  const auto pair_at = [&](int j) { return p.grouped.PairAt(chosen.begin + min(j, chosen.count - 1)); };
  const auto row_at = [&](int j) { return pair_at(j) / p.grouped.pairs_per_row; };
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

ExpertPairs ExpertPairsOf(const GroupedLinearArgs& args) {
  ExpertPairs p{};
  p.w = PlaneOf(args.weights.front());
  p.experts = static_cast<const Expert*>(static_cast<const PlacedExperts*>(args.placed)->table());
  p.expert_count = static_cast<int>(args.weights.size());
  p.expert_begin = args.expert_begin.data;
  p.expert_begin_step = args.expert_begin.stride[0];
  p.pairs = args.pairs.data;
  p.pairs_step = args.pairs.stride[0];
  p.pairs_per_row = static_cast<int>(args.pairs_per_row);
  return p;
}

void GroupedLinear(const ExecContext& context, const GroupedLinearArgs& args) {
  Params p{};
  p.x = PlaneOf(args.InputOf(args.weights.front()));
  p.grouped = ExpertPairsOf(args);
  p.n = static_cast<int>(RowCount(args.weights.front()));
  p.k = static_cast<int>(ColumnCount(args.weights.front()));
  SetRowsOut(args.out, &p);
  if (p.n == 0 || args.pairs.shape[0] == 0) return;
  const auto stream = static_cast<hipStream_t>(context.stream);
  ForExperts(args, [&](auto of_x, auto of_w, auto tiles, int64_t sets) {
    const dim3 blocks(static_cast<unsigned>((p.n + kTile - 1) / kTile), static_cast<unsigned>(sets));
    GroupedLinearKernel<of_x(), of_w(), tiles()><<<blocks, kWaves * kWave, 0, stream>>>(p);
  });
  CheckStarted("hip grouped_linear");
}

}  // namespace mxmla::hip
