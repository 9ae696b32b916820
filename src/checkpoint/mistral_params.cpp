#include "checkpoint/mistral_params.h"

#include <array>

namespace mxmla {
namespace {

constexpr int64_t kLargest = (int64_t{1} << 31) - 1;

struct Renamed {
  const char* mistral;
  const char* key;
  int64_t low = 1;
};

// Integers. Ranges are looked at again under the other name.
constexpr std::array kSizes = {Renamed{"dim", "hidden_size"},
                               Renamed{"n_layers", "num_hidden_layers"},
                               Renamed{"n_heads", "num_attention_heads"},
                               Renamed{"hidden_dim", "intermediate_size"},
                               Renamed{"vocab_size", "vocab_size"},
                               Renamed{"kv_lora_rank", "kv_lora_rank"},
                               Renamed{"qk_nope_head_dim", "qk_nope_head_dim"},
                               Renamed{"qk_rope_head_dim", "qk_rope_head_dim"},
                               Renamed{"v_head_dim", "v_head_dim"}};
constexpr std::array kMixture = {Renamed{"num_experts", "n_routed_experts"},
                                 Renamed{"num_experts_per_tok", "num_experts_per_tok"},
                                 Renamed{"expert_hidden_dim", "moe_intermediate_size"},
                                 Renamed{"num_shared_experts", "n_shared_experts", 0},
                                 Renamed{"first_k_dense_replace", "first_k_dense_replace", 0},
                                 Renamed{"route_every_n", "moe_layer_freq"},
                                 Renamed{"num_expert_groups", "n_group"},
                                 Renamed{"num_expert_groups_per_tok", "topk_group"}};

void CopyNumber(const JsonFields& from, const char* key, Json* to, const char* to_key) {
  if (from.HasValue(key)) (*to)[to_key] = from.Number(key, 0, 0, 1e12);
}

Json RopeParameters(const JsonFields& params) {
  Json rope = {{"rope_type", "default"}};
  if (const std::optional<JsonFields> yarn = params.Object("yarn")) {
    for (const char* key : {"factor", "original_max_position_embeddings"}) {
      if (!yarn->HasValue(key)) yarn->Refuse(key, "a number from 1", "nothing");
    }
    rope["rope_type"] = "yarn";
    rope["factor"] = yarn->Number("factor", 1, 1, 1e6);
    rope["original_max_position_embeddings"] = yarn->Int("original_max_position_embeddings", 1, 1, kLargest);
    CopyNumber(*yarn, "beta", &rope, "beta_fast");
    CopyNumber(*yarn, "alpha", &rope, "beta_slow");
    rope["attention_factor"] = 1.0;
    rope["mscale_all_dim"] = yarn->BoolOrNull("apply_scale", true) ? 1.0 : 0.0;
  }
  CopyNumber(params, "rope_theta", &rope, "rope_theta");
  return rope;
}

}  // namespace

bool IsMistralParams(const Json& json) {
  return json.contains("dim") && json.contains("n_layers") && !json.contains("architectures");
}

Json MistralParamsToConfig(const JsonFields& params) {
  if (!params.HasValue("kv_lora_rank")) {
    Fail(ErrorCode::kArchitecture, params.Subject("kv_lora_rank"), "a rank: a model with latent attention", "nothing",
         "of Mistral's models only those with latent attention are supported: Mistral Large 3, Mistral Small 4");
  }
  Json config = {{"architectures", {"MistralLarge3ForCausalLM"}}, {"model_type", "mistral_large3"}};
  for (const Renamed& size : kSizes) {
    if (!params.HasValue(size.mistral)) params.Refuse(size.mistral, "an integer from 1", "nothing");
    config[size.key] = params.Int(size.mistral, 1, size.low, kLargest);
  }
  config["q_lora_rank"] = params.HasValue("q_lora_rank") ? Json(params.Int("q_lora_rank", 0, 0, kLargest)) : Json();
  CopyNumber(params, "norm_eps", &config, "rms_norm_eps");
  config["tie_word_embeddings"] = params.BoolOrNull("tied_embeddings", false);
  config["hidden_act"] = params.StringOrNull("activation", "silu");
  const char* length = params.HasValue("max_position_embeddings") ? "max_position_embeddings" : "max_seq_len";
  config["max_position_embeddings"] = params.IntOrNull(length, 128000, 128000, 1, kLargest);
  config["n_routed_experts"] = 0;
  if (const std::optional<JsonFields> moe = params.Object("moe")) {
    for (const Renamed& size : kMixture) {
      if (moe->HasValue(size.mistral)) config[size.key] = moe->Int(size.mistral, 1, size.low, kLargest);
    }
    CopyNumber(*moe, "routed_scale", &config, "routed_scaling_factor");
    if (!moe->HasValue("num_experts")) moe->Refuse("num_experts", "an integer from 1", "nothing");
  }
  config["rope_parameters"] = RopeParameters(params);
  if (const std::optional<JsonFields> quantization = params.Object("quantization")) {
    if (quantization->StringOrNull("qformat_weight", "") != "fp8_e4m3") {
      Fail(ErrorCode::kQuantization, params.Subject("quantization"), "qformat_weight fp8_e4m3",
           ShowJson(*params.Find("quantization")), "take the folder in BF16");
    }
    config["quantization_config"] = {{"quant_method", "fp8"}};
  }
  for (const char* key : {"llama_4_scaling", "sliding_window", "quantization_config"}) {
    if (params.HasValue(key)) config[key] = *params.Find(key);
  }
  return config;
}

}  // namespace mxmla
