#include "checkpoint/weight_tree.h"

#include <fmt/format.h>

#include "core/error.h"

namespace mxmla {
namespace {

class Builder {
 public:
  Builder(const ModelConfig& config, WeightSource& source) : c_(config), source_(source) {}

  ModelWeights Build() {
    ModelWeights weights;
    weights.embed_tokens = source_.Matrix("model.embed_tokens", c_.vocab_size, c_.hidden_size, true);
    weights.layers.reserve(static_cast<size_t>(c_.num_hidden_layers));
    for (int64_t i = 0; i < c_.num_hidden_layers; ++i) weights.layers.push_back(Layer(i));
    weights.norm = source_.Vector("model.norm.weight", c_.hidden_size);
    weights.tied = c_.tie_word_embeddings && !source_.HasHead();
    weights.lm_head =
        weights.tied ? weights.embed_tokens : source_.Matrix("lm_head", c_.vocab_size, c_.hidden_size, false);
    return weights;
  }

 private:
  LinearWeight Linear(const std::string& module, int64_t n, int64_t k) { return source_.Matrix(module, n, k, false); }

  LayerWeights Layer(int64_t index) {
    const std::string prefix = fmt::format("model.layers.{}.", index);
    LayerWeights layer;
    layer.input_layernorm = source_.Vector(prefix + "input_layernorm.weight", c_.hidden_size);
    layer.post_attention_layernorm = source_.Vector(prefix + "post_attention_layernorm.weight", c_.hidden_size);
    Attention(prefix + "self_attn.", &layer);
    if (c_.HasIndexer(index)) Indexer(prefix + "self_attn.indexer.", &layer.indexer);
    layer.is_moe = c_.IsMoeLayer(index);
    const std::string post_mlp_norm = prefix + "post_mlp_layernorm.weight";
    if (layer.is_moe) {
      Mixture(prefix + "mlp", &layer);
      if (c_.post_mlp_norm) layer.post_mlp_layernorm = source_.Vector(post_mlp_norm, c_.hidden_size);
    } else {
      layer.mlp = Mlp(prefix + "mlp.", c_.intermediate_size);
      if (c_.post_mlp_norm) source_.UnusedVector(post_mlp_norm);
    }
    return layer;
  }

  void Attention(const std::string& prefix, LayerWeights* layer) {
    const int64_t heads = c_.num_attention_heads;
    const int64_t hidden = c_.hidden_size;
    if (c_.q_lora_rank > 0) {
      layer->q_a_proj = Linear(prefix + "q_a_proj", c_.q_lora_rank, hidden);
      layer->q_a_layernorm = source_.Vector(prefix + "q_a_layernorm.weight", c_.q_lora_rank);
      layer->q_b_proj = Linear(prefix + "q_b_proj", heads * c_.qk_head_dim(), c_.q_lora_rank);
    } else {
      layer->q_proj = Linear(prefix + "q_proj", heads * c_.qk_head_dim(), hidden);
    }
    layer->kv_a_proj_with_mqa = Linear(prefix + "kv_a_proj_with_mqa", c_.kv_row(), hidden);
    layer->kv_a_layernorm = source_.Vector(prefix + "kv_a_layernorm.weight", c_.kv_lora_rank);
    const int64_t head_rows = c_.qk_nope_head_dim + c_.v_head_dim;
    layer->kv_b_proj = Linear(prefix + "kv_b_proj", heads * head_rows, c_.kv_lora_rank);
    layer->w_kc = {layer->kv_b_proj, heads, head_rows, 0, c_.qk_nope_head_dim};
    layer->w_vc = {layer->kv_b_proj, heads, head_rows, c_.qk_nope_head_dim, c_.v_head_dim};
    layer->o_proj = Linear(prefix + "o_proj", hidden, heads * c_.v_head_dim);
  }

  void Indexer(const std::string& prefix, IndexerWeights* indexer) {
    const IndexerConfig& c = c_.indexer;
    indexer->wq_b = Linear(prefix + "wq_b", c.heads * c.head_dim, c_.q_lora_rank);
    indexer->wk = Linear(prefix + "wk", c.head_dim, c_.hidden_size);
    indexer->k_norm = source_.Vector(prefix + "k_norm.weight", c.head_dim);
    indexer->k_norm_bias = source_.Vector(prefix + "k_norm.bias", c.head_dim);
    indexer->weights_proj = source_.Matrix(prefix + "weights_proj", c.heads, c_.hidden_size, true);
  }

  MlpWeights Mlp(const std::string& prefix, int64_t intermediate) {
    MlpWeights mlp;
    mlp.gate_proj = Linear(prefix + "gate_proj", intermediate, c_.hidden_size);
    mlp.up_proj = Linear(prefix + "up_proj", intermediate, c_.hidden_size);
    mlp.down_proj = Linear(prefix + "down_proj", c_.hidden_size, intermediate);
    return mlp;
  }

  void Mixture(const std::string& prefix, LayerWeights* layer) {
    const int64_t experts = c_.n_routed_experts;
    layer->router = source_.Matrix(prefix + ".gate", experts, c_.hidden_size, true);
    if (c_.topk_method == RouterMethod::kNoauxTc) {
      const std::string bias = prefix + ".gate.e_score_correction_bias";
      layer->e_score_correction_bias =
          c_.optional_bias ? source_.OptionalVector(bias, experts) : source_.Vector(bias, experts);
    }
    if (std::optional<ExpertWeights> fused = source_.FusedExperts(prefix)) {
      layer->experts = std::move(*fused);
    } else {
      for (int64_t e = 0; e < experts; ++e) {
        MlpWeights expert = Mlp(fmt::format("{}.experts.{}.", prefix, e), c_.moe_intermediate_size);
        layer->experts.gate_proj.push_back(expert.gate_proj);
        layer->experts.up_proj.push_back(expert.up_proj);
        layer->experts.down_proj.push_back(expert.down_proj);
      }
    }
    if (c_.n_shared_experts > 0) {
      layer->shared_experts = Mlp(prefix + ".shared_experts.", c_.moe_intermediate_size * c_.n_shared_experts);
    }
  }

  const ModelConfig& c_;
  WeightSource& source_;
};

}  // namespace

ModelWeights BuildWeights(const ModelConfig& config, WeightSource& source) { return Builder(config, source).Build(); }

}  // namespace mxmla
