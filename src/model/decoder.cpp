#include "model/decoder.h"

#include <fmt/format.h>

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
    CheckMxfp4Input("kv_b_proj", layer.w_vc.tensor);
    CheckMxfp4Input("o_proj", layer.o_proj);
    CheckMxfp4Input("wq_b", layer.indexer.wq_b);
    CheckMxfp4Input("wk", layer.indexer.wk);
    if (IsQuantized(layer.w_kc.tensor) && config.qk_nope_head_dim % kMxBlock != 0) {
      Fail(ErrorCode::kQuantization, "--activations mxfp4", "a qk_nope_head_dim that is a multiple of 32",
           fmt::format("{}", config.qk_nope_head_dim), "use --activations fp8 or bf16");
    }
    for (size_t e = 0; e < layer.experts.gate_proj.size(); ++e) {
      check_mlp({layer.experts.gate_proj[e], layer.experts.up_proj[e], layer.experts.down_proj[e]});
    }
    const MlpWeights& mlp = layer.is_moe ? layer.shared_experts : layer.mlp;
    if (RowCount(mlp.gate_proj) > 0) check_mlp(mlp);
  }
}

// Room for all that the host reads of a step of this shape.
Memory AllocateResult(Backend& backend, const StepShape& shape, const ModelConfig& config) {
  const auto rows = static_cast<size_t>(shape.logit_rows);
  const size_t row = static_cast<size_t>(config.vocab_size + 2 * kMaxTopLogprobs + 2) * sizeof(float);
  return backend.AllocateStaging(rows * row + 5 * 64, "results of a step", "");
}

}  // namespace

Decoder::Decoder(const ModelConfig& config, const PlacedWeights& placed, const ModelOptions& options, Backend& backend,
                 Profiler* profiler)
    : config_(config),
      placed_(placed),
      weights_(placed.weights),
      options_(options),
      backend_(backend),
      profiler_(profiler),
      plan_((CheckActivations(config, placed.weights, options), options), config.vocab_size, config.query_scale,
            backend),
      buffers_(config, options, backend),
      context_(backend.Context()),
      recorder_(backend.MakeRecorder()) {
  for (const AbsorbedLayer& layer : placed.absorbed) {
    // Expanded heads multiply the latents by the checkpoint's kv_b_proj. They stand for the absorbed products only
    // where these see the same weights and unquantised inputs.
    if (layer.weights.w_kc_output_major || options.absorb_dtype != AbsorbDType::kCheckpoint ||
        TakesQuantized(options, layer.weights.w_kc.tensor)) {
      allow_expanded_ = false;
    }
  }
  PlanWorkspace();
  if (placed.shared_parts > 0) FillSharedSlots();
  if (profiler) profiler->UseClock(backend.clock());
  for (QueuedStep& step : steps_) step.done = backend.MakeFence();
  if (!backend.reads_host_memory()) {
    for (QueuedStep& step : steps_) step.memory = AllocateResult(backend, StepPlan::Largest(options), config);
  }
}

Decoder::~Decoder() {
  for (; queued_ > 0; --queued_, first_ ^= 1) {
    try {
      steps_[first_].done->Wait();
    } catch (const Error&) {
      return;  // the device has failed: nothing runs any more
    }
  }
}

// The largest steps of each kind of attention and of both, not run: every kernel says what memory it would ask for, or
// no kernel takes the model's views, which is better heard now than at the first token.
void Decoder::PlanWorkspace() {
  workspace_.Plan(context_, backend_, [&](const ExecContext&) {
    StepShape shape = StepPlan::Largest(options_);
    shape.sparse = UsesIndexer(config_, options_);
    const int64_t absorbed = shape.absorbed_rows, both = shape.expanded_rows;
    const auto plan = [&](int64_t absorbed_rows, int64_t expanded_rows) {
      shape.absorbed_rows = absorbed_rows;
      shape.expanded_rows = expanded_rows;
      shape.segments = expanded_rows > 0 ? shape.sequences : 0;
      Run(shape, plan_.ViewsOf(shape));
    };
    plan(absorbed, 0);
    if (!allow_expanded_) return;
    plan(0, absorbed);
    if (both > 0) plan(absorbed, both);  // in buckets of their own, more rows than either
  });
}

// The slots of the shared experts' parts, which no router writes. The others are nobody's yet.
void Decoder::FillSharedSlots() {
  const int64_t parts = placed_.shared_parts, top_k = config_.num_experts_per_tok;
  const int64_t rows = StepPlan::Largest(options_).rows();
  const auto pairs = static_cast<size_t>(rows * (top_k + parts));
  std::vector<int32_t> ids(pairs, -1);
  std::vector<float> weights(pairs, 0.0f);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t part = 0; part < parts; ++part) {
      const auto slot = static_cast<size_t>(r * (top_k + parts) + top_k + part);
      ids[slot] = static_cast<int32_t>(config_.n_routed_experts + part);
      weights[slot] = 1.0f;
    }
  }
  const auto to = [&](auto* device, const auto& host) {
    return Transfer{reinterpret_cast<std::byte*>(device), reinterpret_cast<const std::byte*>(host.data()), pairs * 4};
  };
  const Transfer transfers[] = {to(buffers_.Ints(buffers_.expert_ids, 0).data, ids),
                                to(buffers_.Float(buffers_.expert_weights, 0).data, weights)};
  backend_.UploadAll(transfers, [](size_t) {});
}

StepResult Decoder::Forward(std::span<const SequenceInput> inputs) {
  Queue(inputs);
  return Take();
}

void Decoder::Queue(std::span<const SequenceInput> inputs) {
  if (queued_ == steps_.size()) Fail(ErrorCode::kInternal, "a step", "at most two that are queued", "a third");
  if (QueuedStep& earlier = steps_[first_]; queued_ > 0 && backend_.reads_host_memory()) {
    // Its buffers are this step's as well.
    if (!earlier.memory) earlier.memory = AllocateResult(backend_, StepPlan::Largest(options_), config_);
    earlier.result.logits = {};
    KeepResult(&earlier);
  }
  plan_.Fill(inputs,
             {config_.kv_lora_rank, config_.qk_nope_head_dim, config_.qk_rope_head_dim, config_.v_head_dim,
              UsesIndexer(config_, options_) ? config_.indexer.topk : 0},
             allow_expanded_);
  plan_.Upload();
  const StepShape& shape = plan_.shape();
  const auto calls = [&] { Run(shape, plan_.Views()); };
  if (profiled()) {
    context_.profiler = profiler_;
    calls();
    context_.profiler = nullptr;
    profiler_->Settle();
  } else {
    const int64_t key[] = {shape.absorbed_rows, shape.expanded_rows, shape.segments, shape.sequences,
                           shape.logit_rows,    shape.sparse,        shape.sampled,  shape.logprobs};
    recorder_->Run(key, calls);
  }
  StartResult(&steps_[first_ ^ queued_]);
  ++queued_;
}

StepResult Decoder::Take() {
  if (queued_ == 0) Fail(ErrorCode::kInternal, "a step's result", "a step that is queued", "none");
  const QueuedStep& step = steps_[first_];
  step.done->Wait();
  --queued_;
  first_ ^= 1;
  return step.result;
}

// Where the host will find the result of the step that was started last.
void Decoder::StartResult(QueuedStep* step) {
  const StepShape& shape = plan_.shape();
  const int64_t rows = plan_.wanted_logits();
  StepResult& result = step->result;
  result = {};
  const bool on_host = backend_.reads_host_memory();
  if (!shape.sampled || on_host) result.logits = buffers_.Float(buffers_.logits, rows);
  if (shape.sampled) {
    result.tokens = buffers_.Ints(buffers_.sampled_tokens, rows);
    if (shape.logprobs) {
      result.logprobs = buffers_.Float(buffers_.logprobs, rows).Flatten(0);
      result.top_tokens = buffers_.Ints(buffers_.top_tokens, rows * kMaxTopLogprobs).Split(0, rows, kMaxTopLogprobs);
      result.top_logprobs = buffers_.Float(buffers_.top_logprobs, rows);
    }
  }
  if (!on_host) KeepResult(step);
  step->done->Set();
}

// Brings a result that lies in the step's buffers to memory of its own.
void Decoder::KeepResult(QueuedStep* step) {
  size_t used = 0;
  const auto keep = [&](auto& view) {
    if (view.empty()) return;
    const auto bytes = static_cast<size_t>(view.size()) * sizeof(*view.data);
    std::byte* to = step->memory.data() + used;
    backend_.QueueDownload(to, reinterpret_cast<const std::byte*>(view.data), bytes);
    used += (bytes + 63) / 64 * 64;
    view.data = reinterpret_cast<decltype(view.data)>(to);
  };
  StepResult& result = step->result;
  keep(result.logits);
  keep(result.tokens);
  keep(result.logprobs);
  keep(result.top_tokens);
  keep(result.top_logprobs);
}

void Decoder::Run(const StepShape& shape, const StepViews& views) const {
  const int64_t rows = shape.rows();
  if (rows == 0) return;
  Embedding(context_,
            {views.tokens, weights_.embed_tokens, buffers_.Plain(buffers_.residual, rows),
             buffers_.Ints(buffers_.sampled_tokens, StepPlan::Largest(options_).logit_rows), placed_.embedding_scale});
  const View<float, 2> cos = buffers_.Float(buffers_.cos, rows);
  const View<float, 2> sin = buffers_.Float(buffers_.sin, rows);
  RopeAngles(context_, {views.positions, placed_.inverse_frequencies, placed_.rope_factor, cos, sin});
  const Step step{config_,
                  options_,
                  buffers_,
                  shape,
                  views,
                  cos,
                  sin,
                  placed_.softmax_scale,
                  placed_.norm_eps,
                  placed_.shared_parts};
  for (size_t layer = 0; layer < weights_.layers.size(); ++layer) {
    const JoinedWeights& joined = placed_.joined[layer];
    AttentionLayer(context_, step, weights_.layers[layer], placed_.absorbed[layer].weights, joined,
                   static_cast<int64_t>(layer));
    const LinearWeight* next = &weights_.lm_head;
    if (layer + 1 < weights_.layers.size()) {
      const LayerWeights& behind = weights_.layers[layer + 1];
      next = config_.q_lora_rank > 0 ? &behind.q_a_proj : &behind.q_proj;
    }
    MlpLayer(context_, step, weights_.layers[layer], joined, placed_.experts[layer], *next);
  }
  if (shape.logit_rows == 0) return;
  RunHead(step);
  if (shape.sampled) RunSampling(step);
}

void Decoder::RunHead(const Step& step) const {
  const int64_t rows = step.shape.rows();
  const int64_t wanted = step.shape.logit_rows;
  const View<float, 2> logits = buffers_.Float(buffers_.logits, wanted);
  const bool quantized = TakesQuantized(options_, weights_.lm_head);
  RmsNormArgs norm;
  norm.x = AsInput(buffers_.Plain(buffers_.delta, rows));
  norm.residual = buffers_.Float(buffers_.attended, rows);
  norm.row_index = step.views.logit_rows;
  norm.weight = weights_.norm;
  norm.eps = placed_.norm_eps;
  if (quantized) {
    norm.quantized = buffers_.Quantized(buffers_.head_input_quantized, wanted);
    norm.scale_mode = buffers_.scale_mode();
  } else {
    norm.out = buffers_.Plain(buffers_.head_input, wanted);
  }
  RmsNorm(context_, norm);
  Linear(context_, {quantized ? AsActivation(*norm.quantized) : AsActivation(*norm.out), weights_.lm_head, logits},
         "lm_head");
}

void Decoder::RunSampling(const Step& step) const {
  const int64_t rows = step.shape.logit_rows;
  SampleArgs sample = step.views.sampling;
  sample.logits = buffers_.Float(buffers_.logits, rows);
  sample.tokens = buffers_.Ints(buffers_.sampled_tokens, rows);
  if (step.shape.logprobs) {
    sample.logprobs = buffers_.Float(buffers_.logprobs, rows).Flatten(0);
    sample.top_tokens = buffers_.Ints(buffers_.top_tokens, rows * kMaxTopLogprobs).Split(0, rows, kMaxTopLogprobs);
    sample.top_logprobs = buffers_.Float(buffers_.top_logprobs, rows);
  }
  Sample(context_, sample);
}

}  // namespace mxmla
