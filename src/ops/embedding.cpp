#include "ops/embedding.h"

#include "ops/check.h"
#include "ops/kernel_set.h"

namespace mxmla {

void Embedding(const ExecContext& context, const EmbeddingArgs& args) {
  using namespace internal;
  constexpr std::string_view kOp = "embedding";
  const int64_t rows = args.tokens.shape[0];
  const int64_t hidden = ColumnCount(args.table);
  CheckPlanes(kOp, "table", args.table);
  CheckExtent(kOp, "out extent 0 (rows of tokens)", rows, Extent(args.out, 0));
  CheckExtent(kOp, "out extent 1 (hidden of table)", hidden, Extent(args.out, 1));
  if (rows == 0) return;
  OperandList operands;
  operands.Add("tokens", args.tokens);
  operands.Add("previous", args.previous);
  operands.Add("table", args.table);
  operands.Add("out", args.out);
  Dispatch(
      context, context.kernels->embedding, kOp, args, operands,
      Bytes(args.tokens) + rows * (RowCount(args.table) > 0 ? ByteCount(Rows(args.table, 0, 1)) : 0) + Bytes(args.out));
}

}  // namespace mxmla
