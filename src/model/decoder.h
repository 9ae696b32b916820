// The model: embedding, layers, final norm and head over a ragged batch and a paged cache.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "checkpoint/config.h"
#include "checkpoint/weights.h"
#include "model/activations.h"
#include "model/batch.h"
#include "model/options.h"
#include "model/placed_weights.h"
#include "model/step.h"
#include "model/step_plan.h"
#include "ops/kernel_set.h"

namespace mxmla {

class Decoder {
 public:
  // All memory of a step is taken here; `weights`, `placed` and `pool` must outlive the decoder. `placed` was made for
  // options.absorb_dtype. Refused (kQuantization) when an activation format does not divide a product's contracted
  // axis, (kLayout) when no kernel of the backend takes the model's views.
  Decoder(const ModelConfig& config, const ModelWeights& weights, const PlacedWeights& placed,
          const ModelOptions& options, const KernelSet& kernels, ThreadPool& pool, Profiler* profiler);

  // Plans a step of the new tokens of every sequence, runs it and appends them to the cache. The result holds the
  // wanted logits, float32 (wanted rows, vocab_size), in the order of the inputs and their logit_rows; it is valid
  // until the next call. The caller has checked the tokens against the vocabulary and the pages against the cache.
  View<const float, 2> Forward(std::span<const SequenceInput> inputs);

  // A step: op calls that depend on `shape` alone. Reads the step's arrays only through kernels, so that a device can
  // run it again with others. The logits are left in activations().logits, (shape.logit_rows, vocab_size).
  void Run(const StepShape& shape, const StepViews& views) const;

  const ExecContext& context() const { return context_; }
  const ModelOptions& options() const { return options_; }
  const Activations& activations() const { return buffers_; }
  // Activations, the KV cache and the kernels' workspace.
  size_t total_bytes() const { return buffers_.total_bytes() + workspace_bytes_; }

 private:
  void RunHead(const Step& step) const;
  void AllocateWorkspace();

  const ModelConfig& config_;
  const ModelWeights& weights_;
  const PlacedWeights& placed_;
  const ModelOptions options_;
  bool allow_expanded_ = true;
  StepPlan plan_;
  Activations buffers_;
  ExecContext context_;
  struct FreeMemory {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, FreeMemory> workspace_;
  size_t workspace_bytes_ = 0;
};

}  // namespace mxmla
