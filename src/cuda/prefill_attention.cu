// A cluster of 8 CTAs takes one head and up to 1024 rows of a segment, 128 a CTA. It goes through the context in chunks
// of 1024 tokens: each CTA expands 128 of them to keys and values, through scratch memory that stays in the L2; behind
// a cluster's barrier every CTA attends to the chunk, 64 tokens at a time. So an expanded token serves 1024 rows, and
// the scratch memory does not grow with the context.
#include "cuda/prefill_attention.h"

#include <algorithm>
#include <string>

#include "cuda/matrix_tile.cuh"

namespace mxmla::cuda {
namespace {

constexpr std::string_view kOp = "cuda prefill_attention";
constexpr int kMostCtas = 128;                                        // at once
constexpr int kRows = 128;                                            // of a CTA: 64 a warpgroup
constexpr int kTokens = 64;                                           // of a tile
constexpr int kQueryWidth = 192, kValueWidth = 128, kKeyWidth = 128;  // padded with zeros
constexpr int kMostRope = 64;
constexpr int kExpanded = 128;  // tokens that a CTA expands of a chunk

constexpr int kQueryBytes = kRows * kQueryWidth * 2;
constexpr int kKeyBytes = kTokens * kQueryWidth * 2, kValueBytes = kTokens * kValueWidth * 2;
constexpr int kStageBytes = kKeyBytes + kValueBytes;

struct Params {
  const uint8_t* query;
  int64_t query_row, query_head;  // bytes, as all steps of query, cache and out
  const uint8_t* kv;
  int64_t kv_page, kv_row;
  int page_log2, latents;
  const int32_t* block_table;
  int64_t table_row, table_column;
  const int32_t* row_sequence;
  int64_t sequence_step;
  const int32_t* row_length;
  int64_t length_step;
  const int32_t* segment_begin;
  int64_t segment_step;
  int segments, heads, nope, rope, v;
  WeightPlanes keys, values;  // of the tensors
  int64_t keys_stride, keys_offset, values_stride, values_offset;
  float scale;  // times log2 e
  uint8_t* out;
  int64_t out_row, out_head;
  uint8_t* scratch;  // a cluster: two chunks of kChunk rows of keys, then of values
};

// Where the rows of a chunk are in the cache.
struct Context {
  const Params& p;
  const int32_t* table;
  int tokens;

  __device__ int32_t Page(int t) const { return t < tokens ? table[(t >> p.page_log2) * p.table_column] : 0; }
  __device__ const uint8_t* Token(int32_t page, int t) const {
    return p.kv + page * p.kv_page + (t & ((1 << p.page_log2) - 1)) * p.kv_row;
  }
};

// The tokens that a CTA expands, and where to.
struct ExpandedRows {
  const Context& context;
  int first;
  __nv_bfloat16* to;  // (kExpanded, kKeyWidth)

  __device__ void Wait() const {}
  __device__ const uint8_t* Row(int r) const {
    return first + r < context.tokens ? context.Token(context.Page(first + r), first + r) : nullptr;
  }
  __device__ void Store(int r, int column, float a, float b) const {
    *reinterpret_cast<uint32_t*>(to + r * kKeyWidth + column) = PackBf16(a, b);
  }
};

template <WeightKind kKind>
__device__ __forceinline__ WeightPlanes HeadPlanes(const WeightPlanes& tensor, int64_t row) {
  WeightPlanes w = tensor;
  w.values += row * w.row_bytes;
  w.first_row += row;
  if constexpr (kKind == WeightKind::kMxfp4)
    w.scales = static_cast<const uint8_t*>(w.scales) + row * w.scale_row_stride;
  return w;
}

__device__ __forceinline__ void Copy16(uint32_t to, const uint8_t* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
// Of 16-byte piece `piece` of row r of panels of `rows` rows, in the 128-byte swizzle.
__device__ __forceinline__ uint32_t PieceAt(uint32_t tile, int rows, int r, int piece) {
  return tile + piece / 8 * rows * 128 + r * 128 + ((piece % 8 ^ r % 8) * 16);
}

__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float OfQuad(float v, bool maximum) {
#pragma unroll
  for (int apart = 1; apart <= 2; apart *= 2) {
    const float other = __shfl_xor_sync(~0u, v, apart);
    v = maximum ? fmaxf(v, other) : v + other;
  }
  return v;
}

// A warpgroup's 64 rows: two rows a lane, g and g + 8 of its warp's 16.
struct RowState {
  float sum[kValueWidth / 2];
  float maximum[2], total[2];
};

// One tile of keys and values. Row i of the lane's two sees tokens below visible[i].
__device__ __forceinline__ void Attend(const Params& p, uint32_t query, uint32_t stage, int token0,
                                       const int (&visible)[2], RowState& state) {
  float score[kTokens / 2];
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < kQueryWidth / 16; ++k) {
    const SwizzledTile a(query + k / 4 * kRows * 128), b(stage + k / 4 * kTokens * 128);
    Wgmma<kTokens, false>(score, a.At(k % 4 * 32), b.At(k % 4 * 32), k > 0);
  }
  WgmmaCommit();
  WgmmaWait<0>();
  const int t = static_cast<int>(threadIdx.x) % 4;
  uint32_t probability[kTokens / 4];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float maximum = state.maximum[half];
#pragma unroll
    for (int j = 0; j < kTokens / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& s = score[4 * j + 2 * half + i];
        s = token0 + 8 * j + 2 * t + i < visible[half] ? s * p.scale : -INFINITY;
        maximum = fmaxf(maximum, s);
      }
    }
    maximum = OfQuad(maximum, true);
    const float base = maximum == -INFINITY ? 0.0f : maximum;  // no token seen yet
    const float correction = Exp2(state.maximum[half] - base);
    state.maximum[half] = maximum;
    float total = 0;
#pragma unroll
    for (int j = 0; j < kTokens / 8; ++j) {
      const float first = Exp2(score[4 * j + 2 * half] - base), second = Exp2(score[4 * j + 2 * half + 1] - base);
      const uint32_t pair = PackBf16(first, second);
      total += LowBf16(pair) + HighBf16(pair);
      probability[j / 2 * 4 + j % 2 * 2 + half] = pair;
    }
    state.total[half] = __fmaf_rn(state.total[half], correction, OfQuad(total, false));
#pragma unroll
    for (int j = 0; j < kValueWidth / 8; ++j) {
      state.sum[4 * j + 2 * half] *= correction;
      state.sum[4 * j + 2 * half + 1] *= correction;
    }
  }
  const StridedTile values(stage + kKeyBytes, kTokens * 128);
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < kTokens / 16; ++k) WgmmaValues(state.sum, probability + 4 * k, values.At(k * 2048), 1);
  WgmmaCommit();
  WgmmaWait<0>();
}

// Which segment and which group of its rows a unit is; the last rows, which see most, come first. The warp calls.
template <int kGroupRows>
__device__ __forceinline__ int2 FindUnit(const Params& p, int unit) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int of_lane = (p.segments + 31) / 32;
  const int first = min(lane * of_lane, p.segments), last = min(first + of_lane, p.segments);
  const auto groups_of = [&](int s) {
    return (p.segment_begin[(s + 1) * p.segment_step] - p.segment_begin[s * p.segment_step] + kGroupRows - 1) /
           kGroupRows;
  };
  int groups = 0;
  for (int s = first; s < last; ++s) groups += groups_of(s);
  int behind = groups;
#pragma unroll
  for (int delta = 1; delta < 32; delta *= 2) {
    const int before = __shfl_up_sync(~0u, behind, static_cast<unsigned>(delta));
    if (lane >= delta) behind += before;
  }
  const int wanted = unit / p.heads;
  const bool here = wanted >= behind - groups && wanted < behind;
  int2 found = make_int2(-1, 0);
  if (here) {
    int left = wanted - (behind - groups), s = first;
    while (left >= groups_of(s)) left -= groups_of(s++);
    found = make_int2(s, groups_of(s) - 1 - left);
  }
  const uint32_t who = __ballot_sync(~0u, here);
  if (who == 0) return make_int2(-1, 0);
  const int from = __ffs(static_cast<int>(who)) - 1;
  return make_int2(__shfl_sync(~0u, found.x, from), __shfl_sync(~0u, found.y, from));
}

template <WeightKind kKind>
using ExpandTile = MatrixTile<kKind, kExpanded, kKind == WeightKind::kFp8 ? 64 : 128>;
template <WeightKind kKind>
constexpr int kSharedBytes = kQueryBytes + std::max(2 * kStageBytes, ExpandTile<kKind>::kSharedBytes);

template <WeightKind kKind, int kCtas>
__global__ void __launch_bounds__(kMatrixThreads, 1) PrefillAttentionKernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(1024) uint8_t shared[];
  uint8_t* const stages = shared + kQueryBytes;
  const uint32_t query_at = SharedAddress(shared), stages_at = SharedAddress(stages);
  const int tid = static_cast<int>(threadIdx.x), lane = tid % 32, group = tid / 128;
  const int rank = static_cast<int>(blockIdx.x) % kCtas, cluster = static_cast<int>(blockIdx.x) / kCtas;
  const int clusters = static_cast<int>(gridDim.x) / kCtas;
  constexpr int kChunk = kCtas * kExpanded, kGroupRows = kCtas * kRows;
  constexpr int kScratchRows = 4 * kChunk;
  auto* const scratch = reinterpret_cast<__nv_bfloat16*>(p.scratch) + int64_t{cluster} * kScratchRows * kKeyWidth;
  static_assert(kKeyWidth == kValueWidth);

  int parity = 0;
  for (int unit = cluster;; unit += clusters) {
    const int2 found = FindUnit<kGroupRows>(p, unit);
    if (found.x < 0) break;
    const int head = unit % p.heads;
    const int begin = p.segment_begin[found.x * p.segment_step], end = p.segment_begin[(found.x + 1) * p.segment_step];
    const int before = p.row_length[begin * p.length_step];  // tokens that the segment's first row sees
    const int group_begin = begin + found.y * kGroupRows, group_end = min(group_begin + kGroupRows, end);
    const int row0 = group_begin + rank * kRows, rows = max(min(kRows, end - row0), 0);
    const Context context{p, p.block_table + p.row_sequence[begin * p.sequence_step] * p.table_row,
                          before + group_end - 1 - begin};
    const int seen = rows > 0 ? before + row0 + rows - 1 - begin : 0;  // tokens that the CTA's last row sees

    for (int id = tid; id < kRows * kQueryWidth / 8; id += kMatrixThreads) {
      const int r = id / (kQueryWidth / 8), piece = id % (kQueryWidth / 8);
      const bool there = r < rows && piece * 8 < p.nope + p.rope;
      const uint8_t* const from =
          there ? p.query + (row0 + r) * p.query_row + head * p.query_head + piece * 16 : p.query;
      Copy16(PieceAt(query_at, kRows, r, piece), from, there);
    }
    CommitCopies();

    RowState state;
#pragma unroll
    for (float& value : state.sum) value = 0;
    int visible[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      state.maximum[half] = -INFINITY;
      state.total[half] = 0;
      visible[half] = before + (row0 - begin) + group * 64 + tid % 128 / 32 * 16 + lane / 4 + 8 * half;
    }

    for (int chunk0 = 0; chunk0 < context.tokens; chunk0 += kChunk, parity ^= 1) {
      __nv_bfloat16* const keys = scratch + parity * kChunk * kKeyWidth;
      __nv_bfloat16* const values = keys + 2 * kChunk * kKeyWidth;
      using Tile = ExpandTile<kKind>;
      constexpr int kTileColumns = Tile::kWBytes / 128, kParts = kKeyWidth / kTileColumns;
#pragma unroll 1
      for (int part = 0; part < 2 * kParts; ++part) {
        const bool of_values = part >= kParts;
        const int64_t row = of_values ? head * p.values_stride + p.values_offset : head * p.keys_stride + p.keys_offset;
        const WeightPlanes weight = HeadPlanes<kKind>(of_values ? p.values : p.keys, row);
        const ExpandedRows expanded{context, chunk0 + rank * kExpanded,
                                    (of_values ? values : keys) + rank * kExpanded * kKeyWidth};
        __syncthreads();  // whatever lay in the stages has been read
        Tile::Run(weight, of_values ? p.v : p.nope, p.latents, part % kParts * kTileColumns, stages, expanded);
      }
      // Every CTA's part of the chunk is there, and the chunk before has been read by all.
      asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");

      const int last = min(chunk0 + kChunk, seen);
      // A thread copies piece tid % 8 of the rotated keys of two tokens; it looks up their pages a tile ahead.
      const int rotated = tid % 8, rotated_row = tid / 8;
      int32_t page[2];
      const auto look_up = [&](int token0) {
#pragma unroll
        for (int i = 0; i < 2; ++i) page[i] = context.Page(token0 + rotated_row + 32 * i);
      };
      const auto fetch = [&](int token0, uint32_t stage) {
        if (token0 < last) {
#pragma unroll
          for (int i = 0; i < kTokens * kKeyWidth / 8 / kMatrixThreads; ++i) {
            const int r = tid / 16 + 16 * i, piece = tid % 16;
            if (piece * 8 >= p.nope) continue;
            Copy16(PieceAt(stage, kTokens, r, piece),
                   reinterpret_cast<const uint8_t*>(keys + (token0 - chunk0 + r) * kKeyWidth + piece * 8), true);
          }
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const int r = rotated_row + 32 * i;
            if (rotated * 8 >= p.rope) continue;
            const uint8_t* const from = context.Token(page[i], token0 + r) + (p.latents + rotated * 8) * 2;
            Copy16(PieceAt(stage, kTokens, r, p.nope / 8 + rotated), from, token0 + r < context.tokens);
          }
          for (int id = tid; id < kTokens * ((kQueryWidth - p.nope - p.rope) / 8); id += kMatrixThreads) {
            Copy16(PieceAt(stage, kTokens, id % kTokens, (p.nope + p.rope) / 8 + id / kTokens), p.kv, false);
          }
#pragma unroll
          for (int i = 0; i < kTokens * kValueWidth / 8 / kMatrixThreads; ++i) {
            const int r = tid / 16 + 16 * i, piece = tid % 16;
            Copy16(PieceAt(stage + kKeyBytes, kTokens, r, piece),
                   reinterpret_cast<const uint8_t*>(values + (token0 - chunk0 + r) * kValueWidth + piece * 8), true);
          }
        }
        CommitCopies();
        look_up(token0 + kTokens);
      };
      look_up(chunk0);
      fetch(chunk0, stages_at);
#pragma unroll 1
      for (int token0 = chunk0; token0 < last; token0 += kTokens) {
        const int stage = (token0 - chunk0) / kTokens % 2;
        WaitForCopies<0>();
        FenceAsyncProxy();
        __syncthreads();  // this tile is there, and the one before has been read
        fetch(token0 + kTokens, stages_at + (stage ^ 1) * kStageBytes);
        Attend(p, query_at + group * 64 * 128, stages_at + stage * kStageBytes, token0, visible, state);
      }
    }

#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = group * 64 + tid % 128 / 32 * 16 + lane / 4 + 8 * half;
      if (r >= rows) continue;
      const float inverse = 1.0f / state.total[half];
      uint8_t* const out = p.out + (row0 + r) * p.out_row + head * p.out_head;
#pragma unroll
      for (int j = 0; j < kValueWidth / 8; ++j) {
        const int column = 8 * j + 2 * (lane % 4);
        if (column < p.v) {
          *reinterpret_cast<uint32_t*>(out + column * 2) =
              PackBf16(state.sum[4 * j + 2 * half] * inverse, state.sum[4 * j + 2 * half + 1] * inverse);
        }
      }
    }
    __syncthreads();  // the query has been read
  }
}

template <WeightKind kKind, int kCtas>
void Launch(const Params& p, cudaStream_t stream) {
  constexpr auto kKernel = PrefillAttentionKernel<kKind, kCtas>;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(kMostCtas);
  config.blockDim = dim3(kMatrixThreads);
  config.dynamicSmemBytes = kSharedBytes<kKind>;
  config.stream = stream;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {kCtas, 1, 1};
  config.attrs = &attribute;
  config.numAttrs = 1;
  // Clusters that the card runs at once.
  static const int clusters = [&] {
    CheckCuda(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes<kKind>), kOp,
              "a kernel");
    int most = 0;
    CheckCuda(cudaOccupancyMaxActiveClusters(&most, kKernel, &config), kOp, "a kernel that fits");
    return std::clamp(most, 1, kMostCtas / kCtas);
  }();
  config.gridDim = dim3(static_cast<unsigned>(clusters * kCtas));
  CheckCuda(cudaLaunchKernelEx(&config, kKernel, p), kOp, "a launch");
}

// Small clusters, which expand more often, where large ones would leave some idle.
template <WeightKind kKind>
void ForSize(const Params& p, int64_t rows, cudaStream_t stream) {
  constexpr int64_t kManyUnits = 48;
  if (p.heads * CeilDiv(rows, 8 * kRows) >= kManyUnits) return Launch<kKind, 8>(p, stream);
  Launch<kKind, 4>(p, stream);
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
  return w && k % 16 == 0 && Aligned(w->values.data, 16, {w->values.stride[0]});
}

template <class V>
bool RowsAligned(const V& view, int64_t alignment) {
  return view.stride[2] == 1 && Aligned(view.data, alignment, {StepBytes(view, 0), StepBytes(view, 1)});
}

}  // namespace

bool HonoursPrefillAttention(const PrefillAttentionArgs& args) {
  const auto* query = std::get_if<View<const bf16, 3>>(&args.query);
  const auto* kv = std::get_if<View<const bf16, 3>>(&args.kv_pages);
  const auto* out = std::get_if<View<bf16, 3>>(&args.out);
  if (!query || !kv || !out) return false;
  const int64_t nope = args.w_kc.head_rows, v = args.w_vc.head_rows, width = query->shape[2];
  const int64_t page_size = kv->shape[1];
  return page_size > 0 && (page_size & (page_size - 1)) == 0 && page_size <= 1 << 20 && nope <= kKeyWidth &&
         width - nope <= kMostRope && v <= kValueWidth && nope % 8 == 0 && v % 8 == 0 && width % 8 == 0 && nope > 0 &&
         v > 0 && ColumnCount(args.w_kc.tensor) > 0 && RowsAligned(*query, 16) && RowsAligned(*kv, 16) &&
         RowsAligned(*out, 4) && args.w_kc.tensor.index() == args.w_vc.tensor.index() &&
         HonoursWeight(args.w_kc.tensor) && HonoursWeight(args.w_vc.tensor);
}

size_t PrefillAttentionWorkspaceBytes() { return size_t{kMostCtas} * 4 * kExpanded * kKeyWidth * 2; }

void PrefillAttention(const PrefillAttentionArgs& args, const PrefillAttentionOptions& options) {
  CheckLayout(
      HonoursPrefillAttention(args), kOp, "views",
      "query, kv_pages and out bf16, heads of at most 128 + 64 and 128 columns in eights, weights mxfp4, bf16 or "
      "fp8-block128, 16-byte aligned rows",
      "others");
  CheckLayout(options.workspace != nullptr, kOp, "workspace", "device memory", "none");
  const auto& query = std::get<View<const bf16, 3>>(args.query);
  const auto& kv = std::get<View<const bf16, 3>>(args.kv_pages);
  const auto& out = std::get<View<bf16, 3>>(args.out);
  const int64_t segments = args.segment_begin.shape[0] - 1;
  if (query.shape[0] == 0 || query.shape[1] == 0 || segments <= 0) return;
  Params p{};
  p.query = reinterpret_cast<const uint8_t*>(query.data);
  p.query_row = query.stride[0] * 2;
  p.query_head = query.stride[1] * 2;
  p.kv = reinterpret_cast<const uint8_t*>(kv.data);
  p.kv_page = kv.stride[0] * 2;
  p.kv_row = kv.stride[1] * 2;
  while ((int64_t{1} << p.page_log2) < kv.shape[1]) ++p.page_log2;
  p.latents = static_cast<int>(ColumnCount(args.w_kc.tensor));
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
  if (kind == WeightKind::kMxfp4) return ForSize<WeightKind::kMxfp4>(p, query.shape[0], options.stream);
  if (kind == WeightKind::kBf16) return ForSize<WeightKind::kBf16>(p, query.shape[0], options.stream);
  ForSize<WeightKind::kFp8>(p, query.shape[0], options.stream);
}

}  // namespace mxmla::cuda
