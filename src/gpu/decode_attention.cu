// Attention in the latent space for any sizes and cache format. A row's context is cut into at most 16 splits, by its
// own length (or what it attends to of it) alone; a block takes 8 heads of a row and one split, 32 tokens at a time
// through shared memory as float32. A second launch merges the splits in their order.
#include "gpu/decode_attention.h"

#include <algorithm>
#include <cmath>

#include "gpu/kernel_params.h"
#include "gpu/product_kernels.h"
#include "gpu/row_products.cuh"

namespace mxmla::gpu {
namespace {

constexpr int kHeads = 8;    // of a block
constexpr int kTokens = 32;  // of a tile
constexpr int kSplits = 16;

// One stretch of a cache row: `columns` elements that become columns `first` and on of the tile.
struct KvPlane {
  const void* values;
  int64_t page, row;  // steps in elements
  int first, columns;
  bool whole_pieces;
  const float* scales;  // FP8
  int64_t scale_page, scale_row, scale_column;
};

struct Params {
  Operand query;  // (rows, heads, width)
  KvPlane latent;
  KvPlane key;  // FP8 caches; no columns in others
  const int32_t* block_table;
  int64_t table_row, table_column;
  const int32_t* row_sequence;
  int64_t sequence_step;
  const int32_t* row_length;
  int64_t length_step;
  const int32_t* chosen;  // (rows, most_chosen), or null: every token
  int64_t chosen_row, chosen_column;
  int most_chosen;
  int heads, width, pitch, latents, page_size;
  float scale;
  void* out;
  int64_t out_row, out_head;
  bool out_float;
  float* partials;  // (rows, heads, kSplits, latents)
  float2* sums;     // (rows, heads, kSplits): maximum, sum
  const int32_t* limits;
  int64_t limits_last;
  int row_base;
};

__device__ __forceinline__ int TokensOfSplit(int length) {
  const int tiles = (length + kTokens - 1) / kTokens;
  return (tiles + kSplits - 1) / kSplits * kTokens;
}

// Tokens that the row attends to.
__device__ __forceinline__ int TokensOf(const Params& p, int row) {
  const int length = p.row_length[row * p.length_step];
  return p.chosen ? min(length, p.most_chosen) : length;
}

__device__ __forceinline__ bool OutsideLimits(const Params& p, int row) {
  return p.limits && (p.row_base + row < p.limits[0] || p.row_base + row >= p.limits[p.limits_last]);
}

// Pieces of `plane` of the tile's tokens, as float32; tokens behind the last are zeros.
template <Format kFormat>
__device__ __forceinline__ void LoadPlane(const KvPlane& plane, const int2* token /* (kTokens): page, row */,
                                          int tokens, int pitch, float* tile) {
  const int pieces = (plane.columns + kPiece - 1) / kPiece;
  for (int id = static_cast<int>(threadIdx.x); id < kTokens * pieces; id += kThreads) {
    const int t = id / pieces, at = id % pieces * kPiece;
    float values[kPiece] = {};
    const int count = min(kPiece, plane.columns - at);
    if (t < tokens) {
      const int64_t page = token[t].x, row = token[t].y;
      Row from{static_cast<const uint8_t*>(plane.values) + (page * plane.page + row * plane.row) * ValueBytes(kFormat),
               nullptr};
      if constexpr (kFormat == Format::kFp8)
        from.scales = plane.scales + page * plane.scale_page + row * plane.scale_row;
      Piece<kFormat> piece;
      piece.Load(from, at, count, plane.whole_pieces, plane.scale_column);
      piece.Decode(values);
    }
    float* const to = tile + t * pitch + plane.first + at;
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      if (i < count) to[i] = values[i];
    }
  }
}

// kColumns columns of the result a thread.
template <Format kKv, int kColumns>
__global__ void __launch_bounds__(kThreads) AttendKernel(const Params p) {
  extern __shared__ __align__(16) float shared[];
  float* const query = shared;                    // (kHeads, pitch)
  float* const tile = query + kHeads * p.pitch;   // (kTokens, pitch)
  __shared__ float probability[kTokens][kHeads];  // scores first
  __shared__ float correction[kHeads];
  __shared__ int2 token[kTokens];
  __shared__ float2 state[kHeads];  // maximum and sum so far

  const int tid = static_cast<int>(threadIdx.x), lane = tid % 32, warp = tid / 32;
  const int split = static_cast<int>(blockIdx.x), head0 = static_cast<int>(blockIdx.y) * kHeads;
  const int row = static_cast<int>(blockIdx.z);
  const int heads = min(kHeads, p.heads - head0);
  if (OutsideLimits(p, row)) return;
  const int length = TokensOf(p, row);
  const int of_split = TokensOfSplit(length);
  const int begin = split * of_split, end = min(begin + of_split, length);
  if (begin >= end && split > 0) return;
  const bool alone = of_split >= length;  // the only split: its result is the row's
  const int32_t* const table = p.block_table + p.row_sequence[row * p.sequence_step] * p.table_row;
  // Of a row that sees more tokens than it attends to.
  const int32_t* const chosen = length < p.row_length[row * p.length_step] ? p.chosen + row * p.chosen_row : nullptr;

  // Columns behind the width are 0 and stay so.
  for (int id = tid; id < (kHeads + kTokens) * p.pitch; id += kThreads) shared[id] = 0;
  __syncthreads();
  const int pieces = (p.width + kPiece - 1) / kPiece;
  for (int id = tid; id < heads * pieces; id += kThreads) {
    const int h = id / pieces, at = id % pieces * kPiece, count = min(kPiece, p.width - at);
    float values[kPiece];
    const auto load = [&](auto piece) {
      piece.Load(p.query.format == Format::kF32 ? RowAt<Format::kF32>(p.query, row, head0 + h)
                                                : RowAt<Format::kBf16>(p.query, row, head0 + h),
                 at, count, p.query.whole_pieces, 0);
      piece.Decode(values);
    };
    if (p.query.format == Format::kF32) {
      load(Piece<Format::kF32>{});
    } else {
      load(Piece<Format::kBf16>{});
    }
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      if (i < count) query[h * p.pitch + at + i] = values[i];
    }
  }
  if (tid < kHeads) state[tid] = make_float2(-INFINITY, 0);

  float sum[kColumns][kHeads] = {};
  for (int t0 = begin; t0 < end; t0 += kTokens) {
    const int tokens = min(kTokens, end - t0);
    if (tid < tokens) {
      const int t = chosen ? chosen[(t0 + tid) * p.chosen_column] : t0 + tid;
      token[tid] = make_int2(table[t / p.page_size * p.table_column], t % p.page_size);
    }
    __syncthreads();
    LoadPlane<kKv>(p.latent, token, tokens, p.pitch, tile);
    if constexpr (kKv == Format::kFp8) LoadPlane<Format::kBf16>(p.key, token, tokens, p.pitch, tile);
    __syncthreads();

    // A warp scores 4 tokens for all heads.
    constexpr int kTokensOfWarp = kTokens / kWarps;
    float score[kHeads * kTokensOfWarp] = {};
    for (int c = lane; c < p.pitch; c += 32) {
      float kv[kTokensOfWarp];
#pragma unroll
      for (int i = 0; i < kTokensOfWarp; ++i) kv[i] = tile[(warp * kTokensOfWarp + i) * p.pitch + c];
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        const float q = query[h * p.pitch + c];
#pragma unroll
        for (int i = 0; i < kTokensOfWarp; ++i) {
          score[h * kTokensOfWarp + i] = fmaf(q, kv[i], score[h * kTokensOfWarp + i]);
        }
      }
    }
    const float scored = SumOverLanes(score, lane);
    probability[warp * kTokensOfWarp + lane % kTokensOfWarp][lane / kTokensOfWarp] = scored;
    __syncthreads();

    // A warp a head, a lane a token.
    static_assert(kHeads == kWarps && kTokens == 32);
    {
      const float s = lane < tokens ? probability[lane][warp] * p.scale : -INFINITY;
      float maximum = s;
#pragma unroll
      for (int apart = 16; apart > 0; apart /= 2) {
        const float other = ShuffleXor(maximum, apart);
        maximum = other > maximum || other != other ? other : maximum;  // a NaN stays
      }
      const float2 before = state[warp];
      const float now = before.x > maximum || before.x != before.x ? before.x : maximum;
      const float factor = before.y == 0 ? 0.0f : expf(before.x - now);
      const float weight = lane < tokens ? expf(s - now) : 0.0f;
      float total = weight;
#pragma unroll
      for (int apart = 16; apart > 0; apart /= 2) total += ShuffleXor(total, apart);
      probability[lane][warp] = weight;
      if (lane == 0) {
        correction[warp] = factor;
        state[warp] = make_float2(now, fmaf(before.y, factor, total));
      }
    }
    __syncthreads();

    float factor[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) factor[h] = correction[h];
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
#pragma unroll
      for (int h = 0; h < kHeads; ++h) sum[j][h] *= factor[h];
    }
    for (int t = 0; t < tokens; ++t) {
      float weight[kHeads];
#pragma unroll
      for (int h = 0; h < kHeads; ++h) weight[h] = probability[t][h];
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const int c = tid + j * kThreads;
        const float value = c < p.latents ? tile[t * p.pitch + c] : 0.0f;
#pragma unroll
        for (int h = 0; h < kHeads; ++h) sum[j][h] = fmaf(weight[h], value, sum[j][h]);
      }
    }
    __syncthreads();  // the tile and the probabilities have been read
  }

#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    if (h >= heads) break;
    const float inverse = length > 0 ? 1.0f / state[h].y : 0.0f;
    const int64_t slot = (int64_t{row} * p.heads + head0 + h) * kSplits + split;
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      const int c = tid + j * kThreads;
      if (c >= p.latents) continue;
      if (alone) {
        StoreFloat(p.out, row * p.out_row + (head0 + h) * p.out_head + c, sum[j][h] * inverse, p.out_float);
      } else {
        p.partials[slot * p.latents + c] = sum[j][h];
      }
    }
    if (!alone && tid == 0) p.sums[slot] = state[h];
  }
}

__global__ void __launch_bounds__(kThreads) MergeKernel(const Params p) {
  const int row = static_cast<int>(blockIdx.y), head = static_cast<int>(blockIdx.x);
  if (OutsideLimits(p, row)) return;
  const int length = TokensOf(p, row);
  const int of_split = TokensOfSplit(length);
  if (of_split >= length) return;
  const int splits = (length + of_split - 1) / of_split;
  const int64_t slot = (int64_t{row} * p.heads + head) * kSplits;
  float maximum = -INFINITY;
  for (int s = 0; s < splits; ++s) {
    const float other = p.sums[slot + s].x;
    maximum = other > maximum || other != other ? other : maximum;
  }
  float total = 0;
  for (int s = 0; s < splits; ++s) total = fmaf(p.sums[slot + s].y, expf(p.sums[slot + s].x - maximum), total);
  for (int c = static_cast<int>(threadIdx.x); c < p.latents; c += kThreads) {
    float sum = 0;
    for (int s = 0; s < splits; ++s) {
      sum = fmaf(p.partials[(slot + s) * p.latents + c], expf(p.sums[slot + s].x - maximum), sum);
    }
    StoreFloat(p.out, row * p.out_row + head * p.out_head + c, sum / total, p.out_float);
  }
}

KvPlane PlaneOf(const void* data, int64_t element_bytes, int64_t page, int64_t row, int first, int64_t columns) {
  KvPlane plane{};
  plane.values = data;
  plane.page = page;
  plane.row = row;
  plane.first = first;
  plane.columns = static_cast<int>(columns);
  plane.whole_pieces =
      PiecesAligned(data, std::min<int64_t>(kPiece * element_bytes, 16), {page * element_bytes, row * element_bytes});
  return plane;
}

template <Format kKv, int kColumns>
void Launch(const Params& p, int64_t rows, int64_t splits, Stream stream) {
  const size_t bytes = static_cast<size_t>((kHeads + kTokens) * p.pitch) * sizeof(float);
  AllowSharedBytes(AttendKernel<kKv, kColumns>, bytes, "gpu decode_attention");
  const dim3 blocks(static_cast<unsigned>(splits), static_cast<unsigned>((p.heads + kHeads - 1) / kHeads),
                    static_cast<unsigned>(rows));
  AttendKernel<kKv, kColumns><<<blocks, kThreads, bytes, stream>>>(p);
  CheckLaunch("gpu decode_attention");
  if (splits > 1) {
    MergeKernel<<<dim3(static_cast<unsigned>(p.heads), static_cast<unsigned>(rows)), kThreads, 0, stream>>>(p);
    CheckLaunch("gpu decode_attention, merge");
  }
}

}  // namespace

int64_t AttentionRowsAtOnce(int64_t heads) {
  constexpr int64_t kMostRowHeads = 2048;
  return std::max<int64_t>(kMostRowHeads / std::max<int64_t>(heads, 1), 1);
}

size_t AttentionPartialBytes(int64_t rows, int64_t heads, int64_t kv_lora_rank) {
  const int64_t slots = std::min(rows, AttentionRowsAtOnce(heads)) * heads * kSplits;
  return static_cast<size_t>(slots) * (sizeof(float2) + static_cast<size_t>(kv_lora_rank) * sizeof(float));
}

void RunDecodeAttention(const DecodeAttentionArgs& args, const RowLimits& limits, void* workspace, Stream stream) {
  const int64_t rows = Extent(args.query, 0);
  Params p{};
  p.heads = static_cast<int>(Extent(args.query, 1));
  p.width = static_cast<int>(Extent(args.query, 2));
  p.pitch = (p.width + 7) / 8 * 8;
  p.latents = static_cast<int>(args.kv_lora_rank);
  p.scale = args.softmax_scale;
  if (p.latents == 0) return;
  std::visit([&](const auto& q) { p.query = OperandOf<3>(q); }, args.query);
  Format format = Format::kF32;
  std::visit(
      [&](const auto& kv) {
        if constexpr (requires { kv.latent; }) {
          const auto& latent = kv.latent;
          format = Format::kFp8;
          p.latent =
              PlaneOf(latent.values.data, 1, latent.values.stride[0], latent.values.stride[1], 0, latent.extent(2));
          p.latent.scales = latent.scales.data;
          p.latent.scale_page = latent.scales.stride[0];
          p.latent.scale_row = latent.scales.stride[1];
          p.latent.scale_column = latent.scales.stride[2];
          p.key = PlaneOf(kv.key.data, 2, kv.key.stride[0], kv.key.stride[1], p.latents, kv.key.shape[2]);
        } else {
          const int64_t bytes = sizeof(*kv.data);
          format = bytes == 4 ? Format::kF32 : Format::kBf16;
          p.latent = PlaneOf(kv.data, bytes, kv.stride[0], kv.stride[1], 0, kv.shape[2]);
        }
      },
      args.kv_pages);
  SetPages(args, &p);
  p.length_step = args.row_length.stride[0];
  if (args.chosen) p.most_chosen = static_cast<int>(args.chosen->shape[1]);
  SetHeadsOut(args.out, &p);
  p.partials = static_cast<float*>(workspace);
  p.limits = limits.limits;
  p.limits_last = limits.last;
  const int64_t most_tokens = args.block_table.shape[1] * p.page_size;
  const int64_t splits = std::clamp<int64_t>((most_tokens + kTokens - 1) / kTokens, 1, kSplits);
  const int64_t at_once = AttentionRowsAtOnce(p.heads);
  for (int64_t row = 0; row < rows; row += at_once) {
    const int64_t count = std::min(at_once, rows - row);
    Params part = p;
    part.row_base = static_cast<int>(limits.row_base + row);
    SetFirstRow(args, row, &part);
    part.row_length = args.row_length.data + row * p.length_step;
    part.sums = reinterpret_cast<float2*>(part.partials + count * p.heads * kSplits * p.latents);
    std::visit([&](const auto& q) { part.query = OperandOf<3>(q.Rows(row, count)); }, args.query);
    std::visit([&](const auto& out) { part.out = out.Rows(row, count).data; }, args.out);
    ForActivationFormat(format, [&](auto kv) {
      constexpr Format kKv = kv() == Format::kMxfp4 ? Format::kFp8 : kv();  // no cache is MXFP4
      if (p.latents <= kThreads) return Launch<kKv, 1>(part, count, splits, stream);
      if (p.latents <= 2 * kThreads) return Launch<kKv, 2>(part, count, splits, stream);
      Launch<kKv, 4>(part, count, splits, stream);
    });
  }
}

WorkspaceSize DecodeAttentionWorkspace(const DecodeAttentionArgs& args, int) {
  return {AttentionPartialBytes(Extent(args.query, 0), Extent(args.query, 1), args.kv_lora_rank), 0};
}

void DecodeAttention(const ExecContext& context, const DecodeAttentionArgs& args) {
  const WorkspaceSize size = DecodeAttentionWorkspace(args, 1);
  RunDecodeAttention(args, {}, context.SharedScratch<std::byte>(0, size.shared), StreamOf(context));
}

}  // namespace mxmla::gpu
