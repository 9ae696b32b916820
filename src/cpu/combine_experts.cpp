// The weighted sum of a row's experts and its shared experts, in slot order.
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

constexpr int64_t kColumns = 1024;  // columns of one row that a task takes

// Columns begin .. end of row r. `load(from)` and `store(to, v)` move 16 columns, or the last few.
template <class Pair, class Shared, class Out, class Loader, class Storer>
MXMLA_INLINE void Columns(const Pair* pairs, int64_t pair_stride, const View<const float, 2>& weights, int64_t r,
                          const Shared* shared, Out* out, const Loader& load, const Storer& store) {
  F32x16 sum = Zero();
  for (int64_t s = 0; s < weights.shape[1]; ++s) {
    sum = Fma(Splat(weights(r, s)), load(pairs + s * pair_stride), sum);
  }
  // Last, as where shared experts stand behind the routed ones.
  if (shared) sum = sum + load(shared);
  store(out, sum);
}

template <class Pair, class Shared, class Out>
void Combine(const ExecContext& context, const View<const Pair, 2>& pairs, const View<const float, 2>& weights,
             const View<const Shared, 2>* shared, const View<Out, 2>& out) {
  const int64_t n = out.shape[1];
  const int64_t top_k = weights.shape[1];
  const int64_t pieces = (n + kColumns - 1) / kColumns;
  if (n == 0) return;
  RunRanges(context, out.shape[0] * pieces, 4, [&](int64_t first, int64_t last, int) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t r = i / pieces;
      const int64_t begin = i % pieces * kColumns;
      const int64_t end = begin + kColumns < n ? begin + kColumns : n;
      const Pair* pair = pairs.data + r * top_k * pairs.stride[0];                    // (top_k, n)
      const Shared* share = shared ? shared->data + r * shared->stride[0] : nullptr;  // (n)
      Out* to = out.data + r * out.stride[0];                                         // (n)
      int64_t k = begin;
      for (; k + 16 <= end; k += 16) {
        Columns(
            pair + k, pairs.stride[0], weights, r, share ? share + k : nullptr, to + k,
            [](const auto* from) { return Load(from); }, [](Out* at, F32x16 v) { Store(at, v); });
      }
      if (k < end) {
        const int64_t rest = end - k;
        Columns(
            pair + k, pairs.stride[0], weights, r, share ? share + k : nullptr, to + k,
            [rest](const auto* from) { return LoadPartial(from, rest); },
            [rest](Out* at, F32x16 v) { StorePartial(at, v, rest); });
      }
    }
  });
}

void Run(const ExecContext& context, const CombineExpertsArgs& args) {
  std::visit(
      [&](const auto& pairs, const auto& out) {
        if (!args.shared) {
          Combine(context, pairs, args.expert_weights, static_cast<const View<const float, 2>*>(nullptr), out);
        } else {
          std::visit([&](const auto& shared) { Combine(context, pairs, args.expert_weights, &shared, out); },
                     *args.shared);
        }
      },
      args.pairs, args.out);
}

}  // namespace

KernelTable<CombineExpertsArgs> MakeCombineExpertsKernels() {
  return {{kKernelName,
           {{.operand = "pairs", .inner_stride_one = true},
            {.operand = "shared", .inner_stride_one = true},
            {.operand = "out", .inner_stride_one = true}},
           &Run}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
