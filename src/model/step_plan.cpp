#include "model/step_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

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
  for (const int32_t token : input.tokens) {
    if (token >= -options.max_logit_rows) continue;
    Fail(ErrorCode::kInternal, "step: tokens", fmt::format("at least {}", -options.max_logit_rows),
         fmt::format("{}", token));
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

float ScaleAt(const QueryScale& scale, int64_t position) {
  const int64_t lengths = position / scale.length;  // whole ones
  return static_cast<float>(1 + scale.beta * std::log1p(static_cast<double>(lengths)));
}

}  // namespace

int64_t RowBucket(const ModelOptions& options, int64_t rows) {
  if (rows == 0) return 0;
  const auto bucket = std::lower_bound(options.row_buckets.begin(), options.row_buckets.end(), rows);
  return bucket == options.row_buckets.end() ? rows : *bucket;
}

int64_t PaddingPages(const ModelOptions& options) {
  int64_t most = 0, previous = 0;
  for (const int64_t bucket : options.row_buckets) {
    most = std::max(most, bucket - previous - 1);
    previous = bucket;
  }
  return std::max<int64_t>((2 * most + options.page_size - 1) / options.page_size, 1);
}

StepShape StepPlan::Largest(const ModelOptions& options) {
  const int64_t rows = RowBucket(options, options.max_batch_tokens);
  const bool padded = !options.row_buckets.empty();
  StepShape shape;
  shape.absorbed_rows = rows;
  // With buckets the absorbed and the expanded rows are rounded up each for itself.
  shape.expanded_rows = padded ? rows : 0;
  shape.segments = shape.sequences = options.max_sequences;
  shape.logit_rows = RowBucket(options, options.max_logit_rows);
  shape.sampled = shape.logprobs = true;
  return shape;
}

StepPlan::StepPlan(const ModelOptions& options, int64_t vocab_size, const QueryScale& query_scale, Backend& backend)
    : options_(options), vocab_size_(vocab_size), query_scale_(query_scale), backend_(backend) {
  const StepShape largest = Largest(options);
  tokens_ = staging_.Reserve<int32_t>("tokens", largest.rows());
  positions_ = staging_.Reserve<int32_t>("positions", largest.rows());
  row_sequence_ = staging_.Reserve<int32_t>("row_sequence", largest.rows());
  row_length_ = staging_.Reserve<int32_t>("row_length", largest.rows());
  segment_begin_ = staging_.Reserve<int32_t>("segment_begin", largest.segments + 1);
  logit_rows_ = staging_.Reserve<int32_t>("logit_rows", largest.logit_rows);
  slots_ = staging_.Reserve<int64_t>("slots", largest.rows());
  if (query_scale.length > 0) row_scale_ = staging_.Reserve<float>("query_scale", largest.rows());
  static_assert(sizeof(SamplingOptions) % sizeof(int64_t) == 0);
  sampling_ = staging_.Reserve<int64_t>("sampling", largest.logit_rows * sizeof(SamplingOptions) / sizeof(int64_t));
  uniform_ = staging_.Reserve<float>("uniform", largest.logit_rows);
  penalty_begin_ = staging_.Reserve<int64_t>("penalty_begin", largest.logit_rows + 1);
  bias_begin_ = staging_.Reserve<int64_t>("bias_begin", largest.logit_rows + 1);
  allowed_index_ = staging_.Reserve<int32_t>("allowed_index", largest.logit_rows);
  // Behind what every step uploads whole: of it, which may be the most, only the rows of the step's sequences are.
  block_table_ = staging_.Reserve<int32_t>("block_table", largest.sequences * MaxPages(options));
  max_penalties_ = largest.logit_rows * std::min(vocab_size, std::max<int64_t>(options.max_context, 1));
  max_biases_ = largest.logit_rows * kMaxBiases;
  penalty_tokens_ = staging_.Reserve<int32_t>("penalty_tokens", max_penalties_);
  penalty_counts_ = staging_.Reserve<int32_t>("penalty_counts", max_penalties_);
  bias_tokens_ = staging_.Reserve<int32_t>("bias_tokens", max_biases_);
  bias_values_ = staging_.Reserve<float>("bias_values", max_biases_);
  allowed_ = staging_.Reserve<int32_t>("allowed", largest.logit_rows * MaskWords(vocab_size));
  staging_.Allocate(
      [&](size_t bytes, const std::string& hint) { return backend.AllocateStaging(bytes, "arrays of a step", hint); });
  if (!backend.reads_host_memory()) {
    device_ = backend.Allocate(staging_.total_bytes(), Fill::kUntouched, "arrays of a step", "");
  }
}

template <class T>
View<T, 1> StepPlan::Staged(int id, int64_t count) const {
  return View<T, 1>::Contiguous(staging_.Get<T>(id), {count});
}

template <class T>
View<const T, 1> StepPlan::Placed(int id, int64_t count) const {
  std::byte* base = device_ ? device_.data() : staging_.data();
  return View<const T, 1>::Contiguous(reinterpret_cast<const T*>(base + staging_.offset(id)), {count});
}

StepViews StepPlan::ViewsOf(const StepShape& shape) const {
  StepViews views;
  views.tokens = Placed<int32_t>(tokens_, shape.rows());
  views.positions = Placed<int32_t>(positions_, shape.rows());
  views.row_sequence = Placed<int32_t>(row_sequence_, shape.rows());
  views.row_length = Placed<int32_t>(row_length_, shape.rows());
  views.slots = Placed<int64_t>(slots_, shape.rows());
  if (query_scale_.length > 0) views.query_scale = Placed<float>(row_scale_, shape.rows());
  views.segment_begin = Placed<int32_t>(segment_begin_, shape.segments + 1);
  const int64_t max_pages = MaxPages(options_);
  views.block_table = Placed<int32_t>(block_table_, shape.sequences * max_pages).Split(0, shape.sequences, max_pages);
  views.logit_rows = Placed<int32_t>(logit_rows_, shape.logit_rows);
  if (!shape.sampled) return views;
  SampleArgs& sampling = views.sampling;
  sampling.options = Placed<SamplingOptions>(sampling_, shape.logit_rows);
  sampling.uniform = Placed<float>(uniform_, shape.logit_rows);
  sampling.penalty_begin = Placed<int64_t>(penalty_begin_, shape.logit_rows + 1);
  sampling.penalty_tokens = Placed<int32_t>(penalty_tokens_, max_penalties_);
  sampling.penalty_counts = Placed<int32_t>(penalty_counts_, max_penalties_);
  sampling.bias_begin = Placed<int64_t>(bias_begin_, shape.logit_rows + 1);
  sampling.bias_tokens = Placed<int32_t>(bias_tokens_, max_biases_);
  sampling.bias_values = Placed<float>(bias_values_, max_biases_);
  sampling.allowed_index = Placed<int32_t>(allowed_index_, shape.logit_rows);
  const int64_t words = MaskWords(vocab_size_);
  sampling.allowed = Placed<int32_t>(allowed_, shape.logit_rows * words).Split(0, shape.logit_rows, words);
  return views;
}

void StepPlan::Upload() const {
  if (!device_) return;
  const auto upload = [&](size_t begin, size_t end) {
    if (begin < end) backend_.Upload(device_.data() + begin, staging_.data() + begin, end - begin);
  };
  const auto upload_list = [&](int id, int64_t count) {
    upload(staging_.offset(id), staging_.offset(id) + static_cast<size_t>(count) * 4);
  };
  const auto pages = static_cast<size_t>(sequences_ * MaxPages(options_));
  upload(0, staging_.offset(block_table_) + pages * sizeof(int32_t));
  if (!shape_.sampled) return;
  upload_list(penalty_tokens_, penalties_);
  upload_list(penalty_counts_, penalties_);
  upload_list(bias_tokens_, biases_);
  upload_list(bias_values_, biases_);
  upload_list(allowed_, masks_ * MaskWords(vocab_size_));
}

void StepPlan::Fill(std::span<const SequenceInput> inputs, const AttentionCost& cost, bool allow_expanded) {
  backend_.FinishUploads();
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
  sequences_ = sequences;
  shape_.sparse = false;
  for (const SequenceRows& sequence : batch.sequences) {
    const int64_t length = sequence.first_position + sequence.rows;
    if (cost.index_topk > 0 && sequence.rows > 0 && length > cost.index_topk) shape_.sparse = true;
  }
  const bool padded = !options_.row_buckets.empty();
  shape_.absorbed_rows = RowBucket(options_, batch.absorbed_rows);
  shape_.expanded_rows = RowBucket(options_, batch.rows - batch.absorbed_rows);
  shape_.sequences = padded ? options_.max_sequences : sequences;
  shape_.logit_rows = RowBucket(options_, wanted_logits_);
  FillSampling(inputs);

  const int64_t rows = shape_.rows();
  const auto tokens = Staged<int32_t>(tokens_, rows);
  const auto positions = Staged<int32_t>(positions_, rows);
  const auto row_sequence = Staged<int32_t>(row_sequence_, rows);
  const auto row_length = Staged<int32_t>(row_length_, rows);
  const auto slots = Staged<int64_t>(slots_, rows);
  const int64_t max_pages = MaxPages(options_);
  const View<int32_t, 2> block_table =
      Staged<int32_t>(block_table_, shape_.sequences * max_pages).Split(0, shape_.sequences, max_pages);
  int64_t padding_slot = options_.kv_pages * options_.page_size;
  for (int64_t row = 0; row < rows; ++row) {
    tokens(row) = positions(row) = row_sequence(row) = row_length(row) = 0;
    const bool filled = row < shape_.absorbed_rows ? row < batch.absorbed_rows
                                                   : row - shape_.absorbed_rows < batch.rows - batch.absorbed_rows;
    slots(row) = filled ? 0 : padding_slot++;
    if (query_scale_.length > 0) staging_.Get<float>(row_scale_)[row] = 1;
  }

  // Where each input's rows begin, since the batch may have reordered them.
  const int64_t expanded_gap = shape_.absorbed_rows - batch.absorbed_rows;
  std::vector<int64_t> first_row(inputs.size(), 0);
  const auto segment_begin = Staged<int32_t>(segment_begin_, options_.max_sequences + 1);
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
      if (query_scale_.length > 0) staging_.Get<float>(row_scale_)[row] = ScaleAt(query_scale_, position);
      slots(row) =
          input.block_table[position / options_.page_size] * options_.page_size + position % options_.page_size;
    }
  }
  shape_.segments = shape_.expanded_rows == 0 ? 0 : padded ? options_.max_sequences : segments;
  for (int64_t s = segments; s <= shape_.segments; ++s) segment_begin(s) = static_cast<int32_t>(expanded);

  const auto logit_rows = Staged<int32_t>(logit_rows_, shape_.logit_rows);
  int64_t at = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    for (const int32_t row : inputs[i].logit_rows) logit_rows(at++) = static_cast<int32_t>(first_row[i] + row);
  }
  for (; at < shape_.logit_rows; ++at) logit_rows(at) = 0;
}

void StepPlan::FillSampling(std::span<const SequenceInput> inputs) {
  shape_.sampled = shape_.logprobs = false;
  penalties_ = biases_ = masks_ = 0;
  size_t named = 0;
  for (const SequenceInput& input : inputs) named += input.sampling.size();
  if (named == 0) return;
  if (static_cast<int64_t>(named) != wanted_logits_) {
    Fail(ErrorCode::kInternal, "step: sampling", fmt::format("{} rows, those of the logits, or none", wanted_logits_),
         fmt::format("{}", named));
  }
  shape_.sampled = true;
  const int64_t rows = shape_.logit_rows;
  const View<SamplingOptions, 1> options = View<SamplingOptions, 1>::Contiguous(
      reinterpret_cast<SamplingOptions*>(staging_.Get<int64_t>(sampling_)), {rows});
  const auto uniform = Staged<float>(uniform_, rows);
  const auto penalty_begin = Staged<int64_t>(penalty_begin_, rows + 1);
  const auto bias_begin = Staged<int64_t>(bias_begin_, rows + 1);
  const auto allowed_index = Staged<int32_t>(allowed_index_, rows);
  const int64_t words = MaskWords(vocab_size_);
  int64_t row = 0;
  penalty_begin(0) = bias_begin(0) = 0;
  const auto add = [&](const RowSampling& sampling) {
    const auto penalties = static_cast<int64_t>(sampling.penalty_tokens.size());
    const auto biases = static_cast<int64_t>(sampling.bias_tokens.size());
    const auto mask = static_cast<int64_t>(sampling.allowed.size());
    if (penalties_ + penalties > max_penalties_ || biases > kMaxBiases || (mask != 0 && mask != words) ||
        sampling.penalty_counts.size() != sampling.penalty_tokens.size() ||
        sampling.bias_values.size() != sampling.bias_tokens.size()) {
      Fail(ErrorCode::kInternal, "step: sampling",
           fmt::format("at most {} penalties and {} biases, and a mask of {} words or none",
                       max_penalties_ - penalties_, kMaxBiases, words),
           fmt::format("{}, {} and {}", penalties, biases, mask));
    }
    options(row) = sampling.options;
    uniform(row) = sampling.uniform;
    shape_.logprobs = shape_.logprobs || sampling.logprobs;
    std::ranges::copy(sampling.penalty_tokens, staging_.Get<int32_t>(penalty_tokens_) + penalties_);
    std::ranges::copy(sampling.penalty_counts, staging_.Get<int32_t>(penalty_counts_) + penalties_);
    std::ranges::copy(sampling.bias_tokens, staging_.Get<int32_t>(bias_tokens_) + biases_);
    std::ranges::copy(sampling.bias_values, staging_.Get<float>(bias_values_) + biases_);
    allowed_index(row) = mask == 0 ? -1 : static_cast<int32_t>(masks_);
    if (mask > 0) {
      std::memcpy(staging_.Get<int32_t>(allowed_) + masks_ * words, sampling.allowed.data(),
                  sampling.allowed.size_bytes());
      ++masks_;
    }
    ++row;
    penalty_begin(row) = penalties_ += penalties;
    bias_begin(row) = biases_ += biases;
  };
  for (const SequenceInput& input : inputs) std::ranges::for_each(input.sampling, add);
  while (row < rows) add({});
}

}  // namespace mxmla
