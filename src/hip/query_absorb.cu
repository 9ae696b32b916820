#include "hip/query_absorb.h"

#include "gpu/quantized_rows.cuh"
#include "gpu/query_rows.cuh"
#include "hip/operand_planes.h"
#include "hip/product_launch.cuh"

namespace mxmla::hip {
namespace {

constexpr int kStepRows = 32;  // rows of weights that a matrix instruction contracts
constexpr int kOfBlock = 128;  // latents of a block
constexpr int kTilesOfWave = kOfBlock / kTile / kWaves;
constexpr int kOfThread = kStepRows * kOfBlock / (kWaves * kWave);  // weights that a thread stages: 16 of a row
constexpr int kPitch = kStepRows + 8;  // halves of a latent's column in LDS: 16-byte reads, other banks

struct Params {
  Plane x, w;      // (rows, heads, nope); the tensor's rows
  ScaleMode mode;  // where x is quantised here
  int64_t head_stride, head_offset;
  int rows, nope;
  int parts, row_tiles;  // blocks of 128 latents, and of rows, of a head
  void* out;
  int64_t out_row, out_head;
  bool out_float;
  gpu::QueryRows beside;  // its blocks come first
};

// What a lane multiplies: of a row of queries in format kX, elements 8 g to 8 g + 7 of a step of 32. kQuantize: they
// lie in bf16 and are quantised on their way, as gpu::Quantize does.
template <Format kX, bool kQuantize>
struct QueryRow {
  const Params& p;
  int64_t row;
  int head, g;

  // FP8: of the group that begins at element n0; it multiplies sums of products.
  __device__ __forceinline__ float Scale(int n0) const {
    if constexpr (kX != Format::kFp8) {
      return 1;
    } else if constexpr (!kQuantize) {
      const int64_t of_row = row * p.x.scale_row + head * p.x.scale_head;
      return static_cast<const float*>(p.x.scales)[of_row + n0 / static_cast<int>(kFp8Group) * p.x.scale_column];
    } else {
      uint32_t largest = 0;
      for (int n = n0; n < min(n0 + static_cast<int>(kFp8Group), p.nope); n += kStepRows) {
        largest = max(largest, LargestOfStep(Plain(n)));
      }
      return largest >= 0x7f800000u ? __uint_as_float(0x7fc00000u) : gpu::Fp8GroupScale(largest, p.mode);
    }
  }
  // In bf16, exactly; FP8 without `scale`, its group's.
  __device__ __forceinline__ Halves8 Load(int n0, float scale) const {
    if constexpr (kX == Format::kBf16) {
      return Plain(n0);
    } else {
      const RowOf at(p.x, row, head);
      Fragment<kX> fragment{};
      if constexpr (kQuantize) {
        Quantize(Plain(n0), scale, &fragment);
      } else if constexpr (kX == Format::kMxfp4) {
        fragment.word[0][0] = *reinterpret_cast<const int*>(at.values + n0 / 2 + g * 4);
        fragment.scale = at.scales[n0 / static_cast<int>(kMxBlock)];
      } else {
        const uint2 codes = *reinterpret_cast<const uint2*>(at.values + n0 + g * 8);
        fragment.word[0] = Int4{static_cast<int>(codes.x), static_cast<int>(codes.y), 0, 0};
      }
      return fragment.Decode(0);
    }
  }

 private:
  __device__ __forceinline__ Halves8 Plain(int n0) const {
    return __builtin_bit_cast(Halves8, reinterpret_cast<const Int4*>(RowOf(p.x, row, head).values)[n0 / 8 + g]);
  }
  // Of a row's 32 elements: four lanes have them.
  static __device__ __forceinline__ uint32_t LargestOfStep(const Halves8& plain) {
    uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) largest = max(largest, gpu::MagnitudeBits(static_cast<float>(plain[i])));
    largest = max(largest, gpu::ShuffleXor(largest, kTile));
    return max(largest, gpu::ShuffleXor(largest, 2 * kTile));
  }
  __device__ __forceinline__ void Quantize(const Halves8& plain, float, Fragment<Format::kMxfp4>* to) const {
    const uint32_t largest = LargestOfStep(plain);
    to->scale = gpu::Mxfp4ScaleBits(largest, p.mode);
    if (largest == 0 || to->scale == e8m0::kNan) return;
    const float inverse = gpu::Mxfp4Inverse(to->scale);
    uint32_t codes = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) codes |= gpu::E2m1Code(static_cast<float>(plain[i]) * inverse) << (4 * i);
    to->word[0][0] = static_cast<int>(codes);
  }
  __device__ __forceinline__ void Quantize(const Halves8& plain, float scale, Fragment<Format::kFp8>* to) const {
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
      const uint32_t two =
          gpu::PackE4m3(static_cast<float>(plain[i]) / scale, static_cast<float>(plain[i + 1]) / scale);
      to->word[0][i / 4] |= static_cast<int>(two << (8 * (i % 4)));
    }
  }
};

// The weights are contracted across their rows: a block stages 32 rows of 128 latents in LDS, each latent's column
// contiguous, which is a lane's operand.
template <Format kX, Format kW, bool kQuantize, int kTiles>
MXMLA_PRODUCT_KERNEL QueryAbsorbKernel(const Params p) {
  if (static_cast<int>(blockIdx.x) < p.beside.ctas) {
    return gpu::DoQueryRows(p.beside, static_cast<int>(blockIdx.x));
  }
  const int block = static_cast<int>(blockIdx.x) - p.beside.ctas;
  __shared__ __align__(16) uint16_t columns[kOfBlock][kPitch];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWave, wave = thread / kWave;
  const int g = lane / kTile, i = lane % kTile;
  const int latent0 = block % p.parts * kOfBlock, head = block / p.parts / p.row_tiles;
  const int row0 = block / p.parts % p.row_tiles * kTiles * kTile, rows = min(kTiles * kTile, p.rows - row0);
  const int staged_row = thread / (kOfBlock / kOfThread), staged = thread % (kOfBlock / kOfThread) * kOfThread;
  const int64_t weight_row = head * p.head_stride + p.head_offset + staged_row;
  const auto query_row = [&](int t) {
    return QueryRow<kX, kQuantize>{p, row0 + min(t * kTile + i, rows - 1), head, g};
  };
  float scale_x[kTiles];
  Float4 sum[kTiles][kTilesOfWave] = {};
  for (int n0 = 0; n0 < p.nope; n0 += kStepRows) {
    const RowOf row(p.w, weight_row + n0, 0);
    Halves8 weights[2];
    if constexpr (kW == Format::kBf16) {
      const auto* from = reinterpret_cast<const Int4*>(row.values + int64_t{latent0 + staged} * 2);
      weights[0] = __builtin_bit_cast(Halves8, from[0]);
      weights[1] = __builtin_bit_cast(Halves8, from[1]);
    } else if constexpr (kW == Format::kFp8) {
      Fragment<Format::kFp8> fragment;
      fragment.word[0] = *reinterpret_cast<const Int4*>(row.values + latent0 + staged);
      weights[0] = fragment.Decode(0);
      weights[1] = fragment.Decode(1);
    } else {
      const uint2 codes = *reinterpret_cast<const uint2*>(row.values + (latent0 + staged) / 2);
      Fragment<Format::kMxfp4> fragment;
      fragment.word[0] = Int4{static_cast<int>(codes.x), static_cast<int>(codes.y), 0, 0};
      fragment.scale = row.scales[(latent0 + staged) / static_cast<int>(kMxBlock)];
      weights[0] = fragment.Decode(0);
      weights[1] = fragment.Decode(1);
    }
    __syncthreads();  // the step before has been read
#pragma unroll
    for (int j = 0; j < kOfThread; ++j) {
      const __bf16 weight =
          weights[j / 8][j % 8];  // a copy: clang 22 casts a vector's first element instead of the j-th
      columns[staged + j][staged_row] = __builtin_bit_cast(uint16_t, weight);
    }
    __syncthreads();
    float scale = 1;  // FP8: the step's rows and the block's latents are of one square
    if constexpr (kW == Format::kFp8) {
      const int64_t square = (p.w.first_row + head * p.head_stride + p.head_offset + n0) / kFp8Block;
      scale = static_cast<const float*>(p.w.scales)[square * p.w.scale_row + latent0 / kFp8Block * p.w.scale_column];
    }
    Halves8 query[kTiles];
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      if (n0 % static_cast<int>(kFp8Group) == 0) scale_x[t] = query_row(t).Scale(n0);
      query[t] = query_row(t).Load(n0, scale_x[t]);
    }
#pragma unroll
    for (int of_wave = 0; of_wave < kTilesOfWave; ++of_wave) {
      const int latent = (wave * kTilesOfWave + of_wave) * kTile + i;
      const auto weight = *reinterpret_cast<const Halves8*>(&columns[latent][8 * g]);
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        Float4& to = sum[t][of_wave];
        if constexpr (kW == Format::kFp8) {
          const Float4 part = __builtin_amdgcn_mfma_f32_16x16x32_bf16(weight, query[t], Float4{}, 0, 0, 0);
#pragma unroll
          for (int r = 0; r < 4; ++r) to[r] = __builtin_fmaf(part[r], scale * scale_x[t], to[r]);
        } else {
          to = __builtin_amdgcn_mfma_f32_16x16x32_bf16(weight, query[t], to, 0, 0, 0);
        }
      }
    }
  }
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    const int row = t * kTile + i;
    if (row >= rows) continue;
#pragma unroll
    for (int of_wave = 0; of_wave < kTilesOfWave; ++of_wave) {
      const int latent = latent0 + (wave * kTilesOfWave + of_wave) * kTile + 4 * g;
      StoreFour(p.out, (int64_t{row0} + row) * p.out_row + head * p.out_head + latent, sum[t][of_wave], 4, p.out_float);
    }
  }
}

Activation<3> PlainInput(const QuantizeArgs& quantize) {
  return std::visit([](const auto& x) -> Activation<3> { return x; }, quantize.x);
}

// FP8: the rows of a step are of one row of squares.
bool StepsInSquares(const HeadWeight& w) {
  const auto* fp8 = std::get_if<Fp8Block>(&w.tensor);
  return !fp8 || (fp8->first_row % kStepRows == 0 && w.head_offset % kStepRows == 0 && w.head_stride % kStepRows == 0);
}

// `quantize`: what makes args.q_nope, or null where that lies in memory.
void Start(const ExecContext& context, const QueryAbsorbArgs& args, const gpu::QueryRows& beside,
           const QuantizeArgs* quantize) {
  Params p{};
  p.x = PlaneOf(quantize ? PlainInput(*quantize) : args.q_nope);
  if (quantize) p.mode = quantize->scale_mode;
  p.w = PlaneOf(args.w_kc.tensor);
  p.head_stride = args.w_kc.head_stride;
  p.head_offset = args.w_kc.head_offset;
  p.rows = static_cast<int>(Extent(args.q_nope, 0));
  p.nope = static_cast<int>(Extent(args.q_nope, 2));
  p.parts = static_cast<int>(Extent(args.out, 2) / kOfBlock);
  p.beside = beside;
  SetHeadsOut(args.out, &p);
  if (p.rows == 0 || args.w_kc.heads == 0) return;
  const auto stream = static_cast<hipStream_t>(context.stream);
  ForProduct(*FormatsOf(args.q_nope, args.w_kc.tensor), p.rows, [&](auto x, auto w, auto tiles) {
    p.row_tiles = (p.rows + kTile * tiles() - 1) / (kTile * tiles());
    const auto blocks = static_cast<unsigned>(p.beside.ctas + args.w_kc.heads * p.row_tiles * p.parts);
    if constexpr (x() != Format::kBf16) {
      if (quantize) {
        QueryAbsorbKernel<x(), w(), true, tiles()><<<blocks, kWaves * kWave, 0, stream>>>(p);
        return;
      }
    }
    QueryAbsorbKernel<x(), w(), false, tiles()><<<blocks, kWaves * kWave, 0, stream>>>(p);
  });
  CheckStarted("hip query_absorb");
}

}  // namespace

bool HonoursQueryAbsorb(const QueryAbsorbArgs& args) {
  return !args.output_major && FormatsOf(args.q_nope, args.w_kc.tensor) && Honours(args.q_nope) &&
         Honours(args.w_kc.tensor) && StepsInSquares(args.w_kc) && Extent(args.q_nope, 2) % kStepRows == 0 &&
         Extent(args.out, 2) % kOfBlock == 0;
}

void QueryAbsorb(const ExecContext& context, const QueryAbsorbArgs& args) { Start(context, args, {}, nullptr); }

bool HonoursLatentQuery(const LatentQueryArgs& args) {
  if (!gpu::HonoursQueryRows(args) || !HonoursQueryAbsorb(args.absorb)) return false;
  if (!args.quantize) return true;
  return std::holds_alternative<View<const bf16, 3>>(args.quantize->x) && Honours(PlainInput(*args.quantize)) &&
         DataOf(args.quantize->out) == DataOf(args.absorb.q_nope);
}

void LatentQuery(const ExecContext& context, const LatentQueryArgs& args) {
  gpu::QueryRows beside = gpu::QueryRowsOf(args);
  beside.ctas = gpu::QueryRowCtas(beside, kWaves * kWave);
  Start(context, args.absorb, beside, args.quantize ? &*args.quantize : nullptr);
}

}  // namespace mxmla::hip
