// Rows of activations as a thread sees them: pieces of 8 consecutive elements in float32, whatever the type, alignment
// and strides in memory. Which thread has which piece depends on extents alone, so that results do too.
#pragma once

#include <algorithm>
#include <optional>
#include <type_traits>

#include "core/scaled.h"
#include "gpu/platform.h"

namespace mxmla::gpu {

inline constexpr int kPiece = 8;
// Lanes whose pieces share a scale: 32 elements of MXFP4, 128 of FP8.
inline constexpr int kMxLanes = kMxBlock / kPiece;
inline constexpr int kFp8Lanes = kFp8Group / kPiece;

inline int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One dimension of indices or of float32.
template <class T>
struct Strided {
  T* data = nullptr;  // null where the operand is absent
  int64_t step = 0;

  __device__ T& operator()(int64_t i) const { return data[i * step]; }
  __device__ explicit operator bool() const { return data != nullptr; }
};
template <class T>
Strided<T> StridedOf(const View<T, 1>& view) {
  return {view.empty() ? nullptr : view.data, view.stride[0]};
}
template <class T>
Strided<T> StridedOf(const std::optional<View<T, 1>>& view) {
  return view ? StridedOf(*view) : Strided<T>{};
}

// (rows, n) or (rows, heads, n) of float32 or bf16; Void is void or const void.
template <class Void>
struct FloatPlane {
  Void* data = nullptr;  // null where the operand is absent
  int64_t row = 0, head = 0, step = 0;
  bool half = false;
};

template <class T, int Rank>
auto FloatPlaneOf(const View<T, Rank>& view) {
  static_assert(Rank == 2 || Rank == 3);
  using Void = std::conditional_t<std::is_const_v<T>, const void, void>;
  return FloatPlane<Void>{view.data, view.stride[0], Rank == 3 ? view.stride[1] : 0, view.stride[Rank - 1],
                          std::is_same_v<std::remove_const_t<T>, bf16>};
}
template <class... Views>
auto FloatPlaneOf(const std::variant<Views...>& any) {
  return std::visit([](const auto& view) { return FloatPlaneOf(view); }, any);
}
inline FloatPlane<const void> FloatPlaneOf(const View<const float, 1>& row) {
  return {row.data, 0, 0, row.stride[0], false};
}

// What is known of a plane when a kernel is compiled: nothing, or that it is of bf16 (or float32), contiguous in its
// last dimension, that every row starts on a 16-byte boundary and is a whole number of pieces.
enum class Access { kAny, kHalf, kFull };

template <class Void>
bool Has(const FloatPlane<Void>& x, Access access, int64_t n) {
  if (x.data == nullptr) return true;  // an absent operand is never accessed
  const int64_t size = x.half ? 2 : 4;
  return x.half == (access == Access::kHalf) && x.step == 1 && n % kPiece == 0 &&
         reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.row * size % 16 == 0 && x.head * size % 16 == 0;
}

__device__ __forceinline__ float FromHalf(uint32_t bits) { return std::bit_cast<float>(bits << 16); }
__device__ __forceinline__ float RoundToHalf(float value) { return FromHalf(PackHalves(value, 0.0f)); }

// The element `at` steps behind the plane's first.
__device__ __forceinline__ float Element(const FloatPlane<const void>& x, int64_t at) {
  return x.half ? FromHalf(static_cast<const uint16_t*>(x.data)[at]) : static_cast<const float*>(x.data)[at];
}
__device__ __forceinline__ void SetElement(const FloatPlane<void>& out, int64_t at, float value) {
  if (out.half) {
    static_cast<uint16_t*>(out.data)[at] = static_cast<uint16_t>(PackHalves(value, 0.0f));
  } else {
    static_cast<float*>(out.data)[at] = value;
  }
}

__device__ __forceinline__ void DecodeHalves(const uint4& words, float v[kPiece]) {
  const uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = FromHalf(word[i]);
    v[2 * i + 1] = std::bit_cast<float>(word[i] & 0xffff0000u);
  }
}

// Elements begin .. begin + count of a row; the rest of `v` is 0. Where the access is known, count is kPiece: no branch
// stands between the loads of a thread.
template <Access kAccess, class Void>
__device__ __forceinline__ void LoadPiece(const FloatPlane<Void>& x, int64_t r, int64_t h, int64_t begin, int count,
                                          float v[kPiece]) {
  const bool half = kAccess == Access::kAny ? x.half : kAccess == Access::kHalf;
  const int64_t step = kAccess == Access::kAny ? x.step : 1;
  const int64_t at = r * x.row + h * x.head + begin * step;
  const auto whole = [&](const void* from) {
    return kAccess != Access::kAny || (count == kPiece && step == 1 && reinterpret_cast<uintptr_t>(from) % 16 == 0);
  };
  if (half) {
    const auto* from = static_cast<const uint16_t*>(x.data) + at;
    if (whole(from)) return DecodeHalves(*reinterpret_cast<const uint4*>(from), v);
#pragma unroll
    for (int i = 0; i < kPiece; ++i) v[i] = i < count ? FromHalf(from[i * step]) : 0.0f;
    return;
  }
  const auto* from = static_cast<const float*>(x.data) + at;
  if (whole(from)) {
    const float4 low = reinterpret_cast<const float4*>(from)[0];
    const float4 high = reinterpret_cast<const float4*>(from)[1];
    v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
    v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
    return;
  }
#pragma unroll
  for (int i = 0; i < kPiece; ++i) v[i] = i < count ? from[i * step] : 0.0f;
}

// Writes `count` elements, rounded to the plane's type; kPiece of them where the access is known.
template <Access kAccess>
__device__ __forceinline__ void StorePiece(const FloatPlane<void>& out, int64_t r, int64_t h, int64_t begin, int count,
                                           const float v[kPiece]) {
  const bool half = kAccess == Access::kAny ? out.half : kAccess == Access::kHalf;
  const int64_t step = kAccess == Access::kAny ? out.step : 1;
  const int64_t at = r * out.row + h * out.head + begin * step;
  const auto whole = [&](const void* to) {
    return kAccess != Access::kAny || (count == kPiece && step == 1 && reinterpret_cast<uintptr_t>(to) % 16 == 0);
  };
  if (half) {
    auto* to = static_cast<uint16_t*>(out.data) + at;
    if (whole(to)) {
      *reinterpret_cast<uint4*>(to) =
          make_uint4(PackHalves(v[0], v[1]), PackHalves(v[2], v[3]), PackHalves(v[4], v[5]), PackHalves(v[6], v[7]));
      return;
    }
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      if (i < count) to[i * step] = static_cast<uint16_t>(PackHalves(v[i], 0.0f));
    }
    return;
  }
  auto* to = static_cast<float*>(out.data) + at;
  if (whole(to)) {
    reinterpret_cast<float4*>(to)[0] = make_float4(v[0], v[1], v[2], v[3]);
    reinterpret_cast<float4*>(to)[1] = make_float4(v[4], v[5], v[6], v[7]);
    return;
  }
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    if (i < count) to[i * step] = v[i];
  }
}

// How the pieces of `vectors` vectors of n elements are dealt to threads: each vector takes a whole number of groups of
// 16 lanes, so that the lanes that share a scale are of one wave.
struct Pieces {
  uint32_t a_vector = 0;  // lanes
  uint32_t vectors = 0;
  int64_t n = 0;

  static constexpr int kThreads = 128;
  Pieces() = default;
  Pieces(std::string_view op, int64_t of_vectors, int64_t of_n) : n(of_n) {
    const int64_t lanes = DivideUp(of_n, kFp8Group) * kFp8Lanes;
    if (of_vectors > 0 && lanes > kMost / of_vectors) {
      Fail(ErrorCode::kLayout, std::string(op), "at most 2^32 pieces of 8 elements", std::to_string(lanes * of_vectors),
           "choose a smaller batch");
    }
    a_vector = static_cast<uint32_t>(lanes);
    vectors = static_cast<uint32_t>(of_vectors);
  }
  int64_t blocks() const { return DivideUp(int64_t{vectors} * a_vector, kThreads); }

 private:
  static constexpr int64_t kMost = 0xffffff00;
};

// A thread's piece; count is 0 for a lane without one, which must still meet the others of its wave.
struct Piece {
  uint32_t vector;
  int64_t begin;
  int count;

  __device__ explicit Piece(const Pieces& pieces) {
    const uint32_t i = blockIdx.x * Pieces::kThreads + threadIdx.x;
    vector = i / pieces.a_vector;
    begin = int64_t{i - vector * pieces.a_vector} * kPiece;
    const int64_t rest = vector < pieces.vectors ? pieces.n - begin : 0;
    count = rest <= 0 ? 0 : rest < kPiece ? static_cast<int>(rest) : kPiece;
  }
};

}  // namespace mxmla::gpu
