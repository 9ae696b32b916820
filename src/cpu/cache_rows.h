// Rows of the paged cache as attention's tiles read them: where they lie, or, of an FP8 cache, decoded to float32 in a
// worker's scratch, once for all heads of a task.
#pragma once

#include "core/kv_format.h"
#include "cpu/attention_tile.h"

namespace mxmla::cpu::MXMLA_CPU_ISA {

template <class T>
struct PlainRows {
  using Element = T;
  const View<const T, 3>& pages;  // (pages, page_size, width)

  explicit PlainRows(const View<const T, 3>& kv_pages) : pages(kv_pages) {}

  int64_t page_size() const { return pages.shape[1]; }
  int64_t width() const { return pages.shape[2]; }

  const T* At(int64_t page, int64_t slot) const { return pages.data + page * pages.stride[0] + slot * pages.stride[1]; }
  const T* Read(int64_t page, int64_t slot, float*) const { return At(page, slot); }
  // As a split row, with zeros up to whole blocks.
  void Decode(int64_t page, int64_t slot, float* to) const { ToSplit(At(page, slot), width(), to); }
  // Where a row begins, and its bytes.
  const void* Begin(int64_t page, int64_t slot) const { return At(page, slot); }
  int64_t row_bytes() const { return width() * static_cast<int64_t>(sizeof(T)); }
};

struct Fp8Rows {
  using Element = float;
  const Fp8Kv<const e4m3, 3>& pages;

  explicit Fp8Rows(const Fp8Kv<const e4m3, 3>& kv_pages) : pages(kv_pages) {}

  int64_t page_size() const { return pages.latent.extent(1); }
  int64_t width() const { return pages.extent(2); }

  // `decoded` has room for the width rounded up to whole blocks.
  const float* Read(int64_t page, int64_t slot, float* decoded) const {
    const int64_t rank = pages.latent.extent(2);
    Unpack(RowOf(pages.latent, page, slot), {0, rank / kBlock, rank % kBlock}, decoded);
    const bf16* key = pages.key.data + page * pages.key.stride[0] + slot * pages.key.stride[1];
    for (int64_t i = 0; i < pages.key.shape[2]; ++i) decoded[rank + i] = mxmla::ToFloat(key[i * pages.key.stride[2]]);
    return decoded;
  }
  void Decode(int64_t page, int64_t slot, float* to) const {
    const int64_t rank = pages.latent.extent(2);
    if (rank % kBlock != 0) {  // the key begins inside a block
      Read(page, slot, to);
      alignas(64) float block[kBlock];
      for (int64_t k = 0; k < width(); k += kBlock) {
        ToSplit(to + k, std::min(kBlock, width() - k), block);
        std::memcpy(to + k, block, sizeof(block));
      }
      return;
    }
    Pack(RowOf(pages.latent, page, slot), {0, rank / kBlock, 0}, to, kBlock);
    ToSplit(pages.key.data + page * pages.key.stride[0] + slot * pages.key.stride[1], pages.key.shape[2], to + rank);
  }
  const void* Begin(int64_t page, int64_t slot) const {
    const View<const e4m3, 3>& values = pages.latent.values;
    return values.data + page * values.stride[0] + slot * values.stride[1];
  }
  int64_t row_bytes() const { return pages.latent.values.stride[1]; }
};

template <class T>
PlainRows<T> RowsOf(const View<const T, 3>& pages) {
  return PlainRows<T>(pages);
}
inline Fp8Rows RowsOf(const Fp8Kv<const e4m3, 3>& pages) { return Fp8Rows(pages); }

// Floats of scratch that a tile's decoded rows take: none of a plain cache.
inline int64_t DecodedFloats(const KvInput<3>& kv_pages) {
  const auto* fp8 = std::get_if<Fp8Kv<const e4m3, 3>>(&kv_pages);
  return fp8 ? kTokenTile * RoundUp(fp8->extent(2), kBlock) : 0;
}

}  // namespace mxmla::cpu::MXMLA_CPU_ISA
