#include "ops/rope.h"

#include "ops/check.h"
#include "ops/kernel_set.h"

namespace mxmla {

void Rope(const ExecContext& context, const RopeArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "rope";
  const int64_t rows = Extent(args.x, 0);
  const int64_t heads = Extent(args.x, 1);
  const int64_t n = Extent(args.x, 2);
  CheckTrue(kOp, "x extent 2", n % 2 == 0, "an even number", "an odd one");
  CheckExtent(kOp, "cos extent 0 (rows of x)", rows, args.cos.shape[0]);
  CheckExtent(kOp, "cos extent 1 (half of x's n)", n / 2, args.cos.shape[1]);
  CheckExtent(kOp, "sin extent 0 (rows of x)", rows, args.sin.shape[0]);
  CheckExtent(kOp, "sin extent 1 (half of x's n)", n / 2, args.sin.shape[1]);
  CheckExtent(kOp, "out extent 1 (heads of x)", heads, Extent(args.out, 1));
  CheckExtent(kOp, "out extent 2 (n of x)", n, Extent(args.out, 2));
  if (args.out_index) {
    CheckExtent(kOp, "out_index extent 0 (rows of x)", rows, args.out_index->shape[0]);
  } else {
    CheckExtent(kOp, "out extent 0 (rows of x)", rows, Extent(args.out, 0));
  }
  if (rows == 0 || heads == 0) return;
  OperandList operands;
  operands.Add("x", args.x);
  operands.Add("cos", args.cos);
  operands.Add("sin", args.sin);
  operands.Add("out", args.out);
  if (args.out_index) operands.Add("out_index", *args.out_index);
  Dispatch(context, context.kernels->rope, kOp, args, operands,
           Bytes(args.x) + Bytes(args.cos) + Bytes(args.sin) + Bytes(args.out_index) +
               rows * heads * n * ElementSize(args.out));
}

void RopeAngles(const ExecContext& context, const RopeAnglesArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "rope_angles";
  const int64_t rows = args.positions.shape[0];
  const int64_t half = args.inverse_frequencies.shape[0];
  CheckExtent(kOp, "cos extent 0 (rows of positions)", rows, args.cos.shape[0]);
  CheckExtent(kOp, "cos extent 1 (inverse_frequencies)", half, args.cos.shape[1]);
  CheckExtent(kOp, "sin extent 0 (rows of positions)", rows, args.sin.shape[0]);
  CheckExtent(kOp, "sin extent 1 (inverse_frequencies)", half, args.sin.shape[1]);
  if (rows == 0) return;
  OperandList operands;
  operands.Add("positions", args.positions);
  operands.Add("inverse_frequencies", args.inverse_frequencies);
  operands.Add("cos", args.cos);
  operands.Add("sin", args.sin);
  Dispatch(context, context.kernels->rope_angles, kOp, args, operands,
           Bytes(args.positions) + Bytes(args.inverse_frequencies) + Bytes(args.cos) + Bytes(args.sin));
}

}  // namespace mxmla
