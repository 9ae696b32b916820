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
template <int kRows, int kExperts>
__global__ void __launch_bounds__(kLogitThreads) LogitKernel(const LogitParams p) {
  constexpr int kWaves = kLogitThreads / kWave;
  __shared__ float partial[kWaves][kRows * kExperts];
  const int64_t row0 = blockIdx.x % p.row_tiles * kRows;
  const int64_t expert0 = blockIdx.x / p.row_tiles * kExperts;
  for (int64_t begin = int64_t{threadIdx.x} * kPiece; begin < p.hidden; begin += kLogitThreads * kPiece) {
    for (int e = 0; e < kExperts; ++e) Prefetch(p.weight, min(expert0 + e, p.experts - 1), begin, kPiece);
  }
  WaitForPredecessor();
  float sum[kRows][kExperts] = {};
  constexpr int kAhead = kRows * kExperts <= 2 ? 4 : kRows * kExperts <= 16 ? 2 : 1;  // rounds whose loads fly together
#pragma unroll kAhead
  for (int64_t begin = int64_t{threadIdx.x} * kPiece; begin < p.hidden; begin += kLogitThreads * kPiece) {
    const int count = static_cast<int>(min(p.hidden - begin, int64_t{kPiece}));
    float w[kExperts][kPiece];
#pragma unroll
    for (int e = 0; e < kExperts; ++e) {
      LoadPiece(p.weight, min(expert0 + e, p.experts - 1), 0, begin, count, w[e]);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float x[kPiece];
      LoadPiece(p.x, min(row0 + r, p.rows - 1), 0, begin, count, x);
#pragma unroll
      for (int e = 0; e < kExperts; ++e) {
#pragma unroll
        for (int i = 0; i < kPiece; ++i) sum[r][e] = fmaf(x[i], w[e][i], sum[r][e]);
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

template <int kRows, int kExperts>
void LaunchLogits(const ExecContext& context, LogitParams p) {
  static_assert(kRows * kExperts <= kLogitThreads);
  p.row_tiles = DivideUp(p.rows, kRows);
  Launch(context, "router", LogitKernel<kRows, kExperts>, p.row_tiles * DivideUp(p.experts, kExperts), kLogitThreads, 0,
         p);
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
  double factor;
};

constexpr int kChoiceThreads = 128;

// Scores in the order of a ranking: larger first, the lower number on a tie, NaN with the lowest.
__device__ __forceinline__ uint64_t Rank(float score, int number) {
  const uint32_t bits = std::bit_cast<uint32_t>(isnan(score) ? -INFINITY : score + 0.0f);  // one zero
  const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return uint64_t{ordered} << 32 | (0xffffffffu - static_cast<uint32_t>(number));
}
__device__ __forceinline__ int NumberOf(uint64_t rank) {
  return static_cast<int>(0xffffffffu - static_cast<uint32_t>(rank));
}
__device__ __forceinline__ uint64_t WaveMax(uint64_t value) {
  for (int step = kWave / 2; step > 0; step /= 2) {
    const uint64_t other = ShuffleXor(static_cast<unsigned long long>(value), step);
    value = other > value ? other : value;
  }
  return value;
}

template <class T, class Combine>
__device__ T BlockReduce(T value, T* waves /* shared, (kChoiceThreads / kWave) */, const Combine& combine) {
  for (int step = kWave / 2; step > 0; step /= 2) value = combine(value, ShuffleXor(value, step));
  __syncthreads();
  if (threadIdx.x % kWave == 0) waves[threadIdx.x / kWave] = value;
  __syncthreads();
  value = waves[0];
  for (int wave = 1; wave < kChoiceThreads / kWave; ++wave) value = combine(value, waves[wave]);
  return value;
}

// The logits become scores, in float64 rounded once.
__device__ void Score(const ChoiceParams& p, float* scores /* shared, (experts) */) {
  const int thread = static_cast<int>(threadIdx.x);
  if (p.method == RouterMethod::kNoauxTc) {
    for (int e = thread; e < p.experts; e += kChoiceThreads) {
      scores[e] = static_cast<float>(1.0 / (1.0 + exp(-static_cast<double>(scores[e]))));
    }
    return;
  }
  __shared__ float largest_of[kChoiceThreads / kWave];
  __shared__ double sum_of[kChoiceThreads / kWave];
  float largest = -INFINITY;
  bool nan = false;
  for (int e = thread; e < p.experts; e += kChoiceThreads) {
    largest = fmaxf(largest, scores[e]);
    nan = nan || isnan(scores[e]);
  }
  if (nan) largest = INFINITY;  // then every score is NaN, as a sum with NaN makes it
  largest = BlockReduce(largest, largest_of, [](float a, float b) { return fmaxf(a, b); });
  double sum = 0;
  for (int e = thread; e < p.experts; e += kChoiceThreads) {
    sum += exp(static_cast<double>(scores[e]) - static_cast<double>(largest));
  }
  sum = BlockReduce(sum, sum_of, [](double a, double b) { return a + b; });
  for (int e = thread; e < p.experts; e += kChoiceThreads) {
    scores[e] = static_cast<float>(exp(static_cast<double>(scores[e]) - static_cast<double>(largest)) / sum);
  }
}

__device__ __forceinline__ float ChoiceScore(const ChoiceParams& p, const float* scores, int e) {
  return p.bias ? scores[e] + p.bias(e) : scores[e];
}

// A group's score by one wave: its largest choice score, with kNoauxTc its two largest added up.
__device__ void ScoreGroups(const ChoiceParams& p, const float* scores, float* group_scores /* shared, (groups) */) {
  const int lane = static_cast<int>(threadIdx.x) % kWave;
  for (int g = static_cast<int>(threadIdx.x) / kWave; g < p.groups; g += kChoiceThreads / kWave) {
    float first = -INFINITY, second = -INFINITY;
    for (int i = lane; i < p.group_size; i += kWave) {
      const float score = ChoiceScore(p, scores, g * p.group_size + i);
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
    if (lane == 0) group_scores[g] = two ? first + second : first;
  }
}

// Marks the experts of all groups but the topk_group best.
__device__ void DropGroups(const ChoiceParams& p, const float* group_scores, bool* dropped /* shared, (experts) */) {
  for (int g = static_cast<int>(threadIdx.x); g < p.groups; g += kChoiceThreads) {
    const uint64_t rank = Rank(group_scores[g], g);
    int better = 0;
    for (int other = 0; other < p.groups; ++other) better += Rank(group_scores[other], other) > rank;
    if (better < p.topk_group) continue;
    for (int i = 0; i < p.group_size; ++i) dropped[g * p.group_size + i] = true;
  }
}

// One wave takes the best expert top_k times; a lane keeps the best of its own and looks again when that one is taken.
__device__ void TakeBest(const ChoiceParams& p, int64_t r, const float* scores, bool* dropped /* shared, (experts) */) {
  const int lane = static_cast<int>(threadIdx.x);
  int32_t* ids = p.ids + r * p.id_row;
  float* weights = p.weights + r * p.weight_row;
  const auto best_of_lane = [&] {
    uint64_t best = 0;  // below every rank
    for (int e = lane; e < p.experts; e += kWave) {
      if (dropped[e]) continue;
      const uint64_t rank = Rank(ChoiceScore(p, scores, e), e);
      best = rank > best ? rank : best;
    }
    return best;
  };
  uint64_t own = best_of_lane();
  double sum = 0;
  for (int s = 0; s < p.top_k; ++s) {
    const int expert = NumberOf(WaveMax(own));
    sum += static_cast<double>(scores[expert]);
    if (expert % kWave != lane) continue;
    dropped[expert] = true;
    ids[s * p.id_step] = expert;
    own = best_of_lane();
  }
  WaveBarrier();
  const double factor = p.factor / (p.normalize ? sum + 1e-20 : 1.0);
  for (int s = lane; s < p.top_k; s += kWave) {
    weights[s * p.weight_step] = static_cast<float>(static_cast<double>(scores[ids[s * p.id_step]]) * factor);
  }
}

__global__ void __launch_bounds__(kChoiceThreads) ChoiceKernel(const ChoiceParams p) {
  extern __shared__ float shared[];
  float* scores = shared;                                            // (experts)
  float* group_scores = scores + p.experts;                          // (groups)
  bool* dropped = reinterpret_cast<bool*>(group_scores + p.groups);  // (experts)
  WaitForPredecessor();
  const int64_t r = blockIdx.x;
  if (p.row_length && p.row_length(r) <= 0) {
    for (int s = static_cast<int>(threadIdx.x); s < p.top_k; s += kChoiceThreads) {
      p.ids[r * p.id_row + s * p.id_step] = -1;
      p.weights[r * p.weight_row + s * p.weight_step] = 0;
    }
    return;
  }
  for (int e = static_cast<int>(threadIdx.x); e < p.experts; e += kChoiceThreads) {
    scores[e] = p.logits[r * p.logit_row + e * p.logit_step];
    dropped[e] = false;
  }
  __syncthreads();
  Score(p, scores);
  __syncthreads();
  if (p.groups > 0) {
    ScoreGroups(p, scores, group_scores);
    __syncthreads();
    DropGroups(p, group_scores, dropped);
    __syncthreads();
  }
  if (threadIdx.x < kWave) TakeBest(p, r, scores, dropped);
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
  // Large tiles read the weights and x less often, but only where there are enough for two on each multiprocessor of a
  // large card. The sums are the same.
  constexpr int64_t kManyBlocks = 256;
  if (logits.rows <= 2) {
    LaunchLogits<1, 2>(context, logits);
  } else if (DivideUp(logits.rows, 16) * DivideUp(logits.experts, 8) < kManyBlocks) {
    LaunchLogits<4, 4>(context, logits);
  } else {
    LaunchLogits<16, 8>(context, logits);
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
  p.factor = static_cast<double>(options.routed_scaling_factor);
  const int64_t shared = (logits.experts + p.groups) * int64_t{sizeof(float)} + logits.experts;
  Launch(context, "router", ChoiceKernel, logits.rows, kChoiceThreads, static_cast<size_t>(shared), p);
}

}  // namespace mxmla::gpu
