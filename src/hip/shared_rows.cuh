// Rows that a block makes in LDS for its own product: of bf16, or quantised as gpu's kernels quantise.
#pragma once

#include "gpu/quantized_rows.cuh"
#include "hip/matrix_step.cuh"

namespace mxmla::hip {

// How rows of k elements lie: values, each row with a few bytes behind it that shift its banks, then scales.
template <Format kX>
struct SharedLayout {
  int k, rows;

  static constexpr int kValuesOf16Bytes = kX == Format::kBf16 ? 8 : kX == Format::kFp8 ? 16 : 32;
  __host__ __device__ constexpr int Pitch() const { return (k + kValuesOf16Bytes - 1) / kValuesOf16Bytes * 16 + 16; }
  // In scales: bytes of MXFP4, floats of FP8.
  __host__ __device__ constexpr int ScalePitch() const {
    return (k + static_cast<int>(kX == Format::kFp8 ? kFp8Group : kMxBlock) - 1) /
           static_cast<int>(kX == Format::kFp8 ? kFp8Group : kMxBlock);
  }
  __host__ __device__ constexpr int ScalesAt() const { return rows * Pitch(); }
  __host__ __device__ constexpr int Bytes() const {
    const int of_scale = kX == Format::kBf16 ? 0 : kX == Format::kFp8 ? 4 : 1;
    return ScalesAt() + rows * ScalePitch() * of_scale;
  }

  // Elements begin .. begin + 8 of a row, rounded to bf16 first. Whole waves call, neighbours with neighbouring pieces;
  // a lane without one has count 0 and zeros.
  __device__ __forceinline__ void Store(uint8_t* shared, int row, int64_t begin, int count, ScaleMode mode,
                                        float (&v)[gpu::kPiece]) const {
    if constexpr (kX == Format::kBf16) {
      const gpu::FloatPlane<void> here{shared, Pitch() / 2, 0, 1, true};
      if (count > 0) gpu::StorePiece<gpu::Access::kHalf>(here, row, 0, begin, gpu::kPiece, v);
    } else {
#pragma unroll
      for (int i = 0; i < gpu::kPiece; ++i) v[i] = gpu::RoundToHalf(v[i]);
      const gpu::QuantizedPlane here{shared, Pitch(), 0, shared + ScalesAt(), ScalePitch(), 0, 1, kX == Format::kFp8,
                                     mode};
      gpu::StoreQuantized(here, row, 0, begin, count, v);
    }
  }
};

// What a product reads of them (matrix_step.cuh). Of the tiles' rows, those behind the last stand for it.
template <Format kX, int kTiles>
struct SharedRows {
  const uint8_t* shared;  // on a 16-byte boundary
  SharedLayout<kX> layout;
  int rows;  // that there are

  template <bool kWhole>
  __device__ __forceinline__ void Load(int t, int k, int last, Fragment<kX>* to) const {
    const int row = RowOfTile(t);
    to->template Load<kWhole>(shared + row * layout.Pitch(), shared + layout.ScalesAt() + row * layout.ScalePitch(), k,
                              last);
  }
  __device__ __forceinline__ float Scale(int t, int step) const {
    return reinterpret_cast<const float*>(shared + layout.ScalesAt())[RowOfTile(t) * layout.ScalePitch() + step];
  }
  __device__ __forceinline__ int RowOfTile(int t) const {
    return min(t * kTile + static_cast<int>(__lane_id()) % kTile, rows - 1);
  }
};

}  // namespace mxmla::hip
