#include "ref/kernels.h"
#include "ref/values.h"

namespace mxmla::ref {

void Quantize(const ExecContext& context, const QuantizeArgs& args) {
  const int64_t heads = Extent(args.x, 1);
  const int64_t n = Extent(args.x, 2);
  const auto body = [&](int64_t task, int) {
    const int64_t r = task / heads;
    const int64_t h = task % heads;
    float values[kFp8Group];
    for (int64_t begin = 0; begin < n; begin += kFp8Group) {
      const int64_t count = std::min(kFp8Group, n - begin);
      LoadRow(args.x, r, h, begin, count, values);
      StoreRow(args.out, r, h, begin, count, values, args.scale_mode);
    }
  };
  ParallelFor(context, Extent(args.x, 0) * heads, body);
}

// A group may span heads: its values are gathered a head's piece at a time.
void FlattenQuantize(const ExecContext& context, const FlattenQuantizeArgs& args) {
  const int64_t n = Extent(args.x, 2);
  const int64_t flat = Extent(args.x, 1) * n;
  const auto body = [&](int64_t r, int) {
    float values[kFp8Group];
    for (int64_t begin = 0; begin < flat; begin += kFp8Group) {
      const int64_t count = std::min(kFp8Group, flat - begin);
      for (int64_t i = 0; i < count;) {
        const int64_t h = (begin + i) / n;
        const int64_t c = (begin + i) % n;
        const int64_t piece = std::min(n - c, count - i);
        LoadRow(args.x, r, h, c, piece, values + i);
        i += piece;
      }
      StoreRow(args.out, r, begin, count, values, args.scale_mode);
    }
  };
  ParallelFor(context, Extent(args.x, 0), body);
}

void Copy(const ExecContext& context, const CopyArgs& args) {
  std::visit(
      [&](const auto& out) {
        using T = typename std::decay_t<decltype(out)>::Element;
        const auto& x = std::get<View<const T, 3>>(args.x);
        const auto body = [&](int64_t r, int) {
          for (int64_t h = 0; h < x.shape[1]; ++h) {
            for (int64_t i = 0; i < x.shape[2]; ++i) out(r, h, i) = x(r, h, i);
          }
        };
        ParallelFor(context, x.shape[0], body);
      },
      args.out);
}

}  // namespace mxmla::ref
