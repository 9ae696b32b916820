// Consecutive ops that a backend may run in one launch. Each is what its parts are, one after the other; it is checked
// and its bytes are counted as theirs are, and where no kernel of the backend takes the whole, the parts run by
// themselves. What one part writes for the next alone, named "between" below, may be left unwritten.
#pragma once

#include <optional>

#include "ops/attention.h"
#include "ops/head_product.h"
#include "ops/linear.h"
#include "ops/moe.h"
#include "ops/norm.h"
#include "ops/quantize.h"
#include "ops/rope.h"

namespace mxmla {

// Between: norm.out or norm.quantized, whichever is linear.x.
struct NormLinearArgs {
  RmsNormArgs norm;
  LinearArgs linear;
};
void NormLinear(const ExecContext& context, const NormLinearArgs& args, std::string_view name);

// What a layer does from its projections to attention, for rows that attend in the latent space: the normed latent and
// the rotated key go to the cache, the query moves into the latent space and its rotated columns stand behind. Between:
// quantize.out, which is absorb.q_nope where the product takes it quantised. No other part reads what another writes.
struct LatentQueryArgs {
  RmsNormArgs latent;
  RopeArgs key;
  QueryAbsorbArgs absorb;
  RopeArgs query;
  std::optional<QuantizeArgs> quantize = {};
};
void LatentQuery(const ExecContext& context, const LatentQueryArgs& args);

// Attention in the latent space and the V projection of its result. Between: attend.out, which is project.attn; or,
// where the product takes it quantised, quantize.x, whose output is.
struct AttendProjectArgs {
  DecodeAttentionArgs attend;
  ValueProjectArgs project;
  std::optional<QuantizeArgs> quantize = {};
};
void AttendProject(const ExecContext& context, const AttendProjectArgs& args);

// The input of a mixture of experts and who computes it. router.x is norm.out, which is written as well;
// group.expert_ids begins with router.expert_ids' columns.
struct NormRouterArgs {
  RmsNormArgs norm;
  RouterArgs router;
  GroupExpertsArgs group;
};
void NormRouter(const ExecContext& context, const NormRouterArgs& args);

// The experts' first products, gate above up in one matrix, and silu(gate) * up; a row has chosen an expert at most
// once. Between: product.out, (pairs, 2 n).
struct GatedExpertsArgs {
  GroupedLinearArgs product;
  SiluMulArgs gating;
};
void GatedExperts(const ExecContext& context, const GatedExpertsArgs& args);

// The experts' second products and each row's weighted sum of them. Between: product.out, (pairs, n).
struct CombinedExpertsArgs {
  GroupedLinearArgs product;
  CombineExpertsArgs combine;
};
void CombinedExperts(const ExecContext& context, const CombinedExpertsArgs& args);

}  // namespace mxmla
