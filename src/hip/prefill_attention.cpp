#include "hip/prefill_attention.h"

#include <algorithm>

#include "core/float_view.h"
#include "hip/decode_attention.h"
#include "hip/query_absorb.h"
#include "hip/value_project.h"

namespace mxmla::hip {
namespace {

// Of what stands between the calls. More rows are taken in pieces: a row's bits do not depend on the others.
constexpr int64_t kMostBytes = int64_t{32} << 20;
constexpr int64_t kRowsOfTiles = 64;  // pieces of whole tiles of the products

int64_t RowsAtOnce(const PrefillAttentionArgs& args) {
  const int64_t row = 2 * Extent(args.query, 1) * ColumnCount(args.w_kc.tensor) * int64_t{sizeof(bf16)};
  const int64_t most = kMostBytes / std::max<int64_t>(row, 1) / kRowsOfTiles * kRowsOfTiles;
  return std::min(Extent(args.query, 0), std::max(most, kRowsOfTiles));
}

// Queries and results in the latent space, of a piece's rows: (rows, heads, kv_lora_rank) of bf16 each.
struct Between {
  View<bf16, 3> query, attended;

  Between(const PrefillAttentionArgs& args, int64_t rows, bf16* memory) {
    const View<bf16, 3>::Dims shape{rows, Extent(args.query, 1), ColumnCount(args.w_kc.tensor)};
    query = View<bf16, 3>::Contiguous(memory, shape);
    attended = View<bf16, 3>::Contiguous(memory + query.size(), shape);
  }
};

// The three calls of `rows` rows from `first`; their operands are the same whether or not there is memory between them.
struct Calls {
  QueryAbsorbArgs absorb;
  DecodeAttentionArgs attend;
  View<const bf16, 3> rotated;
  ValueProjectArgs project;

  Calls(const PrefillAttentionArgs& args, int64_t first, int64_t rows, bf16* memory) {
    const Between between(args, rows, memory);
    const auto query = std::get<View<const bf16, 3>>(args.query).Slice(0, first, rows);
    absorb.q_nope = Activation<3>(query.Slice(2, 0, args.w_kc.head_rows));
    absorb.w_kc = args.w_kc;
    absorb.out = FloatOutput<3>(between.query);
    rotated = query.Slice(2, args.w_kc.head_rows, query.shape[2] - args.w_kc.head_rows);
    attend.query = FloatInput<3>(View<const bf16, 3>(between.query));
    attend.kv_pages = args.kv_pages;
    attend.block_table = args.block_table;
    attend.row_sequence = args.row_sequence.Slice(0, first, rows);
    attend.row_length = args.row_length.Slice(0, first, rows);
    attend.kv_lora_rank = between.query.shape[2];
    attend.softmax_scale = args.softmax_scale;
    attend.out = FloatOutput<3>(between.attended);
    project.attn = Activation<3>(View<const bf16, 3>(between.attended));
    project.w_vc = args.w_vc;
    project.out = Slice(args.out, 0, first, rows);
  }
};

}  // namespace

bool HonoursPrefillAttention(const PrefillAttentionArgs& args) {
  const auto* query = std::get_if<View<const bf16, 3>>(&args.query);
  if (!query || query->shape[2] <= args.w_kc.head_rows || !HonoursCache(args.kv_pages)) return false;
  const Calls calls(args, 0, Extent(args.query, 0), nullptr);
  return Extent(args.kv_pages, 2) == calls.attend.kv_lora_rank + calls.rotated.shape[2] &&
         calls.rotated.shape[2] == 64 && HonoursQuery(calls.rotated) && HonoursQueryAbsorb(calls.absorb) &&
         HonoursValueProject(calls.project);
}

WorkspaceSize PrefillAttentionWorkspace(const PrefillAttentionArgs& args, int) {
  const Between between(args, RowsAtOnce(args), nullptr);
  return {static_cast<size_t>(2 * between.query.size()) * sizeof(bf16), 0};
}

void PrefillAttention(const ExecContext& context, const PrefillAttentionArgs& args) {
  const size_t bytes = PrefillAttentionWorkspace(args, 1).shared;
  bf16* const between = context.SharedScratch<bf16>(0, bytes / sizeof(bf16));
  const int64_t last = args.segment_begin.shape[0] - 1, all = Extent(args.query, 0), piece = RowsAtOnce(args);
  for (int64_t first = 0; first < all; first += piece) {
    const Calls calls(args, first, std::min(piece, all - first), between);
    hip::QueryAbsorb(context, calls.absorb);
    AttendWhole(context, calls.attend, calls.rotated);
    ProjectRows(context, calls.project, args.segment_begin.data + last * args.segment_begin.stride[0], first);
  }
}

}  // namespace mxmla::hip
