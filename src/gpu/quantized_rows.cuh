// Storing a piece quantised: the lanes of a block of 32 or a group of 128 find its largest magnitude together. The
// codes and scales are those of ops/quantize_block.h, bit for bit.
#pragma once

#include "gpu/quantize.cuh"
#include "gpu/row_io.cuh"

namespace mxmla::gpu {

// (rows, n) or (rows, heads, n) in FP8 groups or MXFP4 blocks; the codes' last dimension is contiguous.
struct QuantizedPlane {
  uint8_t* codes = nullptr;  // null where the operand is absent
  int64_t row = 0, head = 0;
  void* scales = nullptr;
  int64_t scale_row = 0, scale_head = 0, scale_step = 0;
  bool fp8 = false;
  ScaleMode mode = ScaleMode::kEven;
};

// Of Fp8Group<e4m3, Rank> or Mxfp4<e2m1x2, Rank>.
template <template <class, int> class Scaled, class V, int Rank>
QuantizedPlane QuantizedPlaneOf(const Scaled<V, Rank>& x, ScaleMode mode) {
  return {reinterpret_cast<uint8_t*>(x.values.data),
          x.values.stride[0],
          Rank == 3 ? x.values.stride[1] : 0,
          x.scales.data,
          x.scales.stride[0],
          Rank == 3 ? x.scales.stride[1] : 0,
          x.scales.stride[Rank - 1],
          std::is_same_v<V, e4m3>,
          mode};
}
template <int Rank>
QuantizedPlane QuantizedPlaneOf(const QuantizedOutput<Rank>& any, ScaleMode mode) {
  return std::visit([&](const auto& x) { return QuantizedPlaneOf(x, mode); }, any);
}

// E2m1FromFloat of a number, without branches: below 1 the codes are multiples of 0.5, what a sum with 2^22 rounds to;
// above, one bit of mantissa is kept.
__device__ __forceinline__ uint32_t E2m1Code(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t fixed = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0x1p22f) - 0x4a800000u;
  const uint32_t floating = min(((magnitude + 0x1fffffu + ((magnitude >> 22) & 1u)) >> 22) - 252u, 7u);
  return (magnitude < 0x3f800000u ? fixed : floating) | bits >> 31 << 3;
}

__device__ __forceinline__ void StoreMxPiece(const QuantizedPlane& out, int64_t r, int64_t h, int64_t begin,
                                             uint32_t largest, const float v[kPiece]) {
  const uint32_t scale = Mxfp4ScaleBits(largest, out.mode);
  uint32_t codes = 0;
  if (largest != 0 && scale != e8m0::kNan) {
    const float inverse = Mxfp4Inverse(scale);
#pragma unroll
    for (int i = 0; i < kPiece; ++i) codes |= E2m1Code(v[i] * inverse) << (4 * i);
  }
  uint8_t* to = out.codes + r * out.row + h * out.head + begin / 2;
  if (reinterpret_cast<uintptr_t>(to) % 4 == 0) {
    *reinterpret_cast<uint32_t*>(to) = codes;
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i] = static_cast<uint8_t>(codes >> (8 * i));
  }
  if (begin % kMxBlock == 0) {
    static_cast<uint8_t*>(out.scales)[r * out.scale_row + h * out.scale_head + begin / kMxBlock * out.scale_step] =
        static_cast<uint8_t>(scale);
  }
}

__device__ __forceinline__ void StoreFp8Piece(const QuantizedPlane& out, int64_t r, int64_t h, int64_t begin, int count,
                                              uint32_t largest, const float v[kPiece]) {
  const bool poisoned = largest >= 0x7f800000u;
  const float scale = poisoned ? 1.0f : Fp8GroupScale(largest, out.mode);
  uint8_t* to = out.codes + r * out.row + h * out.head + begin;
  uint32_t codes[2] = {};
  if (poisoned) {
    for (int i = 0; i < kPiece; ++i) codes[i / 4] |= uint32_t{e4m3::FromFloat(v[i]).bits} << (8 * (i % 4));
  } else {
#pragma unroll
    for (int i = 0; i < kPiece; i += 2) {
      codes[i / 4] |= PackE4m3(v[i] / scale, v[i + 1] / scale) << (8 * (i % 4));
    }
  }
  if (count == kPiece && reinterpret_cast<uintptr_t>(to) % 8 == 0) {
    *reinterpret_cast<uint2*>(to) = make_uint2(codes[0], codes[1]);
  } else {
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      if (i < count) to[i] = static_cast<uint8_t>(codes[i / 4] >> (8 * (i % 4)));
    }
  }
  if (begin % kFp8Group == 0) {
    static_cast<float*>(out.scales)[r * out.scale_row + h * out.scale_head + begin / kFp8Group * out.scale_step] =
        poisoned ? std::bit_cast<float>(0x7fc00000u) : scale;
  }
}

// Every lane of the wave calls; one without a piece has count 0 and zeros. Lane i of 16 has piece i of a group.
__device__ __forceinline__ void StoreQuantized(const QuantizedPlane& out, int64_t r, int64_t h, int64_t begin,
                                               int count, const float v[kPiece]) {
  uint32_t largest = 0;  // bits of magnitudes order as the magnitudes do, NaN above all
#pragma unroll
  for (int i = 0; i < kPiece; ++i) largest = max(largest, MagnitudeBits(v[i]));
  const int lanes = out.fp8 ? kFp8Lanes : kMxLanes;
  for (int step = 1; step < lanes; step *= 2) largest = max(largest, ShuffleXor(largest, step));
  if (count == 0) return;
  if (out.fp8) {
    StoreFp8Piece(out, r, h, begin, count, largest, v);
  } else {
    StoreMxPiece(out, r, h, begin, largest, v);
  }
}

}  // namespace mxmla::gpu
