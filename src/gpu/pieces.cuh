// Eight consecutive elements of an operand's row, as they lie in memory and dequantised to float32: exact but for the
// roundings that a format's value names (core/weight_formats.h, core/scaled.h).
#pragma once

#include "gpu/operands.cuh"

namespace mxmla::gpu {

struct Row {
  const uint8_t* values;
  const void* scales;
  float tensor_scale = 1;         // NVFP4
  bool divides = false;           // NVFP4
  Format format = Format::kBf16;  // kAnyActivation
};

constexpr int64_t ValueBytes(Format format) {
  return format == Format::kF32 ? 4 : format == Format::kBf16 || format == Format::kF16 ? 2 : 1;
}

template <Format kFormat>
__device__ __forceinline__ Row RowAt(const Operand& x, int64_t row, int64_t head) {
  if constexpr (kFormat == Format::kAnyActivation) {
    Row at = x.format == Format::kF32    ? RowAt<Format::kF32>(x, row, head)
             : x.format == Format::kBf16 ? RowAt<Format::kBf16>(x, row, head)
             : x.format == Format::kFp8  ? RowAt<Format::kFp8>(x, row, head)
                                         : RowAt<Format::kMxfp4>(x, row, head);
    at.format = x.format;
    return at;
  } else {
    Row at{static_cast<const uint8_t*>(x.values) + (row * x.row + head * x.head) * ValueBytes(kFormat), nullptr, 1,
           false, kFormat};
    const int64_t scale = row * x.scale_row + head * x.scale_head;
    if constexpr (kFormat == Format::kFp8) {
      at.scales = static_cast<const float*>(x.scales) + ((x.first_row + row) >> x.scale_rows_log2) * x.scale_row +
                  head * x.scale_head;
    } else if constexpr (kFormat == Format::kMxfp4 || kFormat == Format::kMxfp8 || kFormat == Format::kNvfp4) {
      at.scales = static_cast<const uint8_t*>(x.scales) + scale;
    } else if constexpr (kFormat == Format::kInt4) {
      at.scales = static_cast<const uint16_t*>(x.scales) + scale;
    }
    if constexpr (kFormat == Format::kNvfp4) {
      at.tensor_scale = x.tensor_scale;
      at.divides = x.divides;
    }
    return at;
  }
}

// The code's exponent and mantissa as the lowest of a float's: 2^120 is what the two biases differ by.
__device__ __forceinline__ float FloatOfE4m3(uint32_t code) {
  const float value = __uint_as_float((code & 0x80u) << 24 | (code & 0x7fu) << 20) * 0x1p120f;
  return (code & 0x7fu) == 0x7fu ? __uint_as_float(0x7fc00000u) : value;
}
__device__ __forceinline__ float FloatOfE8m0(uint32_t bits) {
  return __uint_as_float(bits == 255 ? 0x7fc00000u : bits == 0 ? 0x400000u : bits << 23);
}
// The biases of a half and a float differ by 2^112.
__device__ __forceinline__ float FloatOfHalf(uint32_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
  const float value = __uint_as_float(sign | magnitude << 13) * 0x1p112f;
  return magnitude >= 0x7c00u ? __uint_as_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13) : value;
}
// Of a code below 2^23.
__device__ __forceinline__ float FloatOfInteger(uint32_t code) { return __uint_as_float(0x4b000000u | code) - 0x1p23f; }

// Eight bytes from an address that is a multiple of kAligned.
template <int kAligned>
__device__ __forceinline__ uint2 LoadBytes(const uint8_t* from) {
  if constexpr (kAligned >= 4) {
    const auto* words = reinterpret_cast<const uint32_t*>(from);
    return make_uint2(words[0], words[1]);
  } else if constexpr (kAligned == 2) {
    const auto* halves = reinterpret_cast<const uint16_t*>(from);
    return make_uint2(halves[0] | uint32_t{halves[1]} << 16, halves[2] | uint32_t{halves[3]} << 16);
  } else {
    uint32_t word[2];
#pragma unroll
    for (int w = 0; w < 2; ++w) {
      word[w] = from[4 * w] | uint32_t{from[4 * w + 1]} << 8 | uint32_t{from[4 * w + 2]} << 16 |
                uint32_t{from[4 * w + 3]} << 24;
    }
    return make_uint2(word[0], word[1]);
  }
}

// Values and scales in planes of their own.
template <Format kFormat>
struct Piece {
  static constexpr bool kHalves = kFormat == Format::kBf16 || kFormat == Format::kF16;
  static constexpr bool kBytes = kFormat == Format::kFp8 || kFormat == Format::kMxfp8;
  static constexpr int kWords = kFormat == Format::kF32 ? 8 : kHalves ? 4 : kBytes ? 2 : 1;

  uint32_t word[kWords];
  float scale;

  // Elements k .. k + count, at most 8, of a row; the others are 0.
  __device__ __forceinline__ void Load(const Row& row, int k, int count, bool whole, int64_t scale_column) {
    if (whole && count >= kPiece) {
      LoadWhole(row, k);
    } else {
      LoadElements(row, k, count);
    }
    LoadScale(row, k, scale_column);
  }

  __device__ __forceinline__ void LoadWhole(const Row& row, int k) {
    if constexpr (kFormat == Format::kF32) {
      const auto* from = reinterpret_cast<const uint4*>(row.values + int64_t{k} * 4);
      const uint4 a = from[0], b = from[1];
      word[0] = a.x, word[1] = a.y, word[2] = a.z, word[3] = a.w;
      word[4] = b.x, word[5] = b.y, word[6] = b.z, word[7] = b.w;
    } else if constexpr (kHalves) {
      const uint4 a = *reinterpret_cast<const uint4*>(row.values + int64_t{k} * 2);
      word[0] = a.x, word[1] = a.y, word[2] = a.z, word[3] = a.w;
    } else if constexpr (kBytes) {
      const uint2 a = *reinterpret_cast<const uint2*>(row.values + k);
      word[0] = a.x, word[1] = a.y;
    } else {
      word[0] = *reinterpret_cast<const uint32_t*>(row.values + k / 2);
    }
  }

  __device__ __forceinline__ void LoadElements(const Row& row, int k, int count) {
    if constexpr (kFormat == Format::kF32) {
      const auto* from = reinterpret_cast<const uint32_t*>(row.values) + k;
#pragma unroll
      for (int i = 0; i < kPiece; ++i) word[i] = i < count ? from[i] : 0;
    } else if constexpr (kHalves) {
      const auto* from = reinterpret_cast<const uint16_t*>(row.values) + k;
#pragma unroll
      for (int i = 0; i < kPiece; i += 2) {
        const uint32_t low = i < count ? from[i] : 0, high = i + 1 < count ? from[i + 1] : 0;
        word[i / 2] = low | high << 16;
      }
    } else {
      constexpr int kPieceBytes = kBytes ? 8 : 4;
      const uint8_t* from = row.values + (kBytes ? k : k / 2);
#pragma unroll
      for (int w = 0; w < kPieceBytes / 4; ++w) word[w] = 0;
#pragma unroll
      for (int i = 0; i < kPieceBytes; ++i) {
        const bool there = kBytes ? i < count : 2 * i < count;
        word[i / 4] |= (there ? uint32_t{from[i]} : 0u) << (8 * (i % 4));
      }
    }
  }

  __device__ __forceinline__ void LoadScale(const Row& row, int k, int64_t scale_column) {
    if constexpr (kFormat == Format::kFp8) {
      scale = static_cast<const float*>(row.scales)[k / static_cast<int>(kFp8Group) * scale_column];
    } else if constexpr (kFormat == Format::kMxfp4 || kFormat == Format::kMxfp8) {
      scale = FloatOfE8m0(static_cast<const uint8_t*>(row.scales)[k / static_cast<int>(kMxBlock)]);
    } else if constexpr (kFormat == Format::kInt4) {
      const uint32_t bits = static_cast<const uint16_t*>(row.scales)[k / static_cast<int>(kInt4Group)];
      scale = __uint_as_float(bits << 16);
    } else if constexpr (kFormat == Format::kNvfp4) {
      const float block = FloatOfE4m3(static_cast<const uint8_t*>(row.scales)[k / static_cast<int>(kNvBlock)]);
      scale = row.divides ? block / row.tensor_scale : block * row.tensor_scale;
    }
  }

  __device__ __forceinline__ void Decode(float (&out)[kPiece]) const {
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      if constexpr (kFormat == Format::kF32) {
        out[i] = __uint_as_float(word[i]);
      } else if constexpr (kFormat == Format::kBf16) {
        out[i] = __uint_as_float(i % 2 ? word[i / 2] & 0xffff0000u : word[i / 2] << 16);
      } else if constexpr (kFormat == Format::kF16) {
        out[i] = FloatOfHalf((word[i / 2] >> (16 * (i % 2))) & 0xffffu);
      } else if constexpr (kBytes) {
        out[i] = FloatOfE4m3((word[i / 4] >> (8 * (i % 4))) & 0xffu) * scale;
      } else if constexpr (kFormat == Format::kInt4) {
        out[i] = (FloatOfInteger((word[0] >> (4 * i)) & 0xfu) - 8.0f) * scale;
      } else {
        const uint32_t code = (word[0] >> (4 * i)) & 0xfu;
        out[i] = __uint_as_float((code & 8u) << 28 | (code & 7u) << 22) * 0x1p126f * scale;
      }
    }
  }
};

// GGUF's blocks (core/ggml_blocks.h), in which values and scales lie together: a row is whole blocks, and a piece lies
// in one of their groups. `code` has a byte an element.
struct BlockPiece {
  uint2 code;
  float scale;

  __device__ __forceinline__ uint32_t Code(int i) const { return ((i < 4 ? code.x : code.y) >> (8 * (i % 4))) & 0xffu; }
};

template <>
struct Piece<Format::kQ8_0> : BlockPiece {
  __device__ __forceinline__ void Load(const Row& row, int k, int, bool, int64_t) {
    const uint8_t* block = row.values + k / 32 * int64_t{sizeof(q8_0)};
    scale = FloatOfHalf(*reinterpret_cast<const uint16_t*>(block));
    code = LoadBytes<2>(block + offsetof(q8_0, q) + k % 32);
  }
  __device__ __forceinline__ void Decode(float (&out)[kPiece]) const {
#pragma unroll
    for (int i = 0; i < kPiece; ++i) out[i] = scale * (FloatOfInteger(Code(i) ^ 0x80u) - 128.0f);
  }
};

template <>
struct Piece<Format::kQ4K> : BlockPiece {
  float minimum;

  template <int kAligned>
  __device__ __forceinline__ void LoadAligned(const Row& row, int k) {
    const uint8_t* block = row.values + k / 256 * int64_t{sizeof(q4_k)};
    const int group = k % 256 / 32;
    const uint8_t* codes = block + offsetof(q4_k, q) + 32 * (group / 2) + k % 32;
    const uint2 both = LoadBytes<kAligned>(codes);
    const int shift = 4 * (group % 2);
    code = make_uint2((both.x >> shift) & 0x0f0f0f0fu, (both.y >> shift) & 0x0f0f0f0fu);
    const uint8_t* scales = block + offsetof(q4_k, scales) + group % 4;
    const uint32_t a = scales[0], b = scales[4];
    uint32_t factor = a & 63u, least = b & 63u;
    if (group >= 4) {
      const uint32_t low = scales[8];
      factor = (low & 15u) | (a >> 6) << 4;
      least = low >> 4 | (b >> 6) << 4;
    }
    const auto* halves = reinterpret_cast<const uint16_t*>(block);
    scale = FloatOfHalf(halves[0]) * FloatOfInteger(factor);
    minimum = FloatOfHalf(halves[1]) * FloatOfInteger(least);
  }
  __device__ __forceinline__ void Load(const Row& row, int k, int, bool whole, int64_t) {
    if (whole) {
      LoadAligned<4>(row, k);
    } else {
      LoadAligned<2>(row, k);
    }
  }
  __device__ __forceinline__ void Decode(float (&out)[kPiece]) const {
#pragma unroll
    for (int i = 0; i < kPiece; ++i) out[i] = scale * FloatOfInteger(Code(i)) - minimum;  // the product is exact
  }
};

template <>
struct Piece<Format::kQ6K> : BlockPiece {
  __device__ __forceinline__ void Load(const Row& row, int k, int, bool, int64_t) {
    const uint8_t* block = row.values + k / 256 * int64_t{sizeof(q6_k)};
    const int half = k % 256 / 128, j = k % 128 / 32, l = k % 32;
    const uint2 low = LoadBytes<2>(block + offsetof(q6_k, low) + 64 * half + 32 * (j % 2) + l);
    const uint2 high = LoadBytes<2>(block + offsetof(q6_k, high) + 32 * half + l);
    const int nibble = j < 2 ? 0 : 4;
    const auto join = [&](uint32_t a, uint32_t b) {
      return ((a >> nibble) & 0x0f0f0f0fu) | ((b >> (2 * j)) & 0x03030303u) << 4;
    };
    code = make_uint2(join(low.x, high.x), join(low.y, high.y));
    const auto factor = static_cast<int8_t>(block[offsetof(q6_k, scales) + k % 256 / 16]);
    scale = FloatOfHalf(*reinterpret_cast<const uint16_t*>(block + offsetof(q6_k, d))) * static_cast<float>(factor);
  }
  __device__ __forceinline__ void Decode(float (&out)[kPiece]) const {
#pragma unroll
    for (int i = 0; i < kPiece; ++i) out[i] = scale * (FloatOfInteger(Code(i)) - 32.0f);
  }
};

template <>
struct Piece<Format::kGgmlMxfp4> : BlockPiece {
  __device__ __forceinline__ void Load(const Row& row, int k, int, bool, int64_t) {
    const uint8_t* block = row.values + k / 32 * int64_t{sizeof(ggml_mxfp4)};
    const uint2 both = LoadBytes<1>(block + offsetof(ggml_mxfp4, q) + k % 16);
    const int shift = k % 32 < 16 ? 0 : 4;
    code = make_uint2((both.x >> shift) & 0x0f0f0f0fu, (both.y >> shift) & 0x0f0f0f0fu);
    scale = FloatOfE8m0(block[0]);
  }
  __device__ __forceinline__ void Decode(float (&out)[kPiece]) const {
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      out[i] = __uint_as_float((Code(i) & 8u) << 28 | (Code(i) & 7u) << 22) * 0x1p126f * scale;
    }
  }
};

// Whichever format the row names, dequantised as it is read.
template <>
struct Piece<Format::kAnyActivation> {
  float value[kPiece];

  template <Format kFormat>
  __device__ __forceinline__ void LoadAs(const Row& row, int k, int count, bool whole, int64_t scale_column) {
    Piece<kFormat> piece;
    piece.Load(row, k, count, whole, scale_column);
    piece.Decode(value);
  }
  __device__ __forceinline__ void Load(const Row& row, int k, int count, bool whole, int64_t scale_column) {
    switch (row.format) {
      case Format::kF32:
        return LoadAs<Format::kF32>(row, k, count, whole, scale_column);
      case Format::kBf16:
        return LoadAs<Format::kBf16>(row, k, count, whole, scale_column);
      case Format::kFp8:
        return LoadAs<Format::kFp8>(row, k, count, whole, scale_column);
      default:
        return LoadAs<Format::kMxfp4>(row, k, count, whole, scale_column);
    }
  }
  __device__ __forceinline__ void Decode(float (&out)[kPiece]) const {
#pragma unroll
    for (int i = 0; i < kPiece; ++i) out[i] = value[i];
  }
};

}  // namespace mxmla::gpu
