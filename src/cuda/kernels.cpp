// This backend's tables: the kernels of this folder where they honour a call, the general ones of src/gpu behind them.
#include <algorithm>
#include <array>
#include <limits>
#include <utility>
#include <vector>

#include "cuda/backend.h"
#include "cuda/decode_attention.h"
#include "cuda/fused_experts.h"
#include "cuda/linear.h"
#include "cuda/placed_experts.h"
#include "cuda/prefill_attention.h"
#include "cuda/query_absorb.h"
#include "cuda/row_experts.h"
#include "cuda/status.h"
#include "cuda/value_project.h"
#include "gpu/product_kernels.h"
#include "gpu/row_kernels.h"

namespace mxmla::cuda {
namespace {

constexpr std::string_view kName = "cuda";
constexpr uint32_t kBf16 = DTypeBit(DType::kBf16);
constexpr uint32_t kFp8Cache = DTypeBit(DType::kE4m3) | DTypeBit(DType::kF32) | kBf16;  // codes, scales, keys

cudaStream_t StreamOf(const ExecContext& context) { return static_cast<cudaStream_t>(context.stream); }

// The row kernels begin while the one before them ends. Those of this folder do where the context asks for it, which a
// step does not: it would take longer, because their CTAs, begun early, find room for two on some multiprocessors while
// attention still fills others, and stay there (docs/performance.md).
LaunchOptions OptionsOf(const ExecContext& context, size_t workspace_bytes = 0) {
  void* const workspace = workspace_bytes > 0 ? context.SharedScratch<std::byte>(0, workspace_bytes) : nullptr;
  return {StreamOf(context), context.programmatic, workspace};
}

bool RowsAligned(const void* data, int64_t rows, int64_t row_bytes, int64_t alignment) {
  return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(alignment) == 0 &&
         (rows <= 1 || row_bytes % alignment == 0);
}

// What the streams of weights honour: MXFP4, BF16 or FP8 block, values in 16-byte aligned rows of whole pieces.
bool Streams(const LinearWeight& weight) {
  const int64_t k = ColumnCount(weight);
  return std::visit(
      [&](const auto& w) {
        using V = std::decay_t<decltype(w)>;
        if constexpr (std::is_same_v<V, View<const bf16, 2>>) {
          return k > 0 && k % 8 == 0 && RowsAligned(w.data, w.shape[0], w.stride[0] * 2, 16);
        } else if constexpr (std::is_same_v<V, Fp8Block> || std::is_same_v<V, Mxfp4<const e2m1x2, 2>>) {
          constexpr int64_t kUnit = std::is_same_v<V, Fp8Block> ? 16 : 32;
          if constexpr (std::is_same_v<V, Fp8Block>) {
            if (!w.in_squares()) return false;
          }
          return k > 0 && k % kUnit == 0 && RowsAligned(w.values.data, w.values.shape[0], w.values.stride[0], 16);
        } else {
          return false;
        }
      },
      weight);
}

// Rows of activations 16 bytes or a multiple apart, however many there are: which kernel computes a row must not depend
// on the rows beside it.
bool StridesInSixteens(const Activation<2>& x) {
  const auto* rows = std::get_if<View<const bf16, 2>>(&x);
  return rows && rows->stride[0] % 8 == 0;
}

constexpr std::string_view kStreamed = "weights in MXFP4, BF16 or FP8 block with values in 16-byte aligned rows";

std::vector<int32_t> Fetch(View<const int32_t, 1> view, cudaStream_t stream) {
  std::vector<int32_t> values(static_cast<size_t>(view.shape[0]));
  const auto pitch = static_cast<size_t>(view.stride[0]) * sizeof(int32_t);
  if (values.empty()) return values;
  Check(cudaMemcpy2DAsync(values.data(), sizeof(int32_t), view.data, std::max(pitch, sizeof(int32_t)), sizeof(int32_t),
                          values.size(), cudaMemcpyDeviceToHost, stream),
        "profiler", "a copy from the device");
  Check(cudaStreamSynchronize(stream), "profiler", "kernels that end");
  return values;
}

View<const int32_t, 1> ViewOf(const std::vector<int32_t>& values) {
  return View<const int32_t, 1>::Contiguous(values.data(), {static_cast<int64_t>(values.size())});
}

// --- linear ---

template <bool kInvariant>
constexpr int64_t kStreamedRows = kInvariant ? std::numeric_limits<int64_t>::max() : kMostStreamedRows;

template <bool kInvariant>
WorkspaceSize LinearWorkspace(const LinearArgs& args, int) {
  return {static_cast<size_t>(LinearWorkspaceBytes(args, kStreamedRows<kInvariant>)), 0, 0};
}
template <bool kInvariant>
void RunLinear(const ExecContext& context, const LinearArgs& args) {
  Linear(args, OptionsOf(context, LinearWorkspace<kInvariant>(args, 0).shared), kStreamedRows<kInvariant>);
}

bool HonoursLinear(const LinearArgs& args) { return Streams(args.weight) && StridesInSixteens(args.x); }

// --- grouped_linear ---

void CountExperts(const ExecContext& context, const GroupedLinearArgs& args) {
  if (!context.profiler) return;
  context.profiler->AddBytesLater([&context, args] {
    const std::vector<int32_t> begin = Fetch(args.expert_begin, StreamOf(context));
    GroupedLinearArgs on_host = args;
    on_host.expert_begin = ViewOf(begin);
    return ExpertBytesRead(on_host);
  });
}

template <bool kInvariant>
constexpr int64_t kStreamedPairs = kInvariant ? std::numeric_limits<int32_t>::max() : kMostStreamedPairs;

template <bool kInvariant>
WorkspaceSize GroupedLinearWorkspace(const GroupedLinearArgs& args, int) {
  return {static_cast<size_t>(GroupedLinearWorkspaceBytes(args, kStreamedPairs<kInvariant>)), 0, 0};
}
template <bool kInvariant>
void RunGroupedLinear(const ExecContext& context, const GroupedLinearArgs& args) {
  CountExperts(context, args);
  const LaunchOptions options = OptionsOf(context, GroupedLinearWorkspace<kInvariant>(args, 0).shared);
  GroupedLinear(args, *TableOf(args), options, kStreamedPairs<kInvariant>);
}

bool HonoursGroupedLinear(const GroupedLinearArgs& args) {
  return TableOf(args) != nullptr && !args.x_quantized && StridesInSixteens(args.x) &&
         (args.pairs.shape[0] <= 1 || args.pairs.stride[0] == 1) && args.expert_begin.stride[0] == 1;
}

// --- several ops in one launch ---

void RunNormLinear(const ExecContext& context, const NormLinearArgs& args) { NormLinear(args, OptionsOf(context)); }
bool TakesNormLinear(const NormLinearArgs& args) { return HonoursLinear(args.linear) && HonoursNormLinear(args); }

void RunLatentQuery(const ExecContext& context, const LatentQueryArgs& args) { LatentQuery(args, OptionsOf(context)); }
bool TakesLatentQuery(const LatentQueryArgs& args) { return HonoursLatentQuery(args); }

void LaunchGatedExperts(const ExecContext& context, const GatedExpertsArgs& args) {
  CountExperts(context, args.product);
  GatedExperts(args, *TableOf(args.product), OptionsOf(context));
}
bool TakesGatedExperts(const GatedExpertsArgs& args) {
  return HonoursGroupedLinear(args.product) && HonoursGatedExperts(args, *TableOf(args.product));
}

void LaunchCombinedExperts(const ExecContext& context, const CombinedExpertsArgs& args) {
  CountExperts(context, args.product);
  CombinedExperts(args, *TableOf(args.product), OptionsOf(context));
}
bool TakesCombinedExperts(const CombinedExpertsArgs& args) {
  return HonoursGroupedLinear(args.product) && HonoursCombinedExperts(args, *TableOf(args.product));
}

// --- query_absorb ---

void RunQueryAbsorb(const ExecContext& context, const QueryAbsorbArgs& args) { QueryAbsorb(args, OptionsOf(context)); }

// --- value_project ---

void RunValueProject(const ExecContext& context, const ValueProjectArgs& args) {
  ValueProject(args, OptionsOf(context));
}

bool HonoursValueProject(const ValueProjectArgs& args) {
  const bool to_fp8 = [&] {
    const auto* flat = std::get_if<ActivationOutput<2>>(&args.out);
    return flat && std::holds_alternative<Fp8Group<e4m3, 2>>(*flat);
  }();
  return ColumnCount(args.w_vc.tensor) == 512 && args.w_vc.head_rows > 0 &&
         args.w_vc.head_rows % (to_fp8 ? 128 : 32) == 0;
}

// The planes of weights and outputs, in which each format asks for another alignment.
bool AlignedValueProject(const ValueProjectArgs& args) {
  const auto scales_in_fours = [](const LinearWeight& weight) {
    const auto* w = std::get_if<Mxfp4<const e2m1x2, 2>>(&weight);
    return !w || RowsAligned(w->scales.data, w->scales.shape[0], w->scales.stride[0], 4);
  };
  if (!Streams(args.w_vc.tensor) || !scales_in_fours(args.w_vc.tensor)) return false;
  if (const auto* split = std::get_if<FloatOutput<3>>(&args.out)) {
    const auto* out = std::get_if<View<bf16, 3>>(split);
    return out && RowsAligned(out->data, out->shape[0], out->stride[0] * 2, 8) &&
           RowsAligned(out->data, out->shape[1], out->stride[1] * 2, 8);
  }
  return std::visit(
      [](const auto& out) {
        using V = std::decay_t<decltype(out)>;
        if constexpr (std::is_same_v<V, View<float, 2>>) {
          return false;
        } else if constexpr (std::is_same_v<V, View<bf16, 2>>) {
          return RowsAligned(out.data, out.shape[0], out.stride[0] * 2, 8);
        } else {
          constexpr int64_t kAlignment = std::is_same_v<V, Fp8Group<e4m3, 2>> ? 4 : 2;
          return RowsAligned(out.values.data, out.values.shape[0], out.values.stride[0], kAlignment);
        }
      },
      std::get<ActivationOutput<2>>(args.out));
}

// --- decode_attention ---

// Up to 16 heads, cutting a context at places that follow from its length alone costs below 3% of a step; with 64 and
// 128 heads it takes up to twice as long where many rows are long (docs/kernels/decode_attention.md).
constexpr int64_t kMostHeadsAlwaysInvariant = 16;

void CountTokens(const ExecContext& context, const DecodeAttentionArgs& args) {
  if (!context.profiler) return;
  context.profiler->AddBytesLater([&context, args] {
    const std::vector<int32_t> sequences = Fetch(args.row_sequence, StreamOf(context));
    const std::vector<int32_t> lengths = Fetch(args.row_length, StreamOf(context));
    return TokensRead(ViewOf(sequences), ViewOf(lengths)) * KvRowBytes(args.kv_pages);
  });
}

template <bool kInvariant>
DecodeAttentionOptions AttentionOptions(const ExecContext& context, const DecodeAttentionArgs& args) {
  const int64_t rows = Extent(args.query, 0), heads = Extent(args.query, 1);
  DecodeAttentionOptions options;
  options.stream = StreamOf(context);
  options.programmatic = context.programmatic;
  options.batch_invariant = kInvariant || heads <= kMostHeadsAlwaysInvariant;
  options.workspace = context.SharedScratch<std::byte>(0, DecodeAttentionWorkspaceBytes(rows, heads));
  options.counters = context.Counters<std::byte>(DecodeAttentionCounterBytes(rows, heads));
  return options;
}

template <bool kInvariant>
void RunDecodeAttention(const ExecContext& context, const DecodeAttentionArgs& args) {
  CountTokens(context, args);
  DecodeAttention(args, AttentionOptions<kInvariant>(context, args));
}

WorkspaceSize DecodeAttentionWorkspace(const DecodeAttentionArgs& args, int) {
  const int64_t rows = Extent(args.query, 0), heads = Extent(args.query, 1);
  return {DecodeAttentionWorkspaceBytes(rows, heads), 0, DecodeAttentionCounterBytes(rows, heads)};
}

bool HonoursDecodeAttention(const DecodeAttentionArgs& args) {
  return args.kv_lora_rank == 512 && Extent(args.query, 2) == 576 && Extent(args.query, 1) <= 1056;
}

bool HonoursPages(const DecodeAttentionArgs& args) {
  const auto* pages = std::get_if<View<const bf16, 3>>(&args.kv_pages);
  if (!pages) return false;
  const int64_t page_size = pages->shape[1];
  return page_size == 8 || page_size == 16 || page_size == 32 || (page_size > 0 && page_size % 64 == 0);
}

bool HonoursFp8Pages(const DecodeAttentionArgs& args) {
  const auto* pages = std::get_if<Fp8Kv<const e4m3, 3>>(&args.kv_pages);
  if (!pages) return false;
  const View<const float, 3>& scales = pages->latent.scales;
  const int64_t page_size = pages->extent(1);
  return (page_size == 8 || page_size == 16 || page_size == 32 || (page_size > 0 && page_size % 64 == 0)) &&
         pages->extent(0) * pages->latent.values.stride[0] < int64_t{1} << 36 && scales.stride[2] == 1 &&
         RowsAligned(scales.data, scales.shape[0], scales.stride[0] * 4, 16) &&
         RowsAligned(scales.data, scales.shape[1], scales.stride[1] * 4, 16);
}

template <bool kInvariant>
KernelTable<DecodeAttentionArgs> AttentionKernels() {
  constexpr std::string_view kExtents = "kv_lora_rank 512, 64 rotated columns and at most 1056 heads";
  return {{kName,
           {{"query", true, 16, kBf16}, {"kv_pages", true, 16, kBf16}, {"out", true, 16, kBf16}},
           RunDecodeAttention<kInvariant>,
           DecodeAttentionWorkspace,
           {{kExtents, HonoursDecodeAttention}, {"pages of 8, 16, 32 or a multiple of 64 tokens", HonoursPages}}},
          {kName,
           {{"query", true, 16, kBf16}, {"kv_pages", true, 16, kFp8Cache}, {"out", true, 16, kBf16}},
           RunDecodeAttention<kInvariant>,
           DecodeAttentionWorkspace,
           {{kExtents, HonoursDecodeAttention},
            {"an FP8 cache below 64 GiB in pages of 8, 16, 32 or a multiple of 64 tokens, scales side by side in "
             "16-byte aligned rows",
             HonoursFp8Pages}}}};
}

Kernel<ValueProjectArgs> ValueProjectKernel() {
  return {kName,
          {{"attn", true, 16, kBf16}, {"w_vc", true}, {"out", true}},
          RunValueProject,
          nullptr,
          {{"kv_lora_rank 512 and a v_head_dim that is a multiple of 32 (of 128 for FP8 outputs)", HonoursValueProject},
           {kStreamed, AlignedValueProject}}};
}

// --- attention and the V projection: of few rows the projection joins what attention leaves in parts ---

template <bool kInvariant>
void RunAttendProject(const ExecContext& context, const AttendProjectArgs& args) {
  CountTokens(context, args.attend);
  const AttentionParts parts = DecodeAttentionInParts(args.attend, AttentionOptions<kInvariant>(context, args.attend));
  ValueProject(args.project, parts, OptionsOf(context));
}

WorkspaceSize AttendProjectWorkspace(const AttendProjectArgs& args, int workers) {
  return DecodeAttentionWorkspace(args.attend, workers);
}

bool TakesAttendProject(const AttendProjectArgs& args) {
  static const KernelTable<DecodeAttentionArgs> attention = AttentionKernels<false>();
  static const Kernel<ValueProjectArgs> project = ValueProjectKernel();
  const int64_t rows = Extent(args.attend.query, 0);
  return rows > 0 && rows <= kMostRowsInParts && !args.quantize && !args.attend.chosen &&
         std::ranges::any_of(attention, [&](const auto& kernel) { return Holds(kernel, args.attend); }) &&
         Holds(project, args.project);
}

// --- prefill_attention ---

void RunPrefillAttention(const ExecContext& context, const PrefillAttentionArgs& args) {
  if (context.profiler) {
    context.profiler->AddBytesLater([&context, args] {
      const std::vector<int32_t> sequences = Fetch(args.row_sequence, StreamOf(context));
      const std::vector<int32_t> lengths = Fetch(args.row_length, StreamOf(context));
      return TokensRead(ViewOf(sequences), ViewOf(lengths)) * KvRowBytes(args.kv_pages);
    });
  }
  PrefillAttentionOptions options;
  options.stream = StreamOf(context);
  options.workspace = context.SharedScratch<std::byte>(0, PrefillAttentionWorkspaceBytes(args));
  PrefillAttention(args, options);
}

WorkspaceSize PrefillAttentionWorkspace(const PrefillAttentionArgs& args, int) {
  return {PrefillAttentionWorkspaceBytes(args), 0, 0};
}

// --- a row's experts in one launch ---

void NoteGatedExperts(const ExecContext& context, const GatedExpertsArgs& args) {
  RowExperts* const experts = RowExperts::Current();
  if (experts) experts->LaunchNoted();
  if (!experts || !experts->Take(context, args, LaunchGatedExperts)) LaunchGatedExperts(context, args);
}
void JoinCombinedExperts(const ExecContext& context, const CombinedExpertsArgs& args) {
  RowExperts* const experts = RowExperts::Current();
  if (experts && experts->Take(args)) return;
  if (experts) experts->LaunchNoted();
  LaunchCombinedExperts(context, args);
}

template <class Args>
Args ArgsOf(const KernelTable<Args>&);

// A table's kernels, each behind what is noted.
template <auto kTable, bool kInvariant>
struct BehindNoted {
  using Args = decltype(ArgsOf(std::declval<KernelSet&>().*kTable));
  using Run = void (*)(const ExecContext&, const Args&);
  static constexpr size_t kMost = 4;
  static inline std::array<Run, kMost> launches{};

  template <size_t kAt>
  static void Launch(const ExecContext& context, const Args& args) {
    if (RowExperts* const experts = RowExperts::Current()) experts->LaunchNoted();
    launches[kAt](context, args);
  }
  static void Apply(KernelSet& set) {
    constexpr std::array<Run, kMost> kRuns = {Launch<0>, Launch<1>, Launch<2>, Launch<3>};
    auto& kernels = set.*kTable;
    for (size_t i = 0; i < kernels.size(); ++i) {
      launches.at(i) = kernels[i].run;
      kernels[i].run = kRuns.at(i);
    }
  }
};
template <bool kInvariant, auto... kTables>
void StandBehindNoted(KernelSet& set) {
  (BehindNoted<kTables, kInvariant>::Apply(set), ...);
}

template <bool kInvariant>
void JoinExperts(KernelSet& set) {
  StandBehindNoted<kInvariant, &KernelSet::rms_norm, &KernelSet::linear, &KernelSet::grouped_linear,
                   &KernelSet::query_absorb, &KernelSet::value_project, &KernelSet::quantize,
                   &KernelSet::flatten_quantize, &KernelSet::copy, &KernelSet::rope, &KernelSet::rope_angles,
                   &KernelSet::decode_attention, &KernelSet::sparse_attention, &KernelSet::prefill_attention,
                   &KernelSet::index_key, &KernelSet::index_top_k, &KernelSet::router, &KernelSet::group_experts,
                   &KernelSet::silu_mul, &KernelSet::combine_experts, &KernelSet::embedding, &KernelSet::sample,
                   &KernelSet::norm_linear, &KernelSet::latent_query, &KernelSet::attend_project,
                   &KernelSet::norm_router>(set);
  set.gated_experts.front().run = NoteGatedExperts;
  set.combined_experts.front().run = JoinCombinedExperts;
}

KernelSet MakeKernels(bool batch_invariant) {
  KernelSet set;
  set.backend = "cuda";
  set.isa = "sm_90a";
  set.activation_dtype = DType::kBf16;
  set.linear.push_back({kName,
                        {{"x", true, 16, kBf16}, {"weight", true}, {"out", true}},
                        batch_invariant ? RunLinear<true> : RunLinear<false>,
                        batch_invariant ? LinearWorkspace<true> : LinearWorkspace<false>,
                        {{kStreamed, HonoursLinear}}});
  set.grouped_linear.push_back(
      {kName,
       {{"x", true, 16, kBf16}, {"weight", true}, {"out", true}},
       batch_invariant ? RunGroupedLinear<true> : RunGroupedLinear<false>,
       batch_invariant ? GroupedLinearWorkspace<true> : GroupedLinearWorkspace<false>,
       {{"placed experts of one format and layout, pairs and expert_begin contiguous", HonoursGroupedLinear}}});
  set.query_absorb.push_back(
      {kName,
       {{"q_nope", true, 16, kBf16}, {"w_kc", true}, {"out", true, 16}},
       RunQueryAbsorb,
       nullptr,
       {{"qk_nope_head_dim 64, 128, 192 or 256, not output-major, and aligned weights", HonoursQueryAbsorb}}});
  set.value_project.push_back(ValueProjectKernel());
  for (const auto& kernel : batch_invariant ? AttentionKernels<true>() : AttentionKernels<false>()) {
    set.decode_attention.push_back(kernel);
  }
  set.prefill_attention.push_back(
      {kName,
       {{"query", true, 16, kBf16}, {"kv_pages", true, 16, kFp8Cache}, {"out", true, 4, kBf16}},
       RunPrefillAttention,
       PrefillAttentionWorkspace,
       {{"heads of at most 128, 64 rotated and 128 columns in eights, weights of one "
         "quantised format or BF16, pages of a "
         "power of two",
         HonoursPrefillAttention}}});
  set.norm_linear.push_back({kName, {}, RunNormLinear, nullptr, {{"few rows", TakesNormLinear}}});
  set.latent_query.push_back(
      {kName, {}, RunLatentQuery, nullptr, {{"everything in bf16 but what a cache holds in FP8", TakesLatentQuery}}});
  set.attend_project.push_back({kName,
                                {},
                                batch_invariant ? RunAttendProject<true> : RunAttendProject<false>,
                                AttendProjectWorkspace,
                                {{"one or two rows, not quantised between", TakesAttendProject}}});
  set.gated_experts.push_back({kName, {}, LaunchGatedExperts, nullptr, {{"few rows", TakesGatedExperts}}});
  set.combined_experts.push_back({kName, {}, LaunchCombinedExperts, nullptr, {{"few pairs", TakesCombinedExperts}}});
  gpu::AddRowKernels(set);
  gpu::AddProductKernels(set);
  batch_invariant ? JoinExperts<true>(set) : JoinExperts<false>(set);
  return set;
}

}  // namespace

const KernelSet& Kernels(bool batch_invariant) {
  static const KernelSet sets[] = {MakeKernels(false), MakeKernels(true)};
  return sets[batch_invariant];
}

}  // namespace mxmla::cuda
