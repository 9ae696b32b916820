#include "cuda/query_absorb.h"

#include <algorithm>
#include <string>

#include "cuda/launch_link.h"
#include "cuda/stream_plan.cuh"
#include "gpu/query_rows.cuh"

namespace mxmla::cuda {
namespace {

using gpu::QueryRows;

constexpr std::string_view kOp = "cuda query_absorb";
constexpr int kLatentsOfWarp = 64;
constexpr int kRows = 8;        // activation rows of one mma
constexpr int kMostGroups = 4;  // of 64 latents, of a CTA

struct Params {
  WeightPlanes weight;
  int64_t head_stride, head_offset;
  int groups;  // CTAs a head
  const uint8_t* x;
  int64_t x_row_bytes, x_head_bytes;
  int rows, rows_of_cta;
  uint8_t* out;
  int64_t out_row_bytes, out_head_bytes;
  bool out_float;
  QueryRows beside;  // its CTAs come first
};

// Eight latents of two neighbouring rows of w_kc to pairs of bf16, a pair a latent.
template <WeightKind kKind>
struct Latents;

template <>
struct Latents<WeightKind::kBf16> {
  static constexpr int kBytes = 16;
  uint4 v;
  __device__ void Load(const uint8_t* from) { v = LoadWeights16(from); }
  __device__ static void Pair(const Latents& a, const Latents& b, uint32_t out[8]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      out[2 * i] = Permute(WordOf(a.v, i), WordOf(b.v, i), 0x5410);
      out[2 * i + 1] = Permute(WordOf(a.v, i), WordOf(b.v, i), 0x7632);
    }
  }
};

template <>
struct Latents<WeightKind::kFp8> {
  static constexpr int kBytes = 8;
  uint32_t v[2];
  __device__ void Load(const uint8_t* from) {
    asm volatile("ld.global.nc.v2.u32 {%0,%1}, [%2];" : "=r"(v[0]), "=r"(v[1]) : "l"(from));
  }
  __device__ uint32_t AnyNan() const { return AnyNanE4m3(v[0]) | AnyNanE4m3(v[1]); }
  template <bool kNan>
  __device__ static void Pair(const Latents& a, const Latents& b, uint32_t out[8]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      // The codes in the upper bytes of the halves; what lies in the lower ones is masked away.
      const uint32_t select = static_cast<uint32_t>(i % 4) << 4 | static_cast<uint32_t>(4 + i % 4) << 12;
      const uint32_t codes = Permute(a.v[i / 4], b.v[i / 4], select);
      out[i] = Times((codes & 0x80008000u) | ((codes >> 4) & 0x07f007f0u), 0x7b807b80u);  // 2^120
      if constexpr (kNan) {
        if ((codes & 0x7f00u) == 0x7f00u) out[i] = (out[i] & 0xffff0000u) | 0x7fc0u;
        if ((codes & 0x7f000000u) == 0x7f000000u) out[i] = (out[i] & 0xffffu) | 0x7fc00000u;
      }
    }
  }
};

template <>
struct Latents<WeightKind::kMxfp4> {
  static constexpr int kBytes = 4;
  uint32_t v;
  __device__ void Load(const uint8_t* from) { v = LoadWeights4(from); }
  // `low` and `high` are the E8M0 scales of the two rows.
  template <bool kLarge>
  __device__ static void Pair(const Latents& a, const Latents& b, uint32_t low, uint32_t high, uint32_t out[8]) {
    PlaceE2m1(Permute(a.v, b.v, 0x5410), out);
    PlaceE2m1(Permute(a.v, b.v, 0x7632), out + 4);
    // 2^126, which the placed codes lack, and the scale in one factor; above 2^1 there is no room for both.
    const uint32_t factor =
        kLarge ? (E8m0Pair(low) & 0xffffu) | (E8m0Pair(high) & 0xffff0000u) : (low | high << 16) * 0x80u + 0x3f003f00u;
#pragma unroll
    for (int i = 0; i < 8; ++i) out[i] = Times(kLarge ? Times(out[i], 0x7e807e80u) : out[i], factor);
  }
};

// A warp holds 64 latents of kSteps * 16 rows of w_kc[h] in registers, decoded, as left operands of mma.m16n8k16, and
// passes 8 rows of the query after another by them. Which row of w_kc a lane's k is and which latent its m is are free
// as long as both operands agree: lane (g, t) takes rows 8t .. 8t + 7 of each 32, and latents 8g .. 8g + 7, which are
// also what it stores. Warps of different chunks of the rows meet in shared memory, always in the same order.
template <WeightKind kKind, int kSteps, int kChunks>
__global__ void __launch_bounds__(32 * kMostGroups * kChunks, 1) QueryAbsorbKernel(const __grid_constant__ Params p) {
  constexpr int kPairs = kSteps / 2;  // of steps: 32 rows of w_kc
  constexpr int kTiles = 4;           // of 16 latents
  __shared__ uint16_t shared_scales[kKind == WeightKind::kMxfp4 ? kMostGroups * kChunks * kSteps * 16 : 1];
  __shared__ float4 partial[kChunks > 1 ? 2 * kMostGroups * 32 * kTiles : 1];
  asm volatile("griddepcontrol.launch_dependents;");
  const int cta = static_cast<int>(blockIdx.x) - p.beside.ctas;
  if (cta < 0) {
    if (blockIdx.y > 0) return;
    asm volatile("griddepcontrol.wait;" ::: "memory");
    return gpu::DoQueryRows(p.beside, static_cast<int>(blockIdx.x));
  }
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const int warp = static_cast<int>(threadIdx.x) / 32, chunk = warp % kChunks, group = warp / kChunks;
  const int groups_of_cta = static_cast<int>(blockDim.x) / (32 * kChunks);
  const int head = cta / p.groups;
  const int latent0 = (cta % p.groups * groups_of_cta + group) * kLatentsOfWarp;
  const int64_t row0 = head * p.head_stride + p.head_offset + chunk * kSteps * 16;

  using Piece = Latents<kKind>;
  Piece raw[kPairs][8];
  const uint8_t* const from = p.weight.values + row0 * p.weight.row_bytes + (latent0 + 8 * g) / 8 * Piece::kBytes;
#pragma unroll
  for (int s = 0; s < kPairs; ++s) {
#pragma unroll
    for (int i = 0; i < 8; ++i) raw[s][i].Load(from + (32 * s + 8 * t + i) * p.weight.row_bytes);
  }
  float scale[2] = {1, 1};  // FP8: of the rows before and after a square's edge
  int edge = kPairs;        // the first pair of steps behind it
  uint16_t* const scales = shared_scales + (kKind == WeightKind::kMxfp4 ? warp * kSteps * 16 : 0);
  if constexpr (kKind == WeightKind::kMxfp4) {
#pragma unroll
    for (int i = 0; i < kSteps / 2; ++i) {
      const int row = i * 32 + lane;
      scales[row] = __ldg(reinterpret_cast<const uint16_t*>(static_cast<const uint8_t*>(p.weight.scales) +
                                                            (row0 + row) * p.weight.scale_row_stride + latent0 / 32));
    }
    __syncwarp();
  } else if constexpr (kKind == WeightKind::kFp8) {
    const int64_t first = p.weight.first_row + row0;
    edge = min(static_cast<int>(128 - first % 128) / 32, kPairs);
    const auto* const squares =
        static_cast<const float*>(p.weight.scales) + latent0 / 128 * p.weight.scale_column_stride;
    scale[0] = __ldg(squares + first / 128 * p.weight.scale_row_stride);
    scale[1] = __ldg(squares + (first + kSteps * 16 - 1) / 128 * p.weight.scale_row_stride);
  }

  uint32_t weights[kSteps][kTiles][4];
  const auto decode = [&](auto special) {
#pragma unroll
    for (int s = 0; s < kPairs; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {  // rows 2i and 2i + 1 of the lane's eight
        uint32_t pairs[8];
        if constexpr (kKind == WeightKind::kMxfp4) {
          const int row = 32 * s + 8 * t + 2 * i, shift = g / 4 * 8;
          Piece::template Pair<special()>(raw[s][2 * i], raw[s][2 * i + 1], (scales[row] >> shift) & 0xffu,
                                          (scales[row + 1] >> shift) & 0xffu, pairs);
        } else if constexpr (kKind == WeightKind::kFp8) {
          Piece::template Pair<special()>(raw[s][2 * i], raw[s][2 * i + 1], pairs);
        } else {
          Piece::Pair(raw[s][2 * i], raw[s][2 * i + 1], pairs);
        }
#pragma unroll
        for (int j = 0; j < 8; ++j) weights[2 * s + i / 2][j / 2][i % 2 * 2 + j % 2] = pairs[j];
      }
    }
  };
  bool special = false;  // a scale above 2^1, a NaN
  if constexpr (kKind == WeightKind::kMxfp4) {
#pragma unroll
    for (int i = 0; i < kSteps / 2; ++i) {
      const uint32_t both = scales[i * 32 + lane];
      special |= (both & 0xffu) > 128 || (both >> 8) > 128;
    }
  } else if constexpr (kKind == WeightKind::kFp8) {
    uint32_t nan = 0;
#pragma unroll
    for (int s = 0; s < kPairs; ++s) {
#pragma unroll
      for (int i = 0; i < 8; ++i) nan |= raw[s][i].AnyNan();
    }
    special = nan != 0;
  }
  if (__any_sync(~0u, special)) {
    decode(std::true_type{});
  } else {
    decode(std::false_type{});
  }
  asm volatile("griddepcontrol.wait;" ::: "memory");

  const int first_row = static_cast<int>(blockIdx.y) * p.rows_of_cta, rows = min(p.rows_of_cta, p.rows - first_row);
  const uint8_t* const x = p.x + first_row * p.x_row_bytes + head * p.x_head_bytes + (chunk * kSteps * 16 + 8 * t) * 2;
  uint4 next[kPairs];
  const auto load = [&](int row) {
#pragma unroll
    for (int s = 0; s < kPairs; ++s) {
      next[s] = make_uint4(0, 0, 0, 0);
      if (row + g < rows) next[s] = *reinterpret_cast<const uint4*>(x + (row + g) * p.x_row_bytes + s * 64);
    }
  };
  load(0);
#pragma unroll 1
  for (int row = 0; row < rows; row += kRows) {
    uint4 q[kPairs];
#pragma unroll
    for (int s = 0; s < kPairs; ++s) q[s] = next[s];
    load(row + kRows);
    float sum[kTiles][4] = {}, total[kTiles][4] = {};
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      if constexpr (kKind == WeightKind::kFp8) {
        if (s % 2 == 0 && s / 2 == edge) {
#pragma unroll
          for (int j = 0; j < kTiles; ++j) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              total[j][i] = sum[j][i] * scale[0];
              sum[j][i] = 0;
            }
          }
        }
      }
      const uint32_t b[2] = {s % 2 ? q[s / 2].z : q[s / 2].x, s % 2 ? q[s / 2].w : q[s / 2].y};
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        const uint32_t upper[2] = {weights[s][j][0], weights[s][j][2]}, lower[2] = {weights[s][j][1], weights[s][j][3]};
        Mma(sum[j], upper, lower, b);
      }
    }
    if constexpr (kKind == WeightKind::kFp8) {
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[j][i] = __fmaf_rn(sum[j][i], scale[edge < kPairs], total[j][i]);
      }
    }
    if constexpr (kChunks > 1) {
      float4* const meet = partial + (row / kRows % 2 * kMostGroups + group) * 32 * kTiles + lane;
      if (chunk == 1) {
#pragma unroll
        for (int j = 0; j < kTiles; ++j) meet[32 * j] = make_float4(sum[j][0], sum[j][1], sum[j][2], sum[j][3]);
      }
      __syncthreads();  // the other buffer has been read before anyone writes it again
      if (chunk == 1) continue;
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        const float4 other = meet[32 * j];
        sum[j][0] += other.x, sum[j][1] += other.y, sum[j][2] += other.z, sum[j][3] += other.w;
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int r = row + 2 * t + i;
      if (r >= rows) continue;
      uint8_t* const out = p.out + (first_row + r) * p.out_row_bytes + head * p.out_head_bytes;
      if (p.out_float) {
        auto* const to = reinterpret_cast<float4*>(out + (latent0 + 8 * g) * 4);
        to[0] = make_float4(sum[0][i], sum[0][2 + i], sum[1][i], sum[1][2 + i]);
        to[1] = make_float4(sum[2][i], sum[2][2 + i], sum[3][i], sum[3][2 + i]);
      } else {
        uint32_t packed[kTiles];
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
          const __nv_bfloat162 both = __floats2bfloat162_rn(sum[j][i], sum[j][2 + i]);
          packed[j] = *reinterpret_cast<const uint32_t*>(&both);
        }
        *reinterpret_cast<uint4*>(out + (latent0 + 8 * g) * 2) = make_uint4(packed[0], packed[1], packed[2], packed[3]);
      }
    }
  }
}

template <WeightKind kKind, int kSteps, int kChunks>
void Launch(Params p, int64_t heads, int64_t latents, const LaunchOptions& options) {
  // As few groups a CTA as fill the card, then two CTAs a multiprocessor share the rows. More would read and decode
  // their weights once more, which costs more than the rows that it saves.
  const int64_t groups = latents / kLatentsOfWarp;
  int64_t of_cta = 1;
  while (of_cta < kMostGroups && groups % (2 * of_cta) == 0 && heads * groups / (2 * of_cta) >= kMultiprocessors - 4) {
    of_cta *= 2;
  }
  p.groups = static_cast<int>(groups / of_cta);
  const int64_t ctas = heads * p.groups, tiles = CeilDiv(p.rows, kRows);
  const int64_t parts = std::clamp<int64_t>(2 * kMultiprocessors / ctas, 1, CeilDiv(tiles, 2));
  p.rows_of_cta = static_cast<int>(CeilDiv(tiles, parts)) * kRows;
  cudaLaunchConfig_t config{};
  const int64_t threads = of_cta * kChunks * 32;
  if (p.beside.rows > 0) {
    const int64_t pieces = int64_t{p.beside.rows} * p.beside.heads * p.beside.rotated / gpu::kPiece;
    p.beside.ctas = p.beside.rows + static_cast<int>(CeilDiv(pieces, threads));
  }
  config.gridDim =
      dim3(static_cast<unsigned>(ctas + p.beside.ctas), static_cast<unsigned>(CeilDiv(p.rows, p.rows_of_cta)));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = options.stream;
  CheckCuda(LaunchLink(QueryAbsorbKernel<kKind, kSteps, kChunks>, config, options.programmatic, p), kOp, "a launch");
}

template <WeightKind kKind>
void ForNope(const Params& p, int64_t nope, int64_t heads, int64_t latents, const LaunchOptions& options) {
  if (nope == 64) return Launch<kKind, 4, 1>(p, heads, latents, options);
  if (nope == 128) return Launch<kKind, 8, 1>(p, heads, latents, options);
  if (nope == 192) return Launch<kKind, 6, 2>(p, heads, latents, options);
  Launch<kKind, 8, 2>(p, heads, latents, options);
}

bool Aligned(const void* data, int64_t alignment, std::initializer_list<int64_t> steps_in_bytes) {
  bool aligned = reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(alignment) == 0;
  for (const int64_t step : steps_in_bytes) aligned = aligned && step % alignment == 0;
  return aligned;
}

// Bytes from one index of dimension d to the next; 0 where there is one index only.
template <class T, int Rank>
int64_t StepBytes(const View<T, Rank>& view, int d) {
  return view.shape[d] <= 1 ? 0 : view.stride[d] * static_cast<int64_t>(sizeof(T));
}

bool HonoursWeight(const HeadWeight& w_kc) {
  if (const auto* w = std::get_if<Mxfp4<const e2m1x2, 2>>(&w_kc.tensor)) {
    return Aligned(w->values.data, 4, {w->values.stride[0]}) && Aligned(w->scales.data, 2, {w->scales.stride[0]});
  }
  if (const auto* w = std::get_if<View<const bf16, 2>>(&w_kc.tensor)) return Aligned(w->data, 16, {w->stride[0] * 2});
  const auto* w = std::get_if<Fp8Block>(&w_kc.tensor);
  return w && w->in_squares() && Aligned(w->values.data, 8, {w->values.stride[0]}) &&
         (w->first_row + w_kc.head_offset) % 32 == 0 && (w_kc.heads <= 1 || w_kc.head_stride % 32 == 0);
}

}  // namespace

bool HonoursQueryAbsorb(const QueryAbsorbArgs& args) {
  const auto* q = std::get_if<View<const bf16, 3>>(&args.q_nope);
  const int64_t nope = args.w_kc.head_rows, latents = ColumnCount(args.w_kc.tensor);
  if (!q || args.output_major) return false;
  const bool sizes = (nope == 64 || nope == 128 || nope == 192 || nope == 256) && latents > 0 && latents % 64 == 0;
  const bool query = q->stride[2] == 1 && Aligned(q->data, 16, {StepBytes(*q, 0), StepBytes(*q, 1)});
  const bool out = std::visit(
      [](const auto& o) {
        return o.stride[2] == 1 && Aligned(o.data, 16, {StepBytes(o, 0), StepBytes(o, 1)});
      },
      args.out);
  return sizes && query && out && HonoursWeight(args.w_kc);
}

namespace {

void Absorb(const QueryAbsorbArgs& args, const QueryRows& beside, const LaunchOptions& options) {
  CheckLayout(HonoursQueryAbsorb(args), kOp, "views",
              "q_nope bf16, w_kc mxfp4, bf16 or fp8-block128, qk_nope_head_dim 64, 128, 192 or 256, a kv_lora_rank of "
              "64s, 16-byte aligned rows",
              "others");
  const auto& q = std::get<View<const bf16, 3>>(args.q_nope);
  const int64_t heads = args.w_kc.heads, latents = ColumnCount(args.w_kc.tensor), nope = args.w_kc.head_rows;
  const int64_t rows = q.shape[0];
  CheckLayout(q.shape[1] == heads && q.shape[2] == nope, kOp, "q_nope", "(rows, heads, qk_nope_head_dim) of w_kc",
              FormatDims(q.shape.data(), 3));
  const auto out_shape = std::visit([](const auto& out) { return out.shape; }, args.out);
  CheckLayout(out_shape == View<bf16, 3>::Dims{rows, heads, latents}, kOp, "out", "(rows, heads, kv_lora_rank)",
              FormatDims(out_shape.data(), 3));
  CheckLayout(
      heads == 0 || (heads - 1) * args.w_kc.head_stride + args.w_kc.head_offset + nope <= RowCount(args.w_kc.tensor),
      kOp, "w_kc", "rows of every head", std::to_string(RowCount(args.w_kc.tensor)));
  constexpr int64_t kMost = 1 << 20;
  CheckLayout(rows <= kMost && heads <= kMost && latents <= kMost, kOp, "extents", "at most 2^20", "more");
  if (rows == 0 || heads == 0) return;

  Params p{};
  p.beside = beside;
  p.head_stride = args.w_kc.head_stride;
  p.head_offset = args.w_kc.head_offset;
  p.x = reinterpret_cast<const uint8_t*>(q.data);
  p.x_row_bytes = q.stride[0] * 2;
  p.x_head_bytes = q.stride[1] * 2;
  p.rows = static_cast<int>(rows);
  std::visit(
      [&](const auto& out) {
        using Element = typename std::decay_t<decltype(out)>::Element;
        p.out = reinterpret_cast<uint8_t*>(out.data);
        p.out_row_bytes = out.stride[0] * static_cast<int64_t>(sizeof(Element));
        p.out_head_bytes = out.stride[1] * static_cast<int64_t>(sizeof(Element));
        p.out_float = std::is_same_v<Element, float>;
      },
      args.out);
  if (const auto* w = std::get_if<Mxfp4<const e2m1x2, 2>>(&args.w_kc.tensor)) {
    p.weight = {&w->values.data->bits, w->values.stride[0], w->scales.data, w->scales.stride[0], 1, 0};
    return ForNope<WeightKind::kMxfp4>(p, nope, heads, latents, options);
  }
  if (const auto* w = std::get_if<View<const bf16, 2>>(&args.w_kc.tensor)) {
    p.weight = {reinterpret_cast<const uint8_t*>(w->data), w->stride[0] * 2, nullptr, 0, 0, 0};
    return ForNope<WeightKind::kBf16>(p, nope, heads, latents, options);
  }
  const auto& w = std::get<Fp8Block>(args.w_kc.tensor);
  p.weight = {&w.values.data->bits, w.values.stride[0], w.scales.data,
              w.scales.stride[0],   w.scales.stride[1], w.first_row};
  ForNope<WeightKind::kFp8>(p, nope, heads, latents, options);
}

}  // namespace

void QueryAbsorb(const QueryAbsorbArgs& args, const LaunchOptions& options) { Absorb(args, {}, options); }

bool HonoursLatentQuery(const LatentQueryArgs& args) {
  return !args.quantize && gpu::HonoursQueryRows(args) && HonoursQueryAbsorb(args.absorb);
}

void LatentQuery(const LatentQueryArgs& args, const LaunchOptions& options) {
  CheckLayout(HonoursLatentQuery(args), "cuda latent_query", "views", "as HonoursLatentQuery says", "others");
  Absorb(args.absorb, gpu::QueryRowsOf(args), options);
}

}  // namespace mxmla::cuda
