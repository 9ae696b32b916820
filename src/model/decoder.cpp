#include "model/decoder.h"

#include <fmt/format.h>

#include <cstdlib>

#include "core/float_view.h"
#include "model/mla.h"
#include "model/mlp.h"

namespace mxmla {
namespace {

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

Decoder::Decoder(const ModelConfig& config, const ModelWeights& weights, const PlacedWeights& placed,
                 const ModelOptions& options, const KernelSet& kernels, ThreadPool& pool, Profiler* profiler)
    : config_(config),
      weights_(weights),
      placed_(placed),
      options_(options),
      plan_((CheckActivations(config, weights, options), options)),
      buffers_(config, options, kernels.activation_dtype) {
  for (const AbsorbedLayer& layer : placed.absorbed) {
    // Expanded heads multiply the latents by the checkpoint's kv_b_proj. They stand for the absorbed products only
    // where these see the same weights and unquantised inputs.
    if (options.absorb_dtype != AbsorbDType::kCheckpoint || TakesQuantized(options, layer.weights.w_kc.tensor)) {
      allow_expanded_ = false;
    }
  }
  context_.kernels = &kernels;
  context_.pool = &pool;
  AllocateWorkspace();
  context_.profiler = profiler;
}

void Decoder::FreeMemory::operator()(std::byte* memory) const { std::free(memory); }

// The largest steps of both kinds of attention, not run: every kernel says what memory it would ask for, or no kernel
// takes the model's views, which is better heard now than at the first token.
void Decoder::AllocateWorkspace() {
  constexpr size_t kAlignment = 64;
  const auto round_up = [](size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; };
  WorkspaceSize size;
  context_.planned = &size;
  StepShape shape = StepPlan::Largest(options_);
  const int64_t rows = shape.absorbed_rows;
  for (const bool expanded : {false, true}) {
    if (expanded && !allow_expanded_) continue;
    shape.absorbed_rows = expanded ? 0 : rows;
    shape.expanded_rows = expanded ? rows : 0;
    shape.segments = expanded ? shape.sequences : 0;
    Run(shape, plan_.ViewsOf(shape));
  }
  SampleArgs sample;
  sample.logits = buffers_.Float(buffers_.logits, shape.logit_rows);
  sample.options.shape = sample.uniform.shape = sample.tokens.shape = {shape.logit_rows};
  sample.options.stride = sample.uniform.stride = sample.tokens.stride = {1};
  Sample(context_, sample);
  context_.planned = nullptr;
  size.per_worker = round_up(size.per_worker);
  const size_t shared = round_up(size.shared);
  workspace_bytes_ = shared + size.per_worker * static_cast<size_t>(context_.pool->threads());
  if (workspace_bytes_ == 0) return;
  // Not touched here: what no step needs stays unmapped.
  workspace_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, workspace_bytes_)));
  if (!workspace_) {
    Fail(ErrorCode::kMemory, "kernels' workspace", fmt::format("{} bytes of memory", workspace_bytes_), "too little",
         "choose a shorter context, a smaller batch or fewer threads");
  }
  context_.workspace = {workspace_.get(), workspace_.get() + shared, size};
}

View<const float, 2> Decoder::Forward(std::span<const SequenceInput> inputs) {
  plan_.Fill(inputs, {config_.kv_lora_rank, config_.qk_nope_head_dim, config_.qk_rope_head_dim, config_.v_head_dim},
             allow_expanded_);
  Run(plan_.shape(), plan_.Views());
  return buffers_.Float(buffers_.logits, plan_.wanted_logits());
}

void Decoder::Run(const StepShape& shape, const StepViews& views) const {
  const int64_t rows = shape.rows();
  if (rows == 0) return;
  Embedding(context_, {views.tokens, weights_.embed_tokens, buffers_.Plain(buffers_.residual, rows)});
  const View<float, 2> cos = buffers_.Float(buffers_.cos, rows);
  const View<float, 2> sin = buffers_.Float(buffers_.sin, rows);
  const auto half = static_cast<int64_t>(placed_.inverse_frequencies.size());
  RopeAngles(context_, {views.positions, View<const float, 1>::Contiguous(placed_.inverse_frequencies.data(), {half}),
                        placed_.rope_factor, cos, sin});
  const Step step{config_, options_, buffers_, shape, views, cos, sin, placed_.softmax_scale};
  for (size_t layer = 0; layer < weights_.layers.size(); ++layer) {
    AttentionLayer(context_, step, weights_.layers[layer], placed_.absorbed[layer].weights,
                   buffers_.KvPages(static_cast<int64_t>(layer)), layer == 0);
    MlpLayer(context_, step, weights_.layers[layer]);
  }
  if (shape.logit_rows > 0) RunHead(step);
}

void Decoder::RunHead(const Step& step) const {
  const int64_t rows = step.shape.rows();
  const int64_t wanted = step.shape.logit_rows;
  const View<float, 2> logits = buffers_.Float(buffers_.logits, wanted);
  const bool quantized = TakesQuantized(options_, weights_.lm_head);
  RmsNormArgs norm;
  norm.x = AsInput(buffers_.Plain(buffers_.delta, rows));
  norm.residual = buffers_.Float(buffers_.residual, rows);
  norm.row_index = step.views.logit_rows;
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
}

}  // namespace mxmla
