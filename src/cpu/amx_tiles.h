// Products of many rows of bf16 activations on AMX: tiles of 16 weight rows by 32 elements, times 32 elements by 16
// activation rows.
//
// Weights become bf16 without rounding, as in bf16_dot.h, a stretch of 16 rows at a time; MXFP4's scales are powers of
// two and go into the values, FP8's are applied to the sum of their 128 elements. Every output is one running sum in
// float32 over all of k, whatever the tiles, so that a row's result depends neither on the other rows nor on the
// threads. The unit counts subnormal numbers as 0.
#pragma once

#if defined(__AMX_BF16__)

#include "cpu/bf16_dot.h"
#include "cpu/transpose.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

inline constexpr int64_t kTileSide = 16;                          // rows of a tile, of weights or of activations
inline constexpr int64_t kTileDepth = 32;                         // elements of k
inline constexpr int64_t kTileElements = kTileSide * kTileDepth;  // bf16 of a tile
inline constexpr int64_t kAmxX = 256;                             // activation rows of a task
inline constexpr int64_t kAmxStretch = 4;                         // chunks of weights that are decoded at a time
static_assert(kTileW % (2 * kTileSide) == 0);

MXMLA_INLINE int64_t TileRowsUp(int64_t rows) { return (rows + kTileSide - 1) / kTileSide * kTileSide; }

// What was stored through other pointers is in memory behind this: the compiler's tile intrinsics do not say that they
// read it.
MXMLA_INLINE void WriteMemory(const void* from) { asm volatile("" : : "r"(from) : "memory"); }

// The unit's shape for the calling thread, for as long as this lives: tiles 0 .. 3 are sums, 4 and 5 weights, 6 and 7
// activations.
class TileScope {
 public:
  TileScope() {
    struct alignas(64) {
      uint8_t palette = 1;
      uint8_t start_row = 0;
      uint8_t reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    for (int tile = 0; tile < 8; ++tile) {
      config.row_bytes[tile] = 64;
      config.rows[tile] = kTileSide;
    }
    WriteMemory(&config);
    _tile_loadconfig(&config);
  }
  ~TileScope() { _tile_release(); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

// Up to 16 packed rows (PackRow, `elements` each) as tiles of activations: (tiles of k, 16 pairs of elements, 16 rows,
// 2). Rows past `count` are 0.
static inline void PackTiles(const bf16* const* rows /* (count) */, int64_t count, int64_t elements, bf16* to) {
  for (int64_t begin = 0; begin < elements; begin += kTileDepth, to += kTileElements) {
    __m512i row[16];
#pragma GCC unroll 16
    for (int64_t r = 0; r < 16; ++r) {
      row[r] = r < count ? _mm512_loadu_si512(rows[r] + begin) : _mm512_setzero_si512();
    }
    Transpose(row);
#pragma GCC unroll 16
    for (int64_t pair = 0; pair < 16; ++pair) _mm512_store_si512(to + pair * 2 * kTileSide, row[pair]);
  }
}

// Multiplies the bf16 of a chunk of MXFP4 by their blocks' scales; each 32 bits hold two elements of one block.
MXMLA_INLINE void ApplyScales(__m512 scale, __m512i (&w)[kChunkVectors]) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  const __m512i exponent = _mm512_srli_epi32(_mm512_castps_si512(scale), 23);
  // Scales from 2^-100 to 2^100 are added to the exponents of what is not 0.
  const __mmask16 usual =
      _mm512_cmplt_epu32_mask(_mm512_sub_epi32(exponent, _mm512_set1_epi32(27)), _mm512_set1_epi32(201));
  if (usual == 0xffff) {
    const __m512i half = _mm512_slli_epi32(_mm512_sub_epi32(exponent, _mm512_set1_epi32(127)), 7);
    const __m512i add = _mm512_or_si512(_mm512_slli_epi32(half, 16), _mm512_andnot_si512(upper, half));
#pragma GCC unroll 4
    for (int v = 0; v < kChunkVectors; ++v) {
      w[v] = _mm512_mask_add_epi16(w[v], _mm512_test_epi16_mask(w[v], _mm512_set1_epi16(0x7fff)), w[v], add);
    }
    return;
  }
#pragma GCC unroll 4
  for (int v = 0; v < kChunkVectors; ++v) {
    const __m512 low = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(w[v], 16)), scale);
    const __m512 high = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_and_si512(w[v], upper)), scale);
    w[v] = _mm512_or_si512(_mm512_and_si512(_mm512_castps_si512(high), upper),
                           _mm512_srli_epi32(_mm512_castps_si512(low), 16));
  }
}

// Chunks first .. of a row of weights, each chunk's four vectors to four tiles; `to` is the row's place in the first.
template <class Row>
static void DecodeTileRow(const Row& row, int64_t first, int64_t chunks, int64_t k, RowStep ahead, uint16_t* to) {
  for (int64_t group = 0; group < chunks; group += 4) {
    ChunkScales<Row> scales;
    scales.Read(row, first + group,
                std::min<int64_t>(4 * kChunkBlocks, BlockCount(k) - (first + group) * kChunkBlocks));
    for (int64_t i = 0; i < std::min<int64_t>(4, chunks - group); ++i, to += kChunkVectors * kTileElements) {
      const int64_t chunk = first + group + i;
      __m512i w[kChunkVectors];
      if ((chunk + 1) * kChunk <= k) {
        LoadChunk<true>(row, chunk, kChunk, w);
      } else {
        LoadChunk<false>(row, chunk, k - chunk * kChunk, w);
      }
      PrefetchChunk(row, chunk, ahead.values);
      if constexpr (std::is_same_v<Row, Mxfp4Row>) ApplyScales(scales.Of(i), w);
#pragma GCC unroll 4
      for (int v = 0; v < kChunkVectors; ++v) _mm512_store_si512(to + v * kTileElements, w[v]);
    }
  }
}

// The tiles of 32 weight rows by 32 activation rows over `steps` times 32 elements: acc (32, stride) += or, with
// kFresh, becomes the sums. Strips of 16 weight rows are w_step elements apart, groups of 16 activation rows x_step.
template <bool kFresh>
static void AmxBlock(const uint16_t* w, int64_t w_step, const bf16* x, int64_t x_step, int64_t steps, float* acc,
                     int64_t stride) {
  const auto row_bytes = static_cast<size_t>(stride) * sizeof(float);
  float* const below = acc + kTileSide * stride;
  WriteMemory(w);
  if constexpr (kFresh) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, acc, row_bytes);
    _tile_loadd(1, acc + kTileSide, row_bytes);
    _tile_loadd(2, below, row_bytes);
    _tile_loadd(3, below + kTileSide, row_bytes);
  }
  for (int64_t step = 0; step < steps; ++step) {
    _tile_loadd(4, w + step * kTileElements, 64);
    _tile_loadd(6, x + step * kTileElements, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, x + x_step + step * kTileElements, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, w + w_step + step * kTileElements, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, acc, row_bytes);
  _tile_stored(1, acc + kTileSide, row_bytes);
  _tile_stored(2, below, row_bytes);
  _tile_stored(3, below + kTileSide, row_bytes);
}

// out[c, j] = x[c] . weight[w_begin + j] for c < x_count <= kAmxX and j < w_count <= kTileW. `x` is groups of 16 rows
// (PackTiles), each 16 * DotStride(k) elements, and one group more where their number is odd: what it holds is
// multiplied and thrown away. The other elements of `out` (x_count, kTileW) are left with anything.
template <class Weight>
static void AmxProductTile(const bf16* x, int64_t x_count, const Weight& weight, int64_t w_begin, int64_t w_count,
                           int64_t k, float* out) {
  using Row = decltype(RowOf(weight, 0));
  constexpr bool kScaleAfter = std::is_same_v<Row, Fp8Row>;
  constexpr int64_t kPair = 2 * kTileSide;
  alignas(64) uint16_t strip[kTileW * kAmxStretch * kChunk];  // (strips of 16 rows, steps, 16, 32)
  alignas(64) float acc[kTileW * (kAmxX + kTileSide)];        // (w, x)
  const int64_t stride = (x_count + kPair - 1) / kPair * kPair;
  const int64_t x_step = DotStride(k) * kTileSide;
  const TileScope scope;
  if (kScaleAfter) std::memset(acc, 0, static_cast<size_t>(kTileW * stride) * sizeof(float));
  for (int64_t first = 0; first < ChunkCount(k); first += kAmxStretch) {
    const int64_t chunks = std::min(kAmxStretch, ChunkCount(k) - first);
    const int64_t w_step = chunks * kChunkVectors * kTileElements;
    const int64_t w_rows = (w_count + kPair - 1) / kPair * kPair;
    for (int64_t j = 0; j < w_rows; ++j) {
      // Rows that only fill a tile repeat the last one.
      const Row row = RowOf(weight, w_begin + std::min(j, w_count - 1));
      const RowStep ahead = StepBetween(row, RowOf(weight, w_begin + j + 8));
      DecodeTileRow(row, first, chunks, k, ahead, strip + j / kTileSide * w_step + j % kTileSide * kTileDepth);
    }
    for (int64_t c = 0; c < x_count; c += kPair) {
      const bf16* from = x + c / kTileSide * x_step + first * kChunkVectors * kTileElements;
      for (int64_t j = 0; j < w_rows; j += kPair) {
        const uint16_t* w = strip + j / kTileSide * w_step;
        float* to = acc + j * stride + c;
        if constexpr (kScaleAfter) {
          for (int64_t chunk = 0; chunk < chunks; ++chunk) {
            alignas(64) float sums[kPair * kPair];
            AmxBlock<true>(w + chunk * kChunkVectors * kTileElements, w_step,
                           from + chunk * kChunkVectors * kTileElements, x_step, kChunkVectors, sums, kPair);
            for (int64_t r = 0; r < kPair; ++r) {
              const Fp8Row row = RowOf(weight, w_begin + std::min(j + r, w_count - 1));
              const __m512 scale = _mm512_set1_ps(row.scales[(first + chunk) * row.scale_stride]);
              for (int64_t half = 0; half < kPair; half += 16) {
                float* at = to + r * stride + half;
                const __m512 part = _mm512_load_ps(sums + r * kPair + half);
                _mm512_storeu_ps(at, _mm512_fmadd_ps(part, scale, _mm512_loadu_ps(at)));
              }
            }
          }
        } else if (first == 0) {
          AmxBlock<true>(w, w_step, from, x_step, chunks * kChunkVectors, to, stride);
        } else {
          AmxBlock<false>(w, w_step, from, x_step, chunks * kChunkVectors, to, stride);
        }
      }
    }
  }
  for (int64_t j = 0; j < w_count; j += kTileSide) {
    for (int64_t c = 0; c < x_count; c += kTileSide) {
      __m512i sums[16];
#pragma GCC unroll 16
      for (int64_t r = 0; r < 16; ++r) sums[r] = _mm512_loadu_si512(acc + (j + r) * stride + c);
      Transpose(sums);
      for (int64_t r = 0; r < 16 && c + r < x_count; ++r) _mm512_storeu_si512(out + (c + r) * kTileW + j, sums[r]);
    }
  }
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA

#endif  // __AMX_BF16__
