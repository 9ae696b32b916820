// Activations brought once into the form in which a product's tiles read them, in a launch before the product's: with
// FP8 weights as fp16, each row multiplied by the power of two that brings its largest magnitude to 2^15
// (half_products.cuh); for WeightTile also laid out as it lies in shared memory, a stage behind the other.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/launch_options.h"
#include "cuda/weight_fragments.cuh"

namespace mxmla::cuda {

struct RowsToPrepare {
  const uint8_t* x;  // (rows of x, k) bf16, 16-byte aligned
  int64_t row_bytes;
  int64_t rows;  // to prepare: those of x, or the experts' pairs
  int64_t k;     // a multiple of 8 (with MXFP4 weights of 32, with FP8 of 16)
  // Of experts: the rows of pairs, in their order, those of an expert beginning with a tile.
  int64_t experts = 0;
  const int32_t* expert_begin = nullptr;  // (experts + 1)
  const int32_t* pairs = nullptr;         // (rows)
  int64_t pairs_per_row = 1;
};

struct PreparedRows {
  const uint8_t* values;
  const float* inverses;  // FP8: what a row's results are multiplied by
};

// fp16 (rows, k), row behind row, and `inverses` (rows). The rows are x's.
int64_t HalfRowsBytes(int64_t rows, int64_t k);  // of the workspace
PreparedRows LaunchHalfRows(const RowsToPrepare& rows, const LaunchOptions& options);

// Tiles of `tile_rows` rows, and `inverses` (tiles, tile_rows); a tile has TileRowBytes(k) a row: stages of 128
// elements of k, each of two halves of (tile_rows, 128 bytes) in wgmma's 128-byte swizzle. A half's 16 bytes u of a row
// are pair u of what the four lanes of a quad hold of the weights. Zeros behind k; rows that are not there are
// undefined.
__host__ __device__ constexpr int64_t TileRowBytes(int64_t k) { return (k + 127) / 128 * 256; }
int64_t MostTiles(const RowsToPrepare& rows, int64_t tile_rows);
int64_t TiledRowsBytes(int64_t tiles, int64_t tile_rows, int64_t k);  // of the workspace
PreparedRows LaunchTiledRows(WeightKind kind, const RowsToPrepare& rows, int64_t tile_rows,
                             const LaunchOptions& options);

}  // namespace mxmla::cuda
