#include "model/step_plan.h"

#include <fmt/format.h>

#include <algorithm>

namespace mxmla {
namespace {

int64_t MaxPages(const ModelOptions& options) {
  return (options.max_context + options.page_size - 1) / options.page_size;
}

void CheckInput(const ModelOptions& options, const SequenceInput& input) {
  const auto rows = static_cast<int64_t>(input.tokens.size());
  const auto pages = static_cast<int64_t>(input.block_table.size());
  const int64_t length = input.first_position + rows;
  if (input.first_position < 0 || pages > MaxPages(options) || pages * options.page_size < length) {
    Fail(ErrorCode::kInternal, "step: block_table",
         fmt::format("pages for {} tokens, at most {}", length, MaxPages(options)), fmt::format("{} pages", pages));
  }
  for (const int32_t page : input.block_table) {
    if (page >= 0 && page < options.kv_pages) continue;
    Fail(ErrorCode::kInternal, "step: block_table", fmt::format("pages in 0..{}", options.kv_pages - 1),
         fmt::format("{}", page));
  }
  for (const int32_t row : input.logit_rows) {
    if (row >= 0 && row < rows) continue;
    Fail(ErrorCode::kInternal, "step: logit_rows", fmt::format("rows in 0..{}", rows - 1), fmt::format("{}", row));
  }
}

}  // namespace

int64_t RowBucket(const ModelOptions& options, int64_t rows) {
  if (rows == 0) return 0;
  const auto bucket = std::lower_bound(options.row_buckets.begin(), options.row_buckets.end(), rows);
  return bucket == options.row_buckets.end() ? rows : *bucket;
}

StepShape StepPlan::Largest(const ModelOptions& options) {
  const int64_t rows = RowBucket(options, options.max_batch_tokens);
  const bool padded = !options.row_buckets.empty();
  // With buckets the absorbed and the expanded rows are rounded up each for itself.
  return {rows, padded ? rows : 0, options.max_sequences, options.max_sequences,
          RowBucket(options, options.max_logit_rows)};
}

StepPlan::StepPlan(const ModelOptions& options) : options_(options) {
  const StepShape largest = Largest(options);
  tokens_ = staging_.Reserve<int32_t>("tokens", largest.rows());
  positions_ = staging_.Reserve<int32_t>("positions", largest.rows());
  row_sequence_ = staging_.Reserve<int32_t>("row_sequence", largest.rows());
  row_length_ = staging_.Reserve<int32_t>("row_length", largest.rows());
  segment_begin_ = staging_.Reserve<int32_t>("segment_begin", largest.segments + 1);
  block_table_ = staging_.Reserve<int32_t>("block_table", largest.sequences * MaxPages(options));
  logit_rows_ = staging_.Reserve<int32_t>("logit_rows", largest.logit_rows);
  slots_ = staging_.Reserve<int64_t>("slots", largest.rows());
  staging_.Allocate();
}

View<int32_t, 1> StepPlan::Ints(int id, int64_t count) const {
  return View<int32_t, 1>::Contiguous(staging_.Get<int32_t>(id), {count});
}

StepViews StepPlan::ViewsOf(const StepShape& shape) const {
  StepViews views;
  views.tokens = Ints(tokens_, shape.rows());
  views.positions = Ints(positions_, shape.rows());
  views.row_sequence = Ints(row_sequence_, shape.rows());
  views.row_length = Ints(row_length_, shape.rows());
  views.slots = View<const int64_t, 1>::Contiguous(staging_.Get<int64_t>(slots_), {shape.rows()});
  views.segment_begin = Ints(segment_begin_, shape.segments + 1);
  const int64_t max_pages = MaxPages(options_);
  views.block_table = Ints(block_table_, shape.sequences * max_pages).Split(0, shape.sequences, max_pages);
  views.logit_rows = Ints(logit_rows_, shape.logit_rows);
  return views;
}

void StepPlan::Fill(std::span<const SequenceInput> inputs, const AttentionCost& cost, bool allow_expanded) {
  const BatchPlan batch = PlanBatch(inputs, cost, allow_expanded);
  wanted_logits_ = 0;
  for (const SequenceInput& input : inputs) {
    CheckInput(options_, input);
    wanted_logits_ += static_cast<int64_t>(input.logit_rows.size());
  }
  const auto sequences = static_cast<int64_t>(inputs.size());
  if (batch.rows > options_.max_batch_tokens || sequences > options_.max_sequences ||
      wanted_logits_ > options_.max_logit_rows) {
    Fail(ErrorCode::kInternal, "step",
         fmt::format("at most {} tokens of {} sequences and {} rows of logits", options_.max_batch_tokens,
                     options_.max_sequences, options_.max_logit_rows),
         fmt::format("{}, {} and {}", batch.rows, sequences, wanted_logits_));
  }
  const bool padded = !options_.row_buckets.empty();
  shape_.absorbed_rows = RowBucket(options_, batch.absorbed_rows);
  shape_.expanded_rows = RowBucket(options_, batch.rows - batch.absorbed_rows);
  shape_.sequences = padded ? options_.max_sequences : sequences;
  shape_.logit_rows = RowBucket(options_, wanted_logits_);

  const int64_t rows = shape_.rows();
  const View<int32_t, 1> tokens = Ints(tokens_, rows);
  const View<int32_t, 1> positions = Ints(positions_, rows);
  const View<int32_t, 1> row_sequence = Ints(row_sequence_, rows);
  const View<int32_t, 1> row_length = Ints(row_length_, rows);
  const View<int64_t, 1> slots = View<int64_t, 1>::Contiguous(staging_.Get<int64_t>(slots_), {rows});
  const int64_t max_pages = MaxPages(options_);
  const View<int32_t, 2> block_table =
      Ints(block_table_, shape_.sequences * max_pages).Split(0, shape_.sequences, max_pages);
  for (int64_t row = 0; row < rows; ++row) {
    tokens(row) = positions(row) = row_sequence(row) = row_length(row) = 0;
    slots(row) = options_.kv_pages * options_.page_size + row % options_.page_size;
  }

  // Where each input's rows begin, since the batch may have reordered them.
  const int64_t expanded_gap = shape_.absorbed_rows - batch.absorbed_rows;
  std::vector<int64_t> first_row(inputs.size(), 0);
  const View<int32_t, 1> segment_begin = Ints(segment_begin_, options_.max_sequences + 1);
  int64_t segments = 0;
  int64_t expanded = 0;
  for (const SequenceRows& sequence : batch.sequences) {
    const SequenceInput& input = inputs[sequence.input];
    const bool absorbed = sequence.first_row < batch.absorbed_rows || sequence.rows == 0;
    first_row[sequence.input] = sequence.first_row + (absorbed ? 0 : expanded_gap);
    if (!absorbed) {
      segment_begin(segments++) = static_cast<int32_t>(expanded);
      expanded += sequence.rows;
    }
    for (size_t page = 0; page < input.block_table.size(); ++page) {
      block_table(sequence.input, page) = input.block_table[page];
    }
    for (int64_t i = 0; i < sequence.rows; ++i) {
      const int64_t row = first_row[sequence.input] + i;
      const int64_t position = sequence.first_position + i;
      tokens(row) = input.tokens[i];
      positions(row) = static_cast<int32_t>(position);
      row_sequence(row) = static_cast<int32_t>(sequence.input);
      row_length(row) = static_cast<int32_t>(position + 1);
      slots(row) =
          input.block_table[position / options_.page_size] * options_.page_size + position % options_.page_size;
    }
  }
  shape_.segments = shape_.expanded_rows == 0 ? 0 : padded ? options_.max_sequences : segments;
  for (int64_t s = segments; s <= shape_.segments; ++s) segment_begin(s) = static_cast<int32_t>(expanded);

  const View<int32_t, 1> logit_rows = Ints(logit_rows_, shape_.logit_rows);
  int64_t at = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    for (const int32_t row : inputs[i].logit_rows) logit_rows(at++) = static_cast<int32_t>(first_row[i] + row);
  }
  for (; at < shape_.logit_rows; ++at) logit_rows(at) = 0;
}

}  // namespace mxmla
