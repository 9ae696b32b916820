#include "hip/prefill_attention.h"

#include <algorithm>

#include "core/float_view.h"
#include "hip/decode_attention.h"
#include "hip/query_absorb.h"
#include "hip/value_project.h"

namespace mxmla::hip {
namespace {

// Queries and results in the latent space, of all rows: (rows, heads, kv_lora_rank) of bf16 each.
struct Between {
  View<bf16, 3> query, attended;

  Between(const PrefillAttentionArgs& args, bf16* memory) {
    const View<bf16, 3>::Dims shape{Extent(args.query, 0), Extent(args.query, 1), ColumnCount(args.w_kc.tensor)};
    query = View<bf16, 3>::Contiguous(memory, shape);
    attended = View<bf16, 3>::Contiguous(memory + query.size(), shape);
  }
};

// The three calls; their operands are the same whether or not there is memory between them.
struct Calls {
  QueryAbsorbArgs absorb;
  DecodeAttentionArgs attend;
  View<const bf16, 3> rotated;
  ValueProjectArgs project;

  Calls(const PrefillAttentionArgs& args, bf16* memory) {
    const Between between(args, memory);
    const auto& query = std::get<View<const bf16, 3>>(args.query);
    absorb.q_nope = Activation<3>(query.Slice(2, 0, args.w_kc.head_rows));
    absorb.w_kc = args.w_kc;
    absorb.out = FloatOutput<3>(between.query);
    rotated = query.Slice(2, args.w_kc.head_rows, query.shape[2] - args.w_kc.head_rows);
    attend.query = FloatInput<3>(View<const bf16, 3>(between.query));
    attend.kv_pages = args.kv_pages;
    attend.block_table = args.block_table;
    attend.row_sequence = args.row_sequence;
    attend.row_length = args.row_length;
    attend.kv_lora_rank = between.query.shape[2];
    attend.softmax_scale = args.softmax_scale;
    attend.out = FloatOutput<3>(between.attended);
    project.attn = Activation<3>(View<const bf16, 3>(between.attended));
    project.w_vc = args.w_vc;
    project.out = args.out;
  }
};

}  // namespace

bool HonoursPrefillAttention(const PrefillAttentionArgs& args) {
  const auto* query = std::get_if<View<const bf16, 3>>(&args.query);
  if (!query || query->shape[2] <= args.w_kc.head_rows || !HonoursCache(args.kv_pages)) return false;
  const Calls calls(args, nullptr);
  return Extent(args.kv_pages, 2) == calls.attend.kv_lora_rank + calls.rotated.shape[2] &&
         calls.rotated.shape[2] == 64 && HonoursQuery(calls.rotated) && HonoursQueryAbsorb(calls.absorb) &&
         HonoursValueProject(calls.project);
}

WorkspaceSize PrefillAttentionWorkspace(const PrefillAttentionArgs& args, int) {
  const Between between(args, nullptr);
  return {static_cast<size_t>(2 * between.query.size()) * sizeof(bf16), 0};
}

void PrefillAttention(const ExecContext& context, const PrefillAttentionArgs& args) {
  const size_t bytes = PrefillAttentionWorkspace(args, 1).shared;
  const Calls calls(args, context.SharedScratch<bf16>(0, bytes / sizeof(bf16)));
  hip::QueryAbsorb(context, calls.absorb);
  AttendWhole(context, calls.attend, calls.rotated);
  const int64_t last = args.segment_begin.shape[0] - 1;
  ProjectRows(context, calls.project, args.segment_begin.data + last * args.segment_begin.stride[0]);
}

}  // namespace mxmla::hip
