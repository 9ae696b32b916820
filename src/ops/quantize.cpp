#include "ops/quantize.h"

#include "ops/check.h"
#include "ops/kernel_set.h"

namespace mxmla {

void Quantize(const ExecContext& context, const QuantizeArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "quantize";
  CheckPlanes(kOp, "out", args.out);
  CheckExtent(kOp, "out extent 0 (rows of x)", Extent(args.x, 0), Extent(args.out, 0));
  CheckExtent(kOp, "out extent 1 (heads of x)", Extent(args.x, 1), Extent(args.out, 1));
  CheckExtent(kOp, "out extent 2 (n of x)", Extent(args.x, 2), Extent(args.out, 2));
  if (Extent(args.x, 0) == 0 || Extent(args.x, 1) == 0) return;
  OperandList operands;
  operands.Add("x", args.x);
  operands.Add("out", args.out);
  Dispatch(context, context.kernels->quantize, kOp, args, operands, Bytes(args.x) + Bytes(args.out));
}

void FlattenQuantize(const ExecContext& context, const FlattenQuantizeArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "flatten_quantize";
  CheckPlanes(kOp, "out", args.out);
  CheckExtent(kOp, "out extent 0 (rows of x)", Extent(args.x, 0), Extent(args.out, 0));
  CheckExtent(kOp, "out extent 1 (heads * n of x)", Extent(args.x, 1) * Extent(args.x, 2), Extent(args.out, 1));
  if (Extent(args.x, 0) == 0) return;
  OperandList operands;
  operands.Add("x", args.x);
  operands.Add("out", args.out);
  Dispatch(context, context.kernels->flatten_quantize, kOp, args, operands, Bytes(args.x) + Bytes(args.out));
}

void Copy(const ExecContext& context, const CopyArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "copy";
  CheckTrue(kOp, "out dtype (of x)", args.x.index() == args.out.index(), args.x.index() == 0 ? "f32" : "bf16",
            args.out.index() == 0 ? "f32" : "bf16");
  CheckExtent(kOp, "out extent 0 (of x)", Extent(args.x, 0), Extent(args.out, 0));
  CheckExtent(kOp, "out extent 1 (of x)", Extent(args.x, 1), Extent(args.out, 1));
  CheckExtent(kOp, "out extent 2 (of x)", Extent(args.x, 2), Extent(args.out, 2));
  if (Bytes(args.x) == 0) return;
  OperandList operands;
  operands.Add("x", args.x);
  operands.Add("out", args.out);
  Dispatch(context, context.kernels->copy, kOp, args, operands, Bytes(args.x) + Bytes(args.out));
}

}  // namespace mxmla
