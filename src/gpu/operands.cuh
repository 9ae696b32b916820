// Operands of products on the device: rows of any format, read 8 elements at a time and dequantised to float32.
#pragma once

#include <type_traits>

#include "core/scaled.h"
#include "gpu/launch.h"
#include "gpu/read_formats.h"

namespace mxmla::gpu {

enum class Format { kF32, kBf16, kFp8, kMxfp4 };
constexpr int kFormats = 4;
constexpr int kPiece = 8;  // elements of k that a lane takes at a time

// (rows, heads, k), contiguous in k. Steps in elements of the planes.
struct Operand {
  const void* values = nullptr;
  const void* scales = nullptr;
  int64_t row = 0, head = 0;
  int64_t scale_row = 0, scale_head = 0, scale_column = 0;
  int64_t first_row = 0;      // FP8 weights: of the tensor that owns the scales
  int scale_rows_log2 = 0;    // FP8 weights: 128 rows share one
  bool whole_pieces = false;  // every piece lies at a multiple of its size
  Format format = Format::kF32;
};

template <Format kFormat>
struct FormatOf;
template <>
struct FormatOf<Format::kF32> {
  static constexpr int kWords = 8;  // of a piece
};
template <>
struct FormatOf<Format::kBf16> {
  static constexpr int kWords = 4;
};
template <>
struct FormatOf<Format::kFp8> {
  static constexpr int kWords = 2;
};
template <>
struct FormatOf<Format::kMxfp4> {
  static constexpr int kWords = 1;
};

// --- making operands of views (host) ---

inline bool PiecesAligned(const void* data, int64_t bytes, std::initializer_list<int64_t> steps_in_bytes) {
  uint64_t bits = reinterpret_cast<uintptr_t>(data);
  for (const int64_t step : steps_in_bytes) bits |= static_cast<uint64_t>(step);
  return bits % static_cast<uint64_t>(bytes) == 0;
}

template <class T>
Operand PlainOperand(const T* data, int64_t row, int64_t head) {
  Operand to;
  to.values = data;
  to.row = row;
  to.head = head;
  to.format = std::is_same_v<T, float> ? Format::kF32 : Format::kBf16;
  to.whole_pieces = PiecesAligned(data, 16, {row * int64_t{sizeof(T)}, head * int64_t{sizeof(T)}});
  return to;
}

// Of rank 2 (one head) or 3; a dimension of extent 1 has no step.
template <int Rank>
Operand OperandOf(const Activation<Rank>& activation) {
  const auto step = [](const auto& view, int d) { return d == Rank - 1 || view.shape[d] <= 1 ? 0 : view.stride[d]; };
  return std::visit(
      [&](const auto& x) {
        using V = std::decay_t<decltype(x)>;
        if constexpr (requires { x.values; }) {
          constexpr bool kFp8 = std::is_same_v<V, Fp8Group<const e4m3, Rank>>;
          Operand to;
          to.values = x.values.data;
          to.scales = x.scales.data;
          to.row = step(x.values, 0);
          to.head = step(x.values, 1);
          to.scale_row = step(x.scales, 0);
          to.scale_head = step(x.scales, 1);
          to.scale_column = x.scales.stride[Rank - 1];
          to.format = kFp8 ? Format::kFp8 : Format::kMxfp4;
          to.whole_pieces = PiecesAligned(to.values, kFp8 ? 8 : 4, {to.row, to.head});
          return to;
        } else {
          return PlainOperand(x.data, step(x, 0), step(x, 1));
        }
      },
      activation);
}

inline Operand OperandOf(const LinearWeight& weight) {
  return std::visit(
      [&](const auto& w) -> Operand {
        using V = std::decay_t<decltype(w)>;
        if constexpr (!kIsRead<V>) {
          Fail(ErrorCode::kLayout, "weight", "a format that this device reads", FormatName(weight));
        } else if constexpr (requires { w.values; }) {
          Operand to;
          to.values = w.values.data;
          to.scales = w.scales.data;
          to.row = w.values.stride[0];
          to.scale_row = w.scales.stride[0];
          to.scale_column = w.scales.stride[1];
          if constexpr (std::is_same_v<V, Fp8Block>) {
            to.format = Format::kFp8;
            to.first_row = w.first_row;
            to.scale_rows_log2 = w.scale_rows == 1 ? 0 : 7;
          } else {
            to.format = Format::kMxfp4;
          }
          to.whole_pieces = PiecesAligned(to.values, to.format == Format::kFp8 ? 8 : 4, {to.row});
          return to;
        } else {
          return PlainOperand(w.data, w.stride[0], 0);
        }
      },
      weight);
}

// Calls body(std::integral_constant<Format, format>).
template <class Body>
void ForFormat(Format format, const Body& body) {
  switch (format) {
    case Format::kF32:
      return body(std::integral_constant<Format, Format::kF32>{});
    case Format::kBf16:
      return body(std::integral_constant<Format, Format::kBf16>{});
    case Format::kFp8:
      return body(std::integral_constant<Format, Format::kFp8>{});
    case Format::kMxfp4:
      return body(std::integral_constant<Format, Format::kMxfp4>{});
  }
}

// --- reading them (device) ---

struct Row {
  const uint8_t* values;
  const void* scales;
};

template <Format kFormat>
__device__ __forceinline__ Row RowAt(const Operand& x, int64_t row, int64_t head) {
  constexpr int64_t kBytes = kFormat == Format::kF32 ? 4 : kFormat == Format::kBf16 ? 2 : 1;
  Row at{static_cast<const uint8_t*>(x.values) + (row * x.row + head * x.head) * kBytes, nullptr};
  if constexpr (kFormat == Format::kFp8) {
    at.scales = static_cast<const float*>(x.scales) + ((x.first_row + row) >> x.scale_rows_log2) * x.scale_row +
                head * x.scale_head;
  } else if constexpr (kFormat == Format::kMxfp4) {
    at.scales = static_cast<const uint8_t*>(x.scales) + row * x.scale_row + head * x.scale_head;
  }
  return at;
}

// Eight elements as they lie in memory, and their scale.
template <Format kFormat>
struct Piece {
  uint32_t word[FormatOf<kFormat>::kWords];
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
    } else if constexpr (kFormat == Format::kBf16) {
      const uint4 a = *reinterpret_cast<const uint4*>(row.values + int64_t{k} * 2);
      word[0] = a.x, word[1] = a.y, word[2] = a.z, word[3] = a.w;
    } else if constexpr (kFormat == Format::kFp8) {
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
    } else if constexpr (kFormat == Format::kBf16) {
      const auto* from = reinterpret_cast<const uint16_t*>(row.values) + k;
#pragma unroll
      for (int i = 0; i < kPiece; i += 2) {
        const uint32_t low = i < count ? from[i] : 0, high = i + 1 < count ? from[i + 1] : 0;
        word[i / 2] = low | high << 16;
      }
    } else {
      constexpr int kBytes = kFormat == Format::kFp8 ? 8 : 4;
      const uint8_t* from = row.values + (kFormat == Format::kFp8 ? k : k / 2);
#pragma unroll
      for (int w = 0; w < kBytes / 4; ++w) word[w] = 0;
#pragma unroll
      for (int i = 0; i < kBytes; ++i) {
        const bool there = kFormat == Format::kFp8 ? i < count : 2 * i < count;
        word[i / 4] |= (there ? uint32_t{from[i]} : 0u) << (8 * (i % 4));
      }
    }
  }

  __device__ __forceinline__ void LoadScale(const Row& row, int k, int64_t scale_column) {
    if constexpr (kFormat == Format::kFp8) {
      scale = static_cast<const float*>(row.scales)[k / static_cast<int>(kFp8Group) * scale_column];
    } else if constexpr (kFormat == Format::kMxfp4) {
      const uint32_t bits = static_cast<const uint8_t*>(row.scales)[k / static_cast<int>(kMxBlock)];
      scale = __uint_as_float(bits == 255 ? 0x7fc00000u : bits == 0 ? 0x400000u : bits << 23);
    }
  }

  __device__ __forceinline__ void Decode(float (&out)[kPiece]) const {
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      if constexpr (kFormat == Format::kF32) {
        out[i] = __uint_as_float(word[i]);
      } else if constexpr (kFormat == Format::kBf16) {
        out[i] = __uint_as_float(i % 2 ? word[i / 2] & 0xffff0000u : word[i / 2] << 16);
      } else if constexpr (kFormat == Format::kFp8) {
        // The code's exponent and mantissa as the lowest of a float's: 2^120 is what the two biases differ by.
        const uint32_t code = (word[i / 4] >> (8 * (i % 4))) & 0xffu;
        const float value = __uint_as_float((code & 0x80u) << 24 | (code & 0x7fu) << 20) * 0x1p120f;
        out[i] = ((code & 0x7fu) == 0x7fu ? __uint_as_float(0x7fc00000u) : value) * scale;
      } else {
        const uint32_t code = (word[0] >> (4 * i)) & 0xfu;
        out[i] = __uint_as_float((code & 8u) << 28 | (code & 7u) << 22) * 0x1p126f * scale;
      }
    }
  }
};

// --- sums over the 32 lanes ---

// Sums each of kCount values over the lanes, pairs of lanes 16, 8, 4, 2 and 1 apart: always in that order. Lane l holds
// sum l / (32 / kCount).
template <int kCount>
__device__ __forceinline__ float SumOverLanes(float (&value)[kCount], int lane) {
  static_assert(kCount <= 32 && (kCount & (kCount - 1)) == 0);
  int apart = 16;
#pragma unroll
  for (int left = kCount / 2; left > 0; left /= 2) {
    const bool upper = lane & apart;
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      if (i >= left) break;
      const float sent = upper ? value[i] : value[i + left];
      const float kept = upper ? value[i + left] : value[i];
      value[i] = kept + ShuffleXor(sent, apart);
    }
    apart /= 2;
  }
#pragma unroll
  for (int i = 0; i < 5; ++i) {
    if (apart > 0) value[0] += ShuffleXor(value[0], apart);
    apart /= 2;
  }
  return value[0];
}

__device__ __forceinline__ void StoreFloat(void* to, int64_t at, float value, bool is_float) {
  if (is_float) {
    static_cast<float*>(to)[at] = value;
  } else {
    static_cast<bf16*>(to)[at] = bf16::FromFloat(value);
  }
}

}  // namespace mxmla::gpu
