#include "engine/random_rows.h"

#include <algorithm>
#include <numeric>
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

namespace {

// The first byte of a cache, whose rows lie one after another.
std::byte* FirstByte(const KvOutput<3>& pages) {
  return std::visit(
      [](const auto& v) {
        if constexpr (requires { v.latent; })
          return reinterpret_cast<std::byte*>(v.latent.values.data);
        else
          return reinterpret_cast<std::byte*>(v.data);
      },
      pages);
}

int64_t RowStride(const KvOutput<3>& pages) {
  return std::visit(
      [](const auto& v) {
        if constexpr (requires { v.latent; })
          return v.latent.values.stride[1];
        else
          return v.stride[1] * static_cast<int64_t>(sizeof(*v.data));
      },
      pages);
}

int64_t PageSize(const KvOutput<3>& pages) {
  return std::visit(
      [](const auto& v) {
        if constexpr (requires { v.latent; })
          return v.key.shape[1];
        else
          return v.shape[1];
      },
      pages);
}

// `pages` with other memory.
KvOutput<3> At(KvOutput<3> pages, std::byte* memory) {
  const std::byte* const from = FirstByte(pages);
  const auto move = [&](auto& plane) {
    using T = std::remove_reference_t<decltype(*plane.data)>;
    plane.data = reinterpret_cast<T*>(memory + (reinterpret_cast<const std::byte*>(plane.data) - from));
  };
  std::visit(
      [&](auto& v) {
        if constexpr (requires { v.latent; }) {
          move(v.latent.values);
          move(v.latent.scales);
          move(v.key);
        } else {
          move(v);
        }
      },
      pages);
  return pages;
}

// Rows for a cache that the host cannot write: made in the host's memory, in pages of the cache's layout, then sent to
// their places.
class FarRows {
 public:
  // `pages` is any layer's cache.
  FarRows(const KvOutput<3>& pages, int64_t begin, int64_t end)
      : layout_(pages), begin_(begin), end_(end), page_size_(PageSize(pages)), row_bytes_(RowStride(pages)) {}

  // Memory for one layer's rows.
  Memory Allocate() const {
    return AllocateHostMemory(static_cast<size_t>(Pages() * page_size_ * row_bytes_), Fill::kUntouched,
                              "random rows of the KV cache", "choose a shorter context");
  }

  void Write(std::byte* memory, uint64_t seed) const {
    std::vector<int32_t> in_order(static_cast<size_t>(Pages()));
    std::iota(in_order.begin(), in_order.end(), 0);
    WriteRandomRows(At(layout_, memory), in_order, begin_, end_, seed);
  }

  // From what Write wrote to the layer's cache `pages`, of which the sequence has those of `block_table`.
  void AddTransfers(const std::byte* memory, const KvOutput<3>& pages, std::span<const int32_t> block_table,
                    std::vector<Transfer>* transfers) const {
    for (int64_t row = begin_; row < end_;) {
      const int64_t page = row / page_size_, offset = row % page_size_;
      const int64_t rows = std::min(page_size_ - offset, end_ - row);
      const int64_t there = block_table[static_cast<size_t>(page)] * page_size_ + offset;
      transfers->push_back(
          {FirstByte(pages) + there * row_bytes_, memory + row * row_bytes_, static_cast<size_t>(rows * row_bytes_)});
      row += rows;
    }
  }

 private:
  int64_t Pages() const { return (end_ + page_size_ - 1) / page_size_; }

  KvOutput<3> layout_;  // of a cache, its addresses not to be used
  int64_t begin_, end_, page_size_;
  int64_t row_bytes_;  // from one row to the next
};

}  // namespace

void WriteRandomRows(Backend& backend, const Activations& buffers, std::span<const int32_t> block_table, int64_t begin,
                     int64_t end, uint64_t seed) {
  const auto seed_of = [&](int64_t layer) { return seed + static_cast<uint64_t>(layer); };
  if (backend.reads_host_memory()) {
    backend.pool().ParallelFor(buffers.layers(), [&](int64_t layer, int) {
      WriteRandomRows(buffers.KvPages(layer), block_table, begin, end, seed_of(layer));
      if (!buffers.HasIndexKeys(layer)) return;
      const auto write = [&](const auto& keys) { WriteRandomRows(keys, block_table, begin, end, ~seed_of(layer)); };
      std::visit(write, buffers.IndexKeyPages(layer));
    });
    return;
  }
  // Some layers at a time.
  const FarRows rows(buffers.KvPages(0), begin, end);
  std::vector<Memory> memory;
  const int64_t at_once = std::min<int64_t>(backend.pool().threads(), buffers.layers());
  for (int64_t i = 0; i < at_once; ++i) memory.push_back(rows.Allocate());
  for (int64_t first = 0; first < buffers.layers(); first += at_once) {
    const int64_t count = std::min(at_once, buffers.layers() - first);
    backend.pool().ParallelFor(count, [&](int64_t i, int) { rows.Write(memory[i].data(), seed_of(first + i)); });
    std::vector<Transfer> transfers;
    for (int64_t i = 0; i < count; ++i) {
      rows.AddTransfers(memory[i].data(), buffers.KvPages(first + i), block_table, &transfers);
    }
    backend.UploadAll(transfers, [](size_t) {});
  }
}

}  // namespace mxmla
