// The formats of the paged cache of latents. A row holds a token's latent (kv_lora_rank) and its rotated key
// (qk_rope_head_dim), shared by all heads.
#pragma once

#include "core/scaled.h"

namespace mxmla {

// Plain rows are one view (.., kv_lora_rank + qk_rope_head_dim). An FP8 row is one stretch of memory seen as three
// views: the latent's e4m3 codes, their float32 scales, one for each 128, then the key in bf16. For 512 + 64: 656 bytes
// (the row of FlashMLA's FP8 cache).
template <class Values, int Rank>
struct Fp8Kv {
  using Key = std::conditional_t<std::is_const_v<Values>, const bf16, bf16>;
  static constexpr int kRank = Rank;

  Fp8Group<Values, Rank> latent;  // (.., kv_lora_rank)
  View<Key, Rank> key;            // (.., qk_rope_head_dim)

  // NOLINTNEXTLINE(google-explicit-constructor)
  operator Fp8Kv<const Values, Rank>() const requires(!std::is_const_v<Values>) { return {latent, key}; }

  // The extent of dimension d in elements of the latent and the key together.
  int64_t extent(int d) const { return d == Rank - 1 ? latent.extent(d) + key.shape[d] : latent.extent(d); }
};

template <int Rank>
using KvInput = std::variant<View<const float, Rank>, View<const bf16, Rank>, Fp8Kv<const e4m3, Rank>>;
template <int Rank>
using KvOutput = std::variant<View<float, Rank>, View<bf16, Rank>, Fp8Kv<e4m3, Rank>>;

template <int Rank>
KvInput<Rank> AsKvInput(const KvOutput<Rank>& out) {
  return std::visit(
      [](const auto& v) -> KvInput<Rank> {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, Fp8Kv<e4m3, Rank>>) {
          return Fp8Kv<const e4m3, Rank>(v);
        } else {
          return View<const typename std::decay_t<decltype(v)>::Element, Rank>(v);
        }
      },
      out);
}

// Bytes of one row's elements, without padding between rows.
template <int Rank>
int64_t KvRowBytes(const KvInput<Rank>& kv) {
  return std::visit(
      [](const auto& v) -> int64_t {
        if constexpr (requires { v.latent; }) {
          return v.latent.extent(Rank - 1) + v.latent.scales.shape[Rank - 1] * static_cast<int64_t>(sizeof(float)) +
                 v.key.shape[Rank - 1] * static_cast<int64_t>(sizeof(bf16));
        } else {
          return v.shape[Rank - 1] * static_cast<int64_t>(sizeof(*v.data));
        }
      },
      kv);
}

// Bytes from one FP8 row to the next: a multiple of 4, as the scales' alignment asks.
int64_t Fp8KvRowStride(int64_t kv_lora_rank, int64_t qk_rope_head_dim);
// The views of `pages` x `page_size` FP8 rows at `memory`, which is aligned to 4 bytes.
Fp8Kv<e4m3, 3> Fp8KvPages(e4m3* memory, int64_t pages, int64_t page_size, int64_t kv_lora_rank,
                          int64_t qk_rope_head_dim);

}  // namespace mxmla
