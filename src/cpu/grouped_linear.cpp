#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/product.h"
#include "ops/linear.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

// Experts that are gathered into one parallel loop: a bound for the list on the stack, not for the model.
constexpr int64_t kExpertsAtOnce = 1024;

// Columns w_begin.. of one expert, for all of its pairs; activation rows and output rows are where the pairs say.
template <class Weight, class T>
void ExpertTile(const GroupedLinearArgs& args, const Activation<2>& x, const Weight& weight, const View<T, 2>& out,
                int64_t pair_begin, int64_t pair_end, int64_t w_begin, int64_t w_count, int64_t k) {
  for (int64_t begin = pair_begin; begin < pair_end; begin += kTileX) {
    const int64_t count = std::min(kTileX, pair_end - begin);
    AnyRow rows[kTileX];
    for (int64_t c = 0; c < count; ++c) rows[c] = RowOf(x, args.pairs(begin + c) / args.pairs_per_row);
    alignas(64) float results[kTileX * kTileW];
    ProductTile(rows, count, weight, w_begin, w_count, k, results);
    for (int64_t c = 0; c < count; ++c) {
      StoreResults(out.data + args.pairs(begin + c) * out.stride[0] + w_begin, results + c * kTileW, w_count);
    }
  }
}

void RunGroupedLinear(const ExecContext& context, const GroupedLinearArgs& args) {
  if (context.profiler) context.profiler->AddBytes(ExpertBytesRead(args));
  const auto experts = static_cast<int64_t>(args.weights.size());
  const int64_t n = RowCount(args.weights[0]);
  const int64_t k = ColumnCount(args.weights[0]);
  const int64_t tile_w = TileW(args.pairs.shape[0] / experts);
  const int64_t w_tiles = (n + tile_w - 1) / tile_w;
  if (context.profiler) {
    context.profiler->AddRepacked(RepackedBytes(w_tiles, args.expert_begin(experts) - args.expert_begin(0), k));
  }
  for (int64_t first = 0; first < experts; first += kExpertsAtOnce) {
    int32_t used[kExpertsAtOnce];  // experts that have pairs
    int64_t used_count = 0;
    for (int64_t e = first; e < std::min(experts, first + kExpertsAtOnce); ++e) {
      if (args.expert_begin(e + 1) > args.expert_begin(e)) used[used_count++] = static_cast<int32_t>(e);
    }
    RunTasks(context, used_count * w_tiles, [&](int64_t task, int) {
      const int64_t expert = used[task / w_tiles];
      const int64_t w_begin = task % w_tiles * tile_w;
      const LinearWeight& any_weight = args.weights[static_cast<size_t>(expert)];
      VisitWeight(any_weight, [&](const auto& weight) {
        std::visit(
            [&](const auto& out) {
              ExpertTile(args, args.InputOf(any_weight), weight, out, args.expert_begin(expert),
                         args.expert_begin(expert + 1), w_begin, std::min(tile_w, n - w_begin), k);
            },
            args.out);
      });
    });
  }
}

}  // namespace

KernelTable<GroupedLinearArgs> MakeGroupedLinearKernels() {
  return {{kKernelName,
           {{.operand = "x", .inner_stride_one = true},
            {.operand = "weight", .inner_stride_one = true},
            {.operand = "out", .inner_stride_one = true}},
           &RunGroupedLinear}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
