// q_nope x w_kc runs across the rows of w_kc[h]: each output is one lane, and the rows n = 0, 1, .. are added to it in
// their order, whatever the tiling. The sums stay in the even and odd vectors that decoding gives; only the store puts
// them back in order.
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/product.h"
#include "cpu/with_count.h"
#include "ops/head_product.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {
namespace {

constexpr int64_t kLatentBlocks = 8;                                        // blocks of latents of a task: 256 latents
constexpr int64_t kDirectBlocks = kParts == 1 ? 8 : (kParts == 2 ? 2 : 1);  // of them, side by side in registers
constexpr int64_t kRowsAhead = 32;                                          // rows of w_kc that are asked for ahead
constexpr int64_t kNopeStep = 64;  // rows of w_kc that are decoded at a time for many activation rows
constexpr int kStripX = kParts == 1 ? 6 : (kParts == 2 ? 3 : 1);
constexpr int kStripBlocks = kParts == 1 ? 2 : 1;

// sums (B, 32) += q[n] * rows first_row + n, latents of blocks first .. first + B, for one activation row.
template <int B, class Weight>
[[gnu::noinline]] void DirectTile(const Weight& weight, int64_t first_row, int64_t rows, const float* q /* (rows) */,
                                  int64_t first, float* sums) {
  Block sum[B];
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) sum[b] = {Load(sums + b * kBlock), Load(sums + b * kBlock + 16)};
  for (int64_t n = 0; n < rows; ++n) {
    const auto row = RowOf(weight, first_row + n);
    const F32x16 factor = Splat(q[n]);
    const int64_t scales_from = first / 4 * 4;  // FP8 scales belong to four blocks
    alignas(64) float scales[kGroupBlocks];
    LoadScales(row, scales_from, first - scales_from + B, scales);
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b) {
      const Block w = Decode(row, first + b, scales, first - scales_from + b);
      sum[b].even = Fma(w.even, factor, sum[b].even);
      sum[b].odd = Fma(w.odd, factor, sum[b].odd);
    }
  }
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) {
    Store(sums + b * kBlock, sum[b].even);
    Store(sums + b * kBlock + 16, sum[b].odd);
  }
}

// The same of MXFP4: a weight is a code times 2^s, so code * (q * 2^s) is the product without another rounding (down to
// q * 2^s of 2^-142). A scale then costs one multiplication a block instead of one an element. `factors` is q * 2^s of
// each row and block.
template <int B>
[[gnu::noinline]] void ScaledTile(const Mxfp4<const e2m1x2, 2>& weight, int64_t first_row, int64_t rows,
                                  const float* factors /* (rows, kGroupBlocks) */, int64_t first, int64_t ahead,
                                  float* sums) {
  Block sum[B];
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) sum[b] = {Load(sums + b * kBlock), Load(sums + b * kBlock + 16)};
  const e2m1x2* codes = RowOf(weight, first_row).values + first * (kBlock / 2);
  const int64_t step = StepBetween(RowOf(weight, 0), RowOf(weight, 1)).values;
  for (int64_t n = 0; n < rows; ++n, factors += kGroupBlocks, codes += step) {
    for (int64_t line = 0; line < B * (kBlock / 2); line += 64) __builtin_prefetch(codes + ahead + line, 0, 2);
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b) {
      const Block w = DecodeMxfp4(codes + b * (kBlock / 2), 1.0f);
      const F32x16 factor = Splat(factors[b]);
      sum[b].even = Fma(w.even, factor, sum[b].even);
      sum[b].odd = Fma(w.odd, factor, sum[b].odd);
    }
  }
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) {
    Store(sums + b * kBlock, sum[b].even);
    Store(sums + b * kBlock + 16, sum[b].odd);
  }
}

// factors[n, b] for blocks first .. first + blocks; asks for the scales `ahead` bytes further on.
void ScaleFactors(const Mxfp4<const e2m1x2, 2>& weight, int64_t first_row, int64_t rows, const float* q, int64_t first,
                  int64_t blocks, int64_t ahead, float* factors /* (rows, kGroupBlocks) */) {
  for (int64_t n = 0; n < rows; ++n, factors += kGroupBlocks) {
    const Mxfp4Row row = RowOf(weight, first_row + n);
    __builtin_prefetch(row.scales + first + ahead, 0, 3);
    LoadScales(row, first, blocks, factors);
    Store(factors, Load(factors) * Splat(q[n]));
  }
}

// sums (C, kLatentBlocks, 32) += q (C, kNopeStep) x w (rows, step) for B blocks of latents.
template <int B, int C>
[[gnu::noinline]] void StripTile(const float* w, int64_t step, int64_t rows, const float* q, float* sums) {
  Block sum[C][B];
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) {
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b) {
      const float* from = sums + (c * kLatentBlocks + b) * kBlock;
      sum[c][b] = {Load(from), Load(from + 16)};
    }
  }
  for (int64_t n = 0; n < rows; ++n, w += step) {
    Block weights[B];
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b) weights[b] = {Load(w + b * kBlock), Load(w + b * kBlock + 16)};
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      const F32x16 factor = Splat(q[c * kNopeStep + n]);
#pragma GCC unroll 8
      for (int b = 0; b < B; ++b) {
        sum[c][b].even = Fma(weights[b].even, factor, sum[c][b].even);
        sum[c][b].odd = Fma(weights[b].odd, factor, sum[c][b].odd);
      }
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) {
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b) {
      float* to = sums + (c * kLatentBlocks + b) * kBlock;
      Store(to, sum[c][b].even);
      Store(to + 16, sum[c][b].odd);
    }
  }
}

template <int B>
void AnyStripTile(int64_t c, const float* w, int64_t step, int64_t rows, const float* q, float* sums) {
  WithCount<6>(c, [&]<int C>(std::integral_constant<int, C>) { StripTile<B, C>(w, step, rows, q, sums); });
}

// The part of k that n .. n + kNopeStep covers, decoded in its order; kNopeStep may begin inside an FP8 group.
void UnpackQuery(const AnyRow& row, int64_t k, int64_t n, float* to /* (kNopeStep) */) {
  const int64_t first = n / kBlock;
  Unpack(row, StretchAt(k, first, kNopeStep / kBlock), to);
}

// Decoded rows first_row .. of w_kc, latents of `stretch`.
template <class Weight>
void PackRows(const Weight& weight, int64_t first_row, int64_t rows, const Stretch& stretch, float* to, int64_t step) {
  const RowStep ahead = StepBetween(RowOf(weight, first_row), RowOf(weight, first_row + kRowsAhead));
  for (int64_t n = 0; n < rows; ++n) Pack(RowOf(weight, first_row + n), stretch, to + n * step, kBlock, ahead);
}

// `count` sums of blocks, whose even and odd elements are apart, in their order.
template <class T>
void StoreOrdered(const float* sums /* (blocks, 32) */, int64_t blocks, int64_t count, T* to /* (count) */) {
  alignas(64) float ordered[kGroupBlocks * kBlock];
  for (int64_t b = 0; b < blocks; ++b) {
    const Block block{Load(sums + b * kBlock), Load(sums + b * kBlock + 16)};
    Store(ordered + b * kBlock, FirstHalf(block));
    Store(ordered + b * kBlock + 16, LastHalf(block));
  }
  StoreResults(to, ordered, count);
}

template <class Weight, class T>
void AbsorbTile(const QueryAbsorbArgs& args, const Weight& tensor, const View<T, 3>& out, int64_t row_begin,
                int64_t rows, int64_t head, int64_t first_block) {
  const int64_t nope = args.w_kc.head_rows;
  const int64_t latents = out.shape[2];
  const int64_t first_row = head * args.w_kc.head_stride + args.w_kc.head_offset;
  const Stretch stretch = StretchAt(latents, first_block, kLatentBlocks);
  const int64_t blocks = stretch.padded_blocks();
  alignas(64) float sums[kTileX * kLatentBlocks * kBlock];
  std::memset(sums, 0, sizeof(float) * static_cast<size_t>(rows * kLatentBlocks * kBlock));
  alignas(64) float q[kTileX * kNopeStep];
  alignas(64) float w[kNopeStep * kLatentBlocks * kBlock];
  PrefetchRows(tensor, first_row, std::min<int64_t>(nope, 8), first_block, blocks);
  for (int64_t n = 0; n < nope; n += kNopeStep) {
    const int64_t count = std::min(kNopeStep, nope - n);
    for (int64_t r = 0; r < rows; ++r) {
      UnpackQuery(RowOf(args.q_nope, row_begin + r, head), nope, n, q + r * kNopeStep);
    }
    int64_t direct = 0;  // blocks that need no copy of the decoded weights
    if constexpr (!std::is_same_v<Weight, CodedMatrix> && !std::is_same_v<Weight, Mxfp4<const e2m1x2, 2>>) {
      if (rows == 1) {
        for (; direct + kDirectBlocks <= stretch.blocks; direct += kDirectBlocks) {
          DirectTile<kDirectBlocks>(tensor, first_row + n, count, q, first_block + direct, sums + direct * kBlock);
        }
        for (; direct < stretch.blocks; ++direct) {
          DirectTile<1>(tensor, first_row + n, count, q, first_block + direct, sums + direct * kBlock);
        }
        if (direct == blocks) continue;
      }
    }
    const Stretch rest{first_block + direct, stretch.blocks - direct, stretch.tail};
    const int64_t step = (blocks - direct) * kBlock;
    PackRows(tensor, first_row + n, count, rest, w, step);
    for (int64_t r = 0; r < rows; r += kStripX) {
      const int64_t c = std::min<int64_t>(kStripX, rows - r);
      for (int64_t b = direct; b < blocks;) {
        float* to = sums + (r * kLatentBlocks + b) * kBlock;
        const float* from = w + (b - direct) * kBlock;
        if (b + kStripBlocks <= blocks) {
          AnyStripTile<kStripBlocks>(c, from, step, count, q + r * kNopeStep, to);
          b += kStripBlocks;
        } else {
          AnyStripTile<1>(c, from, step, count, q + r * kNopeStep, to);
          ++b;
        }
      }
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    T* to = out.data + (row_begin + r) * out.stride[0] + head * out.stride[1] + first_block * kBlock;
    StoreOrdered(sums + r * kLatentBlocks * kBlock, blocks, stretch.blocks * kBlock + stretch.tail, to);
  }
}

// One activation row by MXFP4, latents of blocks first .. first + blocks <= kGroupBlocks of a head. Asks for
// `next_head` (a row) where nothing of this one is left.
template <class T>
void AbsorbRow(const QueryAbsorbArgs& args, const Mxfp4<const e2m1x2, 2>& tensor, const View<T, 3>& out, int64_t row,
               int64_t head, int64_t next_head, int64_t first, int64_t blocks) {
  const int64_t nope = args.w_kc.head_rows;
  const int64_t head_row = head * args.w_kc.head_stride + args.w_kc.head_offset;
  const RowStep step = StepBetween(RowOf(tensor, 0), RowOf(tensor, 1));
  alignas(64) float sums[kGroupBlocks * kBlock];
  std::memset(sums, 0, sizeof(float) * static_cast<size_t>(blocks * kBlock));
  alignas(64) float q[kNopeStep];
  alignas(64) float factors[kRowsAhead * kGroupBlocks];
  static_assert(kNopeStep % kRowsAhead == 0);
  for (int64_t n = 0; n < nope; n += kRowsAhead) {
    if (n % kNopeStep == 0) UnpackQuery(RowOf(args.q_nope, row, head), nope, n, q);
    const int64_t count = std::min(kRowsAhead, nope - n);
    const int64_t first_row = head_row + n;
    const int64_t ahead = n + kRowsAhead < nope ? kRowsAhead : next_head - first_row;  // rows
    ScaleFactors(tensor, first_row, count, q + n % kNopeStep, first, blocks, ahead * step.scales, factors);
    int64_t b = 0;
    for (; b + kDirectBlocks <= blocks; b += kDirectBlocks) {
      ScaledTile<kDirectBlocks>(tensor, first_row, count, factors + b, first + b, ahead * step.values,
                                sums + b * kBlock);
    }
    for (; b < blocks; ++b) {
      ScaledTile<1>(tensor, first_row, count, factors + b, first + b, ahead * step.values, sums + b * kBlock);
    }
  }
  StoreOrdered(sums, blocks, blocks * kBlock, out.data + row * out.stride[0] + head * out.stride[1] + first * kBlock);
}

// w_kc[h] as (kv_lora_rank, nope): a plain product of rows.
template <class Weight, class T>
void RowTile(const QueryAbsorbArgs& args, const Weight& tensor, const View<T, 3>& out, int64_t row_begin, int64_t rows,
             int64_t head, int64_t w_begin) {
  const int64_t count = std::min(kTileW, out.shape[2] - w_begin);
  AnyRow x[kTileX];
  for (int64_t r = 0; r < rows; ++r) x[r] = RowOf(args.q_nope, row_begin + r, head);
  alignas(64) float results[kTileX * kTileW];
  ProductTile(x, rows, tensor, head * args.w_kc.head_stride + args.w_kc.head_offset + w_begin, count,
              Extent(args.q_nope, 2), results);
  for (int64_t r = 0; r < rows; ++r) {
    StoreResults(out.data + (row_begin + r) * out.stride[0] + head * out.stride[1] + w_begin, results + r * kTileW,
                 count);
  }
}

template <class T>
void RunOneRow(const ExecContext& context, const QueryAbsorbArgs& args, const Mxfp4<const e2m1x2, 2>& tensor,
               const View<T, 3>& out) {
  const int64_t heads = args.w_kc.heads;
  const int64_t blocks = out.shape[2] / kBlock;  // the latents are whole blocks
  const int64_t step = heads >= 4 * context.pool->threads() ? kGroupBlocks : kLatentBlocks;
  const int64_t parts = (blocks + step - 1) / step;
  RunStreams(context, heads * parts, [&](int64_t task, int, int64_t) {
    const int64_t head = task / parts, first = task % parts * step;
    // The last head asks for itself.
    const int64_t next = std::min(head + 1, heads - 1) * args.w_kc.head_stride + args.w_kc.head_offset;
    AbsorbRow(args, tensor, out, 0, head, next, first, std::min(step, blocks - first));
  });
}

void RunQueryAbsorb(const ExecContext& context, const QueryAbsorbArgs& args) {
  const int64_t rows = Extent(args.q_nope, 0);
  const int64_t heads = args.w_kc.heads;
  const int64_t latents = Extent(args.out, 2);
  const int64_t tile = args.output_major ? kTileW : kLatentBlocks * kBlock;
  const int64_t latent_tiles = (latents + tile - 1) / tile;
  const int64_t row_tiles = TileCountX(rows);
  if (context.profiler) {
    context.profiler->AddRepacked(RepackedBytes(heads * latent_tiles, rows, Extent(args.q_nope, 2)));
  }
  VisitWeight(args.w_kc.tensor, [&](const auto& tensor) {
    std::visit(
        [&](const auto& out) {
          if constexpr (std::is_same_v<std::decay_t<decltype(tensor)>, Mxfp4<const e2m1x2, 2>>) {
            if (rows == 1 && !args.output_major) return RunOneRow(context, args, tensor, out);
          }
          RunStreams(context, row_tiles * heads * latent_tiles, [&](int64_t task, int, int64_t) {
            const int64_t row_tile = task / (heads * latent_tiles);
            const int64_t row_begin = TileBeginX(rows, row_tile);
            const int64_t row_count = TileBeginX(rows, row_tile + 1) - row_begin;
            const int64_t head = task / latent_tiles % heads;
            const int64_t first = task % latent_tiles * tile;
            if (args.output_major) {
              RowTile(args, tensor, out, row_begin, row_count, head, first);
            } else {
              AbsorbTile(args, tensor, out, row_begin, row_count, head, first / kBlock);
            }
          });
        },
        args.out);
  });
}

}  // namespace

KernelTable<QueryAbsorbArgs> MakeQueryAbsorbKernels() {
  return {{kKernelName,
           {{.operand = "q_nope", .inner_stride_one = true},
            {.operand = "w_kc", .inner_stride_one = true},
            {.operand = "out", .inner_stride_one = true}},
           &RunQueryAbsorb}};
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
