// Sequences over one paged KV cache, a ragged step at a time, for those who want logits: tests, benchmarks, `logits`.
// Generation is the scheduler's.
#pragma once

#include <span>
#include <vector>

#include "engine/kv_pool.h"
#include "engine/loaded_model.h"
#include "model/decoder.h"

namespace mxmla {

struct StepInput {
  int sequence = 0;                 // from Session::Add
  std::span<const int32_t> tokens;  // to append
  std::vector<int32_t> logit_rows;  // which of them give logits
  bool absorbed = false;            // attend in the latent space whatever the number of tokens
};

class Session {
 public:
  // `options.max_context`, `max_sequences` and `max_batch_tokens` size every buffer; kv_pages 0 gives each sequence
  // room for max_context tokens. Refused: max_context above the model's max_position_embeddings (kPromptTooLong).
  Session(const LoadedModel& model, ModelOptions options, Profiler* profiler = nullptr);

  // A new, empty sequence.
  int Add();
  void Remove(int sequence);
  int64_t length(int sequence) const;

  // Appends the tokens of every input and returns the wanted logits (rows, vocab), valid until the next step. Errors:
  // kTokenRange for a token outside the vocabulary, kPromptTooLong for a sequence that outgrows max_context, kMemory
  // when the pages do not suffice, kInternal for a sequence that was removed or is named twice.
  View<const float, 2> Step(std::span<const StepInput> inputs);

  const ModelConfig& config() const { return model_.config; }
  const ModelOptions& options() const { return decoder_.options(); }
  const ExecContext& context() const { return decoder_.context(); }
  size_t buffer_bytes() const { return decoder_.total_bytes(); }
  // Kernels of the last step and their time on the device, where it can tell; else 0.
  int64_t launches() const { return decoder_.launches(); }
  double device_seconds() const { return decoder_.device_seconds(); }

 private:
  struct Sequence {
    Lease lease;
    int64_t length = 0;  // tokens in the cache
    bool live = false;
  };

  Sequence& Live(int sequence);
  // Room for `length` tokens.
  void Reserve(Sequence& sequence, int64_t length);

  const LoadedModel& model_;
  Decoder decoder_;
  KvPool pool_;
  std::vector<Sequence> sequences_;
};

// `options` with max_context, kv_pages and, for a device that replays steps, row_buckets filled in. Refused: see
// Session.
ModelOptions CompleteOptions(const LoadedModel& model, ModelOptions options);

// Throws the Error (kTensor) of logits that hold NaN, those behind the first `tokens` tokens of a sequence.
[[noreturn]] void FailNanLogits(int64_t tokens);

// Throws an Error (kTokenRange) naming the first token that is not in 0 .. vocab_size-1.
void CheckTokens(std::span<const int32_t> tokens, int64_t vocab_size);

}  // namespace mxmla
