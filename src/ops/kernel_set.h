// All of a backend's kernels.
#pragma once

#include "ops/attention.h"
#include "ops/embedding.h"
#include "ops/fused.h"
#include "ops/head_product.h"
#include "ops/indexer.h"
#include "ops/kernel_table.h"
#include "ops/linear.h"
#include "ops/moe.h"
#include "ops/norm.h"
#include "ops/quantize.h"
#include "ops/rope.h"
#include "ops/sample.h"

namespace mxmla {

struct KernelSet {
  std::string_view backend;              // "ref", "cpu"
  std::string_view isa;                  // "", "portable", "avx2", "avx512"
  DType activation_dtype = DType::kF32;  // of plain activations and of the KV cache

  KernelTable<RmsNormArgs> rms_norm;
  KernelTable<LinearArgs> linear;
  KernelTable<GroupedLinearArgs> grouped_linear;
  KernelTable<QueryAbsorbArgs> query_absorb;
  KernelTable<ValueProjectArgs> value_project;
  KernelTable<QuantizeArgs> quantize;
  KernelTable<FlattenQuantizeArgs> flatten_quantize;
  KernelTable<CopyArgs> copy;
  KernelTable<RopeArgs> rope;
  KernelTable<RopeAnglesArgs> rope_angles;
  KernelTable<DecodeAttentionArgs> decode_attention;
  KernelTable<DecodeAttentionArgs> sparse_attention;  // with `chosen`
  KernelTable<PrefillAttentionArgs> prefill_attention;
  KernelTable<IndexKeyArgs> index_key;
  KernelTable<IndexTopKArgs> index_top_k;
  KernelTable<RouterArgs> router;
  KernelTable<GroupExpertsArgs> group_experts;
  KernelTable<SiluMulArgs> silu_mul;
  KernelTable<CombineExpertsArgs> combine_experts;
  KernelTable<EmbeddingArgs> embedding;
  KernelTable<SampleArgs> sample;

  // May be empty: the ops' parts run then.
  KernelTable<NormLinearArgs> norm_linear;
  KernelTable<LatentQueryArgs> latent_query;
  KernelTable<AttendProjectArgs> attend_project;
  KernelTable<NormRouterArgs> norm_router;
  KernelTable<GatedExpertsArgs> gated_experts;
  KernelTable<CombinedExpertsArgs> combined_experts;
};

}  // namespace mxmla
