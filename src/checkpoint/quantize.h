// `mxmla quantize`: a folder or GGUF file of any format that is read becomes one of MXFP4, FP8 blocks or BF16 that
// other engines read.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
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

enum class TargetFormat {
  kMxfp4,  // Quark's
  kFp8,    // DeepSeek's: squares of 128 x 128
  kBf16,   // no quantisation: value rounded once
};

struct QuantizeOptions {
  TargetFormat format = TargetFormat::kMxfp4;
  // Lets matrices of 4 bits become MXFP4: both roundings stay in the result.
  bool requantize = false;
  // Modules to leave alone beside the defaults: names, globs or "re:" patterns (checkpoint/exclude_list.h). One that
  // matches no matrix is an Error (kUsage).
  std::vector<std::string> exclude;
  ScaleMode scale_mode = ScaleMode::kEven;
  // Files for the folder beside the weights and the config, by name: a GGUF file's tokenizer.
  std::map<std::string, std::string> files = {};
  ThreadPool* pool = nullptr;                                  // required
  std::function<void(const QuantizeProgress&)> progress = {};  // from the calling thread; may be empty
  // Set from a signal handler: the work stops within moments with an Error (kOutput), and nothing is left behind.
  const std::atomic<bool>* cancel = nullptr;
  uint64_t shard_bytes = 5'000'000'000;  // at most so many bytes of tensors a file
};

// How far a group's quantised matrices are from the source's.
struct QuantizeError {
  std::string group;  // "attention", "kv_b_proj", "dense mlp", "experts" or "shared experts"
  int64_t matrices = 0;
  double relative = 0;  // |written - source| / |source|, Frobenius norms over the group
};

struct QuantizeResult {
  std::vector<QuantizeError> errors;  // of the groups with matrices of the target format
  int64_t quantized = 0;              // matrices
  int64_t kept = 0;                   // matrices of the layers that stay as they are
  int64_t source_bytes = 0;
  int64_t output_bytes = 0;  // of tensors
  int64_t shards = 0;
  std::vector<std::string> exclude;  // as written to config.json
  std::vector<std::string> notes;
};

// Every projection of attention, MLP and experts becomes MXFP4 (one scale for 32 elements along the contracted axis),
// FP8 (one for each square of 128 x 128, the largest magnitude / 448) or BF16. Embeddings, lm_head, routers, norms,
// vision towers and MTP layers stay as they are, as does a matrix that `exclude` names or, for MXFP4, whose rows are no
// multiple of 32 elements; what of these is quantised becomes BF16 (its value, rounded once). A source of 4 bits is
// refused (kQuantization) as a source of MXFP4 unless `requantize` asks for it. Scales of activations are left out. A
// GGUF file gets DeepSeek's names and one kv_b_proj, and a config.json of its metadata. The source is checked whole
// first. Tensors are streamed: memory holds one matrix at most. `destination` must not exist;
// it appears complete, with the tokenizer and the other small files, or not at all.
QuantizeResult QuantizeCheckpoint(const std::string& source, const std::string& destination,
                                  const QuantizeOptions& options);

}  // namespace mxmla
