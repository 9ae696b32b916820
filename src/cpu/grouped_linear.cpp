#include "cpu/kernels.h"
#include "cpu/packed_rows.h"
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

#if defined(MXMLA_PACKED_PRODUCTS)
// Packed rows for each format of weights that reads such; null where none does.
struct PackedInputs {
  const void* rows[std::variant_size_v<LinearWeight>] = {};  // elements of the format's PackedForm
#if defined(MXMLA_PANEL_PROMPTS)
  const PromptStretch* prompts[std::variant_size_v<LinearWeight>] = {};  // of the rows behind the first `count`
#endif
  int64_t count = 0;
  size_t bytes = 0;  // of the shared workspace
};

// Calls use(weight) with one expert of each format that reads packed activations.
template <class Use>
void ForEachPackedFormat(const GroupedLinearArgs& args, const Use& use) {
  bool seen[std::variant_size_v<LinearWeight>] = {};
  for (const LinearWeight& weight : args.weights) {
    if (seen[weight.index()]) continue;
    seen[weight.index()] = true;
    if (HasPackedProduct(args.InputOf(weight), weight)) use(weight);
  }
}

#if defined(MXMLA_TILED_PROMPTS)
// What pairs of prompts are made tiles of for an expert with such weights; null where they are multiplied as floats.
const View<const bf16, 2>* TiledInput(const GroupedLinearArgs& args, const LinearWeight& weight) {
  const Activation<2>& x = args.InputOf(weight);
  return HasPackedProduct(x, weight) ? std::get_if<View<const bf16, 2>>(&x) : nullptr;
}
#endif

WorkspaceSize PackedWorkspace(const GroupedLinearArgs& args, int) {
  WorkspaceSize size;
  const int64_t rows = Extent(args.x, 0), k = Extent(args.x, 1);
#if defined(MXMLA_PANEL_PROMPTS)
  ForEachPackedFormat(args, [&](const LinearWeight&) { size.shared += PromptBytes(rows, k); });
#else
  ForEachPackedFormat(args, [&](const LinearWeight& weight) { size.shared += PackedBytes(weight, rows, k); });
#endif
#if defined(MXMLA_TILED_PROMPTS)
  bool tiled = false;
  ForEachPackedFormat(args, [&](const LinearWeight& weight) { tiled |= TiledInput(args, weight) != nullptr; });
  const int64_t pairs = args.pairs.shape[0];
  const int64_t groups = std::min(pairs, static_cast<int64_t>(args.weights.size()));
  if (tiled) size.shared += static_cast<size_t>(TileElements(pairs, groups, k)) * sizeof(bf16);
#endif
  return size;
}

// Rows of x whose products are packed.
int64_t PackedRowCount(const GroupedLinearArgs& args) { return std::min(Extent(args.x, 0), args.prompt_begin); }

PackedInputs PackInputs(const ExecContext& context, const GroupedLinearArgs& args) {
  PackedInputs packed;
  const int64_t k = Extent(args.x, 1), rows = PackedRowCount(args);
  packed.count = rows;
  size_t offset = 0;
  ForEachPackedFormat(args, [&](const LinearWeight& any_weight) {
    std::visit(
        [&](const auto& weight) {
          using Form = PackedForm<std::decay_t<decltype(weight)>>;
          if constexpr (Form::kPacked) {
            auto* to =
                context.SharedScratch<typename Form::Element>(offset, static_cast<size_t>(rows * Form::Stride(k)));
            PackRows(context, args.InputOf(any_weight), weight, rows, to);
            packed.rows[any_weight.index()] = to;
          }
        },
        any_weight);
    offset += PackedBytes(any_weight, rows, k);
#if defined(MXMLA_PANEL_PROMPTS)
    const auto* x = std::get_if<View<const bf16, 2>>(&args.InputOf(any_weight));
    if (!x || x->shape[0] == rows) return;
    const auto prompts = static_cast<size_t>((x->shape[0] - rows) * PromptStretches(k));
    auto* prompt_rows = context.SharedScratch<PromptStretch>(offset, prompts);
    offset += prompts * sizeof(PromptStretch);
    std::visit(
        [&](const auto& weight) {
          if constexpr (kPackedWeight<std::decay_t<decltype(weight)>>) {
            PackPrompts(context, *x, weight, rows, prompt_rows);
          }
        },
        any_weight);
    packed.prompts[any_weight.index()] = prompt_rows;
#endif
  });
  packed.bytes = offset;
  return packed;
}

// Where an expert's pairs of prompts begin: they rise, so those come last.
int64_t PromptPairs(const GroupedLinearArgs& args, int64_t begin, int64_t end, int64_t packed_rows) {
  while (end > begin && args.pairs(end - 1) / args.pairs_per_row >= packed_rows) --end;
  return end;
}

// As ExpertTile, of packed activations.
template <class Weight, class T>
void PackedExpertTile(const GroupedLinearArgs& args, const void* packed, const Weight& weight, const View<T, 2>& out,
                      int64_t pair_begin, int64_t pair_end, int64_t w_begin, int64_t w_count, int64_t k,
                      const StreamEnd& stream) {
  using Form = PackedForm<Weight>;
  const auto* x = static_cast<const typename Form::Element*>(packed);
  for (int64_t begin = pair_begin; begin < pair_end; begin += kTileX) {
    const int64_t count = std::min(kTileX, pair_end - begin);
    const typename Form::Element* rows[kTileX];
    for (int64_t c = 0; c < count; ++c) rows[c] = x + args.pairs(begin + c) / args.pairs_per_row * Form::Stride(k);
    alignas(64) float results[kTileX * kTileW];
    Form::Product(rows, count, weight, w_begin, w_count, k, stream, results);
    for (int64_t c = 0; c < count; ++c) {
      StoreResults(out.data + args.pairs(begin + c) * out.stride[0] + w_begin, results + c * kTileW, w_count);
    }
  }
}

#if defined(MXMLA_PANEL_PROMPTS)
// The same of pairs of prompts.
template <class Weight, class T>
void PromptExpertTile(const GroupedLinearArgs& args, const PackedInputs& packed, const PromptStretch* prompts,
                      const Weight& weight, const View<T, 2>& out, int64_t pair_begin, int64_t pair_end,
                      int64_t w_begin, int64_t w_count, int64_t k) {
  for (int64_t begin = pair_begin; begin < pair_end; begin += kPromptX) {
    const int64_t count = std::min(kPromptX, pair_end - begin);
    const PromptStretch* rows[kPromptX];
    for (int64_t c = 0; c < count; ++c) {
      rows[c] = prompts + (args.pairs(begin + c) / args.pairs_per_row - packed.count) * PromptStretches(k);
    }
    alignas(64) float results[kPromptX * kTileW];
    PromptProductTile(rows, count, weight, w_begin, w_count, k, results);
    for (int64_t c = 0; c < count; ++c) {
      StoreResults(out.data + args.pairs(begin + c) * out.stride[0] + w_begin, results + c * kTileW, w_count);
    }
  }
}
#endif

#if defined(MXMLA_TILED_PROMPTS)
// The rows of the experts' pairs of prompts as tiles; those of used[i] begin tiles_begin[i] elements behind the result.
const bf16* PackExperts(const ExecContext& context, const GroupedLinearArgs& args, const PackedInputs& packed,
                        const int32_t* used, int64_t used_count, int64_t* tiles_begin) {
  const int64_t k = Extent(args.x, 1);
  int64_t elements = 0;
  for (int64_t i = 0; i < used_count; ++i) {
    tiles_begin[i] = elements;
    const int64_t begin = args.expert_begin(used[i]), end = args.expert_begin(used[i] + 1);
    if (!TiledInput(args, args.weights[static_cast<size_t>(used[i])])) continue;
    elements += TileRowsUp(end - PromptPairs(args, begin, end, packed.count)) * DotStride(k);
  }
  if (elements == 0) return nullptr;
  const int64_t behind = kTileSide * DotStride(k);
  bf16* tiles = context.SharedScratch<bf16>(packed.bytes, static_cast<size_t>(elements + behind));
  if (context.profiler) context.profiler->AddRepacked(elements * static_cast<int64_t>(sizeof(bf16)));
  RunTasks(context, used_count, [&](int64_t i, int) {
    const LinearWeight& any_weight = args.weights[static_cast<size_t>(used[i])];
    const View<const bf16, 2>* x = TiledInput(args, any_weight);
    if (!x) return;
    const int64_t end = args.expert_begin(used[i] + 1);
    bf16* to = tiles + tiles_begin[i];
    for (int64_t begin = PromptPairs(args, args.expert_begin(used[i]), end, packed.count); begin < end;
         begin += kTileSide, to += behind) {
      const int64_t count = std::min(kTileSide, end - begin);
      const bf16* rows[kTileSide];
      for (int64_t r = 0; r < count; ++r) {
        rows[r] = x->data + args.pairs(begin + r) / args.pairs_per_row * x->stride[0];
      }
      std::visit(
          [&](const auto& weight) {
            if constexpr (kPackedWeight<std::decay_t<decltype(weight)>>) {
              PackTileGroup<decltype(RowOf(weight, 0))>(rows, count, k, to);
            }
          },
          any_weight);
    }
  });
  return tiles;
}

// As ExpertTile, of pairs of prompts.
template <class Weight, class T>
void TiledExpert(const GroupedLinearArgs& args, const bf16* tiles, const Weight& weight, const View<T, 2>& out,
                 int64_t pair_begin, int64_t pair_end, int64_t w_begin, int64_t w_count, int64_t k) {
  for (int64_t begin = pair_begin; begin < pair_end; begin += kAmxX) {
    const int64_t count = std::min(kAmxX, pair_end - begin);
    alignas(64) float results[kAmxX * kTileW];
    AmxProductTile(tiles + (begin - pair_begin) * DotStride(k), count, weight, w_begin, w_count, k, results);
    for (int64_t c = 0; c < count; ++c) {
      StoreResults(out.data + args.pairs(begin + c) * out.stride[0] + w_begin, results + c * kTileW, w_count);
    }
  }
}
#endif
#endif

void RunGroupedLinear(const ExecContext& context, const GroupedLinearArgs& args) {
  if (context.profiler) context.profiler->AddBytes(ExpertBytesRead(args));
  const auto experts = static_cast<int64_t>(args.weights.size());
  const int64_t n = RowCount(args.weights[0]);
  const int64_t k = ColumnCount(args.weights[0]);
  const int64_t tile_w = TileW(args.pairs.shape[0] / experts);
  const int64_t w_tiles = (n + tile_w - 1) / tile_w;
#if defined(MXMLA_PACKED_PRODUCTS)
  const PackedInputs packed = PackInputs(context, args);
#else
  if (context.profiler) {
    context.profiler->AddRepacked(RepackedBytes(w_tiles, args.expert_begin(experts) - args.expert_begin(0), k));
  }
#endif
  for (int64_t first = 0; first < experts; first += kExpertsAtOnce) {
    int32_t used[kExpertsAtOnce];  // experts that have pairs
    int64_t used_count = 0;
    for (int64_t e = first; e < std::min(experts, first + kExpertsAtOnce); ++e) {
      if (args.expert_begin(e + 1) > args.expert_begin(e)) used[used_count++] = static_cast<int32_t>(e);
    }
#if defined(MXMLA_TILED_PROMPTS)
    int64_t tiles_begin[kExpertsAtOnce];
    const bf16* tiles = PackExperts(context, args, packed, used, used_count, tiles_begin);
#endif
    RunStreams(context, used_count * w_tiles,
               [&](int64_t task, [[maybe_unused]] int worker, [[maybe_unused]] int64_t stretch_end) {
                 const int64_t expert = used[task / w_tiles];
                 const int64_t w_begin = task % w_tiles * tile_w;
                 const int64_t w_count = std::min(tile_w, n - w_begin);
                 int64_t begin = args.expert_begin(expert);
                 const int64_t end = args.expert_begin(expert + 1);
                 const LinearWeight& any_weight = args.weights[static_cast<size_t>(expert)];
                 VisitWeight(any_weight, [&](const auto& weight) {
                   std::visit(
                       [&](const auto& out) {
#if defined(MXMLA_PACKED_PRODUCTS)
                         if constexpr (kPackedWeight<std::decay_t<decltype(weight)>>) {
                           if (const void* rows = packed.rows[any_weight.index()]) {
                             const int64_t packed_end = PromptPairs(args, begin, end, packed.count);
                             StreamEnd stream;
                             if (task + kLastTasks >= stretch_end && (stretch_end - 1) / w_tiles == task / w_tiles) {
                               const int64_t row_end = std::min(n, ((stretch_end - 1) % w_tiles + 1) * tile_w);
                               stream = EndOfStretch(weight, row_end, FirstPlace(context, args.next, worker));
                             } else if (w_begin + kLastTasks * tile_w >= n) {
                               const auto next_expert = static_cast<size_t>(used[task / w_tiles + 1]);
                               stream = EndOfStretch(weight, n, PlaceOfRow(args.weights[next_expert], 0));
                             }
                             PackedExpertTile(args, rows, weight, out, begin, packed_end, w_begin, w_count, k, stream);
                             begin = packed_end;
#if defined(MXMLA_PANEL_PROMPTS)
                             if (const PromptStretch* prompts = packed.prompts[any_weight.index()]) {
                               return PromptExpertTile(args, packed, prompts, weight, out, begin, end, w_begin, w_count,
                                                       k);
                             }
#endif
#if defined(MXMLA_TILED_PROMPTS)
                             if (TiledInput(args, any_weight)) {
                               const bf16* expert_tiles = tiles + tiles_begin[task / w_tiles];
                               return TiledExpert(args, expert_tiles, weight, out, begin, end, w_begin, w_count, k);
                             }
#endif
                           }
                         }
#endif
                         ExpertTile(args, args.InputOf(any_weight), weight, out, begin, end, w_begin, w_count, k);
                       },
                       args.out);
                 });
               });
  }
}

}  // namespace

KernelTable<GroupedLinearArgs> MakeGroupedLinearKernels() {
  return {{
      kKernelName,
      {{.operand = "x", .inner_stride_one = true},
       {.operand = "weight", .inner_stride_one = true},
       {.operand = "out", .inner_stride_one = true}},
      &RunGroupedLinear,
#if defined(MXMLA_PACKED_PRODUCTS)
      &PackedWorkspace,
#endif
  }};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
