#include <limits>

#include "checkpoint/config.h"
#include "temp_folder.h"
#include "tiny_model.h"

namespace mxmla {
namespace {

using nlohmann::json;

void ExpectRefused(const json& config, ErrorCode code, std::initializer_list<std::string_view> parts) {
  ExpectError(code, parts, [&] { ParseConfig(config.dump(), {}, "folder/config.json"); });
}

// TinyConfig with one key changed.
json With(const std::string& key, json value) {
  json config = TinyConfig();
  config[key] = std::move(value);
  return config;
}

TEST(ConfigRefusal, NotAnObject) {
  for (const char* text : {"", "null", "[]", "3", "{", "{\"a\":}", "{\"a\":1} x", "{\"a\":1e999}", "{\"\xff\":1}"}) {
    ExpectError(ErrorCode::kBadConfig, {"config.json", "a JSON object"}, [&] { ParseConfig(text, {}, "config.json"); });
  }
  ExpectError(ErrorCode::kBadConfig, {"config.json", "64 deep"}, [&] {
    ParseConfig("{\"a\":" + std::string(200000, '[') + std::string(200000, ']') + "}", {}, "config.json");
  });
}

TEST(ConfigRefusal, Architecture) {
  ExpectRefused(With("architectures", {"LlamaForCausalLM"}), ErrorCode::kArchitecture,
                {"architectures", "LlamaForCausalLM", "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "KimiK25"});
  ExpectRefused({{"model_type", "llama"}}, ErrorCode::kArchitecture, {"model_type", "llama", "DeepseekV3ForCausalLM"});
  ExpectRefused(json::object(), ErrorCode::kArchitecture, {"none", "DeepseekV3ForCausalLM"});
  ExpectRefused(With("architectures", "DeepseekV3ForCausalLM"), ErrorCode::kBadConfig,
                {"architectures", "a list of strings"});
  ExpectRefused({{"model_type", "kimi_k25"}, {"text_config", {{"model_type", "llama"}}}}, ErrorCode::kArchitecture,
                {"text_config.model_type", "llama"});
  ExpectRefused({{"model_type", "kimi_k25"}}, ErrorCode::kBadConfig, {"text_config", "an object", "nothing"});
}

TEST(ConfigRefusal, EveryIntegerIsChecked) {
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_hidden_layers",
        "num_attention_heads", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "n_group",
        "topk_group", "moe_layer_freq", "max_position_embeddings"}) {
    for (const json& bad : {json(0), json(-1), json(1.5), json("64"), json(true), json::array({1}), json::object(),
                            json(int64_t{1} << 40), json(std::numeric_limits<uint64_t>::max()), json(1e300)}) {
      ExpectRefused(With(key, bad), ErrorCode::kBadConfig, {"folder/config.json: ", key, "an integer from"});
    }
  }
  for (const char* key : {"n_routed_experts", "n_shared_experts", "num_experts_per_tok", "q_lora_rank",
                          "first_k_dense_replace", "num_nextn_predict_layers", "bos_token_id", "eos_token_id"}) {
    for (const json& bad : {json(-1), json(1.5), json("64"), json(false), json(int64_t{1} << 40)}) {
      ExpectRefused(With(key, bad), ErrorCode::kBadConfig, {"folder/config.json: ", key, "an integer from"});
    }
  }
  for (const char* key : {"vocab_size", "hidden_size", "num_hidden_layers", "kv_lora_rank", "qk_rope_head_dim"}) {
    ExpectRefused(With(key, nullptr), ErrorCode::kBadConfig, {key, "found null"});
  }
}

TEST(ConfigRefusal, NumbersAndFlags) {
  for (const char* key : {"rms_norm_eps", "routed_scaling_factor", "rope_theta"}) {
    for (const json& bad : {json(-1), json("1"), json(1e300), json(true)}) {
      ExpectRefused(With(key, bad), ErrorCode::kBadConfig, {key, "a number from"});
    }
  }
  for (const char* key : {"norm_topk_prob", "tie_word_embeddings", "rope_interleave", "attention_bias"}) {
    ExpectRefused(With(key, 1), ErrorCode::kBadConfig, {key, "true or false", "found 1"});
  }
  ExpectRefused(With("topk_method", 3), ErrorCode::kBadConfig, {"topk_method", "a string"});
}

TEST(ConfigRefusal, WhatTheEngineDoesNotHave) {
  ExpectRefused(With("attention_bias", true), ErrorCode::kBadConfig, {"attention_bias", "expected false", "bias"});
  ExpectRefused(With("mlp_bias", true), ErrorCode::kBadConfig, {"mlp_bias"});
  ExpectRefused(With("hidden_act", "gelu"), ErrorCode::kBadConfig, {"hidden_act", "silu", "gelu"});
  ExpectRefused(With("topk_method", "best"), ErrorCode::kBadConfig, {"topk_method", "noaux_tc", "best"});
  ExpectRefused(With("scoring_func", "softmax"), ErrorCode::kBadConfig, {"topk_method", "noaux_tc with softmax"});
  json greedy = With("topk_method", "greedy");
  ExpectRefused(greedy, ErrorCode::kBadConfig, {"greedy with sigmoid"});
  greedy.erase("scoring_func");
  EXPECT_EQ(ParseConfig(greedy.dump(), {}, "c").topk_method, RouterMethod::kGreedy);
}

TEST(ConfigRefusal, SizesThatDoNotFit) {
  ExpectRefused(With("qk_rope_head_dim", 7), ErrorCode::kBadConfig, {"qk_rope_head_dim", "even", "found 7"});
  ExpectRefused(With("num_experts_per_tok", 0), ErrorCode::kBadConfig,
                {"num_experts_per_tok", "from 1 to the 4 experts"});
  ExpectRefused(With("num_experts_per_tok", 5), ErrorCode::kBadConfig, {"num_experts_per_tok", "found 5"});
  ExpectRefused(With("num_experts_per_tok", 3), ErrorCode::kBadConfig,
                {"num_experts_per_tok", "2 experts of 1 groups"});
  ExpectRefused(With("n_group", 3), ErrorCode::kBadConfig, {"n_group", "a divisor of the 4 experts", "found 3"});
  ExpectRefused(With("n_group", 4), ErrorCode::kBadConfig, {"n_group", "at least 2 experts a group"});
  ExpectRefused(With("n_group", 8), ErrorCode::kBadConfig, {"n_group", "a divisor"});
  ExpectRefused(With("topk_group", 3), ErrorCode::kBadConfig, {"topk_group", "at most the 2 groups"});
  json huge = TinyConfig();
  for (const char* key : {"hidden_size", "intermediate_size", "moe_intermediate_size", "kv_lora_rank"})
    huge[key] = 1 << 24;
  huge["num_hidden_layers"] = 65536;
  ExpectRefused(huge, ErrorCode::kBadConfig, {"2^56 parameters"});
}

TEST(ConfigRefusal, Rope) {
  ExpectRefused(With("rope_scaling", {{"type", "linear"}, {"factor", 2}}), ErrorCode::kBadConfig,
                {"rope_scaling.type", "default or yarn", "linear"});
  ExpectRefused(With("rope_scaling", {{"rope_type", "llama3"}}), ErrorCode::kBadConfig,
                {"rope_scaling.rope_type", "llama3"});
  ExpectRefused(With("rope_scaling", 3), ErrorCode::kBadConfig, {"rope_scaling", "an object"});
  ExpectRefused(With("rope_scaling", {{"type", "yarn"}}), ErrorCode::kBadConfig, {"rope_scaling.factor", "nothing"});
  ExpectRefused(With("rope_scaling", {{"type", "yarn"}, {"factor", 0.5}}), ErrorCode::kBadConfig,
                {"rope_scaling.factor", "0.5"});
  ExpectRefused(
      With("rope_scaling", {{"type", "yarn"}, {"factor", nullptr}, {"original_max_position_embeddings", 1024}}),
      ErrorCode::kBadConfig, {"rope_scaling.factor", "0.5"});
  ExpectRefused(With("rope_scaling", {{"type", "yarn"}, {"factor", 2}, {"beta_fast", "x"}}), ErrorCode::kBadConfig,
                {"rope_scaling.beta_fast"});
  ExpectRefused(With("rope_scaling", {{"type", "yarn"}, {"factor", 2}, {"original_max_position_embeddings", 0}}),
                ErrorCode::kBadConfig, {"original_max_position_embeddings"});
  ExpectRefused(With("rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}}),
                ErrorCode::kBadConfig, {"rope_parameters.partial_rotary_factor"});
}

json Quantized(Precision precision, const std::string& pointer, const json& value) {
  json config = TinyConfig();
  Declare(&config, precision);
  config["quantization_config"][json::json_pointer(pointer)] = value;
  return config;
}

TEST(ConfigRefusal, Quantization) {
  const auto refused = [](const json& config, std::initializer_list<std::string_view> parts) {
    ExpectRefused(config, ErrorCode::kQuantization, parts);
    ExpectRefused(config, ErrorCode::kQuantization, {"folder/config.json: quantization_config", "known are none, fp8"});
  };
  refused(With("quantization_config", json::object()), {"quant_method", "nothing"});
  refused(With("quantization_config", {{"quant_method", "compressed-tensors"}}), {"config_groups", "found nothing"});
  for (const char* name : {"gptq", "awq", "mxfp4"}) {
    ExpectRefused(With("quantization_config", {{"quant_method", name}}), ErrorCode::kQuantization,
                  {"quantization_config.quant_method", "reads in place", name, "mxmla quantize"});
  }
  ExpectRefused(With("quantization_config", "fp8"), ErrorCode::kBadConfig, {"quantization_config", "an object"});
  refused(Quantized(Precision::kFp8, "/weight_block_size", {64, 64}), {"weight_block_size", "[128, 128]", "[64,64]"});
  refused(Quantized(Precision::kFp8, "/activation_scheme", "static"), {"activation_scheme", "dynamic", "static"});
  refused(Quantized(Precision::kFp8, "/fmt", "e5m2"), {"fmt", "e4m3", "e5m2"});
  const std::string weight = "/global_quant_config/weight";
  refused(Quantized(Precision::kMxfp4, weight + "/dtype", "int4"), {"global_quant_config.weight.dtype", "fp4", "int4"});
  refused(Quantized(Precision::kMxfp4, weight + "/group_size", 16), {"group_size", "expected 32", "found 16"});
  refused(Quantized(Precision::kMxfp4, weight + "/scale_format", "e4m3"), {"scale_format", "e8m0", "e4m3"});
  refused(Quantized(Precision::kMxfp4, weight + "/qscheme", "per_tensor"), {"qscheme", "per_group", "per_tensor"});
  refused(Quantized(Precision::kMxfp4, weight + "/ch_axis", 0), {"ch_axis", "found 0"});
  refused(Quantized(Precision::kMxfp4, weight + "/is_dynamic", true), {"is_dynamic"});
  refused(Quantized(Precision::kMxfp4, weight, nullptr), {"global_quant_config.weight", "null"});
  refused(Quantized(Precision::kMxfp4, weight, json::array({1})), {"global_quant_config.weight", "one object"});
  refused(Quantized(Precision::kMxfp4, "/global_quant_config", nullptr), {"global_quant_config"});
  refused(Quantized(Precision::kMxfp4, "/layer_quant_config", {{"*o_proj", {{"weight", {{"dtype", "int8"}}}}}}),
          {"layer_quant_config.*o_proj.weight.dtype", "int8"});
  refused(Quantized(Precision::kMxfp4, "/export/weight_format", "fake_quantized"),
          {"export.weight_format", "fake_quantized"});
  refused(Quantized(Precision::kMxfp4, "/algo_config", json::array({{{"name", "rotation"}}})),
          {"algo_config", "rotation"});
  ExpectRefused(Quantized(Precision::kMxfp4, "/exclude", {"re:("}), ErrorCode::kBadConfig, {"exclude", "re:("});
}

TEST(ConfigRefusal, QuantizationsThatAreFine) {
  const auto method = [](const json& config) { return ParseConfig(config.dump(), {}, "c").quantization.method; };
  EXPECT_EQ(method(With("quantization_config", nullptr)), QuantMethod::kNone);
  EXPECT_EQ(method(Quantized(Precision::kFp8, "/scale_fmt", "ue8m0")), QuantMethod::kFp8);
  EXPECT_EQ(method(Quantized(Precision::kFp8, "/weight_block_size", nullptr)), QuantMethod::kFp8);  // a scale a tensor
  EXPECT_EQ(method(Quantized(Precision::kMxfp4, "/layer_quant_config", {{"*lm_head", {{"weight", nullptr}}}})),
            QuantMethod::kQuark);
  EXPECT_EQ(method(Quantized(Precision::kMxfp4, "/algo_config", json::array({{{"name", "autosmoothquant"}}}))),
            QuantMethod::kQuark);
  EXPECT_EQ(method(Quantized(Precision::kMxfp4, "/global_quant_config/input_tensors", nullptr)), QuantMethod::kQuark);
}

}  // namespace
}  // namespace mxmla
