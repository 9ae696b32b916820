// Sequences over one paged KV cache: who owns which pages, and one ragged step at a time.
#pragma once

#include <span>
#include <vector>

#include "engine/loaded_model.h"
#include "model/decoder.h"

namespace mxmla {

// Hands out the pages of a cache.
class PageAllocator {
 public:
  explicit PageAllocator(int64_t pages);

  int64_t free_pages() const { return static_cast<int64_t>(free_.size()); }
  // An Error (kMemory) when none is free.
  int32_t Take();
  void Return(std::span<const int32_t> pages);

 private:
  std::vector<int32_t> free_;
};

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
  int64_t length(int sequence) const { return sequences_.at(sequence).length; }

  // Appends the tokens of every input and returns the wanted logits (rows, vocab), valid until the next step. Errors:
  // kTokenRange for a token outside the vocabulary, kPromptTooLong for a sequence that outgrows max_context.
  View<const float, 2> Step(std::span<const StepInput> inputs);

  const ModelConfig& config() const { return model_.config; }
  const ModelOptions& options() const { return decoder_.options(); }
  const ExecContext& context() const { return decoder_.context(); }
  size_t buffer_bytes() const { return decoder_.activations().total_bytes(); }

 private:
  struct Sequence {
    std::vector<int32_t> pages;
    int64_t length = 0;  // tokens in the cache
    bool live = false;
  };

  const LoadedModel& model_;
  Decoder decoder_;
  PageAllocator pages_;
  std::vector<Sequence> sequences_;
};

// Throws an Error (kTokenRange) naming the first token that is not in 0 .. vocab_size-1.
void CheckTokens(std::span<const int32_t> tokens, int64_t vocab_size);

}  // namespace mxmla
