#include <cmath>

#include "ref/kernels.h"
#include "ref/values.h"

namespace mxmla::ref {

void RmsNorm(const ExecContext& context, const RmsNormArgs& args) {
  const int64_t n = Extent(args.x, 1);
  const int64_t rows = args.row_index ? args.row_index->shape[0] : Extent(args.x, 0);
  const auto body = [&](int64_t r, int) {
    const int64_t from = args.row_index ? (*args.row_index)(r) : r;
    const int64_t to = args.out_index ? (*args.out_index)(r) : r;
    float v[kFp8Group];
    // Reads a piece of the row; where the residual is updated, it holds the sum after the first pass.
    const auto load = [&](int64_t begin, int64_t count, bool first) {
      const bool updates = args.residual && !args.row_index;
      if (!updates || first) LoadRow(args.x, from, begin, count, v);
      if (!args.residual) return;
      for (int64_t i = 0; i < count; ++i) {
        float& sum = (args.residual_out ? *args.residual_out : *args.residual)(from, begin + i);
        v[i] = updates && !first ? sum : (*args.residual)(from, begin + i) + v[i];
        if (updates) sum = v[i];
      }
    };
    double squares = 0;
    for (int64_t begin = 0; begin < n; begin += kFp8Group) {
      const int64_t count = std::min(kFp8Group, n - begin);
      load(begin, count, true);
      for (int64_t i = 0; i < count; ++i) squares += static_cast<double>(v[i]) * static_cast<double>(v[i]);
    }
    const double scale = args.row_scale ? static_cast<double>((*args.row_scale)(r)) : 1.0;
    const double factor = scale / std::sqrt(squares / static_cast<double>(n) + static_cast<double>(args.eps));
    for (int64_t begin = 0; begin < n; begin += kFp8Group) {
      const int64_t count = std::min(kFp8Group, n - begin);
      load(begin, count, false);
      for (int64_t i = 0; i < count; ++i) {
        v[i] = static_cast<float>(static_cast<double>(args.weight(begin + i)) * (static_cast<double>(v[i]) * factor));
      }
      if (args.out) StoreRow(*args.out, to, begin, count, v);
      if (args.quantized) StoreRow(*args.quantized, to, begin, count, v, args.scale_mode);
    }
  };
  ParallelFor(context, rows, body);
}

}  // namespace mxmla::ref
