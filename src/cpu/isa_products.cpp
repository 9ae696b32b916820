// For an instruction set that has products of its own and takes the other kernels from a lesser one.
#include "cpu/kernels.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

void ReplaceProducts(KernelSet* set) {
  set->isa = kIsaName;
  set->linear = MakeLinearKernels();
  set->grouped_linear = MakeGroupedLinearKernels();
  set->value_project = MakeValueProjectKernels();
#if defined(__AVX512BF16__)
  set->decode_attention = MakeDecodeAttentionKernels();
  set->sparse_attention = set->decode_attention;
#endif
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
