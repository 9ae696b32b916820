#include "hip/norm_router.h"

#include "core/float_view.h"
#include "gpu/row_kernels.h"

namespace mxmla::hip {
namespace {

NormRouterArgs Plain(NormRouterArgs args) {
  args.norm.quantized.reset();
  return args;
}

}  // namespace

bool HonoursQuantizedNormRouter(const NormRouterArgs& args) {
  return args.norm.quantized && args.norm.out && std::holds_alternative<View<bf16, 2>>(*args.norm.out) &&
         gpu::HonoursNormRouter(Plain(args));
}

// What is quantised is what was rounded to bf16, so that it can be read back.
void QuantizedNormRouter(const ExecContext& context, const NormRouterArgs& args) {
  gpu::NormRouter(context, Plain(args));
  const auto& normed = std::get<View<bf16, 2>>(*args.norm.out);
  const int64_t rows = normed.shape[0];
  gpu::Quantize(context, {FloatInput<3>(View<const bf16, 3>(normed.Split(0, rows, 1))),
                          SplitRows(*args.norm.quantized, rows, 1), args.norm.scale_mode});
}

}  // namespace mxmla::hip
