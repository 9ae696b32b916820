// A cache that holds something without a prompt having been computed, for measuring how long contexts are decoded.
#pragma once

#include <cstdint>
#include <span>

#include "core/kv_format.h"
#include "model/activations.h"
#include "ops/backend.h"

namespace mxmla {

// Writes the rows of positions `begin` .. `end` - 1 of a sequence whose pages are `block_table` into one layer's cache
// (pages, page_size, width): independent numbers, uniform, of mean 0 and variance 1 as a normalised latent's are. The
// same seed gives the same rows.
void WriteRandomRows(const KvOutput<3>& pages, std::span<const int32_t> block_table, int64_t begin, int64_t end,
                     uint64_t seed);

// The same in every layer of `buffers`' cache, wherever it lies, layer l with `seed` + l; on the host the indexers'
// keys too.
void WriteRandomRows(Backend& backend, const Activations& buffers, std::span<const int32_t> block_table, int64_t begin,
                     int64_t end, uint64_t seed);

}  // namespace mxmla
