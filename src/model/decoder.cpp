#include "model/decoder.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/float_view.h"
#include "model/mla.h"
#include "model/mlp.h"

namespace mxmla {
namespace {

size_t ScratchBytes(const ModelConfig& config, const ModelOptions& options) {
  const int64_t heads = config.num_attention_heads;
  const size_t bytes = std::max({ValueProjectScratchBytes(heads, config.v_head_dim),
                                 DecodeAttentionScratchBytes(heads, config.kv_lora_rank, config.qk_rope_head_dim),
                                 PrefillAttentionScratchBytes(options.max_context, config.qk_head_dim(),
                                                              config.v_head_dim, config.kv_lora_rank)});
  return (bytes + 63) / 64 * 64;
}

void CheckMxfp4Input(const char* what, const LinearWeight& weight) {
  const int64_t k = ColumnCount(weight);
  if (!IsQuantized(weight) || k % kMxBlock == 0) return;
  Fail(ErrorCode::kQuantization, "--activations mxfp4", "inputs of quantised products whose width is a multiple of 32",
       fmt::format("{} with width {}", what, k), "use --activations fp8 or bf16");
}

// What the user asked for must be possible for every product, before any work is done.
void CheckActivations(const ModelConfig& config, const ModelWeights& weights, const ModelOptions& options) {
  if (options.activations != ActivationFormat::kMxfp4) return;
  const auto check_mlp = [](const MlpWeights& mlp) {
    CheckMxfp4Input("gate_proj", mlp.gate_proj);
    CheckMxfp4Input("down_proj", mlp.down_proj);
  };
  CheckMxfp4Input("lm_head", weights.lm_head);
  for (const LayerWeights& layer : weights.layers) {
    if (config.q_lora_rank > 0) {
      CheckMxfp4Input("q_a_proj", layer.q_a_proj);
      CheckMxfp4Input("q_b_proj", layer.q_b_proj);
    } else {
      CheckMxfp4Input("q_proj", layer.q_proj);
    }
    CheckMxfp4Input("kv_a_proj_with_mqa", layer.kv_a_proj_with_mqa);
    CheckMxfp4Input("kv_b_proj", layer.kv_b_proj);
    CheckMxfp4Input("o_proj", layer.o_proj);
    if (IsQuantized(layer.kv_b_proj) && config.qk_nope_head_dim % kMxBlock != 0) {
      Fail(ErrorCode::kQuantization, "--activations mxfp4", "a qk_nope_head_dim that is a multiple of 32",
           fmt::format("{}", config.qk_nope_head_dim), "use --activations fp8 or bf16");
    }
    for (size_t e = 0; e < layer.experts.gate_proj.size(); ++e) {
      check_mlp({layer.experts.gate_proj[e], layer.experts.up_proj[e], layer.experts.down_proj[e]});
    }
    if (!layer.is_moe || config.n_shared_experts > 0) check_mlp(layer.is_moe ? layer.shared_experts : layer.mlp);
  }
}

}  // namespace

Decoder::Decoder(const ModelConfig& config, const ModelWeights& weights, const ModelOptions& options,
                 const KernelSet& kernels, ThreadPool& pool, Profiler* profiler)
    : config_(config),
      weights_(weights),
      options_(options),
      rope_(config),
      softmax_scale_(SoftmaxScale(config)),
      buffers_((CheckActivations(config, weights, options), config), options, kernels.activation_dtype,
               ScratchBytes(config, options), pool.threads()) {
  for (const LayerWeights& layer : weights.layers) {
    absorbed_.push_back(AbsorbLayer(config, layer, options.absorb_dtype, pool));
    // Expanded heads multiply the latents by the checkpoint's kv_b_proj. They stand for the absorbed products only
    // where these see the same weights and unquantised inputs.
    const AbsorbedWeights& used = absorbed_.back().weights;
    if (options.absorb_dtype != AbsorbDType::kCheckpoint || TakesQuantized(options, used.w_kc.tensor)) {
      allow_expanded_ = false;
    }
  }
  context_.kernels = &kernels;
  context_.pool = &pool;
  context_.profiler = profiler;
  context_.scratch = {buffers_.scratch(), ScratchBytes(config, options)};
}

BatchViews Decoder::FillBatch(const BatchPlan& plan, std::span<const SequenceInput> inputs) {
  const int64_t rows = plan.rows;
  const int64_t page_size = options_.page_size;
  const int64_t max_pages = (options_.max_context + page_size - 1) / page_size;
  const View<int32_t, 1> tokens = buffers_.Ints(buffers_.tokens, rows);
  const View<int32_t, 1> positions = buffers_.Ints(buffers_.positions, rows);
  const View<int32_t, 1> row_sequence = buffers_.Ints(buffers_.row_sequence, rows);
  const View<int32_t, 1> row_length = buffers_.Ints(buffers_.row_length, rows);
  const View<int64_t, 1> slots = buffers_.Longs(buffers_.slots, rows);
  const auto sequences = static_cast<int64_t>(inputs.size());
  const View<int32_t, 2> block_table =
      buffers_.Ints(buffers_.block_table, sequences * max_pages).Split(0, sequences, max_pages);

  for (const SequenceRows& sequence : plan.sequences) {
    const SequenceInput& input = inputs[sequence.input];
    for (size_t page = 0; page < input.block_table.size(); ++page) {
      block_table(sequence.input, page) = input.block_table[page];
    }
    for (int64_t i = 0; i < sequence.rows; ++i) {
      const int64_t row = sequence.first_row + i;
      const int64_t position = sequence.first_position + i;
      tokens(row) = input.tokens[i];
      positions(row) = static_cast<int32_t>(position);
      row_sequence(row) = static_cast<int32_t>(sequence.input);
      row_length(row) = static_cast<int32_t>(position + 1);
      slots(row) = input.block_table[position / page_size] * page_size + position % page_size;
    }
  }
  const View<float, 2> cos = buffers_.Float(buffers_.cos, rows);
  const View<float, 2> sin = buffers_.Float(buffers_.sin, rows);
  rope_.Fill(positions, cos, sin);
  return {tokens, row_sequence, row_length, slots, block_table, cos, sin};
}

View<const float, 2> Decoder::Forward(std::span<const SequenceInput> inputs) {
  const BatchPlan plan =
      PlanBatch(inputs, {config_.kv_lora_rank, config_.qk_nope_head_dim, config_.qk_rope_head_dim, config_.v_head_dim},
                allow_expanded_);
  if (plan.rows > options_.max_batch_tokens || static_cast<int64_t>(inputs.size()) > options_.max_sequences) {
    Fail(ErrorCode::kInternal, "forward pass",
         fmt::format("at most {} tokens of {} sequences", options_.max_batch_tokens, options_.max_sequences),
         fmt::format("{} of {}", plan.rows, inputs.size()));
  }
  const BatchViews batch = FillBatch(plan, inputs);
  Embedding(context_, {batch.tokens, weights_.embed_tokens, buffers_.Plain(buffers_.residual, plan.rows)});
  const AttentionPass pass{config_, options_, buffers_, plan, batch, softmax_scale_};
  for (size_t layer = 0; layer < weights_.layers.size(); ++layer) {
    AttentionLayer(context_, pass, weights_.layers[layer], absorbed_[layer].weights,
                   buffers_.KvPages(static_cast<int64_t>(layer)), layer == 0);
    MlpLayer(context_, pass, weights_.layers[layer]);
  }
  return Head(plan, inputs);
}

View<const float, 2> Decoder::Head(const BatchPlan& plan, std::span<const SequenceInput> inputs) {
  // Where each input's rows begin: the plan may have reordered the sequences.
  std::vector<int64_t> first_row(inputs.size(), 0);
  for (const SequenceRows& sequence : plan.sequences) first_row[sequence.input] = sequence.first_row;
  int64_t wanted = 0;
  for (const SequenceInput& input : inputs) wanted += static_cast<int64_t>(input.logit_rows.size());
  if (wanted > options_.max_logit_rows) {
    Fail(ErrorCode::kInternal, "forward pass", fmt::format("at most {} rows of logits", options_.max_logit_rows),
         fmt::format("{}", wanted));
  }
  const View<int32_t, 1> rows = buffers_.Ints(buffers_.logit_rows, wanted);
  int64_t at = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    for (const int32_t row : inputs[i].logit_rows) rows(at++) = static_cast<int32_t>(first_row[i] + row);
  }
  const View<float, 2> logits = buffers_.Float(buffers_.logits, wanted);
  if (wanted == 0) return logits;

  const bool quantized = TakesQuantized(options_, weights_.lm_head);
  RmsNormArgs norm;
  norm.x = AsInput(buffers_.Plain(buffers_.delta, plan.rows));
  norm.residual = buffers_.Float(buffers_.residual, plan.rows);
  norm.row_index = rows;
  norm.weight = weights_.norm;
  norm.eps = static_cast<float>(config_.rms_norm_eps);
  if (quantized) {
    norm.quantized = buffers_.Quantized(buffers_.head_input_quantized, wanted);
  } else {
    norm.out = buffers_.Plain(buffers_.head_input, wanted);
  }
  RmsNorm(context_, norm);
  Linear(context_, {quantized ? AsActivation(*norm.quantized) : AsActivation(*norm.out), weights_.lm_head, logits},
         "lm_head");
  return logits;
}

}  // namespace mxmla
