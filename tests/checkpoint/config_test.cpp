#include "checkpoint/config.h"

#include <cmath>
#include <filesystem>

#include "temp_folder.h"
#include "tiny_model.h"

namespace mxmla {
namespace {

ModelConfig Parse(const nlohmann::json& config, std::string_view generation = {}) {
  return ParseConfig(config.dump(), generation, "config.json");
}

// Everything but the names under which the config goes.
void ExpectSame(const ModelConfig& a, const ModelConfig& b) {
  EXPECT_EQ(a.vocab_size, b.vocab_size);
  EXPECT_EQ(a.hidden_size, b.hidden_size);
  EXPECT_EQ(a.intermediate_size, b.intermediate_size);
  EXPECT_EQ(a.moe_intermediate_size, b.moe_intermediate_size);
  EXPECT_EQ(a.num_hidden_layers, b.num_hidden_layers);
  EXPECT_EQ(a.num_attention_heads, b.num_attention_heads);
  EXPECT_EQ(a.n_routed_experts, b.n_routed_experts);
  EXPECT_EQ(a.n_shared_experts, b.n_shared_experts);
  EXPECT_EQ(a.num_experts_per_tok, b.num_experts_per_tok);
  EXPECT_EQ(a.n_group, b.n_group);
  EXPECT_EQ(a.topk_group, b.topk_group);
  EXPECT_EQ(a.topk_method, b.topk_method);
  EXPECT_EQ(a.norm_topk_prob, b.norm_topk_prob);
  EXPECT_EQ(a.routed_scaling_factor, b.routed_scaling_factor);
  EXPECT_EQ(a.first_k_dense_replace, b.first_k_dense_replace);
  EXPECT_EQ(a.moe_layer_freq, b.moe_layer_freq);
  EXPECT_EQ(a.q_lora_rank, b.q_lora_rank);
  EXPECT_EQ(a.kv_lora_rank, b.kv_lora_rank);
  EXPECT_EQ(a.qk_nope_head_dim, b.qk_nope_head_dim);
  EXPECT_EQ(a.qk_rope_head_dim, b.qk_rope_head_dim);
  EXPECT_EQ(a.v_head_dim, b.v_head_dim);
  EXPECT_EQ(a.max_position_embeddings, b.max_position_embeddings);
  EXPECT_EQ(a.rms_norm_eps, b.rms_norm_eps);
  EXPECT_EQ(a.lora_norm_eps, b.lora_norm_eps);
  EXPECT_EQ(a.rope_interleave, b.rope_interleave);
  EXPECT_EQ(a.tie_word_embeddings, b.tie_word_embeddings);
  EXPECT_EQ(a.num_nextn_predict_layers, b.num_nextn_predict_layers);
  EXPECT_EQ(a.bos_token_id, b.bos_token_id);
  EXPECT_EQ(a.eos_token_ids, b.eos_token_ids);
  EXPECT_EQ(a.dtype, b.dtype);
  EXPECT_EQ(a.rope.theta, b.rope.theta);
  EXPECT_EQ(a.rope.type, b.rope.type);
  EXPECT_EQ(a.rope.factor, b.rope.factor);
  EXPECT_EQ(a.rope.beta_fast, b.rope.beta_fast);
  EXPECT_EQ(a.rope.beta_slow, b.rope.beta_slow);
  EXPECT_EQ(a.rope.mscale, b.rope.mscale);
  EXPECT_EQ(a.rope.mscale_all_dim, b.rope.mscale_all_dim);
  EXPECT_EQ(a.rope.attention_factor, b.rope.attention_factor);
  EXPECT_EQ(a.rope.original_max_position_embeddings, b.rope.original_max_position_embeddings);
  EXPECT_EQ(a.rope.truncate, b.rope.truncate);
  EXPECT_EQ(a.rope.divisors, b.rope.divisors);
  EXPECT_EQ(a.query_scale.beta, b.query_scale.beta);
  EXPECT_EQ(a.query_scale.length, b.query_scale.length);
  EXPECT_EQ(a.embedding_scale, b.embedding_scale);
  EXPECT_EQ(a.residual_scale, b.residual_scale);
  EXPECT_EQ(a.logits_scale, b.logits_scale);
  EXPECT_EQ(a.optional_bias, b.optional_bias);
  EXPECT_EQ(a.post_mlp_norm, b.post_mlp_norm);
}

std::string Fixture(const std::string& name) { return std::string(MXMLA_FIXTURES) + "/configs/" + name; }

// transformers 5 read the published file and wrote the other.
TEST(Config, PublishedAndTransformersSpellingsMeanTheSame) {
  for (const std::string model : {"deepseek_v2", "deepseek_v3", "kimi_k2", "moonlight", "glm4_moe_lite", "youtu",
                                  "minicpm3", "sarvam_mla", "axk1", "mistral4"}) {
    SCOPED_TRACE(model);
    const ModelConfig published = LoadConfigFile(Fixture(model + "_published.json"));
    const bool plain = model == "moonlight" || model == "glm4_moe_lite" || model == "youtu";
    EXPECT_EQ(published.rope.type, plain                 ? RopeType::kDefault
                                   : model == "minicpm3" ? RopeType::kLongRope
                                                         : RopeType::kYarn);
    ExpectSame(published, LoadConfigFile(Fixture(model + "_transformers.json")));
  }
}

// An almost empty config.json means what transformers' configuration classes assume.
TEST(Config, DefaultsAreThoseOfTransformers) {
  for (const std::string model :
       {"deepseek_v2", "deepseek_v3", "glm4_moe_lite", "youtu", "minicpm3", "sarvam_mla", "axk1", "mistral4"}) {
    SCOPED_TRACE(model);
    nlohmann::json bare = {{"model_type", model}};
    // transformers' V2 has no default; a mixture needs one.
    if (model == "deepseek_v2") bare["num_experts_per_tok"] = 6;
    ModelConfig defaults = Parse(bare);
    defaults.dtype.clear();
    ModelConfig expected = LoadConfigFile(Fixture(model + "_defaults.json"));
    expected.dtype.clear();
    ExpectSame(defaults, expected);
  }
}

TEST(Config, ShapesOfRealModels) {
  const ModelConfig lite = LoadConfigFile(MXMLA_CONFIGS "/deepseek-v2-lite-bf16.json");
  EXPECT_EQ(lite.architecture_name, "DeepseekV2ForCausalLM");
  EXPECT_EQ(lite.q_lora_rank, 0);
  EXPECT_EQ(lite.topk_method, RouterMethod::kGreedy);
  EXPECT_FALSE(lite.norm_topk_prob);
  EXPECT_EQ(lite.rope.mscale, 0.707);
  EXPECT_EQ(lite.rope.original_max_position_embeddings, 4096);
  EXPECT_EQ(lite.quantization.method, QuantMethod::kNone);
  EXPECT_FALSE(lite.IsMoeLayer(0));
  EXPECT_TRUE(lite.IsMoeLayer(1));

  const ModelConfig v3 = LoadConfigFile(MXMLA_CONFIGS "/deepseek-v3.json");
  EXPECT_EQ(v3.quantization.method, QuantMethod::kFp8);
  EXPECT_EQ(v3.topk_method, RouterMethod::kNoauxTc);
  EXPECT_EQ(v3.kv_row(), 576);
  EXPECT_EQ(v3.qk_head_dim(), 192);
  EXPECT_FALSE(v3.IsMoeLayer(2));
  EXPECT_TRUE(v3.IsMoeLayer(3));
  EXPECT_EQ(v3.eos_token_ids, std::vector<int64_t>{1});

  const ModelConfig k2 = LoadConfigFile(MXMLA_CONFIGS "/kimi-k2-mxfp4.json");
  EXPECT_EQ(k2.quantization.method, QuantMethod::kQuark);
  EXPECT_EQ(k2.quantization.input_dtype, "fp4");
  EXPECT_EQ(k2.rope.theta, 50000);
  EXPECT_EQ(k2.router_options().routed_scaling_factor, 2.827f);
  EXPECT_TRUE(k2.quantization.exclude.Matches("model.layers.7.self_attn.o_proj"));
  EXPECT_FALSE(k2.quantization.exclude.Matches("model.layers.7.mlp.experts.3.up_proj"));
}

TEST(Config, EveryConfigOfTheRepositoryParses) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(MXMLA_CONFIGS)) {
    if (entry.path().extension() != ".json") continue;
    EXPECT_NO_THROW(LoadConfigFile(entry.path().string())) << entry.path();
    ++count;
  }
  EXPECT_GE(count, 17);
}

// What is particular to each family, in its real shape.
TEST(Config, ShapesOfOtherFamilies) {
  const auto load = [](const std::string& name) { return LoadConfigFile(MXMLA_CONFIGS "/" + name + ".json"); };
  const ModelConfig glm = load("glm-4.7-flash");
  EXPECT_EQ(glm.qk_head_dim(), 256);
  EXPECT_EQ(glm.v_head_dim, 256);
  EXPECT_EQ(glm.rms_norm_eps, 1e-5);
  EXPECT_EQ(glm.lora_norm_eps, 1e-6);
  EXPECT_EQ(glm.topk_method, RouterMethod::kNoauxTc);
  EXPECT_EQ(glm.rope.theta, 1e6);

  const ModelConfig vl = load("kimi-vl-a3b");
  EXPECT_TRUE(vl.multimodal);
  EXPECT_EQ(vl.q_lora_rank, 0);
  EXPECT_EQ(vl.routed_scaling_factor, 2.446);
  EXPECT_FALSE(vl.tie_word_embeddings);

  const ModelConfig youtu = load("youtu-llm-2b");
  EXPECT_TRUE(youtu.tie_word_embeddings);
  EXPECT_FALSE(youtu.IsMoeLayer(31));

  const ModelConfig minicpm = load("minicpm3-4b");
  EXPECT_EQ(minicpm.v_head_dim, 64);
  EXPECT_EQ(minicpm.kv_row(), 288);
  EXPECT_FALSE(minicpm.rope_interleave);
  EXPECT_EQ(minicpm.embedding_scale, 12);
  EXPECT_DOUBLE_EQ(minicpm.residual_scale, 1.4 / std::sqrt(62.0));
  EXPECT_DOUBLE_EQ(minicpm.logits_scale, 0.1);
  EXPECT_EQ(minicpm.rope.type, RopeType::kLongRope);
  EXPECT_EQ(minicpm.rope.divisors.size(), 16u);
  EXPECT_EQ(minicpm.rope.attention_factor, 1.0);

  const ModelConfig sarvam = load("sarvam-105b");
  EXPECT_EQ(sarvam.n_routed_experts, 128);
  EXPECT_EQ(sarvam.n_shared_experts, 1);
  EXPECT_EQ(sarvam.rope.type, RopeType::kYarn);
  EXPECT_FALSE(sarvam.IsMoeLayer(0));

  const ModelConfig ax = load("a.x-k1");
  EXPECT_TRUE(ax.post_mlp_norm);
  EXPECT_TRUE(ax.optional_bias);
  EXPECT_EQ(ax.n_group, 8);

  const ModelConfig small = load("mistral-small-4");
  EXPECT_EQ(small.topk_method, RouterMethod::kGreedy);
  EXPECT_TRUE(small.norm_topk_prob);
  EXPECT_EQ(small.query_scale.beta, 0.1);
  EXPECT_EQ(small.query_scale.length, 8192);
  EXPECT_EQ(small.kv_row(), 320);

  const ModelConfig large = load("mistral-large-3");
  EXPECT_EQ(large.architecture_name, "MistralLarge3ForCausalLM");
  EXPECT_EQ(large.hidden_size, 7168);
  EXPECT_EQ(large.n_routed_experts, 128);
  EXPECT_EQ(large.first_k_dense_replace, 3);
  EXPECT_EQ(large.rope.factor, 36);
  EXPECT_EQ(large.rope.beta_fast, 32);
  EXPECT_EQ(large.rope.attention_factor, 1.0);
  EXPECT_EQ(large.rope.mscale_all_dim, 0);  // apply_scale false
  EXPECT_EQ(large.query_scale.length, 8192);
  EXPECT_EQ(large.max_position_embeddings, 294912);
}

TEST(Config, MistralParamsDefaults) {
  nlohmann::json params = {{"dim", 64},          {"n_layers", 2},         {"n_heads", 2},
                           {"hidden_dim", 96},   {"vocab_size", 40},      {"kv_lora_rank", 32},
                           {"v_head_dim", 16},   {"qk_nope_head_dim", 8}, {"qk_rope_head_dim", 8},
                           {"rope_theta", 5000}, {"q_lora_rank", nullptr}};
  ModelConfig config = Parse(params);
  EXPECT_EQ(config.n_routed_experts, 0);
  EXPECT_EQ(config.max_position_embeddings, 128000);
  EXPECT_EQ(config.rope.type, RopeType::kDefault);
  EXPECT_EQ(config.rope.theta, 5000);
  EXPECT_EQ(config.query_scale.length, 0);
  params["yarn"] = {{"factor", 4}, {"original_max_position_embeddings", 32}, {"beta", 16}, {"alpha", 2}};
  config = Parse(params);
  EXPECT_EQ(config.rope.beta_fast, 16);
  EXPECT_EQ(config.rope.beta_slow, 2);
  EXPECT_EQ(config.rope.mscale_all_dim, 1);  // apply_scale is true where it is not named
}

TEST(Config, MlpLayerTypes) {
  nlohmann::json config = TinyConfig();
  config["mlp_layer_types"] = {"dense", "dense", "sparse"};
  EXPECT_EQ(Parse(config).first_k_dense_replace, 2);
  config["mlp_layer_types"] = {"dense", "dense"};
  ExpectError(ErrorCode::kBadConfig, {"mlp_layer_types", "the 3 layers", "found 2"}, [&] { Parse(config); });
}

TEST(Config, MultimodalTextConfig) {
  nlohmann::json text = TinyConfig();
  text["model_type"] = "kimi_k2";
  Declare(&text, Precision::kFp8);
  const ModelConfig plain = Parse(text);
  for (const char* name : {"KimiK25ForConditionalGeneration", "Kimi_K25ForConditionalGeneration"}) {
    // The text parameters may stand at the root.
    nlohmann::json flat = text;
    flat["architectures"] = {name};
    EXPECT_TRUE(Parse(flat).multimodal);
    ExpectSame(Parse(flat), plain);
    const nlohmann::json whole = {
        {"architectures", {name}}, {"model_type", "kimi_k25"}, {"vision_config", {}}, {"text_config", text}};
    const ModelConfig config = Parse(whole);
    EXPECT_TRUE(config.multimodal);
    EXPECT_EQ(config.quantization.method, QuantMethod::kFp8);
    ExpectSame(config, plain);
  }
  nlohmann::json outside = {{"model_type", "kimi_k25"}, {"text_config", TinyConfig()}};
  Declare(&outside, Precision::kMxfp4);
  EXPECT_EQ(Parse(outside).quantization.method, QuantMethod::kQuark);
  EXPECT_FALSE(Parse(outside).tie_word_embeddings);
  outside["text_config"].erase("tie_word_embeddings");
  EXPECT_TRUE(Parse(outside).tie_word_embeddings);  // transformers' default for this class
  outside["tie_word_embeddings"] = false;
  EXPECT_FALSE(Parse(outside).tie_word_embeddings);
}

TEST(Config, Aliases) {
  nlohmann::json config = TinyConfig();
  config.erase("n_routed_experts");
  config["num_local_experts"] = 4;
  config.erase("num_nextn_predict_layers");
  config["num_mtp_layers"] = 1;
  EXPECT_EQ(Parse(config).n_routed_experts, 4);
  EXPECT_EQ(Parse(config).num_nextn_predict_layers, 1);
  config["n_routed_experts"] = 8;
  ExpectError(ErrorCode::kBadConfig, {"num_local_experts", "n_routed_experts, 8", "found 4"}, [&] { Parse(config); });
}

TEST(Config, DenseModel) {
  for (const nlohmann::json& none : {nlohmann::json(nullptr), nlohmann::json(0)}) {
    nlohmann::json config = TinyConfig();
    config["n_routed_experts"] = none;
    config["n_group"] = nullptr;
    const ModelConfig parsed = Parse(config);
    EXPECT_EQ(parsed.n_routed_experts, 0);
    EXPECT_FALSE(parsed.IsMoeLayer(2));
  }
}

TEST(Config, MoeLayerFrequency) {
  nlohmann::json config = TinyConfig();
  config["moe_layer_freq"] = 2;
  const ModelConfig parsed = Parse(config);
  EXPECT_FALSE(parsed.IsMoeLayer(0));
  EXPECT_FALSE(parsed.IsMoeLayer(1));
  EXPECT_TRUE(parsed.IsMoeLayer(2));
}

TEST(Config, EndOfSequence) {
  nlohmann::json config = TinyConfig();
  config["eos_token_id"] = {5, 6};
  EXPECT_EQ(Parse(config).eos_token_ids, (std::vector<int64_t>{5, 6}));
  EXPECT_EQ(Parse(config, R"({"eos_token_id": 7})").eos_token_ids, std::vector<int64_t>{7});
  EXPECT_EQ(Parse(config, R"({"eos_token_id": [8, 9]})").eos_token_ids, (std::vector<int64_t>{8, 9}));
  EXPECT_EQ(Parse(config, R"({"temperature": 1})").eos_token_ids, (std::vector<int64_t>{5, 6}));
  config["eos_token_id"] = nullptr;
  config["bos_token_id"] = nullptr;
  EXPECT_TRUE(Parse(config).eos_token_ids.empty());
  EXPECT_EQ(Parse(config).bos_token_id, -1);
  ExpectError(ErrorCode::kBadConfig, {"generation_config.json", "eos_token_id"},
              [&] { Parse(config, R"({"eos_token_id": "x"})"); });
  ExpectError(ErrorCode::kBadConfig, {"generation_config.json", "JSON"}, [&] { Parse(config, "{"); });
}

TEST(Config, TokensAtTheRootOfAWrapper) {
  nlohmann::json text = TinyConfig();
  nlohmann::json whole = {{"architectures", {"KimiK25ForConditionalGeneration"}}, {"model_type", "kimi_k25"}};
  text.erase("bos_token_id");
  text.erase("eos_token_id");
  whole["text_config"] = text;
  EXPECT_EQ(Parse(whole).bos_token_id, 0);  // DeepSeek-V3's defaults
  EXPECT_EQ(Parse(whole).eos_token_ids, std::vector<int64_t>{1});
  whole["text_config"]["bos_token_id"] = 5;
  whole["text_config"]["eos_token_id"] = {8, 9};
  EXPECT_EQ(Parse(whole).bos_token_id, 5);
  EXPECT_EQ(Parse(whole).eos_token_ids, (std::vector<int64_t>{8, 9}));
  whole["bos_token_id"] = 6;
  whole["eos_token_id"] = {7, 4};
  EXPECT_EQ(Parse(whole).bos_token_id, 6);
  EXPECT_EQ(Parse(whole).eos_token_ids, (std::vector<int64_t>{7, 4}));
  whole["eos_token_id"] = 7;
  EXPECT_EQ(Parse(whole).eos_token_ids, std::vector<int64_t>{7});
  EXPECT_EQ(Parse(whole, R"({"eos_token_id": [2, 3]})").eos_token_ids, (std::vector<int64_t>{2, 3}));
  whole["bos_token_id"] = nullptr;
  whole["eos_token_id"] = nullptr;
  EXPECT_EQ(Parse(whole).bos_token_id, 5);
  EXPECT_EQ(Parse(whole).eos_token_ids, (std::vector<int64_t>{8, 9}));
  whole["eos_token_id"] = "x";
  ExpectError(ErrorCode::kBadConfig, {"config.json: eos_token_id"}, [&] { Parse(whole); });
}

TEST(Config, Yarn) {
  nlohmann::json config = TinyConfig();
  config["rope_scaling"] = {{"type", "yarn"}, {"factor", nullptr}, {"original_max_position_embeddings", 128}};
  RopeConfig rope = Parse(config).rope;
  EXPECT_EQ(rope.type, RopeType::kYarn);
  EXPECT_EQ(rope.factor, 4);  // 512 / 128
  EXPECT_EQ(rope.beta_fast, 32);
  EXPECT_EQ(rope.beta_slow, 1);
  EXPECT_EQ(rope.mscale, 0);
  EXPECT_FALSE(rope.attention_factor);
  EXPECT_TRUE(rope.truncate);
  config["rope_scaling"] = {
      {"rope_type", "yarn"}, {"factor", 8}, {"rope_theta", 7.5}, {"attention_factor", 1.25}, {"truncate", false}};
  rope = Parse(config).rope;
  EXPECT_EQ(rope.theta, 7.5);
  EXPECT_EQ(rope.attention_factor, 1.25);
  EXPECT_EQ(rope.original_max_position_embeddings, 512);
  EXPECT_FALSE(rope.truncate);
}

TEST(Config, Folder) {
  TempFolder folder;
  ExpectError(ErrorCode::kNoModel, {"none", "a model folder"}, [&] { LoadConfig(folder / "none"); });
  ExpectError(ErrorCode::kMissingFile, {"config.json"}, [&] { LoadConfig(folder.path()); });
  folder.Write("config.json", TinyConfig().dump());
  folder.Write("generation_config.json", R"({"eos_token_id": 9})");
  EXPECT_EQ(LoadConfig(folder.path()).eos_token_ids, std::vector<int64_t>{9});
}

}  // namespace
}  // namespace mxmla
