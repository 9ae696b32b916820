// Dot products in tiles: a tile of weight rows is dequantised once and meets every activation row.
#pragma once

#include <algorithm>
#include <cstdint>

namespace mxmla::ref {

// The sum is taken in float64, in an order that depends on the length alone.
inline double Dot(const float* a, const float* b, int64_t count) {
  constexpr int kLanes = 8;
  double lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lane[j] += static_cast<double>(a[i + j]) * static_cast<double>(b[i + j]);
  }
  for (; i < count; ++i) lane[0] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

// Rows and columns of a tile of results, and the depth of the piece that is dequantised at a time.
inline constexpr int64_t kTileRows = 32;
inline constexpr int64_t kTileColumns = 16;
inline constexpr int64_t kTileDepth = 256;

// For each of `rows` <= kTileRows and `columns` <= kTileColumns: result(row, column) = sum over k of x * w, rounded to
// float32. load_x(row, begin, count, float*) and load_w(column, begin, count, float*) dequantise.
template <class LoadX, class LoadW, class Result>
void ProductTile(int64_t rows, int64_t columns, int64_t k, const LoadX& load_x, const LoadW& load_w,
                 const Result& result) {
  double sum[kTileRows][kTileColumns] = {};
  float w[kTileColumns][kTileDepth];
  float x[kTileDepth];
  for (int64_t begin = 0; begin < k; begin += kTileDepth) {
    const int64_t depth = std::min(kTileDepth, k - begin);
    for (int64_t c = 0; c < columns; ++c) load_w(c, begin, depth, w[c]);
    for (int64_t r = 0; r < rows; ++r) {
      load_x(r, begin, depth, x);
      for (int64_t c = 0; c < columns; ++c) sum[r][c] += Dot(x, w[c], depth);
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) result(r, c, static_cast<float>(sum[r][c]));
  }
}

}  // namespace mxmla::ref
