// RMSNorm: one thread a row, two passes over it.
#include <cmath>

#include "cpu/group_store.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

// The sum of v^2, where v = x, or residual + x, which goes to `sum_out`.
template <class X>
float AddAndSquare(const X* x /* (n) */, const float* residual /* (n) or null */, float* sum_out /* (n) or null */,
                   int64_t n) {
  F32x16 sum[2] = {Zero(), Zero()};
  int64_t i = 0;
  for (int part = 0; i + 16 <= n; i += 16, part ^= 1) {
    F32x16 v = Load(x + i);
    if (residual) {
      v = v + Load(residual + i);
      if (sum_out) Store(sum_out + i, v);
    }
    sum[part] = Fma(v, v, sum[part]);
  }
  if (i < n) {
    F32x16 v = LoadPartial(x + i, n - i);
    if (residual) {
      v = v + LoadPartial(residual + i, n - i);
      if (sum_out) StorePartial(sum_out + i, v, n - i);
    }
    sum[0] = Fma(v, v, sum[0]);
  }
  return ReduceAdd(sum[0] + sum[1]);
}

// group = weight * v * factor, where v = x, or x + added.
template <class X>
void NormalizeGroup(const X* x /* (count) */, const float* added /* (count) or null */,
                    const float* weight /* (count) */, float factor, int64_t count, float* group /* (128) */) {
  LoadGroup(x, count, group);
  if (added) {
    int64_t j = 0;
    for (; j + 16 <= count; j += 16) Store(group + j, Load(group + j) + Load(added + j));
    if (j < count) Store(group + j, Load(group + j) + LoadPartial(added + j, count - j));
  }
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) Store(group + i, Load(weight + i) * (Load(group + i) * Splat(factor)));
  if (i < count) Store(group + i, LoadPartial(weight + i, count - i) * (Load(group + i) * Splat(factor)));
}

template <class X>
void Row(const RmsNormArgs& args, const View<const X, 2>& x, int64_t r) {
  const int64_t n = x.shape[1];
  const int64_t x_row = args.row_index ? (*args.row_index)(r) : r;
  const int64_t out_row = args.out_index ? (*args.out_index)(r) : r;
  const X* x_data = x.data + x_row * x.stride[0];  // (n)
  const auto row_of = [&](const std::optional<View<float, 2>>& any) {
    return any ? any->data + x_row * any->stride[0] : nullptr;
  };
  const float* residual = row_of(args.residual);                                                              // (n)
  float* sum_out = args.row_index ? nullptr : row_of(args.residual_out ? args.residual_out : args.residual);  // (n)
  const float mean = AddAndSquare(x_data, residual, sum_out, n) / static_cast<float>(n);
  const float scale = args.row_scale ? (*args.row_scale)(r) : 1.0f;
  const float factor = scale / std::sqrt(mean + args.eps);
  for (int64_t begin = 0; begin < n; begin += kGroup) {
    const int64_t count = std::min(kGroup, n - begin);
    alignas(64) float group[kGroup];
    if (sum_out) {
      NormalizeGroup<float>(sum_out + begin, nullptr, args.weight.data + begin, factor, count, group);
    } else {
      NormalizeGroup(x_data + begin, residual ? residual + begin : nullptr, args.weight.data + begin, factor, count,
                     group);
    }
    if (args.out) {
      std::visit([&](const auto& out) { StoreGroup(group, begin, count, OutputRow(out, args.scale_mode, out_row)); },
                 *args.out);
    }
    if (args.quantized) {
      RoundGroup(group);
      std::visit([&](const auto& out) { StoreGroup(group, begin, count, OutputRow(out, args.scale_mode, out_row)); },
                 *args.quantized);
    }
  }
}

void Run(const ExecContext& context, const RmsNormArgs& args) {
  std::visit(
      [&](const auto& x) {
        const int64_t rows = args.row_index ? args.row_index->shape[0] : x.shape[0];
        RunTasks(context, rows, [&](int64_t r, int) { Row(args, x, r); });
      },
      args.x);
}

}  // namespace

KernelTable<RmsNormArgs> MakeRmsNormKernels() {
  return {{kKernelName,
           {{.operand = "x", .inner_stride_one = true},
            {.operand = "weight", .inner_stride_one = true},
            {.operand = "residual", .inner_stride_one = true},
            {.operand = "residual_out", .inner_stride_one = true},
            {.operand = "out", .inner_stride_one = true},
            {.operand = "quantized", .inner_stride_one = true}},
           &Run}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
