// The choices a user has about how a model is computed.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "checkpoint/config.h"
#include "core/scaled.h"

namespace mxmla {

// How the V projection's result reaches o_proj: the finding this engine began with (DESIGN.md).
enum class VLayout {
  kCopy,     // head-major, then an explicit copy to token-major, then flatten (and quantise)
  kStrided,  // a transposed view of the token-major buffer, then a free flatten (or flatten and quantise)
  kFused,    // o_proj's input itself, from the product's epilogue
};

// What kv_b_proj's halves are held in for the absorbed path.
enum class AbsorbDType {
  kCheckpoint,  // views of the checkpoint's tensor
  kBf16,        // dequantised and rounded to bf16
  kMxfp4,       // re-quantised along the contracted axes, as some engines do; loses accuracy
};

// What the input of every product with FP8 or MXFP4 weights is quantised to, along the contracted axis. Products with
// BF16 weights take plain activations.
enum class ActivationFormat { kPlain, kFp8, kMxfp4 };

// What a cache row is held in.
enum class KvDType {
  kAuto,  // the backend's plain activation type: float32 (ref) or bf16 (cpu)
  kBf16,
  kFp8,  // core/kv_format.h: the latent in e4m3 with a scale for each 128, the rotated key in bf16
};

struct ModelOptions {
  VLayout v_layout = VLayout::kFused;
  AbsorbDType absorb_dtype = AbsorbDType::kCheckpoint;
  ActivationFormat activations = ActivationFormat::kPlain;
  KvDType kv_dtype = KvDType::kAuto;
  int64_t max_batch_tokens = 512;  // rows of one forward pass
  int64_t max_logit_rows = 64;     // rows whose logits one forward pass may give
  int64_t max_context = 0;         // tokens of the longest sequence
  int64_t max_sequences = 1;       // sequences of one forward pass
  int64_t kv_pages = 0;            // pages of the cache, page_size tokens each
  int64_t page_size = 64;
  // Row counts that steps are padded to, ascending; empty: none. The last should be at least max_batch_tokens.
  std::vector<int64_t> row_buckets;
  // Where the scheduler cuts prompts: at multiples of this (or of max_batch_tokens, if that is less); 0: of the
  // backend's prefill_rows.
  int64_t prefill_chunk = 0;
  // Whether the scheduler queues a step before it knows the tokens of the one before; absent: where kernels run apart
  // from the host.
  std::optional<bool> queues_ahead;
  // Whether requests share the pages of equal prompt prefixes, whole prefill chunks of them.
  bool prefix_cache = true;
};

// Pages behind the cache's last, which nobody reads, so that every padding row of a step (of its absorbed rows and of
// its expanded ones) has a slot of its own to write to.
int64_t PaddingPages(const ModelOptions& options);

// Whether a session with these options may meet a context that attention reads only in part. Where it may not, the
// indexer does not run and takes no memory.
inline bool UsesIndexer(const ModelConfig& config, const ModelOptions& options) {
  return config.indexer.topk > 0 && options.max_context > config.indexer.topk;
}

// Whether a product with `weight` takes quantised activations.
inline bool TakesQuantized(const ModelOptions& options, const LinearWeight& weight) {
  return options.activations != ActivationFormat::kPlain && IsQuantized(weight);
}

}  // namespace mxmla
