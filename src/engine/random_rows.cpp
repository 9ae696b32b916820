#include "engine/random_rows.h"

#include <utility>

namespace mxmla {
namespace {

constexpr float kLargest = 1.7320508f;  // uniform numbers up to this have variance 1

// SplitMix64 (Steele, Lea and Flood, 2014): a number from its index, so that rows do not depend on each other.
float Uniform(uint64_t seed, uint64_t index) {
  uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return kLargest * (static_cast<float>(z >> 40) * 0x1p-23f - 1);
}

template <class T>
void WriteRow(const View<T, 3>& out, int64_t page, int64_t row, uint64_t seed, uint64_t index) {
  for (int64_t i = 0; i < out.shape[2]; ++i) {
    out(page, row, i) = FromFloat<T>(Uniform(seed, index + static_cast<uint64_t>(i)));
  }
}

}  // namespace

void WriteRandomRows(const KvOutput<3>& pages, std::span<const int32_t> block_table, int64_t begin, int64_t end,
                     uint64_t seed) {
  std::visit(
      [&](const auto& out) {
        constexpr bool kFp8 = requires { out.latent; };
        const auto [page_size, width] = [&] {
          if constexpr (kFp8) {
            return std::pair(out.key.shape[1], out.extent(2));
          } else {
            return std::pair(out.shape[1], out.shape[2]);
          }
        }();
        for (int64_t position = begin; position < end; ++position) {
          const int64_t page = block_table[static_cast<size_t>(position / page_size)];
          const int64_t row = position % page_size;
          const auto index = static_cast<uint64_t>(position * width);
          if constexpr (kFp8) {
            constexpr float kScale = kLargest / 448;  // the largest e4m3
            for (int64_t g = 0; g < out.latent.scales.shape[2]; ++g) out.latent.scales(page, row, g) = kScale;
            for (int64_t i = 0; i < out.latent.values.shape[2]; ++i) {
              out.latent.values(page, row, i) =
                  e4m3::FromFloat(Uniform(seed, index + static_cast<uint64_t>(i)) / kScale);
            }
            WriteRow(out.key, page, row, seed, index + static_cast<uint64_t>(out.latent.values.shape[2]));
          } else {
            WriteRow(out, page, row, seed, index);
          }
        }
      },
      pages);
}

void WriteRandomRows(Backend& backend, const Activations& buffers, std::span<const int32_t> block_table, int64_t begin,
                     int64_t end, uint64_t seed) {
  backend.pool().ParallelFor(buffers.layers(), [&](int64_t layer, int) {
    WriteRandomRows(buffers.KvPages(layer), block_table, begin, end, seed + static_cast<uint64_t>(layer));
  });
}

}  // namespace mxmla
