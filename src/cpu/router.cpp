// Gating: the experts' scores in float32, then each row's choice.
#include <cmath>
#include <string>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd_math.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

constexpr int kTile = kParts == 1 ? 4 : 2;  // rows and experts of a register tile
constexpr int64_t kExpertBlock = 8;         // experts of a task
constexpr int64_t kRowBlock = 16;           // rows of a task
constexpr int64_t kMaxGroups = 1024;
constexpr float kTaken = -1.0f;  // marks a score that cannot be chosen (any more); scores are not negative

// out(i, j) = x(r + i) . w(e + j): one running sum of 16 lanes each, whatever the size of the tile.
template <int kRows, int kExperts, class X, class W>
void LogitTile(const View<const X, 2>& x, const View<const W, 2>& weight, int64_t r, int64_t e,
               const View<float, 2>& logits) {
  const int64_t n = x.shape[1];
  const X* x_row[kRows];
  const W* w_row[kExperts];
  F32x16 sum[kRows][kExperts];
  for (int i = 0; i < kRows; ++i) x_row[i] = x.data + (r + i) * x.stride[0];
  for (int j = 0; j < kExperts; ++j) w_row[j] = weight.data + (e + j) * weight.stride[0];
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kExperts; ++j) sum[i][j] = Zero();
  }
  const auto step = [&](const auto& load) __attribute__((always_inline)) {
    F32x16 w[kExperts];
#pragma GCC unroll 4
    for (int j = 0; j < kExperts; ++j) w[j] = load(w_row[j]);
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) {
      const F32x16 a = load(x_row[i]);
#pragma GCC unroll 4
      for (int j = 0; j < kExperts; ++j) sum[i][j] = Fma(a, w[j], sum[i][j]);
    }
  };
  int64_t k = 0;
  for (; k + 16 <= n; k += 16) step([k](const auto* from) __attribute__((always_inline)) { return Load(from + k); });
  if (k < n) step([ k, n ](const auto* from) __attribute__((always_inline)) { return LoadPartial(from + k, n - k); });
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kExperts; ++j) logits(r + i, e + j) = ReduceAdd(sum[i][j]);
  }
}

template <class X, class W>
void Logits(const ExecContext& context, const View<const X, 2>& x, const View<const W, 2>& weight,
            const View<float, 2>& logits) {
  const int64_t rows = x.shape[0];
  const int64_t experts = weight.shape[0];
  const int64_t row_blocks = (rows + kRowBlock - 1) / kRowBlock;
  const int64_t expert_blocks = (experts + kExpertBlock - 1) / kExpertBlock;
  RunTasks(context, row_blocks * expert_blocks, [&](int64_t task, int) {
    const int64_t row_begin = task % row_blocks * kRowBlock;
    const int64_t expert_begin = task / row_blocks * kExpertBlock;
    const int64_t row_end = std::min(rows, row_begin + kRowBlock);
    const int64_t expert_end = std::min(experts, expert_begin + kExpertBlock);
    int64_t r = row_begin;
    for (; r + kTile <= row_end; r += kTile) {
      int64_t e = expert_begin;
      for (; e + kTile <= expert_end; e += kTile) LogitTile<kTile, kTile>(x, weight, r, e, logits);
      for (; e < expert_end; ++e) LogitTile<kTile, 1>(x, weight, r, e, logits);
    }
    for (; r < row_end; ++r) {
      int64_t e = expert_begin;
      for (; e + 4 <= expert_end; e += 4) LogitTile<1, 4>(x, weight, r, e, logits);
      for (; e < expert_end; ++e) LogitTile<1, 1>(x, weight, r, e, logits);
    }
  });
}

void SigmoidInPlace(float* scores /* (experts) */, int64_t experts) {
  int64_t e = 0;
  for (; e + 16 <= experts; e += 16) Store(scores + e, Sigmoid(Load(scores + e)));
  if (e < experts) StorePartial(scores + e, Sigmoid(LoadPartial(scores + e, experts - e)), experts - e);
}

void SoftmaxInPlace(float* scores /* (experts) */, int64_t experts) {
  float largest = scores[0];
  for (int64_t e = 1; e < experts; ++e) largest = std::max(largest, scores[e]);
  float sum = 0;
  for (int64_t e = 0; e < experts; e += 16) {
    const int64_t count = std::min<int64_t>(16, experts - e);
    float lanes[16];
    Store(lanes, Exp(LoadPartial(scores + e, count) - Splat(largest)));
    for (int64_t i = 0; i < count; ++i) {
      scores[e + i] = lanes[i];
      sum += lanes[i];
    }
  }
  for (int64_t e = 0; e < experts; ++e) scores[e] /= sum;
}

// The choice score of an expert: its score, and with kNoauxTc the bias.
struct Choice {
  const float* scores;               // (experts)
  const View<const float, 1>* bias;  // (experts), or null

  float operator()(int64_t e) const { return bias ? scores[e] + (*bias)(e) : scores[e]; }
};

// Marks the experts of all groups but the topk_group best, lower groups first on a tie.
void DropGroups(const RouterOptions& options, const Choice& choice, int64_t experts, float* scores /* (experts) */) {
  if (options.n_group > kMaxGroups) {
    Fail(ErrorCode::kLayout, "router: n_group", "at most " + std::to_string(kMaxGroups),
         std::to_string(options.n_group));
  }
  const int64_t size = experts / options.n_group;
  float group_score[kMaxGroups];
  for (int64_t g = 0; g < options.n_group; ++g) {
    float first = choice(g * size);
    float second = 0;
    for (int64_t i = 1; i < size; ++i) {
      const float score = choice(g * size + i);
      if (score > first) {
        second = first;
        first = score;
      } else if (i == 1 || score > second) {
        second = score;
      }
    }
    group_score[g] = options.method == RouterMethod::kNoauxTc ? first + second : first;
  }
  for (int64_t g = 0; g < options.n_group; ++g) {
    int64_t better = 0;
    for (int64_t other = 0; other < options.n_group; ++other) {
      better += group_score[other] > group_score[g] || (other < g && group_score[other] == group_score[g]);
    }
    if (better < options.topk_group) continue;
    for (int64_t i = 0; i < size; ++i) scores[g * size + i] = kTaken;
  }
}

void Choose(const RouterArgs& args, int64_t r) {
  const RouterOptions& options = args.options;
  const int64_t experts = args.logits.shape[1];
  float* scores = args.logits.data + r * args.logits.stride[0];  // (experts): logits, then scores
  const bool noaux = options.method == RouterMethod::kNoauxTc;
  if (noaux) {
    SigmoidInPlace(scores, experts);
  } else {
    SoftmaxInPlace(scores, experts);
  }
  const Choice choice{scores, noaux && args.bias ? &*args.bias : nullptr};
  if (options.method != RouterMethod::kGreedy) DropGroups(options, choice, experts, scores);
  float sum = 0;
  for (int64_t s = 0; s < options.top_k; ++s) {
    int64_t best = -1;
    float best_choice = 0;
    for (int64_t e = 0; e < experts; ++e) {
      if (scores[e] == kTaken) continue;
      const float candidate = choice(e);
      if (best >= 0 && !(candidate > best_choice)) continue;
      best = e;
      best_choice = candidate;
    }
    if (best < 0) best = 0;  // only when NaN upset the groups; the weight below is then NaN as well
    const float weight = scores[best] == kTaken ? std::numeric_limits<float>::quiet_NaN() : scores[best];
    args.expert_ids(r, s) = static_cast<int32_t>(best);
    args.expert_weights(r, s) = weight;
    sum += weight;
    scores[best] = kTaken;
  }
  const float divisor = options.norm_topk_prob ? sum + 1e-20f : 1.0f;
  for (int64_t s = 0; s < options.top_k; ++s) {
    args.expert_weights(r, s) = args.expert_weights(r, s) / divisor * options.routed_scaling_factor;
  }
}

void Run(const ExecContext& context, const RouterArgs& args) {
  if (RowCount(args.weight) == 0) return;
  std::visit(
      [&](const auto& x, const auto& weight) {
        using W = std::decay_t<decltype(weight)>;
        if constexpr (std::is_same_v<W, View<const float, 2>> || std::is_same_v<W, View<const bf16, 2>>) {
          Logits(context, x, weight, args.logits);
        } else {
          Fail(ErrorCode::kLayout, "router: weight", "f32 or bf16", FormatName(args.weight));
        }
      },
      args.x, args.weight);
  RunTasks(context, args.logits.shape[0], [&](int64_t r, int) {
    if (!args.row_length || (*args.row_length)(r) > 0) return Choose(args, r);
    for (int64_t s = 0; s < args.options.top_k; ++s) {
      args.expert_ids(r, s) = -1;
      args.expert_weights(r, s) = 0;
    }
  });
}

}  // namespace

KernelTable<RouterArgs> MakeRouterKernels() {
  return {{kKernelName,
           {{.operand = "x", .inner_stride_one = true},
            {.operand = "weight", .inner_stride_one = true, .dtypes = DTypeBit(DType::kF32) | DTypeBit(DType::kBf16)},
            {.operand = "logits", .inner_stride_one = true}},
           &Run}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
