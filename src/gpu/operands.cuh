// Operands of products on the device: rows of any format, which pieces.cuh reads 8 elements at a time.
#pragma once

#include <type_traits>

#include "core/scaled.h"
#include "gpu/launch.h"

namespace mxmla::gpu {

// The first four are activations' formats too; kAnyActivation is whichever of them the operand names.
enum class Format : uint8_t {
  kF32,
  kBf16,
  kFp8,
  kMxfp4,
  kF16,
  kMxfp8,
  kInt4,
  kNvfp4,
  kQ8_0,
  kQ4K,
  kQ6K,
  kGgmlMxfp4,
  kAnyActivation
};
constexpr int kActivationFormats = 4;
constexpr int kWeightFormats = 12;
constexpr int kPiece = 8;  // elements of k that a lane takes at a time

constexpr bool IsActivationFormat(Format format) { return static_cast<int>(format) < kActivationFormats; }

// (rows, heads, k), contiguous in k. Steps in elements of the planes; of GGUF's blocks, in bytes.
struct Operand {
  const void* values = nullptr;
  const void* scales = nullptr;
  int64_t row = 0, head = 0;
  int64_t scale_row = 0, scale_head = 0, scale_column = 0;
  int64_t first_row = 0;      // FP8 weights: of the tensor that owns the scales
  float tensor_scale = 1;     // NVFP4
  int scale_rows_log2 = 0;    // FP8 weights: 128 rows share one
  bool divides = false;       // NVFP4: the tensor's scale is a divisor
  bool whole_pieces = false;  // every piece lies at a multiple of its size
  Format format = Format::kF32;
};

// --- making operands of views (host) ---

inline bool PiecesAligned(const void* data, int64_t bytes, std::initializer_list<int64_t> steps_in_bytes) {
  uint64_t bits = reinterpret_cast<uintptr_t>(data);
  for (const int64_t step : steps_in_bytes) bits |= static_cast<uint64_t>(step);
  return bits % static_cast<uint64_t>(bytes) == 0;
}

// Bytes of a piece in the plane of values: what whole_pieces speaks of.
constexpr int64_t PieceBytes(Format format) {
  switch (format) {
    case Format::kF32:
    case Format::kBf16:
    case Format::kF16:
      return 16;
    case Format::kFp8:
    case Format::kMxfp8:
      return 8;
    case Format::kQ8_0:
    case Format::kQ6K:
      return 2;
    case Format::kGgmlMxfp4:
      return 1;
    default:
      return 4;
  }
}

template <class T>
Operand PlainOperand(const T* data, int64_t row, int64_t head) {
  Operand to;
  to.values = data;
  to.row = row;
  to.head = head;
  to.format = std::is_same_v<T, float> ? Format::kF32 : Format::kBf16;
  to.whole_pieces = PiecesAligned(data, PieceBytes(to.format), {row * int64_t{sizeof(T)}, head * int64_t{sizeof(T)}});
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
          to.whole_pieces = PiecesAligned(to.values, PieceBytes(to.format), {to.row, to.head});
          return to;
        } else {
          return PlainOperand(x.data, step(x, 0), step(x, 1));
        }
      },
      activation);
}

template <class Weight>
constexpr Format WeightFormat() {
  if constexpr (std::is_same_v<Weight, View<const float, 2>>) return Format::kF32;
  if constexpr (std::is_same_v<Weight, View<const bf16, 2>>) return Format::kBf16;
  if constexpr (std::is_same_v<Weight, View<const f16, 2>>) return Format::kF16;
  if constexpr (std::is_same_v<Weight, Fp8Block>) return Format::kFp8;
  if constexpr (std::is_same_v<Weight, Mxfp4<const e2m1x2, 2>>) return Format::kMxfp4;
  if constexpr (std::is_same_v<Weight, Mxfp8>) return Format::kMxfp8;
  if constexpr (std::is_same_v<Weight, Int4Group>) return Format::kInt4;
  if constexpr (std::is_same_v<Weight, Nvfp4>) return Format::kNvfp4;
  if constexpr (std::is_same_v<Weight, GgmlMatrix<q8_0>>) return Format::kQ8_0;
  if constexpr (std::is_same_v<Weight, GgmlMatrix<q4_k>>) return Format::kQ4K;
  if constexpr (std::is_same_v<Weight, GgmlMatrix<q6_k>>) return Format::kQ6K;
  if constexpr (std::is_same_v<Weight, GgmlMatrix<ggml_mxfp4>>) return Format::kGgmlMxfp4;
}

inline Operand OperandOf(const LinearWeight& weight) {
  return std::visit(
      [&](const auto& w) -> Operand {
        using V = std::decay_t<decltype(w)>;
        constexpr Format kFormat = WeightFormat<V>();
        Operand to;
        to.format = kFormat;
        int64_t row_bytes = 0;
        if constexpr (requires { w.values; }) {
          row_bytes = w.values.stride[0] * int64_t{sizeof(*w.values.data)};
          to.values = w.values.data;
          to.row = row_bytes;
          if constexpr (requires { w.scales; }) {
            to.scales = w.scales.data;
            to.scale_row = w.scales.stride[0];
            to.scale_column = w.scales.stride[1];
          }
        } else {
          row_bytes = w.stride[0] * int64_t{sizeof(*w.data)};
          to.values = w.data;
          to.row = w.stride[0];
        }
        if constexpr (std::is_same_v<V, Fp8Block>) {
          to.first_row = w.first_row;
          to.scale_rows_log2 = w.scale_rows == 1 ? 0 : 7;
        }
        if constexpr (std::is_same_v<V, Nvfp4>) {
          to.tensor_scale = w.tensor_scale;
          to.divides = w.divides;
        }
        to.whole_pieces = PiecesAligned(to.values, PieceBytes(kFormat), {row_bytes});
        return to;
      },
      weight);
}

// Calls body(std::integral_constant<Format, format>) for one of the formats in [kFirst, kLast).
template <int kFirst, int kLast, class Body>
void ForFormat(Format format, const Body& body) {
  static_assert(kFirst < kLast);
  if constexpr (kFirst + 1 < kLast) {
    if (format != static_cast<Format>(kFirst)) return ForFormat<kFirst + 1, kLast>(format, body);
  }
  body(std::integral_constant<Format, static_cast<Format>(kFirst)>{});
}
// Of the activations' formats.
template <class Body>
void ForActivationFormat(Format format, const Body& body) {
  ForFormat<0, kActivationFormats>(format, body);
}
// Of the weights that a kernel for activations in kX multiplies. A weight that is no activation's format meets bf16, or
// else kAnyActivation, whose kernels look at each piece what it is.
template <Format kX, class Body>
void ForWeightFormat(Format format, const Body& body) {
  constexpr int kFirst = kX == Format::kAnyActivation ? kActivationFormats : 0;
  constexpr int kLast = kX == Format::kAnyActivation || kX == Format::kBf16 ? kWeightFormats : kActivationFormats;
  ForFormat<kFirst, kLast>(format, body);
}
// The kX that takes activations in `x` and weights in `weight`.
inline Format KernelFormat(Format x, Format weight) {
  return IsActivationFormat(weight) || x == Format::kBf16 ? x : Format::kAnyActivation;
}

// --- sums over the 32 lanes ---

// Sums each of kCount values over the lanes, pairs of lanes 16, 8, 4, 2 and 1 apart: always in that order. Lane l holds
// sum l / (32 / kCount).
template <int kApart = 16, int kCount>
__device__ __forceinline__ float SumOverLanes(const float (&value)[kCount], int lane) {
  static_assert((kCount == 1 || kCount <= 2 * kApart) && (kCount & (kCount - 1)) == 0);
  if constexpr (kCount > 1) {
    constexpr int kHalf = kCount / 2;
    const bool upper = lane & kApart;
    float left[kHalf];
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float sent = upper ? value[i] : value[i + kHalf];
      const float kept = upper ? value[i + kHalf] : value[i];
      left[i] = kept + ShuffleXor(sent, kApart);
    }
    return SumOverLanes<kApart / 2>(left, lane);
  } else {
    float sum = value[0];
#pragma unroll
    for (int apart = kApart; apart > 0; apart /= 2) sum += ShuffleXor(sum, apart);
    return sum;
  }
}

__device__ __forceinline__ void StoreFloat(void* to, int64_t at, float value, bool is_float) {
  if (is_float) {
    static_cast<float*>(to)[at] = value;
  } else {
    static_cast<bf16*>(to)[at] = bf16::FromFloat(value);
  }
}

}  // namespace mxmla::gpu
