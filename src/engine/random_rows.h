// A cache that holds something without a prompt having been computed, for measuring how long contexts are decoded.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/kv_format.h"
#include "ops/backend.h"

namespace mxmla {

// Writes the rows of positions `begin` .. `end` - 1 of a sequence whose pages are `block_table` into one layer's cache
// (pages, page_size, width): independent numbers, uniform, of mean 0 and variance 1 as a normalised latent's are. The
// same seed gives the same rows.
void WriteRandomRows(const KvOutput<3>& pages, std::span<const int32_t> block_table, int64_t begin, int64_t end,
                     uint64_t seed);

// The same rows for a cache that the host cannot write: made in the host's memory, in pages of the cache's layout, then
// sent to their places.
class RandomRows {
 public:
  // `pages` is any layer's cache.
  RandomRows(const KvOutput<3>& pages, int64_t begin, int64_t end, int64_t page_size);

  // Memory for one layer's rows.
  Memory Allocate() const;
  void Write(std::byte* memory, uint64_t seed) const;
  // From what Write wrote to the layer's cache `pages`, of which the sequence has those of `block_table`.
  void AddTransfers(const std::byte* memory, const KvOutput<3>& pages, std::span<const int32_t> block_table,
                    std::vector<Transfer>* transfers) const;

 private:
  KvOutput<3> layout_;  // of a cache, its addresses not to be used
  int64_t begin_, end_, page_size_;
  int64_t row_bytes_ = 0;  // from one row to the next
};

}  // namespace mxmla
