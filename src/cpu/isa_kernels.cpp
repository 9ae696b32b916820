#include "cpu/kernels.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

KernelSet MakeKernelSet() {
  KernelSet set;
  set.backend = "cpu";
  set.isa = kIsaName;
  set.activation_dtype = DType::kBf16;
  set.rms_norm = MakeRmsNormKernels();
  set.linear = MakeLinearKernels();
  set.grouped_linear = MakeGroupedLinearKernels();
  set.query_absorb = MakeQueryAbsorbKernels();
  set.value_project = MakeValueProjectKernels();
  set.quantize = MakeQuantizeKernels();
  set.flatten_quantize = MakeFlattenQuantizeKernels();
  set.copy = MakeCopyKernels();
  set.rope = MakeRopeKernels();
  set.rope_angles = MakeRopeAnglesKernels();
  set.decode_attention = MakeDecodeAttentionKernels();
  set.prefill_attention = MakePrefillAttentionKernels();
  set.sparse_attention = set.decode_attention;
  set.index_key = MakeIndexKeyKernels();
  set.index_top_k = MakeIndexTopKKernels();
  set.router = MakeRouterKernels();
  set.group_experts = MakeGroupExpertsKernels();
  set.silu_mul = MakeSiluMulKernels();
  set.combine_experts = MakeCombineExpertsKernels();
  set.embedding = MakeEmbeddingKernels();
  set.sample = MakeSampleKernels();
  return set;
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
