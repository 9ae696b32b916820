#include "ops/indexer.h"

#include "ops/check.h"
#include "ops/kernel_set.h"

namespace mxmla {

void IndexKey(const ExecContext& context, const IndexKeyArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "index_key";
  const int64_t rows = Extent(args.x, 0);
  const int64_t n = Extent(args.x, 1);
  CheckExtent(kOp, "weight extent 0 (n of x)", n, args.weight.shape[0]);
  CheckExtent(kOp, "bias extent 0 (n of x)", n, args.bias.shape[0]);
  CheckExtent(kOp, "cos extent 0 (rows of x)", rows, args.cos.shape[0]);
  CheckAtMost(kOp, "cos extent 1 (up to half of x's n)", n / 2, args.cos.shape[1]);
  CheckExtent(kOp, "sin extent 0 (rows of x)", rows, args.sin.shape[0]);
  CheckExtent(kOp, "sin extent 1 (that of cos)", args.cos.shape[1], args.sin.shape[1]);
  CheckExtent(kOp, "out extent 1 (n of x)", n, Extent(args.out, 1));
  CheckExtent(kOp, "out_index extent 0 (rows of x)", rows, args.out_index.shape[0]);
  if (rows == 0 || n == 0) return;
  OperandList operands;
  operands.Add("x", args.x);
  operands.Add("weight", args.weight);
  operands.Add("bias", args.bias);
  operands.Add("cos", args.cos);
  operands.Add("sin", args.sin);
  operands.Add("out", args.out);
  operands.Add("out_index", args.out_index);
  Dispatch(context, context.kernels->index_key, kOp, args, operands,
           Bytes(args.x) + Bytes(args.weight) + Bytes(args.bias) + Bytes(args.cos) + Bytes(args.sin) +
               Bytes(args.out_index) + rows * n * ElementSize(args.out));
}

void IndexTopK(const ExecContext& context, const IndexTopKArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "index_top_k";
  const int64_t rows = Extent(args.query, 0);
  const int64_t heads = Extent(args.query, 1);
  CheckExtent(kOp, "weights extent 0 (rows of query)", rows, args.weights.shape[0]);
  CheckExtent(kOp, "weights extent 1 (heads of query)", heads, args.weights.shape[1]);
  CheckExtent(kOp, "key_pages extent 2 (n of query)", Extent(args.query, 2), Extent(args.key_pages, 2));
  CheckExtent(kOp, "row_sequence extent 0 (rows of query)", rows, args.row_sequence.shape[0]);
  CheckExtent(kOp, "row_length extent 0 (rows of query)", rows, args.row_length.shape[0]);
  CheckExtent(kOp, "chosen extent 0 (rows of query)", rows, args.chosen.shape[0]);
  CheckTrue(kOp, "chosen", args.chosen.shape[1] >= 1, "at least 1 token a row", "none");
  if (rows == 0) return;
  OperandList operands;
  operands.Add("query", args.query);
  operands.Add("weights", args.weights);
  operands.Add("key_pages", args.key_pages);
  operands.Add("block_table", args.block_table);
  operands.Add("row_sequence", args.row_sequence);
  operands.Add("row_length", args.row_length);
  operands.Add("chosen", args.chosen);
  Dispatch(context, context.kernels->index_top_k, kOp, args, operands,
           Bytes(args.query) + Bytes(args.weights) + Bytes(args.chosen));
}

}  // namespace mxmla
