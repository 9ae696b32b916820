// The kernels of the backend ref, one function an op; the contracts are in src/ops.
#pragma once

#include <functional>

#include "ops/kernel_set.h"

namespace mxmla::ref {

// A loop over the pool; the wrapper keeps std::function from allocating.
template <class Body>
void ParallelFor(const ExecContext& context, int64_t tasks, const Body& body) {
  context.pool->ParallelFor(tasks, std::cref(body));
}

constexpr int64_t Tiles(int64_t extent, int64_t tile) { return (extent + tile - 1) / tile; }

void RmsNorm(const ExecContext& context, const RmsNormArgs& args);
void Linear(const ExecContext& context, const LinearArgs& args);
void GroupedLinear(const ExecContext& context, const GroupedLinearArgs& args);
void QueryAbsorb(const ExecContext& context, const QueryAbsorbArgs& args);
void ValueProject(const ExecContext& context, const ValueProjectArgs& args);
void Quantize(const ExecContext& context, const QuantizeArgs& args);
void FlattenQuantize(const ExecContext& context, const FlattenQuantizeArgs& args);
void Copy(const ExecContext& context, const CopyArgs& args);
void Rope(const ExecContext& context, const RopeArgs& args);
void RopeAngles(const ExecContext& context, const RopeAnglesArgs& args);
void DecodeAttention(const ExecContext& context, const DecodeAttentionArgs& args);
void PrefillAttention(const ExecContext& context, const PrefillAttentionArgs& args);
WorkspaceSize DecodeAttentionWorkspace(const DecodeAttentionArgs& args, int workers);
WorkspaceSize PrefillAttentionWorkspace(const PrefillAttentionArgs& args, int workers);
void IndexKey(const ExecContext& context, const IndexKeyArgs& args);
void IndexTopK(const ExecContext& context, const IndexTopKArgs& args);
WorkspaceSize IndexTopKWorkspace(const IndexTopKArgs& args, int workers);
void Router(const ExecContext& context, const RouterArgs& args);
void GroupExperts(const ExecContext& context, const GroupExpertsArgs& args);
void SiluMul(const ExecContext& context, const SiluMulArgs& args);
void CombineExperts(const ExecContext& context, const CombineExpertsArgs& args);
void Embedding(const ExecContext& context, const EmbeddingArgs& args);
void Sample(const ExecContext& context, const SampleArgs& args);
WorkspaceSize SampleWorkspace(const SampleArgs& args, int workers);

}  // namespace mxmla::ref
