#include "ops/head_product.h"

#include "ops/check.h"
#include "ops/kernel_set.h"

namespace mxmla {

void QueryAbsorb(const ExecContext& context, const QueryAbsorbArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "query_absorb";
  const int64_t rows = Extent(args.q_nope, 0);
  const int64_t heads = Extent(args.q_nope, 1);
  CheckPlanes(kOp, "q_nope", args.q_nope);
  CheckHeadWeight(kOp, "w_kc", args.w_kc);
  const int64_t columns = ColumnCount(args.w_kc.tensor);
  CheckExtent(kOp, "w_kc heads (heads of q_nope)", heads, args.w_kc.heads);
  CheckExtent(kOp, "q_nope extent 2 (qk_nope_head_dim of w_kc)", args.output_major ? columns : args.w_kc.head_rows,
              Extent(args.q_nope, 2));
  CheckExtent(kOp, "out extent 0 (rows of q_nope)", rows, Extent(args.out, 0));
  CheckExtent(kOp, "out extent 1 (heads of q_nope)", heads, Extent(args.out, 1));
  CheckExtent(kOp, "out extent 2 (kv_lora_rank of w_kc)", args.output_major ? args.w_kc.head_rows : columns,
              Extent(args.out, 2));
  if (rows == 0 || heads == 0) return;
  OperandList operands;
  operands.Add("q_nope", args.q_nope);
  operands.Add("w_kc", args.w_kc);
  operands.Add("out", args.out);
  Dispatch(context, context.kernels->query_absorb, kOp, args, operands,
           Bytes(args.q_nope) + Bytes(args.w_kc) + Bytes(args.out));
}

void ValueProject(const ExecContext& context, const ValueProjectArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "value_project";
  const int64_t rows = Extent(args.attn, 0);
  const int64_t heads = Extent(args.attn, 1);
  const int64_t v_head_dim = args.w_vc.head_rows;
  CheckPlanes(kOp, "attn", args.attn);
  CheckHeadWeight(kOp, "w_vc", args.w_vc);
  CheckExtent(kOp, "w_vc heads (heads of attn)", heads, args.w_vc.heads);
  CheckExtent(kOp, "attn extent 2 (kv_lora_rank of w_vc)", ColumnCount(args.w_vc.tensor), Extent(args.attn, 2));
  if (const auto* split = std::get_if<FloatOutput<3>>(&args.out)) {
    CheckExtent(kOp, "out extent 0 (rows of attn)", rows, Extent(*split, 0));
    CheckExtent(kOp, "out extent 1 (heads of attn)", heads, Extent(*split, 1));
    CheckExtent(kOp, "out extent 2 (v_head_dim of w_vc)", v_head_dim, Extent(*split, 2));
  } else {
    const auto& flat = std::get<ActivationOutput<2>>(args.out);
    CheckPlanes(kOp, "out", flat);
    CheckExtent(kOp, "out extent 0 (rows of attn)", rows, Extent(flat, 0));
    CheckExtent(kOp, "out extent 1 (heads * v_head_dim)", heads * v_head_dim, Extent(flat, 1));
  }
  if (rows == 0 || heads == 0) return;
  OperandList operands;
  operands.Add("attn", args.attn);
  operands.Add("w_vc", args.w_vc);
  operands.Add("out", args.out);
  Dispatch(context, context.kernels->value_project, kOp, args, operands,
           Bytes(args.attn) + Bytes(args.w_vc) + Bytes(args.out));
}

}  // namespace mxmla
