#include "ref/kernels.h"
#include "ref/values.h"

namespace mxmla::ref {

void Embedding(const ExecContext& context, const EmbeddingArgs& args) {
  const int64_t hidden = Extent(args.out, 1);
  const auto body = [&](int64_t r, int) {
    float values[kFp8Group] = {};
    const int32_t token = args.tokens(r) < 0 ? args.previous(-1 - args.tokens(r)) : args.tokens(r);
    for (int64_t begin = 0; begin < hidden; begin += kFp8Group) {
      const int64_t count = std::min(kFp8Group, hidden - begin);
      if (token >= 0) LoadWeight(args.table, token, begin, count, values);
      for (int64_t i = 0; i < count; ++i) values[i] *= args.scale;
      StoreRow(args.out, r, begin, count, values);
    }
  };
  ParallelFor(context, args.tokens.shape[0], body);
}

}  // namespace mxmla::ref
