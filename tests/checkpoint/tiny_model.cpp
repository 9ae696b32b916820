#include "tiny_model.h"

#include <bit>
#include <random>

namespace mxmla {
namespace {

std::mt19937& Generator() {
  static std::mt19937 generator(20240607);
  return generator;
}

float Normal() { return std::normal_distribution<float>(0, 0.05f)(Generator()); }

void AppendFloat(std::string* bytes, float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  for (int i = 0; i < 4; ++i) *bytes += static_cast<char>(bits >> (8 * i));
}

// The upper half of a float32.
void AppendBf16(std::string* bytes, float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  *bytes += static_cast<char>(bits >> 16);
  *bytes += static_cast<char>(bits >> 24);
}

std::string FloatBytes(int64_t count, const std::string& dtype) {
  std::string bytes;
  for (int64_t i = 0; i < count; ++i) dtype == "F32" ? AppendFloat(&bytes, Normal()) : AppendBf16(&bytes, Normal());
  return bytes;
}

std::string RandomBytes(int64_t count, int low, int high) {
  std::string bytes;
  std::uniform_int_distribution<int> byte(low, high);
  for (int64_t i = 0; i < count; ++i) bytes += static_cast<char>(byte(Generator()));
  return bytes;
}

}  // namespace

nlohmann::json TinyConfig() {
  return nlohmann::json::parse(R"({
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "torch_dtype": "bfloat16",
    "vocab_size": 40, "hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32,
    "num_hidden_layers": 3, "num_attention_heads": 2, "q_lora_rank": 32, "kv_lora_rank": 32,
    "qk_nope_head_dim": 32, "qk_rope_head_dim": 8, "v_head_dim": 32,
    "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
    "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": true, "routed_scaling_factor": 2.5,
    "first_k_dense_replace": 1, "moe_layer_freq": 1, "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
    "rope_theta": 10000, "rope_scaling": null, "num_nextn_predict_layers": 0, "tie_word_embeddings": false,
    "bos_token_id": 0, "eos_token_id": 1})");
}

nlohmann::json TinyV2Config() {
  nlohmann::json config = TinyConfig();
  config["architectures"] = {"DeepseekV2ForCausalLM"};
  config["model_type"] = "deepseek_v2";
  config["q_lora_rank"] = nullptr;
  config["topk_method"] = "greedy";
  config["scoring_func"] = "softmax";
  config["norm_topk_prob"] = false;
  return config;
}

void Declare(nlohmann::json* config, Precision precision) {
  config->erase("quantization_config");
  if (precision == Precision::kFp8) {
    (*config)["quantization_config"] = nlohmann::json::parse(
        R"({"quant_method":"fp8","fmt":"e4m3","activation_scheme":"dynamic","weight_block_size":[128,128]})");
  }
  if (precision == Precision::kMxfp4) {
    (*config)["quantization_config"] = nlohmann::json::parse(
        R"({"quant_method":"quark","global_quant_config":{"weight":{"dtype":"fp4","group_size":32,"scale_format":"e8m0",
            "qscheme":"per_group","ch_axis":-1,"is_dynamic":false,"scale_calculation_mode":"even"},
            "input_tensors":{"dtype":"fp4","is_dynamic":true}},"exclude":["lm_head"],"layer_quant_config":{},
            "export":{"pack_method":"reorder","weight_format":"real_quantized"}})");
  }
}

void AddVector(TensorMap* tensors, const std::string& name, int64_t n, const std::string& dtype) {
  (*tensors)[name] = {name, dtype, {n}, FloatBytes(n, dtype)};
}

void AddMatrix(TensorMap* tensors, const std::string& module, int64_t n, int64_t k, Precision precision) {
  const std::string weight = module + ".weight";
  const auto add = [&](const std::string& name, const std::string& dtype, int64_t rows, int64_t columns,
                       const std::string& bytes) {
    (*tensors)[name] = {name, dtype, {rows, columns}, bytes};
  };
  switch (precision) {
    case Precision::kBf16:
      return add(weight, "BF16", n, k, FloatBytes(n * k, "BF16"));
    case Precision::kF32:
      return add(weight, "F32", n, k, FloatBytes(n * k, "F32"));
    case Precision::kFp8: {
      const int64_t rows = (n + 127) / 128, columns = (k + 127) / 128;
      std::string scales;
      for (int64_t i = 0; i < rows * columns; ++i) AppendFloat(&scales, 0.01f + std::abs(Normal()));
      add(weight, "F8_E4M3", n, k, RandomBytes(n * k, 0, 0x7e));
      return add(module + ".weight_scale_inv", "F32", rows, columns, scales);
    }
    case Precision::kMxfp4:
      add(weight, "U8", n, k / 2, RandomBytes(n * k / 2, 0, 255));
      return add(module + ".weight_scale", "U8", n, k / 32, RandomBytes(n * k / 32, 110, 125));
  }
}

TensorMap TinyTensors(const nlohmann::json& c, Precision precision) {
  TensorMap tensors;
  const auto size = [&](const char* key) { return c[key].is_null() ? int64_t{0} : c[key].get<int64_t>(); };
  const int64_t hidden = size("hidden_size"), heads = size("num_attention_heads"), latent = size("kv_lora_rank");
  const int64_t nope = size("qk_nope_head_dim"), rope = size("qk_rope_head_dim"), v = size("v_head_dim");
  const auto matrix = [&](const std::string& module, int64_t n, int64_t k) {
    AddMatrix(&tensors, module, n, k, precision);
  };
  const auto mlp = [&](const std::string& prefix, int64_t width) {
    matrix(prefix + "gate_proj", width, hidden);
    matrix(prefix + "up_proj", width, hidden);
    matrix(prefix + "down_proj", hidden, width);
  };
  AddMatrix(&tensors, "model.embed_tokens", size("vocab_size"), hidden, Precision::kBf16);
  AddMatrix(&tensors, "lm_head", size("vocab_size"), hidden, Precision::kBf16);
  AddVector(&tensors, "model.norm.weight", hidden);
  for (int64_t layer = 0; layer < size("num_hidden_layers"); ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    AddVector(&tensors, prefix + "input_layernorm.weight", hidden);
    AddVector(&tensors, prefix + "post_attention_layernorm.weight", hidden);
    const std::string attention = prefix + "self_attn.";
    if (size("q_lora_rank") > 0) {
      matrix(attention + "q_a_proj", size("q_lora_rank"), hidden);
      AddVector(&tensors, attention + "q_a_layernorm.weight", size("q_lora_rank"));
      matrix(attention + "q_b_proj", heads * (nope + rope), size("q_lora_rank"));
    } else {
      matrix(attention + "q_proj", heads * (nope + rope), hidden);
    }
    matrix(attention + "kv_a_proj_with_mqa", latent + rope, hidden);
    AddVector(&tensors, attention + "kv_a_layernorm.weight", latent);
    matrix(attention + "kv_b_proj", heads * (nope + v), latent);
    matrix(attention + "o_proj", hidden, heads * v);
    if (layer < size("first_k_dense_replace")) {
      mlp(prefix + "mlp.", size("intermediate_size"));
      continue;
    }
    AddMatrix(&tensors, prefix + "mlp.gate", size("n_routed_experts"), hidden, Precision::kBf16);
    if (c["topk_method"] == "noaux_tc") {
      AddVector(&tensors, prefix + "mlp.gate.e_score_correction_bias", size("n_routed_experts"), "F32");
    }
    for (int64_t e = 0; e < size("n_routed_experts"); ++e) {
      mlp(prefix + "mlp.experts." + std::to_string(e) + ".", size("moe_intermediate_size"));
    }
    mlp(prefix + "mlp.shared_experts.", size("moe_intermediate_size") * size("n_shared_experts"));
  }
  return tensors;
}

void WriteModel(const TempFolder& folder, const nlohmann::json& config, const TensorMap& tensors) {
  folder.Write("config.json", config.dump(2));
  std::vector<TestTensor> list;
  // Wide dtypes first, so that all are aligned.
  for (const char* dtype : {"F32", "BF16", "F16", "F8_E4M3", "F8_E8M0", "U8"}) {
    for (const auto& [name, tensor] : tensors) {
      if (tensor.dtype == dtype) list.push_back(tensor);
    }
  }
  if (list.size() != tensors.size()) throw std::runtime_error("a dtype that WriteModel does not write");
  folder.Write("model.safetensors", SafetensorsBytes(list));
}

}  // namespace mxmla
