// The model: embedding, layers, final norm and head over a ragged batch and a paged cache.
#pragma once

#include <span>
#include <vector>

#include "checkpoint/config.h"
#include "checkpoint/weights.h"
#include "model/absorb.h"
#include "model/activations.h"
#include "model/batch.h"
#include "model/options.h"
#include "model/rope.h"
#include "ops/kernel_set.h"

namespace mxmla {

class Decoder {
 public:
  // All memory of a forward pass is taken here; `weights` and `pool` must outlive the decoder. Refused (kQuantization)
  // when an activation format does not divide a product's contracted axis.
  Decoder(const ModelConfig& config, const ModelWeights& weights, const ModelOptions& options, const KernelSet& kernels,
          ThreadPool& pool, Profiler* profiler);

  // Runs the new tokens of every sequence and appends them to the cache. The result holds the wanted logits, float32
  // (wanted rows, vocab_size), in the order of the inputs and their logit_rows; it is valid until the next call.
  // The caller has checked the tokens against the vocabulary and the pages against the cache.
  View<const float, 2> Forward(std::span<const SequenceInput> inputs);

  const ExecContext& context() const { return context_; }
  const ModelOptions& options() const { return options_; }
  const Activations& activations() const { return buffers_; }

 private:
  BatchViews FillBatch(const BatchPlan& plan, std::span<const SequenceInput> inputs);
  View<const float, 2> Head(const BatchPlan& plan, std::span<const SequenceInput> inputs);

  const ModelConfig& config_;
  const ModelWeights& weights_;
  const ModelOptions options_;
  const RopeAngles rope_;
  const float softmax_scale_;
  std::vector<AbsorbedLayer> absorbed_;
  bool allow_expanded_ = true;
  Activations buffers_;
  ExecContext context_;
};

}  // namespace mxmla
