// Rotary position embedding, in place or into another buffer's rows.
#include <cmath>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/split_rows.h"
#include "ops/kernel_set.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

// 16 pairs (a, b) become (a cos - b sin, b cos + a sin).
MXMLA_INLINE void Rotate(F32x16* a, F32x16* b, F32x16 cosine, F32x16 sine) {
  const F32x16 first = Fma(*a, cosine, -(*b * sine));
  *b = Fma(*b, cosine, *a * sine);
  *a = first;
}

// One head. Every pair is read before it is written, so that `out` may be `x`.
template <class X, class Out>
void RotateInterleaved(const X* x /* (2 * pairs) */, const float* cosine /* (pairs) */, const float* sine /* (pairs) */,
                       int64_t pairs, Out* out /* (2 * pairs) */) {
  int64_t i = 0;
  for (; i + 16 <= pairs; i += 16) {
    Block ab = LoadSplit(x + 2 * i);
    Rotate(&ab.even, &ab.odd, Load(cosine + i), Load(sine + i));
    StoreSplit(out + 2 * i, ab);
  }
  if (i == pairs) return;
  const int64_t rest = pairs - i;
  X padded[32] = {};
  Out rotated[32];
  std::memcpy(padded, x + 2 * i, static_cast<size_t>(2 * rest) * sizeof(X));
  Block ab = LoadSplit(padded);
  Rotate(&ab.even, &ab.odd, LoadPartial(cosine + i, rest), LoadPartial(sine + i, rest));
  StoreSplit(rotated, ab);
  std::memcpy(out + 2 * i, rotated, static_cast<size_t>(2 * rest) * sizeof(Out));
}

template <class X, class Out>
void RotateHalves(const X* x /* (2 * pairs) */, const float* cosine /* (pairs) */, const float* sine /* (pairs) */,
                  int64_t pairs, Out* out /* (2 * pairs) */) {
  int64_t i = 0;
  for (; i + 16 <= pairs; i += 16) {
    F32x16 a = Load(x + i);
    F32x16 b = Load(x + pairs + i);
    Rotate(&a, &b, Load(cosine + i), Load(sine + i));
    Store(out + i, a);
    Store(out + pairs + i, b);
  }
  if (i == pairs) return;
  const int64_t rest = pairs - i;
  F32x16 a = LoadPartial(x + i, rest);
  F32x16 b = LoadPartial(x + pairs + i, rest);
  Rotate(&a, &b, LoadPartial(cosine + i, rest), LoadPartial(sine + i, rest));
  StorePartial(out + i, a, rest);
  StorePartial(out + pairs + i, b, rest);
}

void Run(const ExecContext& context, const RopeArgs& args) {
  std::visit(
      [&](const auto& x, const auto& out) {
        const int64_t heads = x.shape[1];
        const int64_t pairs = x.shape[2] / 2;
        if (heads == 0 || pairs == 0) return;
        RunRanges(context, x.shape[0], 8192 / (heads * pairs) + 1, [&](int64_t first, int64_t last, int) {
          for (int64_t r = first; r < last; ++r) {
            const int64_t out_row = args.out_index ? (*args.out_index)(r) : r;
            const float* cosine = args.cos.data + r * args.cos.stride[0];
            const float* sine = args.sin.data + r * args.sin.stride[0];
            for (int64_t h = 0; h < heads; ++h) {
              const auto* from = x.data + r * x.stride[0] + h * x.stride[1];
              auto* to = out.data + out_row * out.stride[0] + h * out.stride[1];
              if (args.interleaved) {
                RotateInterleaved(from, cosine, sine, pairs, to);
              } else {
                RotateHalves(from, cosine, sine, pairs, to);
              }
            }
          }
        });
      },
      args.x, args.out);
}

// A few dozen angles a row, once a step.
void RunAngles(const ExecContext& context, const RopeAnglesArgs& args) {
  const int64_t half = args.inverse_frequencies.shape[0];
  if (half == 0) return;
  RunRanges(context, args.positions.shape[0], 1024 / half + 1, [&](int64_t first, int64_t last, int) {
    for (int64_t r = first; r < last; ++r) {
      for (int64_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(args.positions(r)) * args.inverse_frequencies(i);
        args.cos(r, i) = std::cos(angle) * args.factor;
        args.sin(r, i) = std::sin(angle) * args.factor;
      }
    }
  });
}

}  // namespace

KernelTable<RopeAnglesArgs> MakeRopeAnglesKernels() { return {{kKernelName, {}, &RunAngles}}; }

KernelTable<RopeArgs> MakeRopeKernels() {
  return {{kKernelName,
           {{.operand = "x", .inner_stride_one = true},
            {.operand = "cos", .inner_stride_one = true},
            {.operand = "sin", .inner_stride_one = true},
            {.operand = "out", .inner_stride_one = true}},
           &Run}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
