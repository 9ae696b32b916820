#include "checkpoint/gguf_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

namespace mxmla {
namespace {

constexpr std::string_view kArchitectureName = "deepseek2";

struct Renamed {
  std::string_view gguf, canonical;
};
constexpr Renamed kTop[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};
constexpr Renamed kInLayer[] = {
    {"attn_norm.weight", "input_layernorm.weight"},
    {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"attn_q.weight", "self_attn.q_proj.weight"},
    {"attn_q_a.weight", "self_attn.q_a_proj.weight"},
    {"attn_q_a_norm.weight", "self_attn.q_a_layernorm.weight"},
    {"attn_q_b.weight", "self_attn.q_b_proj.weight"},
    {"attn_kv_a_mqa.weight", "self_attn.kv_a_proj_with_mqa.weight"},
    {"attn_kv_a_norm.weight", "self_attn.kv_a_layernorm.weight"},
    {"attn_kv_b.weight", "self_attn.kv_b_proj.weight"},
    {"attn_k_b.weight", "self_attn.k_b_proj.weight"},
    {"attn_v_b.weight", "self_attn.v_b_proj.weight"},
    {"attn_output.weight", "self_attn.o_proj.weight"},
    {"ffn_gate_inp.weight", "mlp.gate.weight"},
    {"exp_probs_b.bias", "mlp.gate.e_score_correction_bias"},
    {"ffn_gate.weight", "mlp.gate_proj.weight"},
    {"ffn_up.weight", "mlp.up_proj.weight"},
    {"ffn_down.weight", "mlp.down_proj.weight"},
    {"ffn_gate_exps.weight", "mlp.experts.gate_proj"},
    {"ffn_up_exps.weight", "mlp.experts.up_proj"},
    {"ffn_down_exps.weight", "mlp.experts.down_proj"},
    {"ffn_gate_shexp.weight", "mlp.shared_experts.gate_proj.weight"},
    {"ffn_up_shexp.weight", "mlp.shared_experts.up_proj.weight"},
    {"ffn_down_shexp.weight", "mlp.shared_experts.down_proj.weight"},
    // Of layers for multi-token prediction.
    {"nextn.eh_proj.weight", "eh_proj.weight"},
    {"nextn.enorm.weight", "enorm.weight"},
    {"nextn.hnorm.weight", "hnorm.weight"},
    {"nextn.embed_tokens.weight", "embed_tokens.weight"},
    {"nextn.shared_head_norm.weight", "shared_head.norm.weight"},
    {"nextn.shared_head_head.weight", "shared_head.head.weight"},
};

// Values of the metadata under "deepseek2.".
class Metadata {
 public:
  Metadata(const GgufHeader& header, const std::string& subject) : header_(header), subject_(subject) {}

  static std::string Key(std::string_view key) { return fmt::format("{}.{}", kArchitectureName, key); }

  bool Has(std::string_view key) const { return header_.metadata.contains(Key(key)); }

  int64_t Int(std::string_view key) const {
    const auto* value = header_.Find<int64_t>(Key(key));
    if (!value) Refuse(key, "an integer");
    return *value;
  }
  int64_t IntOr(std::string_view key, int64_t absent) const { return Has(key) ? Int(key) : absent; }

  double Number(std::string_view key) const {
    const auto* value = header_.Find<double>(Key(key));
    if (!value) Refuse(key, "a number");
    return *value;
  }
  double NumberOr(std::string_view key, double absent) const { return Has(key) ? Number(key) : absent; }

  bool BoolOr(std::string_view key, bool absent) const {
    if (!Has(key)) return absent;
    const auto* value = header_.Find<bool>(Key(key));
    if (!value) Refuse(key, "true or false");
    return *value;
  }

  [[noreturn]] void Refuse(std::string_view key, std::string_view expected) const {
    Fail(ErrorCode::kBadConfig, fmt::format("{}: {}", subject_, Key(key)), expected,
         Has(key) ? "another type" : "nothing", "convert the model again with a newer llama.cpp");
  }

 private:
  const GgufHeader& header_;
  const std::string& subject_;
};

const GgufTensor* FindTensor(const GgufHeader& header, std::string_view name) {
  for (const GgufTensor& tensor : header.tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

// llama.cpp keeps 0.1 mscale_all_dim and takes mscale to be the same; without it, cosine and sine alone grow.
Json RopeScaling(const GgufHeader& header, const Metadata& data, const std::string& subject) {
  const std::string type_key = Metadata::Key("rope.scaling.type");
  const auto* type = header.Find<std::string_view>(type_key);
  if (!type || *type == "none") return nullptr;
  if (*type != "yarn") {
    Fail(ErrorCode::kBadConfig, subject + ": " + type_key, "none or yarn", std::string(*type));
  }
  Json yarn = {{"type", "yarn"},
               {"factor", data.Number("rope.scaling.factor")},
               {"original_max_position_embeddings", data.Int("rope.scaling.original_context_length")},
               {"beta_fast", data.NumberOr("rope.scaling.yarn_beta_fast", 32)},
               {"beta_slow", data.NumberOr("rope.scaling.yarn_beta_slow", 1)}};
  if (data.Has("rope.scaling.yarn_log_multiplier")) {
    // A float32 of a decimal: 0.1f * 10 is 1 to the last digit that matters.
    const double mscale = std::stod(fmt::format("{:.6g}", data.Number("rope.scaling.yarn_log_multiplier") * 10));
    yarn["mscale"] = mscale;
    yarn["mscale_all_dim"] = mscale;
  }
  return yarn;
}

void ReadExperts(const GgufHeader& header, const Metadata& data, const std::string& subject, Json* to) {
  Json& config = *to;
  const int64_t experts = data.IntOr("expert_count", 0);
  config["n_routed_experts"] = experts;
  if (experts == 0) return;
  config["num_experts_per_tok"] = data.Int("expert_used_count");
  config["n_shared_experts"] = data.IntOr("expert_shared_count", 0);
  config["moe_intermediate_size"] = data.Int("expert_feed_forward_length");
  config["first_k_dense_replace"] = data.IntOr("leading_dense_block_count", 0);
  config["norm_topk_prob"] = data.BoolOr("expert_weights_norm", false);
  const double scale = data.NumberOr("expert_weights_scale", 0);
  config["routed_scaling_factor"] = scale == 0 ? 1.0 : scale;
  const int64_t groups = data.IntOr("expert_group_count", 1);
  config["n_group"] = groups == 0 ? 1 : groups;
  config["topk_group"] = std::max<int64_t>(1, data.IntOr("expert_group_used_count", 1));
  // 1 is softmax and 2 sigmoid; old files have neither.
  const bool biased =
      FindTensor(header, fmt::format("blk.{}.exp_probs_b.bias", data.IntOr("leading_dense_block_count", 0))) != nullptr;
  const int64_t gating = data.IntOr("expert_gating_func", biased ? 2 : 1);
  if (gating != 1 && gating != 2) {
    Fail(ErrorCode::kBadConfig, subject + ": " + Metadata::Key("expert_gating_func"), "1 (softmax) or 2 (sigmoid)",
         fmt::format("{}", gating));
  }
  config["scoring_func"] = gating == 2 ? "sigmoid" : "softmax";
  config["topk_method"] = gating == 2 ? "noaux_tc" : config["n_group"] == 1 ? "greedy" : "group_limited_greedy";
}

void ReadTokens(const GgufHeader& header, Json* config) {
  const auto* bos = header.Find<int64_t>("tokenizer.ggml.bos_token_id");
  (*config)["bos_token_id"] = bos ? Json(*bos) : Json();
  Json eos = Json::array();
  for (const char* key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    const auto* id = header.Find<int64_t>(key);
    if (id && std::find(eos.begin(), eos.end(), Json(*id)) == eos.end()) eos.push_back(*id);
  }
  (*config)["eos_token_id"] = eos;
}

TensorDType DTypeOfGgml(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
      return TensorDType::kF32;
    case GgmlType::kF16:
      return TensorDType::kF16;
    case GgmlType::kBf16:
      return TensorDType::kBf16;
    case GgmlType::kQ8_0:
      return TensorDType::kQ8_0;
    case GgmlType::kQ4K:
      return TensorDType::kQ4K;
    case GgmlType::kQ6K:
      return TensorDType::kQ6K;
    case GgmlType::kMxfp4:
      return TensorDType::kGgmlMxfp4;
  }
  return TensorDType::kBool;  // none of a GGUF file's
}

}  // namespace

Json GgufToConfig(const GgufHeader& header, const std::string& subject) {
  const auto* architecture = header.Find<std::string_view>("general.architecture");
  if (!architecture || *architecture != kArchitectureName) {
    Fail(ErrorCode::kArchitecture, subject + ": general.architecture",
         "deepseek2 (DeepSeek-V2 to V3.1, R1, Kimi-K2, GLM-4.7-Flash and their like)",
         architecture ? std::string(*architecture) : "nothing",
         "other models are read from their safetensors folders where docs/models.md lists them");
  }
  const Metadata data(header, subject);
  if (data.NumberOr("attention.temperature_scale", 0) != 0) {
    Fail(ErrorCode::kBadConfig, subject + ": " + Metadata::Key("attention.temperature_scale"), "0",
         fmt::format("{}", data.Number("attention.temperature_scale")),
         "Mistral's growing queries are read from its own folder only");
  }
  const int64_t mtp = data.IntOr("nextn_predict_layers", 0);
  const int64_t rope = data.Int("rope.dimension_count");
  const bool split = data.Has("attention.key_length_mla");
  const int64_t head = data.Int(split ? "attention.key_length_mla" : "attention.key_length");
  Json config = {
      {"num_hidden_layers", data.Int("block_count") - mtp},
      {"num_nextn_predict_layers", mtp},
      {"hidden_size", data.Int("embedding_length")},
      {"intermediate_size", data.Int("feed_forward_length")},
      {"num_attention_heads", data.Int("attention.head_count")},
      {"q_lora_rank", data.Has("attention.q_lora_rank") ? Json(data.Int("attention.q_lora_rank")) : Json()},
      {"kv_lora_rank", data.Int("attention.kv_lora_rank")},
      {"qk_rope_head_dim", rope},
      {"qk_nope_head_dim", head - rope},
      {"v_head_dim", data.Int(split ? "attention.value_length_mla" : "attention.value_length")},
      {"max_position_embeddings", data.Int("context_length")},
      {"rms_norm_eps", data.Number("attention.layer_norm_rms_epsilon")},
      {"rope_theta", data.NumberOr("rope.freq_base", 10000)},
      {"rope_scaling", RopeScaling(header, data, subject)},
      {"tie_word_embeddings", FindTensor(header, "output.weight") == nullptr},
  };
  const GgufTensor* embedding = FindTensor(header, "token_embd.weight");
  if (embedding && embedding->shape.size() == 2) config["vocab_size"] = embedding->shape[0];
  if (!config.contains("vocab_size")) config["vocab_size"] = data.Int("vocab_size");
  ReadExperts(header, data, subject, &config);
  ReadTokens(header, &config);
  const bool v2 = config.value("scoring_func", "sigmoid") == "softmax";
  config["architectures"] = {v2 ? "DeepseekV2ForCausalLM" : "DeepseekV3ForCausalLM"};
  config["model_type"] = v2 ? "deepseek_v2" : "deepseek_v3";
  return config;
}

std::string GgufTensorName(std::string_view name) {
  for (const Renamed& tensor : kTop) {
    if (name == tensor.gguf) return std::string(tensor.canonical);
  }
  constexpr std::string_view kBlock = "blk.";
  if (!name.starts_with(kBlock)) return std::string(name);
  const std::string_view rest = name.substr(kBlock.size());
  int64_t layer = -1;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), layer);
  if (error != std::errc() || layer < 0 || end == rest.data() + rest.size() || *end != '.') return std::string(name);
  const std::string_view part = rest.substr(static_cast<size_t>(end - rest.data()) + 1);
  for (const Renamed& tensor : kInLayer) {
    if (part == tensor.gguf) return fmt::format("model.layers.{}.{}", layer, tensor.canonical);
  }
  return fmt::format("model.layers.{}.{}", layer, part);
}

std::vector<Tensor> GgufTensors(const std::vector<std::shared_ptr<const GgufFile>>& parts) {
  std::vector<Tensor> tensors;
  std::set<std::string> names;
  for (const auto& part : parts) {
    for (const GgufTensor& from : part->header().tensors) {
      Tensor tensor;
      tensor.name = GgufTensorName(from.name);
      tensor.shape = from.shape;
      tensor.data = from.data.data();
      tensor.bytes = from.data.size();
      tensor.file = part->path();
      tensor.dtype = DTypeOfGgml(from.type);
      const std::string subject = fmt::format("tensor \"{}\" of {}", from.name, part->path());
      if (tensor.dtype == TensorDType::kBool) {
        Fail(ErrorCode::kTensor, subject, "F32, F16, BF16, Q8_0, Q4_K, Q6_K or MXFP4", GgmlTypeName(from.type),
             "take a file of those types (Q8_0, or one that llama-quantize makes with them alone)");
      }
      if (!names.insert(tensor.name).second) Fail(ErrorCode::kSafetensors, subject, "each tensor once", "it twice");
      tensors.push_back(std::move(tensor));
    }
  }
  return tensors;
}

}  // namespace mxmla
