#include "gpu/head_product.h"

#include "gpu/head_product.cuh"
#include "gpu/kernel_params.h"
#include "gpu/product_kernels.h"
#include "gpu/query_absorb.cuh"

namespace mxmla::gpu {
namespace {

void SetHeads(HeadProductParams& p, const Activation<3>& x, const HeadWeight& weight) {
  p.x = OperandOf(x);
  p.w = OperandOf(weight.tensor);
  p.head_stride = weight.head_stride;
  p.head_offset = weight.head_offset;
  p.heads = static_cast<int>(weight.heads);
  p.head_rows = static_cast<int>(weight.head_rows);
  p.rows = static_cast<int>(Extent(x, 0));
  p.k = static_cast<int>(Extent(x, 2));
}

void SetOut(HeadProductParams& p, const FloatOutput<3>& any) {
  std::visit(
      [&](const auto& out) {
        constexpr bool kFloat = std::is_same_v<typename std::decay_t<decltype(out)>::Element, float>;
        p.kind = kFloat ? OutKind::kF32 : OutKind::kBf16;
        p.out = out.data;
        p.out_row = out.stride[0];
        p.out_head = out.stride[1];
      },
      any);
}

void SetOut(HeadProductParams& p, const ActivationOutput<2>& any) {
  std::visit(
      [&](const auto& out) {
        using V = std::decay_t<decltype(out)>;
        if constexpr (requires { out.values; }) {
          p.kind = std::is_same_v<V, Mxfp4<e2m1x2, 2>> ? OutKind::kMxfp4 : OutKind::kFp8;
          p.out = out.values.data;
          p.out_row = out.values.stride[0];
          p.scales = out.scales.data;
          p.scale_row = out.scales.stride[0];
          p.scale_column = out.scales.stride[1];
        } else {
          SetOut(p, FloatOutput<3>(out.Split(1, p.heads, p.head_rows)));
        }
      },
      any);
}

}  // namespace

void RunValueProject(const ValueProjectArgs& args, const RowLimits& limits, Stream stream) {
  HeadProductParams p{};
  SetHeads(p, args.attn, args.w_vc);
  std::visit([&](const auto& out) { SetOut(p, out); }, args.out);
  p.mode = args.scale_mode;
  p.limits = limits.limits;
  p.limits_last = limits.last;
  p.row_base = static_cast<int>(limits.row_base);
  if (p.head_rows > 0) LaunchHeadProduct(p, stream);
}

void RunQueryAbsorb(const QueryAbsorbArgs& args, Stream stream) {
  if (args.output_major) {
    HeadProductParams p{};
    SetHeads(p, args.q_nope, args.w_kc);
    SetOut(p, args.out);
    if (p.head_rows > 0) LaunchHeadProduct(p, stream);
    return;
  }
  QueryAbsorbParams p{};
  p.x = OperandOf(args.q_nope);
  p.w = OperandOf(args.w_kc.tensor);
  p.head_stride = args.w_kc.head_stride;
  p.head_offset = args.w_kc.head_offset;
  p.rows = static_cast<int>(Extent(args.q_nope, 0));
  p.nope = static_cast<int>(Extent(args.q_nope, 2));
  p.latents = static_cast<int>(Extent(args.out, 2));
  SetHeadsOut(args.out, &p);
  if (p.latents > 0) LaunchQueryAbsorb(p, args.w_kc.heads, stream);
}

void ValueProject(const ExecContext& context, const ValueProjectArgs& args) {
  RunValueProject(args, {}, StreamOf(context));
}
void QueryAbsorb(const ExecContext& context, const QueryAbsorbArgs& args) { RunQueryAbsorb(args, StreamOf(context)); }

}  // namespace mxmla::gpu
