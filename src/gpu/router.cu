// Gating in two launches: the experts' logits, whose sums are of float32 and in an order that the hidden size alone
// fixes, then each row's choice by one block.
#include "gpu/row_io.cuh"
#include "gpu/row_kernels.h"

namespace mxmla::gpu {
namespace {

struct LogitParams {
  FloatPlane<const void> x;       // (rows, hidden)
  FloatPlane<const void> weight;  // (experts, hidden)
  float* logits;                  // (rows, experts)
  int64_t logit_row, logit_step;
  int64_t rows, experts, hidden;
  int64_t row_tiles;
};

constexpr int kLogitThreads = 128;

// A block has kRows x kExperts logits; its threads deal the hidden dimension out in pieces.
template <Access kX, Access kWeight, int kRows, int kExperts>
__global__ void __launch_bounds__(kLogitThreads) LogitKernel(const LogitParams p) {
  constexpr int kWaves = kLogitThreads / kWave;
  __shared__ float partial[kWaves][kRows * kExperts];
  WaitForPredecessor();
  const int64_t row0 = blockIdx.x % p.row_tiles * kRows;
  const int64_t expert0 = blockIdx.x / p.row_tiles * kExperts;
  float sum[kRows][kExperts] = {};
  constexpr bool kWhole = kX != Access::kAny && kWeight != Access::kAny;
  constexpr int kAhead = kRows * kExperts <= 2 ? 4 : kRows * kExperts <= 16 ? 2 : 1;  // rounds whose loads fly together
  constexpr int64_t kRound = kLogitThreads * kPiece;
  const int64_t mine = int64_t{threadIdx.x} * kPiece;
  for (int64_t first = mine; first < p.hidden; first += kAhead * kRound) {
    float w[kAhead][kExperts][kPiece], x[kAhead][kRows][kPiece];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int64_t begin = first + a * kRound < p.hidden ? first + a * kRound : mine;  // any piece there is
      const int count = kWhole ? kPiece : static_cast<int>(min(p.hidden - begin, int64_t{kPiece}));
#pragma unroll
      for (int e = 0; e < kExperts; ++e) {
        LoadPiece<kWeight>(p.weight, min(expert0 + e, p.experts - 1), 0, begin, count, w[a][e]);
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) LoadPiece<kX>(p.x, min(row0 + r, p.rows - 1), 0, begin, count, x[a][r]);
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (first + a * kRound >= p.hidden) break;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int e = 0; e < kExperts; ++e) {
#pragma unroll
          for (int i = 0; i < kPiece; ++i) sum[r][e] = fmaf(x[a][r][i], w[a][e][i], sum[r][e]);
        }
      }
    }
  }
  const int lane = static_cast<int>(threadIdx.x) % kWave;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int e = 0; e < kExperts; ++e) {
#pragma unroll
      for (int step = kWave / 2; step > 0; step /= 2) sum[r][e] += ShuffleXor(sum[r][e], step);
      if (lane == 0) partial[threadIdx.x / kWave][r * kExperts + e] = sum[r][e];
    }
  }
  __syncthreads();
  const int i = static_cast<int>(threadIdx.x);
  const int64_t r = row0 + i / kExperts;
  const int64_t e = expert0 + i % kExperts;
  if (i >= kRows * kExperts || r >= p.rows || e >= p.experts) return;
  float logit = 0;
#pragma unroll
  for (int wave = 0; wave < kWaves; ++wave) logit += partial[wave][i];
  p.logits[r * p.logit_row + e * p.logit_step] = logit;
}

template <Access kX, Access kWeight, int kRows, int kExperts>
void LaunchTiles(const ExecContext& context, LogitParams p) {
  static_assert(kRows * kExperts <= kLogitThreads);
  p.row_tiles = DivideUp(p.rows, kRows);
  Launch(context, "router", LogitKernel<kX, kWeight, kRows, kExperts>, p.row_tiles * DivideUp(p.experts, kExperts),
         kLogitThreads, 0, p);
}

// Few rows: many blocks; many rows: few readings of the weights and of x. The sums are the same.
template <Access kX, Access kWeight>
void LaunchLogits(const ExecContext& context, const LogitParams& p) {
  if (p.rows <= 2) return LaunchTiles<kX, kWeight, 1, 2>(context, p);
  if constexpr (kX != Access::kAny) {
    // Large tiles read less, where there are enough of them for a large card. The sums are the same.
    constexpr int64_t kManyTiles = 256;
    const bool many = DivideUp(p.rows, 16) * DivideUp(p.experts, 8) >= kManyTiles;
    if (many) return LaunchTiles<kX, kWeight, 16, 8>(context, p);
  }
  LaunchTiles<kX, kWeight, 4, 4>(context, p);
}

struct ChoiceParams {
  const float* logits;  // (rows, experts)
  int64_t logit_row, logit_step;
  Strided<const float> bias;          // (experts) or absent
  Strided<const int32_t> row_length;  // (rows) or absent
  int32_t* ids;                       // (rows, top_k)
  int64_t id_row, id_step;
  float* weights;  // (rows, top_k)
  int64_t weight_row, weight_step;
  int experts, groups, group_size, topk_group, top_k;
  RouterMethod method;
  bool normalize;
  float factor;
};

constexpr int kChoiceThreads = 256;
constexpr int kChoiceWaves = kChoiceThreads / kWave;

// Bits that order as scores do, NaN with the lowest; 0 is below all.
__device__ __forceinline__ uint32_t KeyOf(float score) {
  const uint32_t bits = std::bit_cast<uint32_t>(isnan(score) ? -INFINITY : score + 0.0f);  // one zero
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

template <class T, class Combine>
__device__ T BlockReduce(T value, const Combine& combine) {
  __shared__ T waves[kChoiceWaves];
  for (int step = kWave / 2; step > 0; step /= 2) value = combine(value, ShuffleXor(value, step));
  __syncthreads();
  if (threadIdx.x % kWave == 0) waves[threadIdx.x / kWave] = value;
  __syncthreads();
  value = waves[0];
  for (int wave = 1; wave < kChoiceWaves; ++wave) value = combine(value, waves[wave]);
  return value;
}

// Each thread turns the logits of its own experts into scores.
__device__ void Score(const ChoiceParams& p, float* scores /* shared, (experts) */) {
  const int thread = static_cast<int>(threadIdx.x);
  if (p.method == RouterMethod::kNoauxTc) {
    for (int e = thread; e < p.experts; e += kChoiceThreads) scores[e] = 1.0f / (1.0f + expf(-scores[e]));
    return;
  }
  float largest = -INFINITY;
  for (int e = thread; e < p.experts; e += kChoiceThreads) largest = fmaxf(largest, scores[e]);
  largest = BlockReduce(largest, [](float a, float b) { return fmaxf(a, b); });
  float sum = 0;
  for (int e = thread; e < p.experts; e += kChoiceThreads) {
    scores[e] = expf(scores[e] - largest);
    sum += scores[e];  // NaN with any NaN among them
  }
  sum = BlockReduce(sum, [](float a, float b) { return a + b; });
  for (int e = thread; e < p.experts; e += kChoiceThreads) scores[e] /= sum;
}

// A group's score by one wave: its largest choice score, with kNoauxTc its two largest added up.
__device__ void ScoreGroups(const ChoiceParams& p, const float* choices, uint32_t* group_keys /* shared, (groups) */) {
  const int lane = static_cast<int>(threadIdx.x) % kWave;
  for (int g = static_cast<int>(threadIdx.x) / kWave; g < p.groups; g += kChoiceWaves) {
    float first = -INFINITY, second = -INFINITY;
    for (int i = lane; i < p.group_size; i += kWave) {
      const float score = choices[g * p.group_size + i];
      if (score > first) {
        second = first;
        first = score;
      } else if (score > second) {
        second = score;
      }
    }
    for (int step = kWave / 2; step > 0; step /= 2) {
      const float other = ShuffleXor(first, step);
      second = fmaxf(fminf(first, other), fmaxf(second, ShuffleXor(second, step)));
      first = fmaxf(first, other);
    }
    const bool two = p.method == RouterMethod::kNoauxTc && p.group_size > 1;
    if (lane == 0) group_keys[g] = KeyOf(two ? first + second : first);
  }
}

// Whether a group is among the topk_group best, lower groups first on a tie.
__device__ bool IsKept(const ChoiceParams& p, const uint32_t* group_keys, int group) {
  int better = 0;
  for (int other = 0; other < p.groups; ++other) {
    better += group_keys[other] > group_keys[group] || (other < group && group_keys[other] == group_keys[group]);
  }
  return better < p.topk_group;
}

// One wave takes the best expert top_k times, the lower one on a tie; a lane keeps the best of its own and looks again
// when that one is taken. A key of 0 cannot be chosen.
__device__ void TakeBest(const ChoiceParams& p, int64_t r, const float* scores,
                         uint32_t* keys /* shared, (experts) */) {
  const int lane = static_cast<int>(threadIdx.x);
  int32_t* ids = p.ids + r * p.id_row;
  float* weights = p.weights + r * p.weight_row;
  uint32_t best = 0, at = 0;
  const auto look = [&] {
    best = at = 0;
    for (int e = lane; e < p.experts; e += kWave) {
      if (keys[e] <= best) continue;
      best = keys[e];
      at = static_cast<uint32_t>(e);
    }
  };
  look();
  float sum = 0;
  for (int s = 0; s < p.top_k; ++s) {
    const uint32_t key = WaveMax(best);
    const uint32_t expert = ~WaveMax(best == key ? ~at : 0u);
    sum += scores[expert];
    if (expert % kWave == static_cast<uint32_t>(lane)) {
      keys[expert] = 0;
      ids[s * p.id_step] = static_cast<int32_t>(expert);
      look();
    }
    WaveBarrier();
  }
  const float factor = p.factor / (p.normalize ? sum + 1e-20f : 1.0f);
  for (int s = lane; s < p.top_k; s += kWave) {
    weights[s * p.weight_step] = scores[ids[s * p.id_step]] * factor;
  }
}

__global__ void __launch_bounds__(kChoiceThreads) ChoiceKernel(const ChoiceParams p) {
  extern __shared__ float shared[];
  float* scores = shared;                                               // (experts)
  float* choices = scores + p.experts;                                  // (experts), then their keys
  auto* group_keys = reinterpret_cast<uint32_t*>(choices + p.experts);  // (groups)
  auto* keys = reinterpret_cast<uint32_t*>(choices);
  const int thread = static_cast<int>(threadIdx.x);
  WaitForPredecessor();
  const int64_t r = blockIdx.x;
  if (p.row_length && p.row_length(r) <= 0) {
    for (int s = thread; s < p.top_k; s += kChoiceThreads) {
      p.ids[r * p.id_row + s * p.id_step] = -1;
      p.weights[r * p.weight_row + s * p.weight_step] = 0;
    }
    return;
  }
  for (int e = thread; e < p.experts; e += kChoiceThreads) scores[e] = p.logits[r * p.logit_row + e * p.logit_step];
  Score(p, scores);
  for (int e = thread; e < p.experts; e += kChoiceThreads) choices[e] = p.bias ? scores[e] + p.bias(e) : scores[e];
  __syncthreads();
  if (p.groups > 0) {
    ScoreGroups(p, choices, group_keys);
    __syncthreads();
  }
  for (int e = thread; e < p.experts; e += kChoiceThreads) {
    const bool kept = p.groups == 0 || IsKept(p, group_keys, e / p.group_size);
    keys[e] = kept ? KeyOf(choices[e]) : 0;
  }
  __syncthreads();
  if (thread < kWave) TakeBest(p, r, scores, keys);
}

LogitParams LogitParamsOf(const RouterArgs& args) {
  LogitParams p{};
  p.x = FloatPlaneOf(args.x);
  if (const auto* plain = std::get_if<View<const float, 2>>(&args.weight)) {
    p.weight = FloatPlaneOf(*plain);
  } else {
    p.weight = FloatPlaneOf(std::get<View<const bf16, 2>>(args.weight));
  }
  p.logits = args.logits.data;
  p.logit_row = args.logits.stride[0];
  p.logit_step = args.logits.stride[1];
  p.rows = args.logits.shape[0];
  p.experts = args.logits.shape[1];
  p.hidden = Extent(args.x, 1);
  return p;
}

}  // namespace

void Router(const ExecContext& context, const RouterArgs& args) {
  const LogitParams logits = LogitParamsOf(args);
  if (logits.rows == 0 || logits.experts == 0 || args.options.top_k == 0) return;
  if (Has(logits.x, Access::kHalf, logits.hidden) && Has(logits.weight, Access::kHalf, logits.hidden)) {
    LaunchLogits<Access::kHalf, Access::kHalf>(context, logits);
  } else if (Has(logits.x, Access::kHalf, logits.hidden) && Has(logits.weight, Access::kFull, logits.hidden)) {
    LaunchLogits<Access::kHalf, Access::kFull>(context, logits);
  } else {
    LaunchLogits<Access::kAny, Access::kAny>(context, logits);
  }
  const RouterOptions& options = args.options;
  ChoiceParams p{};
  p.logits = logits.logits;
  p.logit_row = logits.logit_row;
  p.logit_step = logits.logit_step;
  if (options.method == RouterMethod::kNoauxTc) p.bias = StridedOf(args.bias);
  p.row_length = StridedOf(args.row_length);
  p.ids = args.expert_ids.data;
  p.id_row = args.expert_ids.stride[0];
  p.id_step = args.expert_ids.stride[1];
  p.weights = args.expert_weights.data;
  p.weight_row = args.expert_weights.stride[0];
  p.weight_step = args.expert_weights.stride[1];
  p.experts = static_cast<int>(logits.experts);
  const bool grouped = options.method != RouterMethod::kGreedy;
  p.groups = grouped ? static_cast<int>(options.n_group) : 0;
  p.group_size = grouped ? static_cast<int>(logits.experts / options.n_group) : 0;
  p.topk_group = static_cast<int>(options.topk_group);
  p.top_k = static_cast<int>(options.top_k);
  p.method = options.method;
  p.normalize = options.norm_topk_prob;
  p.factor = options.routed_scaling_factor;
  // With room behind the groups' keys: the compiler reads several at once, also where the loop ends before.
  const int64_t words = 2 * logits.experts + p.groups + 4;
  const auto shared = static_cast<size_t>(words) * sizeof(float);
  Launch(context, "router", ChoiceKernel, logits.rows, kChoiceThreads, shared, p);
}

}  // namespace mxmla::gpu
