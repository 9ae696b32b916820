// The factories of the kernels of one instruction set. The sources of this folder are compiled once for each; all their
// functions are in the namespace of the instruction set, or static, so that the linker cannot mix them.
#pragma once

#include "ops/kernel_set.h"

#ifndef MXMLA_CPU_ISA
#error "compile with -DMXMLA_CPU_ISA=portable, avx2 or avx512"
#endif

#define MXMLA_CPU_STRING_(x) #x
#define MXMLA_CPU_STRING(x) MXMLA_CPU_STRING_(x)

namespace mxmla::cpu::MXMLA_CPU_ISA {

inline constexpr std::string_view kIsaName = MXMLA_CPU_STRING(MXMLA_CPU_ISA);
inline constexpr std::string_view kKernelName = "cpu/" MXMLA_CPU_STRING(MXMLA_CPU_ISA);
inline constexpr std::string_view kFewRowsName = "cpu/" MXMLA_CPU_STRING(MXMLA_CPU_ISA) "/few_rows";

KernelSet MakeKernelSet();

KernelTable<RmsNormArgs> MakeRmsNormKernels();
KernelTable<LinearArgs> MakeLinearKernels();
KernelTable<GroupedLinearArgs> MakeGroupedLinearKernels();
KernelTable<QueryAbsorbArgs> MakeQueryAbsorbKernels();
KernelTable<ValueProjectArgs> MakeValueProjectKernels();
KernelTable<QuantizeArgs> MakeQuantizeKernels();
KernelTable<FlattenQuantizeArgs> MakeFlattenQuantizeKernels();
KernelTable<CopyArgs> MakeCopyKernels();
KernelTable<RopeArgs> MakeRopeKernels();
KernelTable<RopeAnglesArgs> MakeRopeAnglesKernels();
KernelTable<DecodeAttentionArgs> MakeDecodeAttentionKernels();
KernelTable<PrefillAttentionArgs> MakePrefillAttentionKernels();
KernelTable<IndexKeyArgs> MakeIndexKeyKernels();
KernelTable<IndexTopKArgs> MakeIndexTopKKernels();
KernelTable<RouterArgs> MakeRouterKernels();
KernelTable<GroupExpertsArgs> MakeGroupExpertsKernels();
KernelTable<SiluMulArgs> MakeSiluMulKernels();
KernelTable<CombineExpertsArgs> MakeCombineExpertsKernels();
KernelTable<EmbeddingArgs> MakeEmbeddingKernels();
KernelTable<SampleArgs> MakeSampleKernels();

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
