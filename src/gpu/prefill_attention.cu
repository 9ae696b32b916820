// Causal attention with expanded heads, in the latent space: scores are w_kc[h]^T q . latent, and w_vc[h] meets the
// result. Rows are taken a part at a time, so that what lies between the launches stays small.
#include <algorithm>

#include "gpu/decode_attention.h"
#include "gpu/head_product.h"
#include "gpu/operands.cuh"
#include "gpu/product_kernels.h"

namespace mxmla::gpu {
namespace {

constexpr size_t kAlignment = 256;
constexpr size_t AlignUp(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

struct Sizes {
  explicit Sizes(const PrefillAttentionArgs& args)
      : heads(Extent(args.query, 1)),
        nope(args.w_kc.head_rows),
        rope(Extent(args.query, 2) - nope),
        latents(ColumnCount(args.w_kc.tensor)),
        rows_at_once(std::min(AttentionRowsAtOnce(heads), Extent(args.query, 0))) {
    const auto row_heads = static_cast<size_t>(rows_at_once * heads);
    query = AlignUp(row_heads * static_cast<size_t>(latents + rope) * sizeof(float));
    attended = AlignUp(row_heads * static_cast<size_t>(latents) * sizeof(float));
    partials = AttentionPartialBytes(rows_at_once, heads, latents);
  }
  int64_t heads, nope, rope, latents, rows_at_once;
  size_t query, attended, partials;  // bytes
};

// The rotated part of the query, behind the absorbed part of the row. One thread an element.
__global__ void CopyRotatedKernel(const Operand query, int rows, int heads, int nope, int rope, int latents,
                                  float* to) {
  const int64_t id =
      int64_t{static_cast<int>(blockIdx.x)} * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
  if (id >= int64_t{rows} * heads * rope) return;
  const int c = static_cast<int>(id % rope);
  const int64_t row_head = id / rope, row = row_head / heads, head = row_head % heads;
  const int64_t at = row * query.row + head * query.head + nope + c;
  to[row_head * (latents + rope) + latents + c] = query.format == Format::kF32
                                                      ? static_cast<const float*>(query.values)[at]
                                                      : static_cast<const bf16*>(query.values)[at].ToFloat();
}

}  // namespace

WorkspaceSize PrefillAttentionWorkspace(const PrefillAttentionArgs& args, int) {
  const Sizes sizes(args);
  return {sizes.query + sizes.attended + sizes.partials, 0};
}

void PrefillAttention(const ExecContext& context, const PrefillAttentionArgs& args) {
  const Sizes sizes(args);
  const Stream stream = StreamOf(context);
  auto* const query_memory = context.SharedScratch<float>(0, sizes.query / sizeof(float));
  auto* const attended_memory = context.SharedScratch<float>(sizes.query, sizes.attended / sizeof(float));
  auto* const partials = context.SharedScratch<std::byte>(sizes.query + sizes.attended, sizes.partials);
  const int64_t rows = Extent(args.query, 0), width = sizes.latents + sizes.rope;
  for (int64_t row = 0; row < rows; row += sizes.rows_at_once) {
    const int64_t count = std::min(sizes.rows_at_once, rows - row);
    const int64_t last = (args.segment_begin.shape[0] - 1) * args.segment_begin.stride[0];
    const RowLimits written{args.segment_begin.data, last, row};
    const auto query = View<float, 3>::Contiguous(query_memory, {count, sizes.heads, width});
    const auto attended = View<float, 3>::Contiguous(attended_memory, {count, sizes.heads, sizes.latents});
    const FloatInput<3> rows_of_query =
        std::visit([&](const auto& q) -> FloatInput<3> { return q.Rows(row, count); }, args.query);

    QueryAbsorbArgs absorb;
    absorb.q_nope =
        std::visit([&](const auto& q) -> Activation<3> { return q.Slice(2, 0, sizes.nope); }, rows_of_query);
    absorb.w_kc = args.w_kc;
    absorb.out = query.Slice(2, 0, sizes.latents);
    RunQueryAbsorb(absorb, stream);

    if (sizes.rope > 0) {
      const Operand from = std::visit([](const auto& q) { return OperandOf<3>(q); }, rows_of_query);
      constexpr int kThreadsOfCopy = 256;
      const int64_t blocks = (count * sizes.heads * sizes.rope + kThreadsOfCopy - 1) / kThreadsOfCopy;
      CopyRotatedKernel<<<static_cast<unsigned>(blocks), kThreadsOfCopy, 0, stream>>>(
          from, static_cast<int>(count), static_cast<int>(sizes.heads), static_cast<int>(sizes.nope),
          static_cast<int>(sizes.rope), static_cast<int>(sizes.latents), query_memory);
      CheckLaunch("gpu prefill_attention");
    }

    DecodeAttentionArgs attend;
    attend.query = View<const float, 3>(query);
    attend.kv_pages = args.kv_pages;
    attend.block_table = args.block_table;
    attend.row_sequence = args.row_sequence.Rows(row, count);
    attend.row_length = args.row_length.Rows(row, count);
    attend.kv_lora_rank = sizes.latents;
    attend.softmax_scale = args.softmax_scale;
    attend.out = attended;
    RunDecodeAttention(attend, written, partials, stream);

    ValueProjectArgs project;
    project.attn = View<const float, 3>(attended);
    project.w_vc = args.w_vc;
    project.out = std::visit([&](const auto& out) -> FloatOutput<3> { return out.Rows(row, count); }, args.out);
    RunValueProject(project, written, stream);
  }
}

}  // namespace mxmla::gpu
