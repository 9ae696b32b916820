#include "ops/moe.h"

#include "ops/check.h"
#include "ops/kernel_set.h"

namespace mxmla {

void Router(const ExecContext& context, const RouterArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "router";
  const int64_t rows = Extent(args.x, 0);
  const int64_t experts = RowCount(args.weight);
  const RouterOptions& options = args.options;
  CheckTrue(kOp, "weight", args.weight.index() < 2, "f32 or bf16", FormatName(args.weight));
  CheckExtent(kOp, "x extent 1 (hidden of weight)", ColumnCount(args.weight), Extent(args.x, 1));
  if (args.bias) CheckExtent(kOp, "bias extent 0 (experts)", experts, args.bias->shape[0]);
  if (args.row_length) CheckExtent(kOp, "row_length extent 0 (rows of x)", rows, args.row_length->shape[0]);
  CheckExtent(kOp, "logits extent 0 (rows of x)", rows, args.logits.shape[0]);
  CheckExtent(kOp, "logits extent 1 (experts)", experts, args.logits.shape[1]);
  CheckExtent(kOp, "expert_ids extent 0 (rows of x)", rows, args.expert_ids.shape[0]);
  CheckExtent(kOp, "expert_ids extent 1 (top_k)", options.top_k, args.expert_ids.shape[1]);
  CheckExtent(kOp, "expert_weights extent 0 (rows of x)", rows, args.expert_weights.shape[0]);
  CheckExtent(kOp, "expert_weights extent 1 (top_k)", options.top_k, args.expert_weights.shape[1]);
  int64_t eligible = experts;
  if (options.method != RouterMethod::kGreedy) {
    CheckTrue(kOp, "n_group", options.n_group >= 1 && experts % options.n_group == 0, "a divisor of the experts",
              "none");
    CheckAtMost(kOp, "topk_group (up to n_group)", options.n_group, options.topk_group);
    eligible = options.topk_group * (experts / options.n_group);
  }
  CheckAtMost(kOp, "top_k (experts of the kept groups)", eligible, options.top_k);
  if (rows == 0) return;
  OperandList operands;
  operands.Add("x", args.x);
  operands.Add("weight", args.weight);
  if (args.bias) operands.Add("bias", *args.bias);
  if (args.row_length) operands.Add("row_length", *args.row_length);
  operands.Add("logits", args.logits);
  operands.Add("expert_ids", args.expert_ids);
  operands.Add("expert_weights", args.expert_weights);
  Dispatch(
      context, context.kernels->router, kOp, args, operands,
      Bytes(args.x) + ByteCount(args.weight) + Bytes(args.bias) + Bytes(args.expert_ids) + Bytes(args.expert_weights));
}

void GroupExperts(const ExecContext& context, const GroupExpertsArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "group_experts";
  CheckExtent(kOp, "pairs extent 0 (rows * top_k)", args.expert_ids.size(), args.pairs.shape[0]);
  CheckTrue(kOp, "expert_begin extent 0", args.expert_begin.shape[0] >= 1, "experts + 1", "0");
  OperandList operands;
  operands.Add("expert_ids", args.expert_ids);
  operands.Add("expert_begin", args.expert_begin);
  operands.Add("pairs", args.pairs);
  Dispatch(context, context.kernels->group_experts, kOp, args, operands,
           Bytes(args.expert_ids) + Bytes(args.expert_begin) + Bytes(args.pairs));
}

void SiluMul(const ExecContext& context, const SiluMulArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "silu_mul";
  const int64_t rows = Extent(args.gate, 0);
  const int64_t n = Extent(args.gate, 1);
  CheckPlanes(kOp, "out", args.out);
  CheckExtent(kOp, "up extent 0 (rows of gate)", rows, Extent(args.up, 0));
  CheckExtent(kOp, "up extent 1 (n of gate)", n, Extent(args.up, 1));
  CheckExtent(kOp, "out extent 0 (rows of gate)", rows, Extent(args.out, 0));
  CheckExtent(kOp, "out extent 1 (n of gate)", n, Extent(args.out, 1));
  if (rows == 0) return;
  OperandList operands;
  operands.Add("gate", args.gate);
  operands.Add("up", args.up);
  operands.Add("out", args.out);
  Dispatch(context, context.kernels->silu_mul, kOp, args, operands,
           Bytes(args.gate) + Bytes(args.up) + Bytes(args.out));
}

void CombineExperts(const ExecContext& context, const CombineExpertsArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "combine_experts";
  const int64_t rows = Extent(args.out, 0);
  const int64_t n = Extent(args.out, 1);
  CheckExtent(kOp, "expert_weights extent 0 (rows of out)", rows, args.expert_weights.shape[0]);
  CheckExtent(kOp, "pairs extent 0 (rows * top_k)", args.expert_weights.size(), Extent(args.pairs, 0));
  CheckExtent(kOp, "pairs extent 1 (n of out)", n, Extent(args.pairs, 1));
  if (args.shared) {
    CheckExtent(kOp, "shared extent 0 (rows of out)", rows, Extent(*args.shared, 0));
    CheckExtent(kOp, "shared extent 1 (n of out)", n, Extent(*args.shared, 1));
  }
  if (rows == 0) return;
  OperandList operands;
  operands.Add("pairs", args.pairs);
  operands.Add("expert_weights", args.expert_weights);
  if (args.shared) operands.Add("shared", *args.shared);
  operands.Add("out", args.out);
  Dispatch(context, context.kernels->combine_experts, kOp, args, operands,
           Bytes(args.pairs) + Bytes(args.expert_weights) + Bytes(args.shared) + Bytes(args.out));
}

}  // namespace mxmla
