// Products and attention on a GPU for every shape, stride and format of their contracts, at moderate speed: what a
// backend falls back to where none of its faster kernels takes a call.
#pragma once

#include "ops/kernel_set.h"

namespace mxmla::gpu {

// Over views of device memory, in context.stream. Nothing that a device's arrays hold is read here, and the launches
// follow from the extents alone, so that a call may be captured in a graph and replayed with other lengths. The order
// of each sum follows from the contracted extent (in attention, from the row's length) alone.
void Linear(const ExecContext& context, const LinearArgs& args);
void GroupedLinear(const ExecContext& context, const GroupedLinearArgs& args);
void QueryAbsorb(const ExecContext& context, const QueryAbsorbArgs& args);
void ValueProject(const ExecContext& context, const ValueProjectArgs& args);
void DecodeAttention(const ExecContext& context, const DecodeAttentionArgs& args);
WorkspaceSize DecodeAttentionWorkspace(const DecodeAttentionArgs& args, int workers);
// The query moves into the latent space, where attention reads the cache as it is; its result is projected.
void PrefillAttention(const ExecContext& context, const PrefillAttentionArgs& args);
WorkspaceSize PrefillAttentionWorkspace(const PrefillAttentionArgs& args, int workers);

// Appends these kernels to the tables of `set`.
void AddProductKernels(KernelSet& set);

}  // namespace mxmla::gpu
