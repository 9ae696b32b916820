// Elements of weights and activations as float32, whatever format and strides they lie in: the one place where ref
// reads and writes.
#pragma once

#include <algorithm>

#include "core/kv_format.h"
#include "ops/quantize_block.h"

namespace mxmla::ref {

// --- loads: `count` elements from element `begin` of one vector on, dequantised ---

template <class T>
void Load(const View<const T, 1>& row, int64_t begin, int64_t count, float* out /* (count) */) {
  const T* from = row.data + begin * row.stride[0];
  if (row.stride[0] == 1) {
    for (int64_t i = 0; i < count; ++i) out[i] = ToFloat(from[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = ToFloat(from[i * row.stride[0]]);
  }
}

inline float E2m1At(const View<const e2m1x2, 1>& values, int64_t i) {
  const e2m1x2 pair = values(i / 2);
  return i % 2 ? pair.High() : pair.Low();
}

inline void Load(const Mxfp4<const e2m1x2, 1>& row, int64_t begin, int64_t count, float* out /* (count) */) {
  for (int64_t i = 0; i < count;) {
    const int64_t block = (begin + i) / kMxBlock;
    const int64_t end = std::min(count, (block + 1) * kMxBlock - begin);
    const float scale = row.scales(block).ToFloat();
    for (; i < end; ++i) out[i] = E2m1At(row.values, begin + i) * scale;
  }
}

inline void Load(const Fp8Group<const e4m3, 1>& row, int64_t begin, int64_t count, float* out /* (count) */) {
  for (int64_t i = 0; i < count;) {
    const int64_t group = (begin + i) / kFp8Group;
    const int64_t end = std::min(count, (group + 1) * kFp8Group - begin);
    const float scale = row.scales(group);
    for (; i < end; ++i) out[i] = row.values(begin + i).ToFloat() * scale;
  }
}

inline void Load(const Fp8Kv<const e4m3, 1>& row, int64_t begin, int64_t count, float* out /* (count) */) {
  const int64_t rank = row.latent.extent(0);
  const int64_t of_latent = std::clamp<int64_t>(rank - begin, 0, count);
  Load(row.latent, begin, of_latent, out);
  Load(row.key, begin + of_latent - rank, count - of_latent, out + of_latent);
}

// --- one vector of a higher-rank operand ---

template <class T, int Rank>
View<T, Rank - 1> At(const View<T, Rank>& view, int64_t index) {
  return view.Select(0, index);
}
template <class V, int Rank>
Mxfp4<V, Rank - 1> At(const Mxfp4<V, Rank>& x, int64_t index) {
  return {x.values.Select(0, index), x.scales.Select(0, index)};
}
template <class V, int Rank>
Fp8Group<V, Rank - 1> At(const Fp8Group<V, Rank>& x, int64_t index) {
  return {x.values.Select(0, index), x.scales.Select(0, index)};
}

template <class V, int Rank>
Fp8Kv<V, Rank - 1> At(const Fp8Kv<V, Rank>& x, int64_t index) {
  return {At(x.latent, index), At(x.key, index)};
}

template <class... Alternatives>
void LoadRow(const std::variant<Alternatives...>& x /* (rows, k) */, int64_t r, int64_t begin, int64_t count,
             float* out) {
  std::visit([&](const auto& v) { Load(At(v, r), begin, count, out); }, x);
}
template <class... Alternatives>
void LoadRow(const std::variant<Alternatives...>& x /* (rows, heads, k) */, int64_t r, int64_t h, int64_t begin,
             int64_t count, float* out) {
  std::visit([&](const auto& v) { Load(At(At(v, r), h), begin, count, out); }, x);
}

// Row r of a weight.
inline void LoadWeight(const LinearWeight& weight /* (n, k) */, int64_t r, int64_t begin, int64_t count, float* out) {
  std::visit(
      [&](const auto& w) {
        using W = std::decay_t<decltype(w)>;
        if constexpr (std::is_same_v<W, View<const float, 2>> || std::is_same_v<W, View<const bf16, 2>> ||
                      std::is_same_v<W, Mxfp4<const e2m1x2, 2>>) {
          Load(At(w, r), begin, count, out);
        } else {
          Dequantize(w, r, begin, count, out);
        }
      },
      weight);
}

// --- stores: `count` float32 values rounded or quantised into one vector, from element `begin` on ---

template <class T>
void Store(const View<T, 1>& row, int64_t begin, int64_t count, const float* values, ScaleMode) {
  for (int64_t i = 0; i < count; ++i) row(begin + i) = FromFloat<T>(values[i]);
}

// `begin` and `count` are multiples of 32.
inline void Store(const Mxfp4<e2m1x2, 1>& row, int64_t begin, int64_t count, const float* values, ScaleMode mode) {
  for (int64_t i = 0; i < count; i += kMxBlock) {
    e2m1x2 codes[kMxBlock / 2];
    row.scales((begin + i) / kMxBlock) = QuantizeMxfp4Block(values + i, mode, codes);
    for (int64_t j = 0; j < kMxBlock / 2; ++j) row.values((begin + i) / 2 + j) = codes[j];
  }
}

// `begin` is a multiple of 128, and `count` too unless the vector ends there.
inline void Store(const Fp8Group<e4m3, 1>& row, int64_t begin, int64_t count, const float* values, ScaleMode mode) {
  for (int64_t i = 0; i < count; i += kFp8Group) {
    const int64_t n = std::min(kFp8Group, count - i);
    e4m3 codes[kFp8Group];
    row.scales((begin + i) / kFp8Group) = QuantizeFp8Group(values + i, n, mode, codes);
    for (int64_t j = 0; j < n; ++j) row.values(begin + i + j) = codes[j];
  }
}

template <class... Alternatives>
void StoreRow(const std::variant<Alternatives...>& out /* (rows, n) */, int64_t r, int64_t begin, int64_t count,
              const float* values, ScaleMode mode = ScaleMode::kEven) {
  std::visit([&](const auto& v) { Store(At(v, r), begin, count, values, mode); }, out);
}
template <class... Alternatives>
void StoreRow(const std::variant<Alternatives...>& out /* (rows, heads, n) */, int64_t r, int64_t h, int64_t begin,
              int64_t count, const float* values, ScaleMode mode = ScaleMode::kEven) {
  std::visit([&](const auto& v) { Store(At(At(v, r), h), begin, count, values, mode); }, out);
}

}  // namespace mxmla::ref
