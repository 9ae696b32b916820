// What the host decides about one step, as arrays in staging memory, and the shape of the step that they are padded to.
// Ops see the shape and the views; everything that varies from step to step is read by kernels alone. A device has a
// copy of the arrays, which one Upload renews.
#pragma once

#include <optional>
#include <span>

#include "checkpoint/config.h"
#include "core/buffers.h"
#include "model/batch.h"
#include "model/options.h"
#include "ops/backend.h"
#include "ops/sample.h"

namespace mxmla {

// The bucket of a step: every extent that an op of it sees. Two steps of one shape are the same sequence of op calls.
struct StepShape {
  int64_t absorbed_rows = 0;  // the first so many attend in the latent space
  int64_t expanded_rows = 0;  // the rest, with expanded heads
  int64_t segments = 0;       // of the expanded rows, a sequence each
  int64_t sequences = 0;      // rows of the block table
  int64_t logit_rows = 0;
  bool sparse = false;    // some row sees more tokens than it may attend to
  bool sampled = false;   // tokens are chosen from the logits
  bool logprobs = false;  // with their log-probabilities

  int64_t rows() const { return absorbed_rows + expanded_rows; }
  bool operator==(const StepShape&) const = default;
};

// The arrays of a step. A padding row has token 0, position 0, length 0 and a slot of its own in the PaddingPages;
// padding segments are empty; a padding logit row is row 0 of the step.
struct StepViews {
  View<const int32_t, 1> tokens;                    // (rows)
  View<const int32_t, 1> positions;                 // (rows)
  View<const int32_t, 1> row_sequence;              // (rows), row of block_table
  View<const int32_t, 1> row_length;                // (rows), tokens that the row sees; 0 for padding
  View<const int64_t, 1> slots;                     // (rows), cache row of the token: page * page_size + offset
  std::optional<View<const float, 1>> query_scale;  // (rows), of the row's position; only of models that have one
  View<const int32_t, 1> segment_begin;             // (segments + 1), rows counted from the first expanded one
  View<const int32_t, 2> block_table;               // (sequences, max_pages)
  View<const int32_t, 1> logit_rows;                // (logit_rows)
  // Inputs of Sample, of (logit_rows); the lists and masks have room for the most that the rows may name. A padding row
  // is greedy and names nothing.
  SampleArgs sampling;
};

class StepPlan {
 public:
  // Reserves staging memory for the largest step that `options` allow.
  StepPlan(const ModelOptions& options, int64_t vocab_size, const QueryScale& query_scale, Backend& backend);

  // Plans a step of `inputs`. Every value that a kernel will use as an index is checked here. Errors (kInternal): more
  // rows, sequences or logit rows than `options` allow; a page outside the cache, too few pages, a logit row that is
  // not the input's; sampling for some rows of logits only, or with more penalties or biases than there is room for.
  // Tokens are for the caller to check against the vocabulary.
  void Fill(std::span<const SequenceInput> inputs, const AttentionCost& cost, bool allow_expanded);

  const StepShape& shape() const { return shape_; }
  // Rows of logits that the inputs asked for; the shape may hold more.
  int64_t wanted_logits() const { return wanted_logits_; }
  StepViews Views() const { return ViewsOf(shape_); }
  // The arrays at another shape, for planning a workspace.
  StepViews ViewsOf(const StepShape& shape) const;

  // Brings what Fill wrote to the device; nothing to do where kernels read the host's memory.
  void Upload() const;

  // The largest step.
  static StepShape Largest(const ModelOptions& options);

 private:
  template <class T>
  View<T, 1> Staged(int id, int64_t count) const;
  // The same array where kernels read it.
  template <class T>
  View<const T, 1> Placed(int id, int64_t count) const;
  void FillSampling(std::span<const SequenceInput> inputs);

  const ModelOptions options_;
  const int64_t vocab_size_;
  const QueryScale query_scale_;
  Backend& backend_;
  BufferPlan staging_;
  Memory device_;  // empty where kernels read the host's memory
  int tokens_, positions_, row_sequence_, row_length_, segment_begin_, block_table_, logit_rows_, slots_;
  int row_scale_ = -1;
  int sampling_, uniform_, penalty_begin_, bias_begin_, allowed_index_;
  // Lists, behind everything else; only what is used of them is touched.
  int penalty_tokens_, penalty_counts_, bias_tokens_, bias_values_, allowed_;
  int64_t max_penalties_, max_biases_;
  int64_t penalties_ = 0, biases_ = 0, masks_ = 0;
  StepShape shape_;
  int64_t wanted_logits_ = 0;
  int64_t sequences_ = 0;  // of the step's inputs; the shape may hold more
};

// The smallest bucket that holds `rows`: `rows` itself when there are no buckets or it exceeds the last.
int64_t RowBucket(const ModelOptions& options, int64_t rows);

}  // namespace mxmla
