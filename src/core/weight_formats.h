// The formats in which checkpoints hold matrices of weights beside plain floats and MXFP4 (core/scaled.h). Each is a
// type of its own whose row slices are views.
#pragma once

#include "core/ggml_blocks.h"
#include "core/view.h"

namespace mxmla {

// FP8 weights with float32 scales. As DeepSeek has them (`weight_scale_inv`), a scale for each 128 x 128 square of the
// tensor, ragged at the edges: value of element (r, k) is values(r, k) * scales((first_row + r) / 128, k / 128).
// `first_row` is where this view begins in the tensor that owns the scales, so that any row slice stays a view. One
// scale a row is the same with scale_rows 1 and a stride of 0 between columns; one scale a tensor has strides of 0.
struct Fp8Block {
  View<const e4m3, 2> values;   // (n, k)
  View<const float, 2> scales;  // (ceil(N / scale_rows), ceil(k/128)) of the whole tensor of N rows
  int64_t first_row = 0;
  int64_t scale_rows = kFp8Block;  // rows that share scales: 128 or 1

  int64_t extent(int d) const { return values.shape[d]; }
  Fp8Block Rows(int64_t begin, int64_t count) const {
    return {values.Rows(begin, count), scales, first_row + begin, scale_rows};
  }
  // The row of `scales` that belongs to row r.
  int64_t ScaleRow(int64_t r) const { return scale_rows == 1 ? first_row + r : (first_row + r) / kFp8Block; }
  // Squares of 128 x 128 with scales of their own.
  bool in_squares() const { return scale_rows == kFp8Block && scales.stride[0] != 0; }
};

// MXFP8: 32 elements of a row share an E8M0 scale. Value: values(r, k) * 2^(scales(r, k/32) - 127).
struct Mxfp8 {
  View<const e4m3, 2> values;  // (n, k); k is a multiple of 32
  View<const e8m0, 2> scales;  // (n, k/32)

  int64_t extent(int d) const { return values.shape[d]; }
  Mxfp8 Rows(int64_t begin, int64_t count) const { return {values.Rows(begin, count), scales.Rows(begin, count)}; }
};

// compressed-tensors' symmetric INT4: 32 elements of a row share a bf16 scale. Value: values(r, k) * scales(r, k/32).
struct Int4Group {
  View<const int4x2, 2> values;  // (n, k/2); k is a multiple of 32
  View<const bf16, 2> scales;    // (n, k/32)

  int64_t extent(int d) const { return d == 1 ? 2 * values.shape[1] : values.shape[d]; }
  Int4Group Rows(int64_t begin, int64_t count) const { return {values.Rows(begin, count), scales.Rows(begin, count)}; }
};

// NVFP4: 16 elements of a row share an E4M3 scale, and the tensor a float32 one, which compressed-tensors stores as a
// divisor. Value: values(r, k) * s, where s is scales(r, k/16) times (or over) the tensor's scale, rounded to float32.
struct Nvfp4 {
  View<const e2m1x2, 2> values;  // (n, k/2); k is a multiple of 16
  View<const e4m3, 2> scales;    // (n, k/16)
  float tensor_scale = 1;
  bool divides = false;

  int64_t extent(int d) const { return d == 1 ? 2 * values.shape[1] : values.shape[d]; }
  Nvfp4 Rows(int64_t begin, int64_t count) const {
    return {values.Rows(begin, count), scales.Rows(begin, count), tensor_scale, divides};
  }
  float Scale(int64_t r, int64_t block) const {
    const float scale = scales(r, block).ToFloat();
    return divides ? scale / tensor_scale : scale * tensor_scale;
  }
};

// Rows of GGUF's blocks (core/ggml_blocks.h).
template <class Block>
struct GgmlMatrix {
  View<const Block, 2> values;  // (n, k / Block::kElements); k is a multiple of that

  int64_t extent(int d) const { return d == 1 ? Block::kElements * values.shape[1] : values.shape[d]; }
  GgmlMatrix Rows(int64_t begin, int64_t count) const { return {values.Rows(begin, count)}; }
};

// Elements begin .. begin + count of row `row`, dequantised: exact but for the roundings that a format's value names.
void Dequantize(const View<const float, 2>& weight, int64_t row, int64_t begin, int64_t count, float* out);
void Dequantize(const View<const bf16, 2>& weight, int64_t row, int64_t begin, int64_t count, float* out);
void Dequantize(const View<const f16, 2>& weight, int64_t row, int64_t begin, int64_t count, float* out);
void Dequantize(const Fp8Block& weight, int64_t row, int64_t begin, int64_t count, float* out);
void Dequantize(const Mxfp8& weight, int64_t row, int64_t begin, int64_t count, float* out);
void Dequantize(const Int4Group& weight, int64_t row, int64_t begin, int64_t count, float* out);
void Dequantize(const Nvfp4& weight, int64_t row, int64_t begin, int64_t count, float* out);
void Dequantize(const GgmlMatrix<q8_0>& weight, int64_t row, int64_t begin, int64_t count, float* out);
void Dequantize(const GgmlMatrix<q4_k>& weight, int64_t row, int64_t begin, int64_t count, float* out);
void Dequantize(const GgmlMatrix<q6_k>& weight, int64_t row, int64_t begin, int64_t count, float* out);
void Dequantize(const GgmlMatrix<ggml_mxfp4>& weight, int64_t row, int64_t begin, int64_t count, float* out);

}  // namespace mxmla
