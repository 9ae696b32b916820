// For an instruction set that has products of its own and takes the other kernels from a lesser one.
#include "cpu/kernels.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

void ReplaceProducts(KernelSet* set) {
  set->isa = kIsaName;
  set->linear = MakeLinearKernels();
  set->grouped_linear = MakeGroupedLinearKernels();
  set->value_project = MakeValueProjectKernels();
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
