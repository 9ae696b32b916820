#include "cuda/row_experts.h"

#include <algorithm>

#include "cuda/placed_experts.h"
#include "cuda/row_experts_kernel.cuh"

namespace mxmla::cuda {
namespace {

constexpr std::string_view kOp = "cuda row_experts";

thread_local RowExperts* current = nullptr;

// The weights' kind where they are streamed here.
std::optional<WeightKind> KindOf(const ExpertTable& table) {
  if (table.experts() > kMostOfTable || ColumnCount(table.first()) % 8 != 0) return std::nullopt;
  if (std::holds_alternative<Mxfp4<const e2m1x2, 2>>(table.first())) {
    if (table.scales() % 4 == 0) return WeightKind::kMxfp4;
  } else if (const auto* w = std::get_if<Fp8Block>(&table.first())) {
    if (w->in_squares() && w->values.shape[1] % kUnitK == 0) return WeightKind::kFp8;
  }
  return std::nullopt;
}

RowProduct ProductOf(const ExpertTable& table) {
  const int64_t n = RowCount(table.first()), k = ColumnCount(table.first());
  const StreamSplit split = DivideExperts(n, k);
  WeightPlanes planes{};
  const bool fp8 = StreamedPlanes(kOp, table.first(), &planes) == WeightKind::kFp8;
  RowProduct p{};
  p.n = static_cast<int>(n);
  p.k = static_cast<int>(k);
  p.units = static_cast<int>(CeilDiv(k, kUnitK));
  p.halves_apart = split.slice == 128 ? 1 : 0;
  p.partials = p.units * (1 + p.halves_apart);
  p.warps = split.warps;
  p.rounds = split.rounds;
  p.all_slices = split.warps * split.rounds * split.ranks;
  p.next_tiles = kRowWarps / p.units;
  p.next_units = kRowWarps % p.units;
  p.row_bytes = planes.row_bytes;
  p.scale_row = planes.scale_row_stride * (fp8 ? 4 : 1);
  p.scale_column = planes.scale_column_stride * (fp8 ? 4 : 1);
  p.table = static_cast<const Expert*>(table.device());
  return p;
}

RowExpertsParams ParamsOf(const GatedExpertsArgs& gated, const CombinedExpertsArgs& combined, int64_t ctas) {
  RowExpertsParams p{};
  p.gated = ProductOf(*TableOf(gated.product));
  p.combined = ProductOf(*TableOf(combined.product));
  p.experts = static_cast<int>(TableOf(gated.product)->experts());
  p.slots = static_cast<int>(combined.combine.expert_weights.shape[1]);
  p.expert_begin = gated.product.expert_begin.data;
  p.pairs = gated.product.pairs.data;
  p.weights = combined.combine.expert_weights.data;
  p.weight_step = combined.combine.expert_weights.stride[1];
  p.x = reinterpret_cast<const uint8_t*>(std::get<View<const bf16, 2>>(gated.product.x).data);
  p.hidden = OutputOf(kOp, std::get<View<bf16, 2>>(gated.gating.out));
  p.out = OutputOf(kOp, combined.combine.out);

  const auto rounded = [](int64_t bytes) { return static_cast<int>(CeilDiv(bytes, 16) * 16); };
  p.x_bytes = p.gated.units * kUnitK * 2;
  p.hidden_bytes = p.slots * p.combined.units * kUnitK * 2;
  const int64_t gated_tiles = 2 * (CeilDiv(int64_t{p.slots} * (p.gated.n / (2 * kTileRows)), ctas) + 1);
  const int64_t tiles = p.slots * (CeilDiv(CeilDiv(p.combined.n, kTileRows), ctas) + 1);
  p.partial_bytes = rounded(std::max(gated_tiles * p.gated.partials, tiles * p.combined.partials) * kTileRows * 4);
  p.result_bytes = rounded(tiles * kTileRows * 4);
  p.table_bytes = rounded(p.experts * static_cast<int64_t>(sizeof(Expert)));
  p.inverse_bytes = rounded(std::max(p.gated.units, p.slots * p.combined.units) * int64_t{sizeof(float)});
  return p;
}

int64_t SharedBytes(const RowExpertsParams& p, WeightKind kind) {
  return kind == WeightKind::kMxfp4 ? RowMemory<WeightKind::kMxfp4>::Bytes(p) : RowMemory<WeightKind::kFp8>::Bytes(p);
}

template <WeightKind kKind>
void Launch(const RowExpertsParams& p, int ctas, cudaStream_t stream) {
  static const cudaError_t prepared =
      cudaFuncSetAttribute(RowExpertsKernel<kKind>, cudaFuncAttributeMaxDynamicSharedMemorySize, kMostShared);
  CheckCuda(prepared, kOp, "a kernel");
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(ctas));
  config.blockDim = dim3(kRowThreads);
  config.dynamicSmemBytes = static_cast<size_t>(RowMemory<kKind>::Bytes(p));
  config.stream = stream;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  config.attrs = &attribute;
  config.numAttrs = 1;
  CheckCuda(cudaLaunchKernelEx(&config, RowExpertsKernel<kKind>, p), kOp, "a launch");
}

}  // namespace

bool HonoursRowExperts(const GatedExpertsArgs& gated, const CombinedExpertsArgs& combined, int multiprocessors) {
  const ExpertTable *first = TableOf(gated.product), *second = TableOf(combined.product);
  if (!first || !second || first->experts() != second->experts()) return false;
  const auto kind = KindOf(*first);
  if (!kind || KindOf(*second) != kind) return false;
  const auto* x = std::get_if<View<const bf16, 2>>(&gated.product.x);
  const auto* hidden = std::get_if<View<bf16, 2>>(&gated.gating.out);
  const auto* read = std::get_if<View<const bf16, 2>>(&combined.product.x);
  const View<const float, 2>& weights = combined.combine.expert_weights;
  if (!x || !hidden || !read || combined.combine.shared) return false;
  const bool one_row = x->shape[0] == 1 && weights.shape[0] == 1 && weights.shape[1] <= kMostSlots &&
                       gated.product.pairs.shape[0] == weights.shape[1];
  // The second product reads what the first ones write, for the same pairs.
  const bool follows = read->data == hidden->data && read->stride == hidden->stride && read->shape == hidden->shape &&
                       combined.product.pairs_per_row == 1 &&
                       combined.product.expert_begin.data == gated.product.expert_begin.data &&
                       combined.product.pairs.data == gated.product.pairs.data;
  if (!one_row || !follows || RowCount(first->first()) % (2 * kTileRows) != 0) return false;
  return SharedBytes(ParamsOf(gated, combined, multiprocessors), *kind) <= kMostShared;
}

void LaunchRowExperts(const GatedExpertsArgs& gated, const CombinedExpertsArgs& combined, int multiprocessors,
                      int* counters, cudaStream_t stream) {
  CheckLayout(HonoursRowExperts(gated, combined, multiprocessors), kOp, "views", "as HonoursRowExperts says", "others");
  RowExpertsParams p = ParamsOf(gated, combined, multiprocessors);
  p.counters = counters;
  if (*KindOf(*TableOf(gated.product)) == WeightKind::kMxfp4) {
    return Launch<WeightKind::kMxfp4>(p, multiprocessors, stream);
  }
  Launch<WeightKind::kFp8>(p, multiprocessors, stream);
}

RowExperts::RowExperts(cudaStream_t stream) : stream_(stream) {
  int device = 0;
  CheckCuda(cudaGetDevice(&device), kOp, "a device");
  CheckCuda(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, device), kOp, "a device");
  CheckCuda(cudaMalloc(&counters_, 2 * sizeof(int)), kOp, "memory for a barrier");
  CheckCuda(cudaMemset(counters_, 0, 2 * sizeof(int)), kOp, "memory for a barrier");
}
RowExperts::~RowExperts() { cudaFree(counters_); }

RowExperts* RowExperts::Current() { return current; }
void RowExperts::Begin() {
  noted_.reset();
  current = this;
}
void RowExperts::End() { current = nullptr; }

bool RowExperts::Take(const ExecContext& context, const GatedExpertsArgs& args, LaunchGated alone) {
  if (noted_ || Extent(args.product.x, 0) != 1) return false;
  noted_ = args;
  context_ = context;
  alone_ = alone;
  return true;
}

bool RowExperts::Take(const CombinedExpertsArgs& args) {
  if (!noted_ || !HonoursRowExperts(*noted_, args, multiprocessors_)) return false;
  LaunchRowExperts(*noted_, args, multiprocessors_, counters_, stream_);
  noted_.reset();
  return true;
}

void RowExperts::LaunchNoted() {
  if (!noted_) return;
  const GatedExpertsArgs args = *noted_;
  noted_.reset();
  alone_(context_, args);
}

}  // namespace mxmla::cuda
