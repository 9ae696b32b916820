#include "model/activations.h"

#include <algorithm>

#include "core/float_view.h"
#include "model/step_plan.h"
#include "ops/sample.h"

namespace mxmla {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

Activations::Activations(const ModelConfig& config, const ModelOptions& options, Backend& backend)
    : Activations(config, options, backend.kernels().activation_dtype) {
  plan_.Allocate([&](size_t bytes, const std::string& hint) {
    return backend.Allocate(bytes, Fill::kZero, "activation buffers", hint);
  });
}

Activations::Needs Activations::NeedsOf(const ModelConfig& config, const ModelOptions& options, DType dtype) {
  const Activations planned(config, options, dtype);
  Needs needs;
  const auto bytes = [&](int id) { return planned.plan_.buffers()[static_cast<size_t>(id)].bytes; };
  for (const int id : planned.kv_) needs.kv_cache += bytes(id);
  for (const PlainBuffer& keys : planned.index_keys_) needs.kv_cache += keys.reserved() ? bytes(keys.id) : 0;
  needs.rest = planned.plan_.total_bytes() - needs.kv_cache;
  return needs;
}

Activations::Activations(const ModelConfig& config, const ModelOptions& options, DType dtype)
    : format_(options.activations),
      scale_mode_(format_ == ActivationFormat::kFp8 ? config.quantization.fp8_activation_scale_mode : ScaleMode::kEven),
      dtype_(dtype),
      kv_dtype_(options.kv_dtype),
      kv_pages_(options.kv_pages + PaddingPages(options)),
      page_size_(options.page_size),
      kv_lora_rank_(config.kv_lora_rank),
      qk_rope_head_dim_(config.qk_rope_head_dim) {
  const StepShape largest = StepPlan::Largest(options);
  const int64_t rows = largest.rows();
  const int64_t heads = config.num_attention_heads;
  const int64_t hidden = config.hidden_size;
  const int64_t kv_columns = config.kv_lora_rank + config.qk_rope_head_dim;
  const int64_t v_columns = heads * config.v_head_dim;
  const bool moe = config.n_routed_experts > 0;
  const int64_t shared_width = moe ? config.n_shared_experts * config.moe_intermediate_size : 0;
  const int64_t mlp_width = std::max(config.intermediate_size, shared_width);

  residual = ReservePlain("residual", rows, hidden, DType::kF32);
  attended = ReservePlain("attended", rows, hidden, DType::kF32);
  delta = ReservePlain("delta", rows, hidden, DType::kF32);
  normed = ReservePlain("normed", rows, hidden, dtype);
  normed_quantized = ReserveQuantized("normed", rows, hidden);
  const int64_t q_columns = heads * (config.qk_nope_head_dim + config.qk_rope_head_dim);
  down = ReservePlain("down", rows, (config.q_lora_rank > 0 ? config.q_lora_rank : q_columns) + kv_columns, dtype);
  q_latent = ReservePlain("q_latent", rows, config.q_lora_rank, dtype);
  q_latent_quantized = ReserveQuantized("q_latent", rows, config.q_lora_rank);
  if (config.q_lora_rank > 0) q = ReservePlain("q", rows, q_columns, dtype);
  q_nope_quantized = ReserveQuantized("q_nope", rows * heads, config.qk_nope_head_dim);
  query = ReservePlain("query", rows, heads * kv_columns, dtype);
  attention = ReservePlain("attention", rows, heads * config.kv_lora_rank, dtype);
  attention_quantized = ReserveQuantized("attention", rows * heads, config.kv_lora_rank);
  values = ReservePlain("values", rows, v_columns, dtype);
  if (options.v_layout == VLayout::kCopy) {
    values_head_major = ReservePlain("values_head_major", heads, rows * config.v_head_dim, dtype);
  }
  values_quantized = ReserveQuantized("values", rows, v_columns);
  const bool indexer = UsesIndexer(config, options);
  if (indexer) {
    const IndexerConfig& index = config.indexer;
    index_key = ReservePlain("index_key", rows, index.head_dim, dtype);
    index_query = ReservePlain("index_query", rows, index.heads * index.head_dim, dtype);
    index_weights = ReservePlain("index_weights", rows, index.heads, DType::kF32);
    chosen = plan_.Reserve<int32_t>("chosen", rows * index.topk);
  }
  gate_up = ReservePlain("gate_up", rows, 2 * mlp_width, dtype);
  mlp = ReservePlain("mlp", rows, mlp_width, dtype);
  mlp_quantized = ReserveQuantized("mlp", rows, mlp_width);
  if (moe) {
    // A device's shared experts may stand among the routed ones.
    const int64_t slots = config.num_experts_per_tok + config.n_shared_experts;
    const int64_t pairs = rows * slots;
    expert_gate_up = ReservePlain("expert_gate_up", pairs, 2 * config.moe_intermediate_size, dtype);
    expert_mlp = ReservePlain("expert_mlp", pairs, config.moe_intermediate_size, dtype);
    expert_mlp_quantized = ReserveQuantized("expert_mlp", pairs, config.moe_intermediate_size);
    expert_out = ReservePlain("expert_out", pairs, hidden, DType::kF32);
    shared_out = ReservePlain("shared_out", rows, hidden, DType::kF32);
    if (config.post_mlp_norm) combined = ReservePlain("combined", rows, hidden, DType::kF32);
    router_logits = ReservePlain("router_logits", rows, config.n_routed_experts, DType::kF32);
    expert_weights = ReservePlain("expert_weights", rows, slots, DType::kF32);
    expert_ids = plan_.Reserve<int32_t>("expert_ids", pairs);
    expert_begin = plan_.Reserve<int32_t>("expert_begin", config.n_routed_experts + config.n_shared_experts + 1);
    expert_pairs = plan_.Reserve<int32_t>("expert_pairs", pairs);
  }
  head_input = ReservePlain("head_input", largest.logit_rows, hidden, dtype);
  head_input_quantized = ReserveQuantized("head_input", largest.logit_rows, hidden);
  logits = ReservePlain("logits", largest.logit_rows, config.vocab_size, DType::kF32);
  sampled_tokens = plan_.Reserve<int32_t>("sampled_tokens", largest.logit_rows);
  logprobs = ReservePlain("logprobs", largest.logit_rows, 1, DType::kF32);
  top_tokens = plan_.Reserve<int32_t>("top_tokens", largest.logit_rows * kMaxTopLogprobs);
  top_logprobs = ReservePlain("top_logprobs", largest.logit_rows, kMaxTopLogprobs, DType::kF32);
  cos = ReservePlain("cos", rows, config.qk_rope_head_dim / 2, DType::kF32);
  sin = ReservePlain("sin", rows, config.qk_rope_head_dim / 2, DType::kF32);
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    kv_.push_back(ReserveKv(kv_pages_ * page_size_));
    if (!indexer) continue;
    const DType keys = options.kv_dtype == KvDType::kAuto ? dtype : DType::kBf16;
    index_keys_.push_back(config.HasIndexer(layer)
                              ? ReservePlain("index_keys", kv_pages_ * page_size_, config.indexer.head_dim, keys)
                              : PlainBuffer{});
  }
}

PlainBuffer Activations::ReservePlain(const char* name, int64_t rows, int64_t columns, DType dtype) {
  const int64_t count = rows * columns;
  const int id = dtype == DType::kF32 ? plan_.Reserve<float>(name, count) : plan_.Reserve<bf16>(name, count);
  return {id, columns, dtype};
}

QuantizedBuffer Activations::ReserveQuantized(const char* name, int64_t rows, int64_t columns) {
  const std::string quantized = std::string(name) + "_quantized";
  const std::string scales = std::string(name) + "_scales";
  switch (format_) {
    case ActivationFormat::kPlain:
      return {};
    case ActivationFormat::kFp8:
      return {plan_.Reserve<e4m3>(quantized, rows * columns),
              plan_.Reserve<float>(scales, rows * CeilDiv(columns, kFp8Group)), columns, format_};
    case ActivationFormat::kMxfp4:
      // Columns that are no multiple of 32 cannot be an MXFP4 product's input; their product is refused when called.
      return {plan_.Reserve<e2m1x2>(quantized, rows * CeilDiv(columns, 2)),
              plan_.Reserve<e8m0>(scales, rows * CeilDiv(columns, kMxBlock)), columns, format_};
  }
  return {};
}

FloatOutput<2> Activations::Plain(const PlainBuffer& buffer, int64_t rows) const {
  if (buffer.dtype == DType::kF32) return Float(buffer, rows);
  return View<bf16, 2>::Contiguous(plan_.Get<bf16>(buffer.id), {rows, buffer.columns});
}

View<float, 2> Activations::Float(const PlainBuffer& buffer, int64_t rows) const {
  return View<float, 2>::Contiguous(plan_.Get<float>(buffer.id), {rows, buffer.columns});
}

QuantizedOutput<2> Activations::Quantized(const QuantizedBuffer& buffer, int64_t rows) const {
  const int64_t columns = buffer.columns;
  if (buffer.format == ActivationFormat::kFp8) {
    return Fp8Group<e4m3, 2>{
        View<e4m3, 2>::Contiguous(plan_.Get<e4m3>(buffer.values), {rows, columns}),
        View<float, 2>::Contiguous(plan_.Get<float>(buffer.scales), {rows, CeilDiv(columns, kFp8Group)})};
  }
  return Mxfp4<e2m1x2, 2>{View<e2m1x2, 2>::Contiguous(plan_.Get<e2m1x2>(buffer.values), {rows, columns / 2}),
                          View<e8m0, 2>::Contiguous(plan_.Get<e8m0>(buffer.scales), {rows, columns / kMxBlock})};
}

// A float32 cache only as the backend's own choice.
int Activations::ReserveKv(int64_t rows) {
  const int64_t columns = kv_lora_rank_ + qk_rope_head_dim_;
  switch (kv_dtype_) {
    case KvDType::kAuto:
      return ReservePlain("kv_cache", rows, columns, dtype_).id;
    case KvDType::kBf16:
      return ReservePlain("kv_cache", rows, columns, DType::kBf16).id;
    case KvDType::kFp8:
      return plan_.Reserve<e4m3>("kv_cache", rows * Fp8KvRowStride(kv_lora_rank_, qk_rope_head_dim_));
  }
  return -1;
}

KvOutput<3> Activations::KvPages(int64_t layer) const {
  const int id = kv_[layer];
  const std::array<int64_t, 3> dims{kv_pages_, page_size_, kv_lora_rank_ + qk_rope_head_dim_};
  if (kv_dtype_ == KvDType::kFp8) {
    return Fp8KvPages(plan_.Get<e4m3>(id), kv_pages_, page_size_, kv_lora_rank_, qk_rope_head_dim_);
  }
  if (kv_dtype_ == KvDType::kAuto && dtype_ == DType::kF32)
    return View<float, 3>::Contiguous(plan_.Get<float>(id), dims);
  return View<bf16, 3>::Contiguous(plan_.Get<bf16>(id), dims);
}

FloatOutput<3> Activations::IndexKeyPages(int64_t layer) const {
  return Split(Plain(index_keys_[static_cast<size_t>(layer)], kv_pages_ * page_size_), 0, kv_pages_, page_size_);
}

}  // namespace mxmla
