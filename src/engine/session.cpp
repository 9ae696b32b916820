#include "engine/session.h"

#include <fmt/format.h>

#include <algorithm>

namespace mxmla {
namespace {

ModelOptions Complete(const ModelConfig& config, ModelOptions options) {
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
  return options;
}

}  // namespace

PageAllocator::PageAllocator(int64_t pages) {
  for (int64_t page = pages - 1; page >= 0; --page) free_.push_back(static_cast<int32_t>(page));
}

int32_t PageAllocator::Take() {
  if (free_.empty()) Fail(ErrorCode::kMemory, "KV cache", "a free page", "none");
  const int32_t page = free_.back();
  free_.pop_back();
  return page;
}

void PageAllocator::Return(std::span<const int32_t> pages) { free_.insert(free_.end(), pages.rbegin(), pages.rend()); }

void CheckTokens(std::span<const int32_t> tokens, int64_t vocab_size) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && tokens[i] < vocab_size) continue;
    Fail(ErrorCode::kTokenRange, fmt::format("token {} of the input", i), fmt::format("an id in 0..{}", vocab_size - 1),
         fmt::format("{}", tokens[i]), "is the tokenizer the model's own?");
  }
}

Session::Session(const LoadedModel& model, ModelOptions options, Profiler* profiler)
    : model_(model),
      decoder_(model.config, model.weights, Complete(model.config, options), *model.kernels, *model.pool, profiler),
      pages_(decoder_.options().kv_pages) {}

int Session::Add() {
  const auto free = std::find_if(sequences_.begin(), sequences_.end(), [](const Sequence& s) { return !s.live; });
  const auto index = static_cast<int>(free - sequences_.begin());
  if (free == sequences_.end()) sequences_.emplace_back();
  sequences_[index] = {{}, 0, true};
  return index;
}

void Session::Remove(int sequence) {
  Sequence& s = sequences_.at(sequence);
  pages_.Return(s.pages);
  s = {};
}

View<const float, 2> Session::Step(std::span<const StepInput> inputs) {
  const ModelOptions& options = decoder_.options();
  std::vector<SequenceInput> batch;
  batch.reserve(inputs.size());
  for (const StepInput& input : inputs) {
    CheckTokens(input.tokens, model_.config.vocab_size);
    Sequence& sequence = sequences_.at(input.sequence);
    const int64_t length = sequence.length + static_cast<int64_t>(input.tokens.size());
    if (length > options.max_context) {
      Fail(ErrorCode::kPromptTooLong, "sequence", fmt::format("at most {} tokens", options.max_context),
           fmt::format("{}", length));
    }
    while (static_cast<int64_t>(sequence.pages.size()) * options.page_size < length) {
      sequence.pages.push_back(pages_.Take());
    }
    batch.push_back({input.tokens, sequence.length, sequence.pages, input.logit_rows, input.absorbed});
  }
  const View<const float, 2> logits = decoder_.Forward(batch);
  for (const StepInput& input : inputs) {
    sequences_[input.sequence].length += static_cast<int64_t>(input.tokens.size());
  }
  return logits;
}

}  // namespace mxmla
