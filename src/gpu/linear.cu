#include "gpu/kernel_params.h"
#include "gpu/linear.cuh"

#include <algorithm>

#include "gpu/product_kernels.h"

namespace mxmla::gpu {
namespace {

LinearParams ParamsOf(const Activation<2>& x, const LinearWeight& weight, const FloatOutput<2>& any) {
  LinearParams p{};
  p.x = OperandOf(x);
  p.w = OperandOf(weight);
  p.rows = static_cast<int>(Extent(x, 0));
  p.n = static_cast<int>(RowCount(weight));
  p.k = static_cast<int>(ColumnCount(weight));
  SetRowsOut(any, &p);
  return p;
}

void LaunchGroupedLinear(const GroupedParams& p, int64_t pairs, Stream stream) {
  switch (KernelFormat(p.product.x.format, p.product.w.format)) {
    case Format::kF32:
      return LaunchGroupedLinearF32(p, pairs, stream);
    case Format::kBf16:
      return LaunchGroupedLinearBf16(p, pairs, stream);
    case Format::kFp8:
      return LaunchGroupedLinearFp8(p, pairs, stream);
    case Format::kMxfp4:
      return LaunchGroupedLinearMxfp4(p, pairs, stream);
    default:
      return LaunchGroupedLinearAny(p, pairs, stream);
  }
}

}  // namespace

void Linear(const ExecContext& context, const LinearArgs& args) {
  const LinearParams p = ParamsOf(args.x, args.weight, args.out);
  if (p.n == 0) return;
  const Stream stream = StreamOf(context);
  switch (KernelFormat(p.x.format, p.w.format)) {
    case Format::kF32:
      return LaunchLinearF32(p, stream);
    case Format::kBf16:
      return LaunchLinearBf16(p, stream);
    case Format::kFp8:
      return LaunchLinearFp8(p, stream);
    case Format::kMxfp4:
      return LaunchLinearMxfp4(p, stream);
    default:
      return LaunchLinearAny(p, stream);
  }
}

// The kernel's parameters carry where each expert's weights lie, so a captured launch keeps them.
void GroupedLinear(const ExecContext& context, const GroupedLinearArgs& args) {
  const int64_t pairs = args.pairs.shape[0];
  if (RowCount(args.weights.front()) == 0) return;
  GroupedParams p;
  p.experts = static_cast<int>(args.weights.size());
  p.pairs_per_row = static_cast<int>(args.pairs_per_row);
  p.expert_begin = args.expert_begin.data;
  p.expert_begin_step = args.expert_begin.stride[0];
  p.pairs = args.pairs.data;
  p.pairs_step = args.pairs.stride[0];
  bool whole[kWeightFormats];
  std::fill_n(whole, kWeightFormats, true);
  const LinearWeight* first[kWeightFormats] = {};
  for (int e = 0; e < p.experts; ++e) {
    const Operand weight = OperandOf(args.weights[e]);
    const int format = static_cast<int>(weight.format);
    p.expert[e] = {weight.values,       weight.scales,  static_cast<int32_t>(weight.first_row),
                   weight.tensor_scale, weight.divides, weight.format};
    whole[format] = whole[format] && weight.whole_pieces;
    if (!first[format]) first[format] = &args.weights[e];
  }
  for (int format = 0; format < kWeightFormats; ++format) {
    if (!first[format]) continue;
    p.product = ParamsOf(args.InputOf(*first[format]), *first[format], args.out);
    p.product.w.whole_pieces = whole[format];
    LaunchGroupedLinear(p, pairs, StreamOf(context));
  }
}

}  // namespace mxmla::gpu
