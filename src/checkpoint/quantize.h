// `mxmla quantize`: a BF16 or FP8 folder becomes a Quark-MXFP4 folder that other engines read.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"

namespace mxmla {

class ThreadPool;

struct QuantizeProgress {
  int64_t done_bytes = 0;  // of the source
  int64_t total_bytes = 0;
  std::string_view tensor;  // in hand
};

struct QuantizeOptions {
  // Modules to leave alone beside the defaults: names, globs or "re:" patterns (checkpoint/exclude_list.h). One that
  // matches no matrix is an Error (kUsage).
  std::vector<std::string> exclude;
  ScaleMode scale_mode = ScaleMode::kEven;
  ThreadPool* pool = nullptr;                                  // required
  std::function<void(const QuantizeProgress&)> progress = {};  // from the calling thread; may be empty
  // Set from a signal handler: the work stops within moments with an Error (kOutput), and nothing is left behind.
  const std::atomic<bool>* cancel = nullptr;
  uint64_t shard_bytes = 5'000'000'000;  // at most so many bytes of tensors a file
};

struct QuantizeResult {
  int64_t quantized = 0;  // matrices
  int64_t kept = 0;       // matrices of the layers that stay as they are
  int64_t source_bytes = 0;
  int64_t output_bytes = 0;  // of tensors
  int64_t shards = 0;
  std::vector<std::string> exclude;  // as written to config.json
  std::vector<std::string> notes;
};

// Every projection of attention, MLP and experts becomes MXFP4, with one scale for 32 elements along the contracted
// axis. Embeddings, lm_head, routers, norms, vision towers and MTP layers stay as they are, as does a matrix whose rows
// are no multiple of 32 elements or that `exclude` names; what of these is FP8 becomes BF16 (value * scale, rounded
// once), since a Quark folder has no DeepSeek FP8. The source is checked whole first. Tensors are streamed: memory
// holds one piece of one matrix. `destination` must not exist; it appears complete, with the tokenizer and the other
// small files, or not at all.
QuantizeResult QuantizeCheckpoint(const std::string& source, const std::string& destination,
                                  const QuantizeOptions& options);

}  // namespace mxmla
