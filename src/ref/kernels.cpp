#include "ref/kernels.h"

#include "ref/backend.h"

namespace mxmla {

const KernelSet& RefKernels() {
  static const KernelSet kernels = [] {
    KernelSet set;
    set.backend = "ref";
    set.activation_dtype = DType::kF32;
    // Every kernel takes every stride and dtype that its arguments can express, but for one scratch array.
    set.rms_norm = {{"ref", {}, ref::RmsNorm}};
    set.linear = {{"ref", {}, ref::Linear}};
    set.grouped_linear = {{"ref", {}, ref::GroupedLinear}};
    set.query_absorb = {{"ref", {}, ref::QueryAbsorb}};
    set.value_project = {{"ref", {}, ref::ValueProject}};
    set.quantize = {{"ref", {}, ref::Quantize}};
    set.flatten_quantize = {{"ref", {}, ref::FlattenQuantize}};
    set.copy = {{"ref", {}, ref::Copy}};
    set.rope_angles = {{"ref", {}, ref::RopeAngles}};
    set.rope = {{"ref", {}, ref::Rope}};
    set.decode_attention = {{"ref", {}, ref::DecodeAttention, ref::DecodeAttentionWorkspace}};
    set.prefill_attention = {{"ref", {}, ref::PrefillAttention, ref::PrefillAttentionWorkspace}};
    set.sparse_attention = set.decode_attention;
    set.index_key = {{"ref", {}, ref::IndexKey}};
    set.index_top_k = {{"ref", {}, ref::IndexTopK, ref::IndexTopKWorkspace}};
    set.router = {{"ref", {}, ref::Router}};
    set.group_experts = {{"ref", {}, ref::GroupExperts}};
    set.silu_mul = {{"ref", {}, ref::SiluMul}};
    set.combine_experts = {{"ref", {}, ref::CombineExperts}};
    set.embedding = {{"ref", {}, ref::Embedding}};
    set.sample = {{"ref", {}, ref::Sample, ref::SampleWorkspace}};
    return set;
  }();
  return kernels;
}

}  // namespace mxmla
