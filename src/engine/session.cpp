#include "engine/session.h"

#include <fmt/format.h>

#include <algorithm>

namespace mxmla {

namespace {

// Two for each power of two, so that a step is padded by less than half of its rows, and four where that is many; all
// up to `most`.
std::vector<int64_t> RowBuckets(int64_t most) {
  constexpr int64_t kMany = 512;
  std::vector<int64_t> buckets = {1, 2, 4, 8, 16};
  for (int64_t rows = 16; buckets.back() < most; rows *= 2) {
    const int64_t parts = rows < kMany ? 2 : 4;
    for (int64_t i = 1; i <= parts; ++i) buckets.push_back(rows + rows * i / parts);
  }
  while (buckets.size() > 1 && buckets[buckets.size() - 2] >= most) buckets.pop_back();
  return buckets;
}

}  // namespace

ModelOptions CompleteOptions(const LoadedModel& model, ModelOptions options) {
  const ModelConfig& config = model.config;
  if (options.max_context > config.max_position_embeddings) {
    Fail(ErrorCode::kPromptTooLong, "context",
         fmt::format("at most {} tokens (max_position_embeddings)", config.max_position_embeddings),
         fmt::format("{} tokens of prompt and output", options.max_context),
         "shorten the prompt or ask for fewer new tokens");
  }
  options.max_context = std::max<int64_t>(options.max_context, 1);
  if (options.kv_pages == 0) {
    options.kv_pages = options.max_sequences * ((options.max_context + options.page_size - 1) / options.page_size);
  }
  if (!options.queues_ahead) options.queues_ahead = !model.backend->reads_host_memory();
  if (options.prefill_chunk == 0) options.prefill_chunk = model.backend->prefill_rows();
  if (model.backend->replays() && options.row_buckets.empty()) {
    options.row_buckets = RowBuckets(options.max_batch_tokens + options.max_sequences);
  }
  return options;
}

void FailNanLogits(int64_t tokens) {
  Fail(ErrorCode::kTensor, fmt::format("logits after {} tokens", tokens), "finite numbers", "NaN",
       "the weights hold values that the model cannot compute with: run mxmla inspect --check MODEL to find them");
}

void CheckTokens(std::span<const int32_t> tokens, int64_t vocab_size) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && tokens[i] < vocab_size) continue;
    Fail(ErrorCode::kTokenRange, fmt::format("token {} of the input", i), fmt::format("an id in 0..{}", vocab_size - 1),
         fmt::format("{}", tokens[i]), "is the tokenizer the model's own?");
  }
}

Session::Session(const LoadedModel& model, ModelOptions options, Profiler* profiler)
    : model_(model),
      decoder_(model.config, model.Placed(CompleteOptions(model, options)), CompleteOptions(model, options),
               *model.backend, profiler),
      pool_(decoder_.options().kv_pages, decoder_.options().page_size) {}

int Session::Add() {
  const auto free = std::find_if(sequences_.begin(), sequences_.end(), [](const Sequence& s) { return !s.live; });
  const auto index = static_cast<int>(free - sequences_.begin());
  if (free == sequences_.end()) sequences_.emplace_back();
  sequences_[index] = {{}, 0, true};
  return index;
}

void Session::Remove(int sequence) { Live(sequence) = {}; }

int64_t Session::length(int sequence) const { return sequences_.at(static_cast<size_t>(sequence)).length; }

Session::Sequence& Session::Live(int sequence) {
  if (sequence < 0 || sequence >= static_cast<int>(sequences_.size()) || !sequences_[sequence].live) {
    Fail(ErrorCode::kInternal, "session", "a sequence from Add that was not removed", fmt::format("{}", sequence));
  }
  return sequences_[sequence];
}

void Session::Reserve(Sequence& sequence, int64_t length) {
  const int64_t most = decoder_.options().max_context;
  if (length > most) {
    Fail(ErrorCode::kPromptTooLong, "sequence", fmt::format("at most {} tokens", most), fmt::format("{}", length));
  }
  if (!pool_.TryReserve(sequence.lease, length)) {
    Fail(ErrorCode::kMemory, "KV cache", fmt::format("pages for {} tokens of a sequence", length),
         fmt::format("{} free pages", pool_.available_pages()));
  }
}

View<const float, 2> Session::Step(std::span<const StepInput> inputs) {
  std::vector<SequenceInput> batch;
  batch.reserve(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const StepInput& input = inputs[i];
    CheckTokens(input.tokens, model_.config.vocab_size);
    Sequence& sequence = Live(input.sequence);
    for (size_t j = 0; j < i; ++j) {
      if (inputs[j].sequence != input.sequence) continue;
      Fail(ErrorCode::kInternal, "session", "each sequence once a step", fmt::format("{} twice", input.sequence));
    }
    const int64_t length = sequence.length + static_cast<int64_t>(input.tokens.size());
    Reserve(sequence, length);
    batch.push_back({input.tokens, sequence.length, sequence.lease.pages(), input.logit_rows, input.absorbed, {}});
  }
  const View<const float, 2> logits = decoder_.Forward(batch).logits;
  for (const StepInput& input : inputs) {
    sequences_[input.sequence].length += static_cast<int64_t>(input.tokens.size());
  }
  return logits;
}

}  // namespace mxmla
