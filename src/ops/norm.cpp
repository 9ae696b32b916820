#include "ops/norm.h"

#include "ops/check.h"
#include "ops/kernel_set.h"

namespace mxmla {

void RmsNorm(const ExecContext& context, const RmsNormArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "rms_norm";
  const int64_t x_rows = Extent(args.x, 0);
  const int64_t n = Extent(args.x, 1);
  const int64_t rows = args.row_index ? args.row_index->shape[0] : x_rows;
  CheckExtent(kOp, "weight extent 0 (n of x)", n, args.weight.shape[0]);
  OperandList operands;
  operands.Add("x", args.x);
  operands.Add("weight", args.weight);
  int64_t bytes = rows * n * ElementSize(args.x) + Bytes(args.weight);
  if (args.residual) {
    CheckExtent(kOp, "residual extent 0 (rows of x)", x_rows, args.residual->shape[0]);
    CheckExtent(kOp, "residual extent 1 (n of x)", n, args.residual->shape[1]);
    operands.Add("residual", *args.residual);
    bytes += (args.row_index ? 1 : 2) * rows * n * static_cast<int64_t>(sizeof(float));
  }
  if (args.residual_out) {
    CheckTrue(kOp, "residual_out", args.residual && !args.row_index, "a residual and no row_index", "other operands");
    CheckExtent(kOp, "residual_out extent 0 (rows of x)", x_rows, args.residual_out->shape[0]);
    CheckExtent(kOp, "residual_out extent 1 (n of x)", n, args.residual_out->shape[1]);
    operands.Add("residual_out", *args.residual_out);
  }
  if (args.row_index) {
    operands.Add("row_index", *args.row_index);
    bytes += Bytes(*args.row_index);
  }
  if (args.row_scale) {
    CheckExtent(kOp, "row_scale extent 0 (rows)", rows, args.row_scale->shape[0]);
    operands.Add("row_scale", *args.row_scale);
    bytes += Bytes(*args.row_scale);
  }
  if (args.out_index) {
    CheckExtent(kOp, "out_index extent 0 (rows)", rows, args.out_index->shape[0]);
    operands.Add("out_index", *args.out_index);
    bytes += Bytes(*args.out_index);
  }
  if (args.out) {
    CheckExtent(kOp, "out extent 1 (n of x)", n, Extent(*args.out, 1));
    if (!args.out_index) CheckExtent(kOp, "out extent 0 (rows)", rows, Extent(*args.out, 0));
    operands.Add("out", *args.out);
    bytes += rows * n * ElementSize(*args.out);
  }
  if (args.quantized) {
    CheckPlanes(kOp, "quantized", *args.quantized);
    if (!args.out_index) CheckExtent(kOp, "quantized extent 0 (rows)", rows, Extent(*args.quantized, 0));
    CheckExtent(kOp, "quantized extent 1 (n of x)", n, Extent(*args.quantized, 1));
    operands.Add("quantized", *args.quantized);
    // Of an output with more rows than are written, those that are.
    const int64_t all = Extent(*args.quantized, 0);
    bytes += all == 0 ? 0 : Bytes(*args.quantized) / all * rows;
  }
  if (rows == 0) return;
  Dispatch(context, context.kernels->rms_norm, kOp, args, operands, bytes);
}

}  // namespace mxmla
