// The model: embedding, layers, final norm and head over a ragged batch and a paged cache.
#pragma once

#include <array>
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
#include "ops/backend.h"

namespace mxmla {

// What the host reads after a step; valid until the next one is queued.
struct StepResult {
  View<const float, 2> logits;        // (wanted rows, vocab_size); empty where a device sampled them itself
  View<const int32_t, 1> tokens;      // (wanted rows), where the step sampled; kNanLogits, kNothingAllowed
  View<const float, 1> logprobs;      // (wanted rows), where an input asked for log-probabilities
  View<const int32_t, 2> top_tokens;  // (wanted rows, kMaxTopLogprobs), likewise
  View<const float, 2> top_logprobs;  // (wanted rows, kMaxTopLogprobs), likewise
};

class Decoder {
 public:
  // All memory of a step is taken here; `placed` and `backend` must outlive the decoder. `placed` was made for
  // options.absorb_dtype. Refused (kQuantization) when an activation format does not divide a product's contracted
  // axis, (kLayout) when no kernel of the backend takes the model's views.
  Decoder(const ModelConfig& config, const PlacedWeights& placed, const ModelOptions& options, Backend& backend,
          Profiler* profiler);
  // Waits for what is queued.
  ~Decoder();

  // Plans a step of the new tokens of every sequence, runs it and appends them to the cache. Rows of the result are in
  // the order of the inputs and their logit_rows. The caller has checked the tokens against the vocabulary and the
  // pages against the cache.
  // With a profiler that is not paused, op by op; else a backend that replays steps may start all ops at once.
  StepResult Forward(std::span<const SequenceInput> inputs);

  // Forward in two parts. A second step may be queued before the first is taken: on a device it waits its turn there
  // while the host looks at the first one's result. What the second one takes from the first are sampled tokens, named
  // by tokens below 0 (ops/embedding.h). Refused (kInternal): a third one.
  void Queue(std::span<const SequenceInput> inputs);
  // The result of the step that was queued first; waits for it. Where kernels write the host's memory it comes without
  // logits if another step is queued, which has written its own to their place. Refused (kInternal): none is queued.
  StepResult Take();

  // A step: op calls that depend on `shape` alone, sampling the last of them. Reads the step's arrays only through
  // kernels, so that a device can run it again with others. The logits are left in activations().logits, (logit_rows,
  // vocab_size), and what they were sampled to in activations().sampled_tokens, where the next step's embedding reads
  // tokens below 0.
  void Run(const StepShape& shape, const StepViews& views) const;

  const ExecContext& context() const { return context_; }
  // Whether the profiler times ops, one after another.
  bool profiled() const { return profiler_ && !profiler_->paused(); }
  // Of the last step queued: see Recorder.
  int64_t launches() const { return recorder_->launches(); }
  double device_seconds() const { return recorder_->seconds(); }
  const ModelOptions& options() const { return options_; }
  const Activations& activations() const { return buffers_; }
  // Activations, the KV cache and the kernels' workspace.
  size_t total_bytes() const { return buffers_.total_bytes() + workspace_.bytes(); }

 private:
  void RunHead(const Step& step) const;
  void RunSampling(const Step& step) const;
  void PlanWorkspace();
  void FillSharedSlots();
  // A step that was queued and what the host reads of it.
  struct QueuedStep {
    Memory memory;  // of a device or of a step that another was queued behind: the host's copy of the result
    std::unique_ptr<Fence> done;
    StepResult result;
  };
  void StartResult(QueuedStep* step);
  void KeepResult(QueuedStep* step);

  const ModelConfig& config_;
  const PlacedWeights& placed_;
  const ModelWeights& weights_;
  const ModelOptions options_;
  bool allow_expanded_ = true;
  Backend& backend_;
  Profiler* const profiler_;
  StepPlan plan_;
  Activations buffers_;
  ExecContext context_;
  WorkspaceMemory workspace_;
  std::unique_ptr<Recorder> recorder_;
  std::array<QueuedStep, 2> steps_;
  size_t first_ = 0, queued_ = 0;  // of steps_, in turn
};

}  // namespace mxmla
