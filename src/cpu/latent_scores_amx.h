// Scores of decode attention on AMX, where it is: tiles of 16 cache rows by 32 elements, where they lie, times 32
// elements of 16 queries. 64 rows take 18 steps of 4 products, 18 cycles a row for all heads where multiply-adds take
// 380. Products of bf16 are exact and summed in float32, over k in one order whatever the tile; the unit counts
// subnormal numbers as 0.
#pragma once

#include <optional>

#include "cpu/amx_tiles.h"
#include "cpu/latent_tile.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

// The unit's tiles, for as long as this lives, where queries of type Q are multiplied on them. Others are not.
template <class Q>
class ScoreTiles {
 public:
  static constexpr bool kUsed = false;

  explicit ScoreTiles(bool) {}
};

#if defined(__AMX_BF16__)
static_assert(kScoreHeads == kTileSide && kTokenTile == 4 * kTileSide);

template <>
class ScoreTiles<bf16> {
 public:
  static constexpr bool kUsed = true;

  explicit ScoreTiles(bool used) {
    if (used) scope_.emplace();
  }

  // `heads` queries of `width` elements, whole tiles deep, as Score reads them; heads past `heads` are 0.
  void Pack(const bf16* const* queries, int64_t heads, int64_t width, bf16* to /* (kScoreHeads, width) */) const {
    PackTiles(queries, heads, width, to);
    WriteMemory(to);
  }

  // scores[t, h] = query_h . row_t of `tokens` rows of `width` elements. Where rows do not lie the same distance apart,
  // or not all of the last 16 are there, they are copied to `copies` (kTokenTile, width) first.
  void Score(const bf16* queries /* Pack */, const LatentRows<bf16>& rows, int64_t tokens, int64_t width, bf16* copies,
             float* scores /* (kTokenTile, kScoreHeads) */) const {
    const bf16* first = rows.row[0];
    int64_t step = tokens > 1 ? rows.row[1] - first : width;
    bool even = tokens % kTileSide == 0;
    for (int64_t t = 2; t < tokens && even; ++t) even = rows.row[t] - rows.row[t - 1] == step;
    if (!even) {
      for (int64_t t = 0; t < tokens; ++t) std::copy_n(rows.row[t], width, copies + t * width);
      std::fill(copies + tokens * width, copies + TileRowsUp(tokens) * width, bf16{});
      first = copies;
      step = width;
      WriteMemory(copies);
    }
    const auto bytes = static_cast<size_t>(step) * sizeof(bf16);
    const auto strips = static_cast<int>(TileRowsUp(tokens) / kTileSide);
    const auto strip = [&](int i) { return first + i * kTileSide * step; };
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < width; k += kTileDepth) {
      _tile_loadd(6, queries + k * kTileSide, 64);
      _tile_loadd(4, strip(0) + k, bytes);
      _tile_dpbf16ps(0, 4, 6);
      if (strips > 1) {
        _tile_loadd(5, strip(1) + k, bytes);
        _tile_dpbf16ps(1, 5, 6);
      }
      if (strips > 2) {
        _tile_loadd(4, strip(2) + k, bytes);
        _tile_dpbf16ps(2, 4, 6);
      }
      if (strips > 3) {
        _tile_loadd(5, strip(3) + k, bytes);
        _tile_dpbf16ps(3, 5, 6);
      }
    }
    constexpr size_t kScoreBytes = kScoreHeads * sizeof(float);
    _tile_stored(0, scores, kScoreBytes);
    if (strips > 1) _tile_stored(1, scores + kTileSide * kScoreHeads, kScoreBytes);
    if (strips > 2) _tile_stored(2, scores + 2 * kTileSide * kScoreHeads, kScoreBytes);
    if (strips > 3) _tile_stored(3, scores + 3 * kTileSide * kScoreHeads, kScoreBytes);
    WriteMemory(scores);
  }

 private:
  std::optional<TileScope> scope_;
};
#endif

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
