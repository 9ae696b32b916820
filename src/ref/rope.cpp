#include <cmath>

#include "ref/kernels.h"
#include "ref/values.h"

namespace mxmla::ref {

void Rope(const ExecContext& context, const RopeArgs& args) {
  const int64_t heads = Extent(args.x, 1);
  const int64_t half = Extent(args.x, 2) / 2;
  const auto body = [&](int64_t r, int) {
    const int64_t to = args.out_index ? (*args.out_index)(r) : r;
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t i = 0; i < half; ++i) {
        const int64_t first = args.interleaved ? 2 * i : i;
        const int64_t second = args.interleaved ? 2 * i + 1 : i + half;
        float a = 0;
        float b = 0;
        LoadRow(args.x, r, h, first, 1, &a);
        LoadRow(args.x, r, h, second, 1, &b);
        const double cos = args.cos(r, i);
        const double sin = args.sin(r, i);
        const auto turned_a = static_cast<float>(a * cos - b * sin);
        const auto turned_b = static_cast<float>(b * cos + a * sin);
        StoreRow(args.out, to, h, first, 1, &turned_a);
        StoreRow(args.out, to, h, second, 1, &turned_b);
      }
    }
  };
  ParallelFor(context, Extent(args.x, 0), body);
}

void RopeAngles(const ExecContext& context, const RopeAnglesArgs& args) {
  const auto body = [&](int64_t r, int) {
    for (int64_t i = 0; i < args.inverse_frequencies.shape[0]; ++i) {
      const float angle = static_cast<float>(args.positions(r)) * args.inverse_frequencies(i);
      args.cos(r, i) = std::cos(angle) * args.factor;
      args.sin(r, i) = std::sin(angle) * args.factor;
    }
  };
  ParallelFor(context, args.positions.shape[0], body);
}

}  // namespace mxmla::ref
