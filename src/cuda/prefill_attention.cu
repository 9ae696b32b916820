// Two ways. Where the contexts of all segments find room in scratch memory, they are expanded to keys and values first,
// every token once, and then CTAs of 128 rows of one head attend. Otherwise a cluster of 8 (or 4) CTAs takes one head
// and 128 rows a CTA and goes through the context in chunks of 128 tokens a CTA: each CTA expands its part of the chunk
// through scratch memory that stays in the L2; behind the cluster's barrier every CTA attends to the chunk. Which way
// is found on the device: the kernels of the other one end at once. Neither the way nor the cluster's size changes a
// bit.
#include "cuda/prefill_attention.h"

#include <algorithm>
#include <string>

#include "cuda/prefill_attention_parts.cuh"

namespace mxmla::cuda {
namespace {

using namespace prefill;  // NOLINT(google-build-using-namespace): this file's own parts

constexpr std::string_view kOp = "cuda prefill_attention";
constexpr size_t kChunkBytes = size_t{kMostCtas} * 4 * kExpanded * kKeyWidth * 2;
constexpr int64_t kExpandedTileBytes = int64_t{2} * kExpanded * kKeyWidth * 2;  // of a head
constexpr int64_t kMostExpandedBytes = int64_t{256} << 20;

template <WeightKind kKind>
using ExpandTile = MatrixTile<kKind, kExpanded, kKind == WeightKind::kFp8 ? 64 : 128>;
template <WeightKind kKind>
constexpr int kParts = kKeyWidth / (ExpandTile<kKind>::kWBytes / 128);  // tiles of a head's keys, or of its values

// Part `part` of the head's keys and values of kExpanded tokens from `first` on.
template <WeightKind kKind>
__device__ __forceinline__ void Expand(const Params& p, const Context& context, int head, int part, int first,
                                       const uint8_t* decoded, __nv_bfloat16* keys, __nv_bfloat16* values,
                                       uint8_t* shared) {
  const bool of_values = part >= kParts<kKind>;
  const int64_t row = of_values ? head * p.values_stride + p.values_offset : head * p.keys_stride + p.keys_offset;
  const WeightPlanes weight = HeadPlanes<kKind>(of_values ? p.values : p.keys, row);
  const ExpandedRows rows{context, first, of_values ? values : keys, decoded};
  const int column = part % kParts<kKind> * (kKeyWidth / kParts<kKind>);
  ExpandTile<kKind>::Run(weight, of_values ? p.v : p.nope, p.latents, column, shared, rows);
}

// --- every token once ---

__device__ __forceinline__ __nv_bfloat16* ExpandedTile(const Params& p, int head, int tile, bool values) {
  return reinterpret_cast<__nv_bfloat16*>(p.expanded) +
         (int64_t{2 * head + (values ? 1 : 0)} * p.expanded_tiles + tile) * kExpanded * kKeyWidth;
}

// Of an FP8 cache: a tile's latents, before its heads are expanded.
__device__ __forceinline__ int64_t LatentBytes(const Params& p) { return int64_t{2} * kExpanded * p.latents; }
__global__ void __launch_bounds__(kMatrixThreads) DecodeKernel(const __grid_constant__ Params p) {
  const int tile = static_cast<int>(blockIdx.x);
  bool fit;
  const Found found = FindTokens(p, tile, &fit);
  if (found.segment < 0) return;
  const Segment segment(p, found.segment);
  DecodeLatents(segment.ContextBefore(p, segment.end), found.index * kExpanded, p.tile_latents + tile * LatentBytes(p));
}

template <WeightKind kKind>
__global__ void __launch_bounds__(kMatrixThreads, kKind == WeightKind::kFp8 ? 1 : 2)
    ExpandKernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(1024) uint8_t shared[];
  const int tile = static_cast<int>(blockIdx.x) % p.expanded_tiles;  // neighbours share weights
  const int item = static_cast<int>(blockIdx.x) / p.expanded_tiles;
  bool fit;
  const Found found = FindTokens(p, tile, &fit);
  if (found.segment < 0) return;
  const Segment segment(p, found.segment);
  const Context context = segment.ContextBefore(p, segment.end);
  const int head = item / (2 * kParts<kKind>);
  Expand<kKind>(p, context, head, item % (2 * kParts<kKind>), found.index * kExpanded,
                p.scales ? p.tile_latents + tile * LatentBytes(p) : nullptr, ExpandedTile(p, head, tile, false),
                ExpandedTile(p, head, tile, true), shared);
}

// The scratch memory's tiles of a segment begin behind those of the segments before.
__global__ void __launch_bounds__(kMatrixThreads, 1) AttendKernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(1024) uint8_t shared[];
  bool fit;
  FindTokens(p, 0, &fit);
  if (!fit) return;
  const Found rows = FindRows<kRows>(p, static_cast<int>(blockIdx.x) / p.heads);
  if (rows.segment < 0) return;
  int tile = 0;
  for (int s = static_cast<int>(threadIdx.x) % 32; s < rows.segment; s += 32) {
    const Segment before(p, s);
    tile += (before.SeenBefore(before.end) + kExpanded - 1) / kExpanded;
  }
  tile = static_cast<int>(__reduce_add_sync(~0u, static_cast<unsigned>(tile)));
  const Segment segment(p, rows.segment);
  const int head = static_cast<int>(blockIdx.x) % p.heads;
  const int row0 = segment.begin + rows.index * kRows, count = min(kRows, segment.end - row0);
  QueryTile query(p, segment.ContextBefore(p, row0 + count), head, row0, count, segment.SeenBefore(row0 + 1),
                  SharedAddress(shared));
  query.CopyQuery();
  query.Attend({ExpandedTile(p, head, tile, false), ExpandedTile(p, head, tile, true), 0}, 0, query.context.tokens);
  query.Store();
}

// --- in clusters, a chunk after another ---

template <WeightKind kKind>
constexpr int kClusterSharedBytes = kQueryBytes + std::max(2 * kStageBytes, ExpandTile<kKind>::kSharedBytes);

template <WeightKind kKind, int kCtas>
__global__ void __launch_bounds__(kMatrixThreads, 1) ClusterKernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(1024) uint8_t shared[];
  bool fit;
  FindTokens(p, 0, &fit);
  if (fit) return;
  const int rank = static_cast<int>(blockIdx.x) % kCtas, cluster = static_cast<int>(blockIdx.x) / kCtas;
  const int clusters = static_cast<int>(gridDim.x) / kCtas;
  constexpr int kChunk = kCtas * kExpanded, kGroupRows = kCtas * kRows;
  auto* const scratch = reinterpret_cast<__nv_bfloat16*>(p.scratch) + int64_t{cluster} * 4 * kChunk * kKeyWidth;
  uint8_t* const decoded = p.scales ? p.cta_latents + blockIdx.x * LatentBytes(p) : nullptr;

  int parity = 0;
  for (int unit = cluster;; unit += clusters) {
    const Found found = FindRows<kGroupRows>(p, unit / p.heads);
    if (found.segment < 0) break;
    const Segment segment(p, found.segment);
    const int head = unit % p.heads;
    const int group_begin = segment.begin + found.index * kGroupRows;
    const int row0 = group_begin + rank * kRows, rows = max(min(kRows, segment.end - row0), 0);
    const Context context = segment.ContextBefore(p, min(group_begin + kGroupRows, segment.end));
    const int seen = rows > 0 ? segment.SeenBefore(row0 + rows) : 0;
    QueryTile query(p, context, head, row0, rows, segment.first_sees + row0 - segment.begin, SharedAddress(shared));
    query.CopyQuery();
    for (int chunk0 = 0; chunk0 < context.tokens; chunk0 += kChunk, parity ^= 1) {
      __nv_bfloat16* const keys = scratch + parity * kChunk * kKeyWidth;
      __nv_bfloat16* const values = keys + 2 * kChunk * kKeyWidth;
      const int mine = rank * kExpanded;
      if (decoded) DecodeLatents(context, chunk0 + mine, decoded);
#pragma unroll 1
      for (int part = 0; part < 2 * kParts<kKind>; ++part) {
        __syncthreads();  // whatever lay in the stages has been read
        Expand<kKind>(p, context, head, part, chunk0 + mine, decoded, keys + mine * kKeyWidth,
                      values + mine * kValueWidth, shared + kQueryBytes);
      }
      // Every CTA's part of the chunk is there, and the chunk before has been read by all.
      asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
      query.Attend({keys, values, chunk0}, chunk0, min(chunk0 + kChunk, seen));
    }
    query.Store();
    __syncthreads();  // the query has been read
  }
}

template <auto kKernel, int kBytes>
void Launch(const Params& p, int64_t ctas, cudaStream_t stream) {
  static const cudaError_t prepared =
      cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  CheckCuda(prepared, kOp, "a kernel");
  CheckLayout(ctas < int64_t{1} << 31, kOp, "extents", "at most 2^31 tiles", std::to_string(ctas));
  kKernel<<<static_cast<unsigned>(ctas), kMatrixThreads, kBytes, stream>>>(p);
  CheckCuda(cudaGetLastError(), kOp, "a launch");
}

template <WeightKind kKind, int kCtas>
void LaunchClusters(const Params& p, cudaStream_t stream) {
  constexpr auto kKernel = ClusterKernel<kKind, kCtas>;
  constexpr int kBytes = kClusterSharedBytes<kKind>;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(kMostCtas);
  config.blockDim = dim3(kMatrixThreads);
  config.dynamicSmemBytes = kBytes;
  config.stream = stream;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {kCtas, 1, 1};
  config.attrs = &attribute;
  config.numAttrs = 1;
  // Clusters that the card runs at once.
  static const int clusters = [&] {
    CheckCuda(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes), kOp, "a kernel");
    int most = 0;
    CheckCuda(cudaOccupancyMaxActiveClusters(&most, kKernel, &config), kOp, "a kernel that fits");
    return std::clamp(most, 1, kMostCtas / kCtas);
  }();
  config.gridDim = dim3(static_cast<unsigned>(clusters * kCtas));
  CheckCuda(cudaLaunchKernelEx(&config, kKernel, p), kOp, "a launch");
}

template <WeightKind kKind>
void LaunchAll(const Params& p, int64_t rows, int64_t most_tiles, cudaStream_t stream) {
  if (p.expanded_tiles > 0) {
    const int64_t items = int64_t{2} * kParts<kKind> * p.heads;
    if (p.scales) Launch<DecodeKernel, 0>(p, p.expanded_tiles, stream);
    Launch<ExpandKernel<kKind>, ExpandTile<kKind>::kSharedBytes>(p, p.expanded_tiles * items, stream);
    const int64_t row_tiles = rows / kRows + std::min<int64_t>(p.segments, rows);
    Launch<AttendKernel, kQueryBytes + 2 * kStageBytes>(p, row_tiles * p.heads, stream);
  }
  if (p.expanded_tiles >= most_tiles) return;  // the contexts always find room
  // Small clusters, which expand more often, where large ones would leave some idle.
  constexpr int64_t kManyUnits = 48;
  if (p.heads * CeilDiv(rows, 8 * kRows) >= kManyUnits) return LaunchClusters<kKind, 8>(p, stream);
  LaunchClusters<kKind, 4>(p, stream);
}

// Tiles of tokens that the contexts of all segments can have, and those that find room.
int64_t MostTiles(const PrefillAttentionArgs& args) {
  const int64_t segments = std::min(args.segment_begin.shape[0] - 1, Extent(args.query, 0));
  return segments * CeilDiv(args.block_table.shape[1] * Extent(args.kv_pages, 1), kExpanded);
}
int64_t ExpandedTiles(const PrefillAttentionArgs& args) {
  const int64_t heads = Extent(args.query, 1);
  return std::min(MostTiles(args), kMostExpandedBytes / (heads * kExpandedTileBytes));
}

bool Aligned(const void* data, int64_t alignment, std::initializer_list<int64_t> steps_in_bytes) {
  bool aligned = reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(alignment) == 0;
  for (const int64_t step : steps_in_bytes) aligned = aligned && step % alignment == 0;
  return aligned;
}

template <class T, int Rank>
int64_t StepBytes(const View<T, Rank>& view, int d) {
  return view.shape[d] <= 1 ? 0 : view.stride[d] * static_cast<int64_t>(sizeof(T));
}

bool HonoursWeight(const LinearWeight& weight) {
  const int64_t k = ColumnCount(weight);
  if (const auto* w = std::get_if<Mxfp4<const e2m1x2, 2>>(&weight)) {
    return k % 32 == 0 && Aligned(w->values.data, 16, {w->values.stride[0]});
  }
  if (const auto* w = std::get_if<View<const bf16, 2>>(&weight))
    return k % 8 == 0 && Aligned(w->data, 16, {w->stride[0] * 2});
  const auto* w = std::get_if<Fp8Block>(&weight);
  return w && w->in_squares() && k % 16 == 0 && Aligned(w->values.data, 16, {w->values.stride[0]});
}

template <class V>
bool RowsAligned(const V& view, int64_t alignment) {
  return view.stride[2] == 1 && Aligned(view.data, alignment, {StepBytes(view, 0), StepBytes(view, 1)});
}

bool HonoursCache(const PrefillAttentionArgs& args) {
  if (const auto* kv = std::get_if<View<const bf16, 3>>(&args.kv_pages)) return RowsAligned(*kv, 16);
  const auto* kv = std::get_if<Fp8Kv<const e4m3, 3>>(&args.kv_pages);
  return kv && kv->latent.values.shape[2] % 16 == 0 && RowsAligned(kv->latent.values, 16) && RowsAligned(kv->key, 16);
}

// Bytes of scratch memory for an FP8 cache's latents: of tiles, and of the CTAs of clusters.
int64_t LatentScratchBytes(const PrefillAttentionArgs& args, int64_t tiles) {
  if (!std::holds_alternative<Fp8Kv<const e4m3, 3>>(args.kv_pages)) return 0;
  return tiles * kExpanded * ColumnCount(args.w_kc.tensor) * 2;
}

}  // namespace

bool HonoursPrefillAttention(const PrefillAttentionArgs& args) {
  const auto* query = std::get_if<View<const bf16, 3>>(&args.query);
  const auto* out = std::get_if<View<bf16, 3>>(&args.out);
  if (!query || !HonoursCache(args) || !out) return false;
  const int64_t nope = args.w_kc.head_rows, v = args.w_vc.head_rows, width = query->shape[2];
  const int64_t page_size = Extent(args.kv_pages, 1);
  return page_size > 0 && (page_size & (page_size - 1)) == 0 && page_size <= 1 << 20 && nope <= kKeyWidth &&
         width - nope <= kMostRope && v <= kValueWidth && nope % 8 == 0 && v % 8 == 0 && width % 8 == 0 && nope > 0 &&
         v > 0 && ColumnCount(args.w_kc.tensor) > 0 && RowsAligned(*query, 16) && RowsAligned(*out, 4) &&
         args.w_kc.tensor.index() == args.w_vc.tensor.index() && HonoursWeight(args.w_kc.tensor) &&
         HonoursWeight(args.w_vc.tensor);
}

size_t PrefillAttentionWorkspaceBytes(const PrefillAttentionArgs& args) {
  const int64_t tiles = ExpandedTiles(args);
  return kChunkBytes + static_cast<size_t>(tiles * Extent(args.query, 1) * kExpandedTileBytes +
                                           LatentScratchBytes(args, tiles + kMostCtas));
}

void PrefillAttention(const PrefillAttentionArgs& args, const PrefillAttentionOptions& options) {
  CheckLayout(HonoursPrefillAttention(args), kOp, "views",
              "query and out bf16, kv_pages bf16 or FP8, heads of at most 128 + 64 and 128 columns in eights, weights "
              "mxfp4, bf16 or "
              "fp8-block128, 16-byte aligned rows",
              "others");
  CheckLayout(options.workspace != nullptr, kOp, "workspace", "device memory", "none");
  const auto& query = std::get<View<const bf16, 3>>(args.query);
  const auto& out = std::get<View<bf16, 3>>(args.out);
  const int64_t segments = args.segment_begin.shape[0] - 1;
  if (query.shape[0] == 0 || query.shape[1] == 0 || segments <= 0) return;
  Params p{};
  p.query = reinterpret_cast<const uint8_t*>(query.data);
  p.query_row = query.stride[0] * 2;
  p.query_head = query.stride[1] * 2;
  p.latents = static_cast<int>(ColumnCount(args.w_kc.tensor));
  if (const auto* kv = std::get_if<View<const bf16, 3>>(&args.kv_pages)) {
    p.latent = reinterpret_cast<const uint8_t*>(kv->data);
    p.latent_page = p.key_page = kv->stride[0] * 2;
    p.latent_row = p.key_row = kv->stride[1] * 2;
    p.key = p.latent + int64_t{p.latents} * 2;
  } else {
    const auto& fp8 = std::get<Fp8Kv<const e4m3, 3>>(args.kv_pages);
    p.latent = reinterpret_cast<const uint8_t*>(fp8.latent.values.data);
    p.latent_page = fp8.latent.values.stride[0];
    p.latent_row = fp8.latent.values.stride[1];
    p.scales = fp8.latent.scales.data;
    p.scale_page = fp8.latent.scales.stride[0];
    p.scale_row = fp8.latent.scales.stride[1];
    p.scale_column = fp8.latent.scales.stride[2];
    p.key = reinterpret_cast<const uint8_t*>(fp8.key.data);
    p.key_page = fp8.key.stride[0] * 2;
    p.key_row = fp8.key.stride[1] * 2;
  }
  while ((int64_t{1} << p.page_log2) < Extent(args.kv_pages, 1)) ++p.page_log2;
  p.block_table = args.block_table.data;
  p.table_row = args.block_table.stride[0];
  p.table_column = args.block_table.stride[1];
  p.row_sequence = args.row_sequence.data;
  p.sequence_step = args.row_sequence.stride[0];
  p.row_length = args.row_length.data;
  p.length_step = args.row_length.stride[0];
  p.segment_begin = args.segment_begin.data;
  p.segment_step = args.segment_begin.stride[0];
  p.segments = static_cast<int>(segments);
  p.heads = static_cast<int>(query.shape[1]);
  p.nope = static_cast<int>(args.w_kc.head_rows);
  p.rope = static_cast<int>(query.shape[2]) - p.nope;
  p.v = static_cast<int>(args.w_vc.head_rows);
  const WeightKind kind = StreamedPlanes(kOp, args.w_kc.tensor, &p.keys);
  StreamedPlanes(kOp, args.w_vc.tensor, &p.values);
  p.keys_stride = args.w_kc.head_stride;
  p.keys_offset = args.w_kc.head_offset;
  p.values_stride = args.w_vc.head_stride;
  p.values_offset = args.w_vc.head_offset;
  p.scale = static_cast<float>(static_cast<double>(args.softmax_scale) * 1.4426950408889634);
  p.out = reinterpret_cast<uint8_t*>(out.data);
  p.out_row = out.stride[0] * 2;
  p.out_head = out.stride[1] * 2;
  p.scratch = static_cast<uint8_t*>(options.workspace);
  p.expanded = p.scratch + kChunkBytes;
  p.expanded_tiles = options.expand_first ? static_cast<int>(ExpandedTiles(args)) : 0;
  const int64_t tiles = ExpandedTiles(args), most_tiles = MostTiles(args);
  p.tile_latents = p.expanded + tiles * p.heads * kExpandedTileBytes;
  p.cta_latents = p.tile_latents + LatentScratchBytes(args, tiles);
  if (kind == WeightKind::kMxfp4) return LaunchAll<WeightKind::kMxfp4>(p, query.shape[0], most_tiles, options.stream);
  if (kind == WeightKind::kBf16) return LaunchAll<WeightKind::kBf16>(p, query.shape[0], most_tiles, options.stream);
  LaunchAll<WeightKind::kFp8>(p, query.shape[0], most_tiles, options.stream);
}

}  // namespace mxmla::cuda
