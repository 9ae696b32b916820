// The row kernels of a GPU, one function an op; the contracts are in src/ops. Each starts its launches on the context's
// stream and returns: what a launch is depends on extents and options alone, so that a step can be captured as a graph.
#pragma once

#include "ops/kernel_set.h"

namespace mxmla::gpu {

void RmsNorm(const ExecContext& context, const RmsNormArgs& args);
void Quantize(const ExecContext& context, const QuantizeArgs& args);
void FlattenQuantize(const ExecContext& context, const FlattenQuantizeArgs& args);
void Copy(const ExecContext& context, const CopyArgs& args);
void Rope(const ExecContext& context, const RopeArgs& args);
void RopeAngles(const ExecContext& context, const RopeAnglesArgs& args);
void Router(const ExecContext& context, const RouterArgs& args);
void NormRouter(const ExecContext& context, const NormRouterArgs& args);
bool HonoursNormRouter(const NormRouterArgs& args);
WorkspaceSize NormRouterWorkspace(const NormRouterArgs& args, int workers);
void GroupExperts(const ExecContext& context, const GroupExpertsArgs& args);
void SiluMul(const ExecContext& context, const SiluMulArgs& args);
void CombineExperts(const ExecContext& context, const CombineExpertsArgs& args);
void Embedding(const ExecContext& context, const EmbeddingArgs& args);
void EmbeddingRows(const ExecContext& context, const EmbeddingArgs& args);  // of any format
void IndexKey(const ExecContext& context, const IndexKeyArgs& args);
// Scores in the workspace, some rows at a time, then a search for the k-th largest.
void IndexTopK(const ExecContext& context, const IndexTopKArgs& args);
bool HonoursIndexTopK(const IndexTopKArgs& args);
WorkspaceSize IndexTopKWorkspace(const IndexTopKArgs& args, int workers);
void Sample(const ExecContext& context, const SampleArgs& args);
WorkspaceSize SampleWorkspace(const SampleArgs& args, int workers);

// Adds all of them to a set whose plain activations are bf16.
void AddRowKernels(KernelSet& set);

}  // namespace mxmla::gpu
