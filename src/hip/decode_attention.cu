// A block takes 16 heads of a row and one split of its context, 32 tokens at a time, in two waves. Each wave multiplies
// 16 tokens' rows with the heads' queries as the rows lie in memory, and writes their latents to LDS with a latent's
// tokens contiguous: what the second product contracts. Then each wave takes half of the latents of all 32 tokens. A
// row is cut into at most 16 splits by its own length alone, which a second launch merges in their order.
#include "hip/decode_attention.h"

#include <algorithm>
#include <limits>

#include "hip/attention_splits.cuh"
#include "hip/product_launch.cuh"
#include "hip/value_project.h"

namespace mxmla::hip {
namespace {

constexpr int kRotated = 64;
constexpr int kWavesOfBlock = 2;
static_assert(kTokens == kWavesOfBlock * kTile);
constexpr int kGroups = kLatents / kStep;                       // FP8: scales of a token
constexpr int kLatentTiles = kLatents / kWavesOfBlock / kTile;  // of a wave
constexpr int kPitch = kTokens + 8;                             // halves of a latent's tokens in LDS
constexpr int kScorePitch = kTokens + 4;
constexpr float kLog2E = 1.44269504088896f;

struct Params {
  const uint8_t* query;                                // (rows, heads, 512) of bf16
  int64_t query_row, query_head;                       // bytes
  const uint8_t* rotated;                              // (rows, heads, 64) of bf16: the query's other columns
  int64_t rotated_row, rotated_head;                   // bytes
  const uint8_t* latent;                               // (pages, page_size, 512)
  const uint8_t* key;                                  // (pages, page_size, 64) of bf16
  int64_t latent_page, latent_row, key_page, key_row;  // bytes
  const float* scales;                                 // FP8
  int64_t scale_page, scale_row, scale_column;
  const int32_t* block_table;
  int64_t table_row, table_column;
  const int32_t* row_sequence;
  int64_t sequence_step;
  const int32_t* chosen;  // (rows, of.most_attended), or null
  int64_t chosen_row, chosen_column;
  int page_size;
  float scale;  // with log2(e)
  void* out;
  int64_t out_row, out_head;
  bool out_float;
  AttentionSplits of;
};

__device__ __forceinline__ float OverGroups(float value, bool largest) {
#pragma unroll
  for (int apart = kTile; apart < kWave; apart *= 2) {
    const float other = __shfl_xor(value, apart);
    value = largest ? fmaxf(value, other) : value + other;
  }
  return value;
}

__device__ __forceinline__ Halves8 LoadHalves(const uint8_t* from) {
  return __builtin_bit_cast(Halves8, *reinterpret_cast<const Int4*>(from));
}

template <bool kFp8>
__global__ void __launch_bounds__(kWavesOfBlock* kWave) AttendKernel(const Params p) {
  __shared__ __align__(16) uint16_t columns[kLatents][kPitch];  // latents of the step's tokens, without FP8 scales
  __shared__ __align__(16) float scores[kTile][kScorePitch];    // (heads, tokens)
  __shared__ __align__(16) float scales[kGroups][kTokens];
  const int lane = static_cast<int>(threadIdx.x) % kWave, wave = static_cast<int>(threadIdx.x) / kWave;
  const int g = lane / kTile, i = lane % kTile;
  const int row = static_cast<int>(blockIdx.x), head0 = static_cast<int>(blockIdx.y) * kTile;
  const int split = static_cast<int>(blockIdx.z);
  const int length = p.of.LengthOf(row);
  const int begin = split * p.of.TokensOfSplit(length), end = min(length, begin + p.of.TokensOfSplit(length));
  if (split > 0 && begin >= length) return;
  const int head = head0 + min(i, p.of.heads - 1 - head0);
  const uint8_t* of_query = p.query + row * p.query_row + head * p.query_head;
  Halves8 query[4 * kGroups + 2];
#pragma unroll
  for (int s = 0; s < 4 * kGroups; ++s) {
    query[s] = LoadHalves(of_query + (s / 4 * kStep + g * kOfLane + s % 4 * 8) * 2);
  }
#pragma unroll
  for (int s = 0; s < 2; ++s) {
    query[4 * kGroups + s] = LoadHalves(p.rotated + row * p.rotated_row + head * p.rotated_head + (g * 16 + s * 8) * 2);
  }
  const int32_t* table = p.block_table + p.row_sequence[row * p.sequence_step] * p.table_row;
  const int32_t* const chosen = p.of.Chooses(row) ? p.chosen + row * p.chosen_row : nullptr;

  Float4 sum[kLatentTiles] = {};
  float maximum = -__builtin_inff(), weights = 0;  // of this lane's head
  for (int t0 = begin; t0 < end; t0 += kTokens) {
    // This wave's 16 tokens: scores, and latents to LDS. Tokens behind the last stand for it and get no weight.
    const int place = min(t0 + wave * kTile + i, end - 1);
    const int token = chosen ? chosen[place * p.chosen_column] : place;
    const int64_t page = table[token / p.page_size * p.table_column];
    const int in_page = token % p.page_size;
    const uint8_t* latent = p.latent + page * p.latent_page + in_page * p.latent_row;
    const uint8_t* key = p.key + page * p.key_page + in_page * p.key_row;
    Float4 score{};
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      score = __builtin_amdgcn_mfma_f32_16x16x32_bf16(LoadHalves(key + (g * 16 + s * 8) * 2), query[4 * kGroups + s],
                                                      score, 0, 0, 0);
    }
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      constexpr Format kFormat = kFp8 ? Format::kFp8 : Format::kBf16;
      Fragment<kFormat> fragment;
      fragment.Load(latent, nullptr, group * kStep + g * kOfLane, kLatents);
      Float4 part = kFp8 ? Float4{} : score;
#pragma unroll
      for (int s = 0; s < 4; ++s) {
        const Halves8 halves = fragment.Decode(s);
        part = __builtin_amdgcn_mfma_f32_16x16x32_bf16(halves, query[4 * group + s], part, 0, 0, 0);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          const __bf16 half = halves[j];  // a copy: clang 22 casts a vector's first element instead of the j-th
          columns[group * kStep + g * kOfLane + 8 * s + j][wave * kTile + i] = __builtin_bit_cast(uint16_t, half);
        }
      }
      if constexpr (kFp8) {
        const float scale = p.scales[page * p.scale_page + in_page * p.scale_row + group * p.scale_column];
        if (g == 0) scales[group][wave * kTile + i] = scale;
#pragma unroll
        for (int r = 0; r < 4; ++r) score[r] = __builtin_fmaf(part[r], __shfl(scale, 4 * g + r), score[r]);
      } else {
        score = part;
      }
    }
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int of_step = wave * kTile + 4 * g + r;
      scores[i][of_step] = t0 + of_step < end ? score[r] * p.scale : -__builtin_inff();
    }
    __syncthreads();

    // All 32 tokens: lane (g, i) has tokens 8 g to 8 g + 7 of head i.
    float weight[8];
    float largest = maximum;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      weight[j] = scores[i][8 * g + j];
      largest = fmaxf(largest, weight[j]);
    }
    largest = OverGroups(largest, true);
    const float factor = __builtin_amdgcn_exp2f(maximum - largest);
    float total = 0;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      // NaN scores are not the largest, but stay NaN here.
      weight[j] = __builtin_amdgcn_exp2f(weight[j] - largest);
      total += weight[j];
    }
    weights = __builtin_fmaf(weights, factor, OverGroups(total, false));
    maximum = largest;
    // FP8: the tokens' scales of a group go with their weights.
    constexpr int kOperands = kFp8 ? kGroups / kWavesOfBlock : 1;
    constexpr int kTilesOfOperand = kLatentTiles / kOperands;
#pragma unroll
    for (int operand = 0; operand < kOperands; ++operand) {
      Halves8 of_tokens;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float scale = kFp8 ? scales[wave * kOperands + operand][8 * g + j] : 1.0f;
        of_tokens[j] = static_cast<__bf16>(weight[j] * scale);
      }
#pragma unroll
      for (int of_operand = 0; of_operand < kTilesOfOperand; ++of_operand) {
        const int tile = operand * kTilesOfOperand + of_operand;
        const int at = (wave * kLatentTiles + tile) * kTile + i;
        sum[tile] = __builtin_amdgcn_mfma_f32_16x16x32_bf16(*reinterpret_cast<const Halves8*>(&columns[at][8 * g]),
                                                            of_tokens, sum[tile] * factor, 0, 0, 0);
      }
    }
    __syncthreads();  // LDS has been read
  }
  if (i >= p.of.heads - head0) return;
  const int64_t slot = (int64_t{row} * p.of.heads + head) * p.of.splits + split;
  const bool alone = p.of.splits == 1;
#pragma unroll
  for (int tile = 0; tile < kLatentTiles; ++tile) {
    const int latent = (wave * kLatentTiles + tile) * kTile + 4 * g;
    if (alone) {
      const Float4 value = length == 0 ? Float4{} : sum[tile] / weights;
      StoreFour(p.out, row * p.out_row + head * p.out_head + latent, value, 4, p.out_float);
    } else {
      *reinterpret_cast<Float4*>(p.of.partials + slot * kLatents + latent) = sum[tile];
    }
  }
  if (!alone && wave == 0 && g == 0) p.of.sums[slot] = make_float2(maximum, weights);
}

// A wave a row and head, eight latents a lane.
__global__ void __launch_bounds__(kWave) MergeKernel(const Params p) {
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int latent = static_cast<int>(threadIdx.x) * gpu::kPiece;
  float value[gpu::kPiece];
  p.of.Merge(row, head, latent, value);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const Float4 four{value[4 * half], value[4 * half + 1], value[4 * half + 2], value[4 * half + 3]};
    StoreFour(p.out, row * p.out_row + head * p.out_head + latent + 4 * half, four, 4, p.out_float);
  }
}
static_assert(kLatents == kWave * gpu::kPiece);

// Rows whose partial results are held at once: about 512 MiB.
int64_t RowsAtOnce(int64_t heads) {
  return std::max<int64_t>((int64_t{1} << 29) / (heads * kSplits * kLatents * 4), 1);
}

int64_t SplitsOf(const DecodeAttentionArgs& args) {
  const int64_t most_tokens = args.block_table.shape[1] * Extent(args.kv_pages, 1);
  return std::clamp<int64_t>((most_tokens + kTokens - 1) / kTokens, 1, kSplits);
}

bool Sixteens(const void* data, std::initializer_list<int64_t> steps_in_bytes) {
  uint64_t bits = reinterpret_cast<uintptr_t>(data);
  for (const int64_t step : steps_in_bytes) bits |= static_cast<uint64_t>(step);
  return bits % 16 == 0;
}

}  // namespace

bool HonoursQuery(const View<const bf16, 3>& query) {
  return Sixteens(query.data, {query.stride[0] * 2, query.stride[1] * 2});
}

bool HonoursCache(const KvInput<3>& any) {
  return Extent(any, 2) == kLatents + kRotated &&
         std::visit(
             [](const auto& kv) {
               if constexpr (requires { kv.latent; }) {
                 const auto& values = kv.latent.values;
                 return Sixteens(values.data, {values.stride[0], values.stride[1]}) &&
                        Sixteens(kv.key.data, {kv.key.stride[0] * 2, kv.key.stride[1] * 2});
               } else {
                 return sizeof(*kv.data) == 2 && Sixteens(kv.data, {kv.stride[0] * 2, kv.stride[1] * 2});
               }
             },
             any);
}

bool HonoursDecodeAttention(const DecodeAttentionArgs& args) {
  const auto* query = std::get_if<View<const bf16, 3>>(&args.query);
  return query && args.kv_lora_rank == kLatents && query->shape[2] == kLatents + kRotated && HonoursQuery(*query) &&
         HonoursCache(args.kv_pages);
}

WorkspaceSize DecodeAttentionWorkspace(const DecodeAttentionArgs& args, int) {
  const int64_t heads = Extent(args.query, 1);
  const int64_t slots = std::min(Extent(args.query, 0), RowsAtOnce(heads)) * heads * SplitsOf(args);
  return {static_cast<size_t>(slots) * (kLatents * sizeof(float) + sizeof(float2)), 0};
}

namespace {

// All but what differs between parts of the rows; the cache's strides in bytes.
Params ParamsOf(const DecodeAttentionArgs& args) {
  const auto& query = std::get<View<const bf16, 3>>(args.query);
  Params p{};
  p.query_row = query.stride[0] * 2;
  p.query_head = query.stride[1] * 2;
  p.rotated_row = p.query_row;
  p.rotated_head = p.query_head;
  p.of.heads = static_cast<int>(query.shape[1]);
  p.of.most = kSplits;
  p.of.splits = static_cast<int>(SplitsOf(args));
  p.scale = args.softmax_scale * kLog2E;
  std::visit(
      [&](const auto& kv) {
        if constexpr (requires { kv.latent; }) {
          p.latent = reinterpret_cast<const uint8_t*>(kv.latent.values.data);
          p.latent_page = kv.latent.values.stride[0];
          p.latent_row = kv.latent.values.stride[1];
          p.scales = kv.latent.scales.data;
          p.scale_page = kv.latent.scales.stride[0];
          p.scale_row = kv.latent.scales.stride[1];
          p.scale_column = kv.latent.scales.stride[2];
          p.key = reinterpret_cast<const uint8_t*>(kv.key.data);
          p.key_page = kv.key.stride[0] * 2;
          p.key_row = kv.key.stride[1] * 2;
        } else {
          p.latent = reinterpret_cast<const uint8_t*>(kv.data);
          p.key = p.latent + kLatents * 2;
          p.latent_page = p.key_page = kv.stride[0] * 2;
          p.latent_row = p.key_row = kv.stride[1] * 2;
        }
      },
      args.kv_pages);
  gpu::SetPages(args, &p);
  p.of.length_step = args.row_length.stride[0];
  p.of.most_attended = std::numeric_limits<int>::max();
  if (args.chosen) p.of.most_attended = static_cast<int>(args.chosen->shape[1]);
  SetHeadsOut(args.out, &p);
  return p;
}

void Start(const Params& p, int64_t rows, hipStream_t stream) {
  const dim3 blocks(static_cast<unsigned>(rows), static_cast<unsigned>((p.of.heads + kTile - 1) / kTile),
                    static_cast<unsigned>(p.of.splits));
  if (p.scales != nullptr) {
    AttendKernel<true><<<blocks, kWavesOfBlock * kWave, 0, stream>>>(p);
  } else {
    AttendKernel<false><<<blocks, kWavesOfBlock * kWave, 0, stream>>>(p);
  }
  CheckStarted("hip decode_attention");
}

// Rows row .. row + count, whose partial results go to the workspace where there are several splits.
Params StartPart(const DecodeAttentionArgs& args, const Params& all, int64_t row, int64_t count, hipStream_t stream) {
  Params p = all;
  p.query = reinterpret_cast<const uint8_t*>(std::get<View<const bf16, 3>>(args.query).data) + row * p.query_row;
  p.rotated = p.query + kLatents * 2;
  gpu::SetFirstRow(args, row, &p);
  p.of.row_length = args.row_length.data + row * p.of.length_step;
  p.of.sums = reinterpret_cast<float2*>(p.of.partials + count * p.of.heads * p.of.splits * kLatents);
  std::visit([&](const auto& out) { p.out = out.Rows(row, count).data; }, args.out);
  Start(p, count, stream);
  return p;
}

}  // namespace

void DecodeAttention(const ExecContext& context, const DecodeAttentionArgs& args) {
  const int64_t rows = Extent(args.query, 0);
  Params all = ParamsOf(args);
  if (rows == 0 || all.of.heads == 0) return;
  all.of.partials = context.SharedScratch<float>(0, DecodeAttentionWorkspace(args, 1).shared / sizeof(float));
  const auto stream = static_cast<hipStream_t>(context.stream);
  const int64_t at_once = RowsAtOnce(all.of.heads);
  for (int64_t row = 0; row < rows; row += at_once) {
    const int64_t count = std::min(at_once, rows - row);
    const Params p = StartPart(args, all, row, count, stream);
    if (p.of.splits == 1) continue;
    const dim3 blocks(static_cast<unsigned>(count), static_cast<unsigned>(p.of.heads));
    MergeKernel<<<blocks, kWave, 0, stream>>>(p);
    CheckStarted("hip decode_attention, merge");
  }
}

void AttendWhole(const ExecContext& context, const DecodeAttentionArgs& args, View<const bf16, 3> rotated) {
  const auto& query = std::get<View<const bf16, 3>>(args.query);
  if (query.shape[0] == 0 || query.shape[1] == 0) return;
  Params p = ParamsOf(args);
  p.query = reinterpret_cast<const uint8_t*>(query.data);
  p.rotated = reinterpret_cast<const uint8_t*>(rotated.data);
  p.rotated_row = rotated.stride[0] * 2;
  p.rotated_head = rotated.stride[1] * 2;
  gpu::SetFirstRow(args, 0, &p);
  p.of.row_length = args.row_length.data;
  p.of.most = p.of.splits = 1;
  Start(p, query.shape[0], static_cast<hipStream_t>(context.stream));
}

bool HonoursAttendProject(const AttendProjectArgs& args) {
  const auto* out = std::get_if<View<bf16, 3>>(&args.attend.out);
  const auto* attended = std::get_if<View<const bf16, 3>>(args.quantize ? &args.quantize->x : nullptr);
  const void* const read = DataOf(args.project.attn);
  const bool between = args.quantize ? attended && DataOf(args.quantize->out) == read : true;
  return out && between && out->data == (attended ? attended->data : read) && HonoursDecodeAttention(args.attend) &&
         HonoursValueProject(args.project) && SplitsOf(args.attend) > 1 &&
         Extent(args.attend.query, 0) <= RowsAtOnce(Extent(args.attend.query, 1));
}

void AttendProject(const ExecContext& context, const AttendProjectArgs& args) {
  const int64_t rows = Extent(args.attend.query, 0);
  Params all = ParamsOf(args.attend);
  if (rows == 0 || all.of.heads == 0) return;
  all.of.partials = context.SharedScratch<float>(0, DecodeAttentionWorkspace(args.attend, 1).shared / sizeof(float));
  const Params p = StartPart(args.attend, all, 0, rows, static_cast<hipStream_t>(context.stream));
  MergeAndProject(context, p.of, args.project, args.quantize ? args.quantize->scale_mode : ScaleMode::kEven);
}

}  // namespace mxmla::hip
