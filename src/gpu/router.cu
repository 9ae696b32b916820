// Gating in two launches: the experts' logits, whose sums are of float32 and in an order that the hidden size alone
// fixes, then each row's choice by one block.
#include "gpu/norm_row.cuh"
#include "gpu/quantized_rows.cuh"
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

// An expert's place among the row's choices is the number of experts before it: larger keys, and of like ones those of
// lower numbers. A key of 0 cannot be chosen. All threads of the block call.
__device__ void TakeBest(const ChoiceParams& p, int64_t r, const float* scores /* shared, (experts) */,
                         const uint32_t* keys /* shared, (experts), zeros up to a multiple of 4 behind */,
                         float* chosen /* shared, (top_k) */, int32_t* chosen_ids /* shared, (top_k), or null */) {
  int32_t* ids = p.ids + r * p.id_row;
  float* weights = p.weights + r * p.weight_row;
  for (int e = static_cast<int>(threadIdx.x); e < p.experts; e += kChoiceThreads) {
    const uint32_t key = keys[e];
    int place = 0;
    for (int other = 0; other < p.experts; other += 4) {
      const uint4 four = *reinterpret_cast<const uint4*>(keys + other);
      place += (four.x > key || (four.x == key && other < e)) + (four.y > key || (four.y == key && other + 1 < e)) +
               (four.z > key || (four.z == key && other + 2 < e)) + (four.w > key || (four.w == key && other + 3 < e));
    }
    if (key == 0 || place >= p.top_k) continue;
    ids[place * p.id_step] = e;
    chosen[place] = scores[e];
    if (chosen_ids) chosen_ids[place] = e;
  }
  __syncthreads();
  float sum = 0;
  if (p.normalize) {
    for (int s = 0; s < p.top_k; ++s) sum += chosen[s];
  }
  const float factor = p.factor / (p.normalize ? sum + 1e-20f : 1.0f);
  for (int s = static_cast<int>(threadIdx.x); s < p.top_k; s += kChoiceThreads) {
    weights[s * p.weight_step] = chosen[s] * factor;
  }
}

// The words of shared memory that a choice takes.
int64_t ChoiceWords(int64_t experts, int64_t groups, int64_t top_k) {
  return 2 * (DivideUp(experts, 4) * 4) + DivideUp(groups, 4) * 4 + top_k;
}

// One row's choice by a block.
__device__ void Choose(const ChoiceParams& p, int64_t r, bool padding,
                       float* shared /* ChoiceWords, on a 16-byte boundary */,
                       int32_t* chosen_ids /* shared, (top_k), or null */) {
  const int padded = (p.experts + 3) / 4 * 4;
  float* scores = shared;                                            // (experts)
  float* choices = scores + padded;                                  // (experts), then their keys
  auto* group_keys = reinterpret_cast<uint32_t*>(choices + padded);  // (groups)
  float* chosen = choices + padded + (p.groups + 3) / 4 * 4;         // (top_k)
  auto* keys = reinterpret_cast<uint32_t*>(choices);
  const int thread = static_cast<int>(threadIdx.x);
  if (padding) {
    for (int s = thread; s < p.top_k; s += kChoiceThreads) {
      if (chosen_ids) chosen_ids[s] = -1;
      p.ids[r * p.id_row + s * p.id_step] = -1;
      p.weights[r * p.weight_row + s * p.weight_step] = 0;
    }
    return;
  }
  for (int e = thread; e < p.experts; e += kChoiceThreads) {
    scores[e] = LoadFresh(p.logits + r * p.logit_row + e * p.logit_step);
    if (p.bias) choices[e] = p.bias(e);
  }
  Score(p, scores);
  for (int e = thread; e < p.experts; e += kChoiceThreads) choices[e] = p.bias ? scores[e] + choices[e] : scores[e];
  __syncthreads();
  if (p.groups > 0) {
    ScoreGroups(p, choices, group_keys);
    __syncthreads();
  }
  for (int e = thread; e < padded; e += kChoiceThreads) {
    const bool kept = e < p.experts && (p.groups == 0 || IsKept(p, group_keys, e / p.group_size));
    keys[e] = kept ? KeyOf(choices[e]) : 0;
  }
  __syncthreads();
  TakeBest(p, r, scores, keys, chosen, chosen_ids);
}

__global__ void __launch_bounds__(kChoiceThreads) ChoiceKernel(const ChoiceParams p) {
  extern __shared__ __align__(16) float shared[];
  WaitForPredecessor();
  Choose(p, blockIdx.x, p.row_length && p.row_length(blockIdx.x) <= 0, shared, nullptr);
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

ChoiceParams ChoiceParamsOf(const RouterArgs& args) {
  const RouterOptions& options = args.options;
  ChoiceParams p{};
  p.logits = args.logits.data;
  p.logit_row = args.logits.stride[0];
  p.logit_step = args.logits.stride[1];
  if (options.method == RouterMethod::kNoauxTc) p.bias = StridedOf(args.bias);
  p.row_length = StridedOf(args.row_length);
  p.ids = args.expert_ids.data;
  p.id_row = args.expert_ids.stride[0];
  p.id_step = args.expert_ids.stride[1];
  p.weights = args.expert_weights.data;
  p.weight_row = args.expert_weights.stride[0];
  p.weight_step = args.expert_weights.stride[1];
  const int64_t experts = args.logits.shape[1];
  p.experts = static_cast<int>(experts);
  const bool grouped = options.method != RouterMethod::kGreedy;
  p.groups = grouped ? static_cast<int>(options.n_group) : 0;
  p.group_size = grouped ? static_cast<int>(experts / options.n_group) : 0;
  p.topk_group = static_cast<int>(options.topk_group);
  p.top_k = static_cast<int>(options.top_k);
  p.method = options.method;
  p.normalize = options.norm_topk_prob;
  p.factor = options.routed_scaling_factor;
  return p;
}

// --- few rows: norm, logits, choice and grouping in one launch ---

constexpr int64_t kFewRows = 4;
constexpr int kFewPairs = kChoiceThreads;
constexpr int kTeams = kChoiceThreads / kLogitThreads;  // an expert each
constexpr int64_t kFewHidden = 16384;

struct FewParams {
  FloatPlane<const void> x;         // (rows, hidden) float32
  FloatPlane<const void> residual;  // (rows, hidden), or absent
  FloatPlane<void> residual_out;    // (rows, hidden), or absent
  FloatPlane<const void> norm;      // (hidden)
  FloatPlane<void> normed;          // (rows, hidden) bf16
  float eps;
  LogitParams logit;
  ChoiceParams choice;
  const int32_t* pair_ids;  // (rows, slots)
  int64_t pair_row, pair_step;
  int slots;
  int32_t experts_of_pairs;
  Strided<int32_t> begin;    // (experts_of_pairs + 1)
  Strided<int32_t> pairs;    // (rows * slots)
  int* arrived;              // zero before and after
  QuantizedPlane quantized;  // (rows, hidden), or absent
};

// As GroupExpertsKernel, by one block.
__device__ void GroupFew(const FewParams& p, const int32_t* ids /* shared, (rows, slots) */) {
  const int thread = static_cast<int>(threadIdx.x), count = static_cast<int>(p.logit.rows) * p.slots;
  if (thread < count && ids[thread] >= 0) {
    int place = 0;
    for (int other = 0; other < count; ++other) {
      const int32_t id = ids[other];
      place += id >= 0 && (id < ids[thread] || (id == ids[thread] && other < thread));
    }
    p.pairs(place) = thread;
  }
  for (int e = thread; e <= p.experts_of_pairs; e += kChoiceThreads) {
    int lower = 0;
    for (int other = 0; other < count; ++other) lower += ids[other] >= 0 && ids[other] < e;
    p.begin(e) = lower;
  }
}

// Quantises what each block has normed, a block a row, with the bits of RmsNormKernel.
__device__ void QuantizeNormed(const FewParams& p, const uint16_t* normed /* shared, (rows, hidden) */) {
  const int64_t hidden = p.logit.hidden;
  for (int64_t r = blockIdx.x; r < p.logit.rows; r += gridDim.x) {
    for (int64_t first = 0; first < hidden; first += kChoiceThreads * kPiece) {  // whole waves: they quantise together
      const int64_t begin = first + int64_t{threadIdx.x} * kPiece;
      const bool there = begin < hidden;
      float v[kPiece] = {};
      if (there) DecodeHalves(*reinterpret_cast<const uint4*>(normed + r * hidden + begin), v);
      StoreQuantized(p.quantized, r, 0, begin, there ? kPiece : 0, v);
    }
  }
}

// Each block norms all rows and has the logits of kTeams experts, with the sums of RmsNormKernel and LogitKernel. The
// block that is the last to have them chooses for all.
template <Access kWeight, int kRows, bool kQuantized>
__global__ void __launch_bounds__(kChoiceThreads) NormRouterKernel(const FewParams p) {
  extern __shared__ __align__(16) float shared[];  // (kRows, hidden) of bf16; then what a choice takes
  __shared__ float waves[kRows][kMostNormThreads / kWave];
  constexpr int kTeamWaves = kLogitThreads / kWave;
  __shared__ float partial[kTeams][kTeamWaves][kRows];
  __shared__ int32_t ids[kFewPairs];
  __shared__ bool padding[kRows];
  __shared__ bool last;
  const int thread = static_cast<int>(threadIdx.x), team = thread / kLogitThreads, member = thread % kLogitThreads;
  const int64_t expert = int64_t{blockIdx.x} * kTeams + team;
  constexpr int kAhead = kRows == 1 ? 4 : 2;  // rounds whose loads fly together
  constexpr int64_t kRound = kLogitThreads * kPiece;
  const int64_t mine = int64_t{member} * kPiece, hidden = p.logit.hidden;
  float w[kAhead][kPiece];
  const auto load_weights = [&](int64_t first) {
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int64_t begin = first + a * kRound;
      if (begin < hidden) {
        LoadPiece<kWeight>(p.logit.weight, min(expert, p.logit.experts - 1), 0, begin, kPiece, w[a]);
      }
    }
  };
  load_weights(mine);
  float gain[kPiece] = {};
  if (int64_t{thread} * kPiece < hidden) {
    LoadPiece<Access::kFull>(p.norm, 0, 0, int64_t{thread} * kPiece, kPiece, gain);
  }
  WaitForPredecessor();
  const auto load_row = [&](int r) {
    return [&p, r](int64_t begin, int, float v[kPiece]) {
      LoadPiece<Access::kFull>(p.x, r, 0, begin, kPiece, v);
      if (p.residual.data == nullptr) return;
      float residual[kPiece];
      LoadPiece<Access::kFull>(p.residual, r, 0, begin, kPiece, residual);
#pragma unroll
      for (int i = 0; i < kPiece; ++i) v[i] += residual[i];
    };
  };
  const int rows = static_cast<int>(p.logit.rows);
  // On their way with the rows; needed by the last block's choice.
  const bool of_row = thread < rows && p.choice.row_length;
  const int32_t length = of_row ? p.choice.row_length(thread) : 1;
  const bool of_slot = thread < rows * p.slots && thread % p.slots >= p.choice.top_k;
  const int32_t id = of_slot ? p.pair_ids[thread / p.slots * p.pair_row + thread % p.slots * p.pair_step] : 0;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (r < rows) NormWaves(hidden, waves[r], load_row(r));
  }
  __syncthreads();
  if (thread < rows) padding[thread] = length <= 0;
  if (of_slot) ids[thread] = id;
  auto* const normed = reinterpret_cast<uint16_t*>(shared);
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (r >= rows) break;
    const float factor = NormFactor(NormTotal(hidden, waves[r]), hidden, p.eps, 1.0f);
    for (int64_t begin = int64_t{thread} * kPiece; begin < hidden; begin += kChoiceThreads * kPiece) {
      if (begin >= kChoiceThreads * kPiece || r > 0) {
        LoadPiece<Access::kFull>(p.norm, 0, 0, begin, kPiece, gain);
      }
      float v[kPiece];
      load_row(r)(begin, kPiece, v);
      if (blockIdx.x == 0 && p.residual_out.data != nullptr) {
        StorePiece<Access::kFull>(p.residual_out, r, 0, begin, kPiece, v);
      }
#pragma unroll
      for (int i = 0; i < kPiece; ++i) v[i] = gain[i] * (v[i] * factor);
      const FloatPlane<void> here{normed, hidden, 0, 1, true};
      StorePiece<Access::kHalf>(here, r, 0, begin, kPiece, v);
      if (blockIdx.x == 0) StorePiece<Access::kHalf>(p.normed, r, 0, begin, kPiece, v);
    }
  }
  __syncthreads();
  if constexpr (kQuantized) QuantizeNormed(p, normed);
  float sum[kRows] = {};
  for (int64_t first = mine; first < hidden; first += kAhead * kRound) {
    if (first > mine) load_weights(first);
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int64_t begin = first + a * kRound;
      if (begin >= hidden) break;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= rows) break;
        float x[kPiece];
        DecodeHalves(*reinterpret_cast<const uint4*>(normed + r * hidden + begin), x);
#pragma unroll
        for (int i = 0; i < kPiece; ++i) sum[r] = fmaf(x[i], w[a][i], sum[r]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int step = kWave / 2; step > 0; step /= 2) sum[r] += ShuffleXor(sum[r], step);
    if (thread % kWave == 0) partial[team][member / kWave][r] = sum[r];
  }
  __syncthreads();
  if (member < rows && expert < p.logit.experts) {
    float logit = 0;
#pragma unroll
    for (int wave = 0; wave < kTeamWaves; ++wave) logit += partial[team][wave][member];
    p.logit.logits[member * p.logit.logit_row + expert * p.logit.logit_step] = logit;
  }
  __syncthreads();
  if (thread == 0) {
    __threadfence();
    last = atomicAdd(p.arrived, 1) == static_cast<int>(gridDim.x) - 1;
    if (last) *p.arrived = 0;
    __threadfence();
  }
  __syncthreads();
  if (!last) return;
  for (int r = 0; r < rows; ++r) {
    Choose(p.choice, r, padding[r], shared, ids + r * p.slots);
    __syncthreads();
  }
  GroupFew(p, ids);
}

template <Access kWeight, int kRows, bool kQuantized>
void LaunchFew(const ExecContext& context, const FewParams& p) {
  const int64_t words =
      std::max(DivideUp(kRows * p.logit.hidden, 2), ChoiceWords(p.choice.experts, p.choice.groups, p.choice.top_k));
  constexpr size_t kMost = kRows * kFewHidden * 2;
  static const bool allowed =
      (AllowSharedBytes(NormRouterKernel<kWeight, kRows, kQuantized>, kMost, "norm_router"), true);
  (void)allowed;
  Launch(context, "norm_router", NormRouterKernel<kWeight, kRows, kQuantized>, DivideUp(p.logit.experts, kTeams),
         kChoiceThreads, static_cast<size_t>(words) * sizeof(float), p);
}

FewParams FewParamsOf(const NormRouterArgs& args) {
  FewParams p{};
  p.x = FloatPlaneOf(args.norm.x);
  if (args.norm.residual) {
    p.residual = FloatPlaneOf(View<const float, 2>(*args.norm.residual));
    if (args.norm.residual_out) p.residual_out = FloatPlaneOf(*args.norm.residual_out);
  }
  p.norm = FloatPlaneOf(args.norm.weight);
  if (args.norm.out) p.normed = FloatPlaneOf(*args.norm.out);
  p.eps = args.norm.eps;
  p.logit = LogitParamsOf(args.router);
  p.choice = ChoiceParamsOf(args.router);
  p.pair_ids = args.group.expert_ids.data;
  p.pair_row = args.group.expert_ids.stride[0];
  p.pair_step = args.group.expert_ids.stride[1];
  p.slots = static_cast<int>(args.group.expert_ids.shape[1]);
  p.experts_of_pairs = static_cast<int32_t>(args.group.expert_begin.shape[0] - 1);
  p.begin = StridedOf(args.group.expert_begin);
  p.pairs = StridedOf(args.group.pairs);
  if (args.norm.quantized) p.quantized = QuantizedPlaneOf(*args.norm.quantized, args.norm.scale_mode);
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
  const ChoiceParams p = ChoiceParamsOf(args);
  const auto shared = static_cast<size_t>(ChoiceWords(p.experts, p.groups, p.top_k)) * sizeof(float);
  Launch(context, "router", ChoiceKernel, logits.rows, kChoiceThreads, shared, p);
}

bool HonoursNormRouter(const NormRouterArgs& args) {
  const RmsNormArgs& norm = args.norm;
  const FewParams p = FewParamsOf(args);
  const int64_t rows = p.logit.rows, hidden = p.logit.hidden;
  const bool updates_elsewhere = !norm.residual || norm.residual_out;
  if (rows < 1 || rows > kFewRows || rows * p.slots > kFewPairs || hidden > kFewHidden || p.logit.experts > 1024 ||
      p.choice.top_k > 64 || !norm.out || norm.row_index || norm.out_index || norm.row_scale || !updates_elsewhere) {
    return false;
  }
  // StoreQuantized writes whole bytes of a row's codes, one behind the other.
  const bool dense_codes =
      !norm.quantized || std::visit([](const auto& to) { return to.values.stride[1] == 1; }, *norm.quantized);
  const bool x_is_out = p.logit.x.data == p.normed.data && p.logit.x.row == p.normed.row;
  const bool ids_agree = p.pair_ids == p.choice.ids && p.pair_row == p.choice.id_row &&
                         p.pair_step == p.choice.id_step && p.slots >= p.choice.top_k;
  return dense_codes && x_is_out && ids_agree && Extent(norm.x, 0) == rows && Has(p.x, Access::kFull, hidden) &&
         Has(p.residual, Access::kFull, hidden) && Has(p.residual_out, Access::kFull, hidden) &&
         Has(p.norm, Access::kFull, hidden) && Has(p.normed, Access::kHalf, hidden) &&
         (Has(p.logit.weight, Access::kFull, hidden) || Has(p.logit.weight, Access::kHalf, hidden));
}

WorkspaceSize NormRouterWorkspace(const NormRouterArgs&, int) { return {0, 0, sizeof(int)}; }

void NormRouter(const ExecContext& context, const NormRouterArgs& args) {
  FewParams p = FewParamsOf(args);
  p.arrived = context.Counters<int>(1);
  const auto launch = [&]<Access kWeight>() {
    const bool one = p.logit.rows == 1;
    if (args.norm.quantized) {
      return one ? LaunchFew<kWeight, 1, true>(context, p) : LaunchFew<kWeight, kFewRows, true>(context, p);
    }
    one ? LaunchFew<kWeight, 1, false>(context, p) : LaunchFew<kWeight, kFewRows, false>(context, p);
  };
  if (Has(p.logit.weight, Access::kFull, p.logit.hidden)) return launch.template operator()<Access::kFull>();
  launch.template operator()<Access::kHalf>();
}

}  // namespace mxmla::gpu
