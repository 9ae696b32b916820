// The mixture of experts, apart from its products: gating, grouping, activation, combination.
#pragma once

#include <optional>

#include "core/scaled.h"
#include "ops/context.h"

namespace mxmla {

enum class RouterMethod {
  kGreedy,              // softmax scores, the top_k largest (DeepSeek-V2)
  kGroupLimitedGreedy,  // softmax scores; a group's score is its largest; topk_group groups are kept (DeepSeek-V2)
  kNoauxTc,             // sigmoid scores + bias choose; a group's score is the sum of its two largest (DeepSeek-V3, K2)
};

struct RouterOptions {
  RouterMethod method = RouterMethod::kGreedy;
  int64_t n_group = 1;
  int64_t topk_group = 1;
  int64_t top_k = 1;
  bool norm_topk_prob = false;  // weights divided by their sum + 1e-20
  float routed_scaling_factor = 1;
};

// Scores every expert in float32 and chooses top_k of them; weights are the unbiased scores, normalised if asked, times
// routed_scaling_factor. Ties go to the lower expert number; ids are in order of falling choice score. A row whose
// row_length is 0 is padding: its ids are -1 and its weights 0, so that it reads no expert.
struct RouterArgs {
  FloatInput<2> x;                           // (rows, hidden)
  LinearWeight weight;                       // (experts, hidden), float32 or bf16
  std::optional<View<const float, 1>> bias;  // (experts) e_score_correction_bias, kNoauxTc only
  RouterOptions options;
  View<float, 2> logits;                                            // (rows, experts), scratch
  View<int32_t, 2> expert_ids;                                      // (rows, top_k)
  View<float, 2> expert_weights;                                    // (rows, top_k)
  std::optional<View<const int32_t, 1>> row_length = std::nullopt;  // (rows)
};
void Router(const ExecContext& context, const RouterArgs& args);

// Sorts the pairs (row, slot) by expert, rows ascending within an expert. Pairs of expert -1 are left out; what is in
// `pairs` behind the last expert's is unspecified.
struct GroupExpertsArgs {
  View<const int32_t, 2> expert_ids;  // (rows, top_k)
  View<int32_t, 1> expert_begin;      // (experts + 1)
  View<int32_t, 1> pairs;             // (rows * top_k)
};
void GroupExperts(const ExecContext& context, const GroupExpertsArgs& args);

// silu(gate) * up, silu(g) = g / (1 + exp(-g)), in float32, rounded to the output type (and first to the backend's
// activation type when `out` is quantised).
struct SiluMulArgs {
  FloatInput<2> gate;       // (rows, n)
  FloatInput<2> up;         // (rows, n)
  ActivationOutput<2> out;  // (rows, n)
  ScaleMode scale_mode = ScaleMode::kEven;
};
void SiluMul(const ExecContext& context, const SiluMulArgs& args);

// out[r] = shared[r] + sum over slots s, in order, of weights[r, s] * pairs[r * top_k + s]. A padding row's result is
// unspecified.
struct CombineExpertsArgs {
  FloatInput<2> pairs;                  // (rows * top_k, n)
  View<const float, 2> expert_weights;  // (rows, top_k)
  std::optional<FloatInput<2>> shared;  // (rows, n), the shared experts' result
  FloatOutput<2> out;                   // (rows, n)
};
void CombineExperts(const ExecContext& context, const CombineExpertsArgs& args);

}  // namespace mxmla
