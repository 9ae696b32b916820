#include "cuda/fused_experts.h"

#include "cuda/expert_sets.cuh"

namespace mxmla::cuda {
namespace {

// --- gate and up, and silu(gate) * up ---

constexpr std::string_view kGated = "cuda gated_experts";
constexpr int64_t kMostRows = 8;  // an expert has at most one pair of a row

struct GatedPairs : PlainColumns {
  static constexpr bool kPaired = true;
  const GroupedParams& p;
  const int32_t* pairs;  // shared
  int rows;

  __device__ void Wait() const {}  // the kernel has waited
  __device__ int count() const { return rows; }
  __device__ const uint8_t* Row(int c) const { return p.x + pairs[c] / p.pairs_per_row * p.x_row_bytes; }
  __device__ void Store(int c, int row, const float4& gate, const float4& up) const {
    p.out.Store(pairs[c], row,
                make_float4(Gated(gate.x, up.x), Gated(gate.y, up.y), Gated(gate.z, up.z), Gated(gate.w, up.w)));
  }
};

// split.clusters clusters share the tiles of an expert, for its (at most 8) pairs.
template <WeightKind kKind, int kSlice>
__global__ void __launch_bounds__((kMostThreads<kSlice, 1>), 1)
    GatedExpertsKernel(const __grid_constant__ GroupedParams p) {
  extern __shared__ __align__(128) uint8_t shared[];
  asm volatile("griddepcontrol.launch_dependents;");
  int cluster;
  asm volatile("mov.u32 %0, %%clusterid.x;" : "=r"(cluster));
  int tile0, tiles;
  TilesOf(p.split, p.n, cluster % p.split.clusters, &tile0, &tiles, 2);
  const Choices choices(shared + p.split.SharedBytes(), p.experts);
  asm volatile("griddepcontrol.wait;" ::: "memory");  // who is chosen is not known before
  choices.Load(p, p.pair_count);
  __syncthreads();
  const int2 set = ExpertOfSet(choices.begin, p.experts, cluster / p.split.clusters, kMostRows);
  if (set.x < 0) return;
  const int begin = choices.begin[set.x];
  GatedPairs columns{{}, p, choices.pairs + begin, choices.begin[set.x + 1] - begin};
  Stream<kKind, kSlice, 1>::Run(p.PlanesOf(choices.table[set.x]), p.n, p.k, p.split, tile0, tiles, shared, columns, 0);
}

template <WeightKind kKind, int kSlice>
void LaunchGated(GroupedParams p, int64_t pairs, const ExpertTable& table, const LaunchOptions& options) {
  StreamSplit& split = p.split;
  const int64_t most_chosen = std::min(pairs, table.experts());
  const int most_tiles = most_chosen <= 16 ? 32 : 16;
  // Two CTAs a multiprocessor: what one waits for, the other's warps hide.
  const int64_t an_expert = std::max<int64_t>(2 * ClustersAtOnce(split.ranks) / most_chosen, 1);
  const int64_t choices = Choices::Bytes(p.experts, pairs);
  p.pair_count = static_cast<int>(pairs);
  int64_t waves = 1;
  do {
    Share<Stream<kKind, kSlice, 1>>(split, p.n, table.scales(), an_expert * waves++, 1, true);
  } while (split.tiles > 2 * split.ranks &&
           (split.tiles > most_tiles || split.SharedBytes() + choices > kHalfOfShared));
  LaunchStream<GatedExpertsKernel<kKind, kSlice>>(kGated, p, split, split.clusters * most_chosen, options, choices);
}
template <WeightKind kKind>
void ForGated(const GroupedParams& p, int64_t pairs, const ExpertTable& table, const LaunchOptions& options) {
  if (p.split.slice == 256) return LaunchGated<kKind, 256>(p, pairs, table, options);
  LaunchGated<kKind, 128>(p, pairs, table, options);
}

// --- down, and each row's weighted sum ---

constexpr std::string_view kCombined = "cuda combined_experts";
constexpr int kMostPairs = 64;
constexpr int64_t kMostStaged = 48 * 1024;  // bytes of the pairs' rows

struct CombinedParams {
  GroupedParams grouped;  // out: (rows, n), where the sums go
  const float* weights;   // (rows, slots)
  int64_t weight_row, weight_step;
  int rows, slots;
};

struct SetOfPairs {
  Expert expert;
  int begin, count;  // of its pairs
};

struct StagedPairs : PlainColumns {
  static constexpr bool kStaged = true, kSets = true;
  const GroupedParams& p;
  const Choices& choices;
  const SetOfPairs* all;
  uint8_t* staged;  // shared, (pairs, row_bytes)
  float* results;   // shared, (pairs of all rows, part_rows)
  int set_count, pairs, row_bytes, row0, part_rows;
  int set = 0;

  __device__ int sets() const { return set_count; }
  __device__ WeightPlanes Weights(int i) const { return p.PlanesOf(all[i].expert); }
  __device__ void Select(int i) { set = i; }
  __device__ void Stage() const {
    const int lane = static_cast<int>(threadIdx.x) % 32, warps = static_cast<int>(blockDim.x) / 32;
    for (int i = static_cast<int>(threadIdx.x) / 32; i < pairs; i += warps) {
      const uint8_t* const from = p.x + choices.pairs[i] * p.x_row_bytes;
      const uint32_t to = SharedAddress(staged + i * row_bytes);
      for (int at = lane * 16; at < p.k * 2; at += 32 * 16) CopyWeights(to + at, from + at, true);
    }
  }
  __device__ void Wait() const {}
  __device__ int count() const { return all[set].count; }
  __device__ const uint8_t* Row(int c) const { return staged + (all[set].begin + c) * row_bytes; }
  __device__ void Store(int c, int row, const float4& v) const {
    *reinterpret_cast<float4*>(results + choices.pairs[all[set].begin + c] * part_rows + row - row0) = v;
  }
};

// Its ring holds what a warp reads of eight experts.
template <WeightKind kKind, int kSlice>
using SetStream = Stream<kKind, kSlice, 1, kKind == WeightKind::kMxfp4 && kSlice == 128 ? 4 : 0>;

// A CTA has a share of the tiles of every chosen expert, so that it can add up what they contribute to its columns.
template <WeightKind kKind, int kSlice>
__global__ void __launch_bounds__((kMostThreads<kSlice, 1>), 1)
    CombinedExpertsKernel(const __grid_constant__ CombinedParams c) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ SetOfPairs sets[kMostPairs];
  __shared__ float weights[kMostPairs];
  __shared__ int set_count;
  asm volatile("griddepcontrol.launch_dependents;");
  const GroupedParams& p = c.grouped;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  int tile0, tiles;
  TilesOf(p.split, p.n, static_cast<int>(blockIdx.x), &tile0, &tiles);
  const int row_bytes = p.split.warps * kSlice * 2, part_rows = tiles * kTileRows, all_pairs = c.rows * c.slots;
  uint8_t* const staged = shared + p.split.SharedBytes();
  auto* const results = reinterpret_cast<float*>(staged + all_pairs * row_bytes);
  const Choices choices(reinterpret_cast<uint8_t*>(results + all_pairs * p.split.tiles * kTileRows), p.experts);
  asm volatile("griddepcontrol.wait;" ::: "memory");  // who is chosen is not known before
  const auto weight_of = [&](int i) { return c.weights[i / c.slots * c.weight_row + i % c.slots * c.weight_step]; };
  const int threads = static_cast<int>(blockDim.x), mine = threads - 1 - thread;  // the last threads load less else
  const float weight = mine < all_pairs ? weight_of(mine) : 0.0f;
  choices.Load(p, all_pairs);
  if (mine < all_pairs) weights[mine] = weight;
  for (int i = mine + threads; i < all_pairs; i += threads) weights[i] = weight_of(i);
  __syncthreads();
  const int pairs = choices.begin[p.experts];
  if (thread < 32) {
    int found = 0;
    for (int base = 0; base < p.experts; base += 32) {
      const int e = base + lane;
      const int begin = e < p.experts ? choices.begin[e] : 0, end = e < p.experts ? choices.begin[e + 1] : 0;
      const uint32_t chosen = __ballot_sync(~0u, end > begin);
      if (end > begin) {
        sets[found + __popc(chosen & ((1u << lane) - 1))] = {choices.table[e], begin, end - begin};
      }
      found += __popc(chosen);
    }
    if (lane == 0) set_count = found;
  }
  __syncthreads();
  if (pairs < all_pairs) {  // a padding row's are not computed
    for (int i = thread; i < all_pairs * part_rows; i += static_cast<int>(blockDim.x)) results[i] = 0;
    __syncthreads();
  }
  if (set_count > 0) {
    StagedPairs columns{{},    p,         choices,           sets,     staged, results, set_count,
                        pairs, row_bytes, tile0 * kTileRows, part_rows};
    SetStream<kKind, kSlice>::Run(columns.Weights(0), p.n, p.k, p.split, tile0, tiles, shared, columns, 0);
  }
  __syncthreads();
  const int pieces = part_rows / 4;
  for (int id = thread; id < c.rows * pieces; id += static_cast<int>(blockDim.x)) {
    const int r = id / pieces, at = (id - r * pieces) * 4, row = tile0 * kTileRows + at;
    if (row >= p.n) continue;
    float4 sum = make_float4(0, 0, 0, 0);
    for (int slot = 0; slot < c.slots; ++slot) {
      const float weight = weights[r * c.slots + slot];
      const float4 v = *reinterpret_cast<const float4*>(results + (r * c.slots + slot) * part_rows + at);
      sum = make_float4(fmaf(weight, v.x, sum.x), fmaf(weight, v.y, sum.y), fmaf(weight, v.z, sum.z),
                        fmaf(weight, v.w, sum.w));
    }
    p.out.Store(r, row, sum);
  }
}

int64_t StagedBytes(const StreamSplit& split, int64_t pairs) { return pairs * split.warps * split.slice * 2; }

template <WeightKind kKind, int kSlice>
void LaunchCombined(CombinedParams c, const ExpertTable& table, const LaunchOptions& options) {
  StreamSplit& split = c.grouped.split;
  const int64_t pairs = int64_t{c.rows} * c.slots;
  const auto behind = [&] {
    return StagedBytes(split, pairs) + pairs * split.tiles * kTileRows * 4 + Choices::Bytes(table.experts(), pairs);
  };
  int64_t waves = 1;
  do {
    Share<SetStream<kKind, kSlice>>(split, c.grouped.n, table.scales(), ClustersAtOnce(1) * waves++,
                                    static_cast<int>(pairs));
  } while (split.tiles > 1 && split.SharedBytes() + behind() > kMostShared - 8 * 1024);
  LaunchStream<CombinedExpertsKernel<kKind, kSlice>>(kCombined, c, split, split.clusters, options, behind());
}
template <WeightKind kKind>
void ForCombined(const CombinedParams& c, const ExpertTable& table, const LaunchOptions& options) {
  if (c.grouped.split.slice == 256) return LaunchCombined<kKind, 256>(c, table, options);
  LaunchCombined<kKind, 128>(c, table, options);
}

}  // namespace

bool HonoursGatedExperts(const GatedExpertsArgs& args, const ExpertTable& table) {
  const auto* out = std::get_if<View<bf16, 2>>(&args.gating.out);
  const auto* between = std::get_if<View<bf16, 2>>(&args.product.out);
  const auto* gate = std::get_if<View<const bf16, 2>>(&args.gating.gate);
  const auto* up = std::get_if<View<const bf16, 2>>(&args.gating.up);
  const int64_t n = RowCount(table.first()), rows = Extent(args.product.x, 0);
  return out && between && gate && up && gate->data == between->data && up->data == between->data + n / 2 &&
         out->stride[1] == 1 && n % 32 == 0 && gate->shape[1] == n / 2 && rows >= 1 && rows <= kMostRows &&
         args.product.pairs.shape[0] > 0;
}

void GatedExperts(const GatedExpertsArgs& args, const ExpertTable& table, const LaunchOptions& options) {
  CheckLayout(HonoursGatedExperts(args, table), kGated, "views", "as HonoursGatedExperts says", "others");
  GroupedParams p = ParamsOf(args.product, table);
  p.out = OutputOf(kGated, std::get<View<bf16, 2>>(args.gating.out));
  p.split = DivideExperts(p.n, p.k);
  const int64_t pairs = args.product.pairs.shape[0];
  if (p.kind == WeightKind::kMxfp4) return ForGated<WeightKind::kMxfp4>(p, pairs, table, options);
  if (p.kind == WeightKind::kBf16) return ForGated<WeightKind::kBf16>(p, pairs, table, options);
  ForGated<WeightKind::kFp8>(p, pairs, table, options);
}

bool HonoursCombinedExperts(const CombinedExpertsArgs& args, const ExpertTable& table) {
  const auto* between = std::get_if<View<float, 2>>(&args.product.out);
  const auto* summed = std::get_if<View<const float, 2>>(&args.combine.pairs);
  const StreamSplit split = DivideExperts(RowCount(table.first()), ColumnCount(table.first()));
  const int64_t pairs = args.product.pairs.shape[0];
  return between && summed && summed->data == between->data && !args.combine.shared &&
         args.product.pairs_per_row == 1 && pairs > 0 && pairs <= kMostPairs &&
         args.combine.expert_weights.shape[0] <= kMostRows && pairs == args.combine.expert_weights.size() &&
         split.ranks == 1 && split.rounds == 1 && StagedBytes(split, pairs) <= kMostStaged;
}

void CombinedExperts(const CombinedExpertsArgs& args, const ExpertTable& table, const LaunchOptions& options) {
  CheckLayout(HonoursCombinedExperts(args, table), kCombined, "views", "as HonoursCombinedExperts says", "others");
  CombinedParams c{};
  c.grouped = ParamsOf(args.product, table);
  c.grouped.out = OutputOf(kCombined, args.combine.out);
  c.grouped.split = DivideExperts(c.grouped.n, c.grouped.k);
  c.weights = args.combine.expert_weights.data;
  c.weight_row = args.combine.expert_weights.stride[0];
  c.weight_step = args.combine.expert_weights.stride[1];
  c.rows = static_cast<int>(args.combine.expert_weights.shape[0]);
  c.slots = static_cast<int>(args.combine.expert_weights.shape[1]);
  const WeightKind kind = c.grouped.kind;
  if (kind == WeightKind::kMxfp4) return ForCombined<WeightKind::kMxfp4>(c, table, options);
  if (kind == WeightKind::kBf16) return ForCombined<WeightKind::kBf16>(c, table, options);
  ForCombined<WeightKind::kFp8>(c, table, options);
}

}  // namespace mxmla::cuda
