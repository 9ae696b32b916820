#include "checkpoint/model_family.h"

#include <algorithm>

namespace mxmla {
namespace {

const ConfigDefaults& DeepseekV3Defaults() {
  static const ConfigDefaults defaults = {.vocab_size = 129280,
                                          .hidden_size = 7168,
                                          .intermediate_size = 18432,
                                          .num_hidden_layers = 61,
                                          .num_attention_heads = 128,
                                          .n_routed_experts = 256,
                                          .num_experts_per_tok = 8,
                                          .moe_intermediate_size = 2048,
                                          .n_shared_experts = 1,
                                          .n_group = 8,
                                          .topk_group = 4,
                                          .first_k_dense_replace = 3,
                                          .routed_scaling_factor = 2.5,
                                          .max_position_embeddings = 4096,
                                          .num_nextn_predict_layers = 1,
                                          .bos_token_id = 0,
                                          .eos_token_id = 1};
  return defaults;
}

// DeepSeek-V2, V2-Lite, Coder-V2, V2.5. num_experts_per_tok has no default: a mixture needs the key.
Family DeepseekV2() {
  return {.architecture = "DeepseekV2ForCausalLM",
          .model_types = {"deepseek_v2"},
          .defaults = {.vocab_size = 102400,
                       .hidden_size = 4096,
                       .intermediate_size = 11008,
                       .num_hidden_layers = 32,
                       .num_attention_heads = 32,
                       .n_routed_experts = 64,
                       .moe_intermediate_size = 1407,
                       .n_shared_experts = 2,
                       .norm_topk_prob = false,
                       .topk_method = "greedy",
                       .scoring_func = "softmax",
                       .max_position_embeddings = 2048,
                       .bos_token_id = 1,
                       .eos_token_id = 2}};
}

// DeepSeek-V3, R1, V3.1; Kimi-K2, Moonlight, GigaChat3.
Family DeepseekV3() {
  return {.architecture = "DeepseekV3ForCausalLM",
          .model_types = {"deepseek_v3", "kimi_k2"},
          .defaults = DeepseekV3Defaults()};
}

// DeepSeek-V3.2 and V3.2-Exp: V3 with sparse attention.
Family DeepseekV32() {
  Family family = {
      .architecture = "DeepseekV32ForCausalLM", .model_types = {"deepseek_v32"}, .defaults = DeepseekV3Defaults()};
  ConfigDefaults& defaults = family.defaults;
  defaults.max_position_embeddings = 163840;
  defaults.index_topk = 2048;
  defaults.index_n_heads = 64;
  return family;
}

// GLM-5, 5.1 and 5.2, whose indexers rotate pairs of neighbours, as its attention does.
Family GlmMoeDsa() {
  return {.architecture = "GlmMoeDsaForCausalLM",
          .model_types = {"glm_moe_dsa"},
          .defaults = {.vocab_size = 154880,
                       .hidden_size = 6144,
                       .intermediate_size = 12288,
                       .num_hidden_layers = 78,
                       .num_attention_heads = 64,
                       .q_lora_rank = 2048,
                       .qk_nope_head_dim = 192,
                       .v_head_dim = 256,
                       .n_routed_experts = 256,
                       .num_experts_per_tok = 8,
                       .moe_intermediate_size = 2048,
                       .n_shared_experts = 1,
                       .first_k_dense_replace = 3,
                       .routed_scaling_factor = 2.5,
                       .max_position_embeddings = 202752,
                       .num_nextn_predict_layers = 1,
                       .bos_token_id = 0,
                       .eos_token_id = 1,
                       .rms_norm_eps = 1e-5,
                       .index_topk = 2048,
                       .index_n_heads = 32,
                       .indexer_rope_interleave = true}};
}

// GLM-4.7-Flash.
Family Glm4MoeLite() {
  return {.architecture = "Glm4MoeLiteForCausalLM",
          .model_types = {"glm4_moe_lite"},
          .defaults = {.vocab_size = 154880,
                       .hidden_size = 2048,
                       .intermediate_size = 10240,
                       .num_hidden_layers = 47,
                       .num_attention_heads = 20,
                       .q_lora_rank = 768,
                       .qk_nope_head_dim = 192,
                       .v_head_dim = 256,
                       .n_routed_experts = 64,
                       .num_experts_per_tok = 4,
                       .moe_intermediate_size = 1536,
                       .n_shared_experts = 1,
                       .first_k_dense_replace = 1,
                       .routed_scaling_factor = 1.8,
                       .max_position_embeddings = 202752,
                       .bos_token_id = 0,
                       .eos_token_id = 1,
                       .rms_norm_eps = 1e-5}};
}

// Youtu-LLM-2B.
Family Youtu() {
  return {.architecture = "YoutuForCausalLM",
          .model_types = {"youtu", "youtu_llm"},
          .defaults = {.vocab_size = 128256,
                       .hidden_size = 2048,
                       .intermediate_size = 6144,
                       .num_hidden_layers = 32,
                       .num_attention_heads = 16,
                       .max_position_embeddings = 131072,
                       .bos_token_id = 128000,
                       .eos_token_id = 128001,
                       .tie_word_embeddings = true}};
}

// MiniCPM3-4B.
Family MiniCpm3() {
  return {.architecture = "MiniCPM3ForCausalLM",
          .model_types = {"minicpm3"},
          .defaults = {.vocab_size = 73448,
                       .hidden_size = 2560,
                       .intermediate_size = 6400,
                       .num_hidden_layers = 62,
                       .num_attention_heads = 40,
                       .q_lora_rank = 768,
                       .kv_lora_rank = 256,
                       .qk_nope_head_dim = 64,
                       .qk_rope_head_dim = 32,
                       .v_head_dim = 0,
                       .max_position_embeddings = 32768,
                       .bos_token_id = 1,
                       .eos_token_id = 2,
                       .rms_norm_eps = 1e-5,
                       .tie_word_embeddings = true,
                       .rope_interleave = false},
          .scaled_streams = true};
}

// Sarvam-105B: DeepSeek-V3 under other keys.
Family SarvamMla() {
  Family family = {
      .architecture = "SarvamMLAForCausalLM", .model_types = {"sarvam_mla"}, .defaults = DeepseekV3Defaults()};
  ConfigDefaults& defaults = family.defaults;
  defaults.vocab_size = 262144;
  defaults.hidden_size = 4096;
  defaults.intermediate_size = 16384;
  defaults.num_hidden_layers = 32;
  defaults.num_attention_heads = 64;
  defaults.q_lora_rank = 0;
  defaults.n_routed_experts = 128;
  defaults.n_group = defaults.topk_group = 1;
  defaults.first_k_dense_replace = 1;
  defaults.num_nextn_predict_layers = 0;
  return family;
}

// A.X-K1. Its files name a topk_method that its router does not follow, and hold no bias.
Family AxK1() {
  Family family = {.architecture = "AXK1ForCausalLM",
                   .model_types = {"axk1", "AXK1"},
                   .defaults = DeepseekV3Defaults(),
                   .fixed_router = true,
                   .optional_bias = true,
                   .post_mlp_norm = true};
  ConfigDefaults& defaults = family.defaults;
  defaults.vocab_size = 163840;
  defaults.num_attention_heads = 64;
  defaults.n_routed_experts = 192;
  defaults.first_k_dense_replace = 1;
  defaults.max_position_embeddings = 32768;
  defaults.num_nextn_predict_layers = 0;
  defaults.bos_token_id = defaults.eos_token_id = 163691;
  return family;
}

// Mistral Small 4, as transformers writes it.
Family Mistral4() {
  return {.architecture = "Mistral4ForCausalLM",
          .model_types = {"mistral4"},
          .defaults = {.vocab_size = 131072,
                       .hidden_size = 4096,
                       .intermediate_size = 12288,
                       .num_hidden_layers = 36,
                       .num_attention_heads = 32,
                       .q_lora_rank = 1024,
                       .kv_lora_rank = 256,
                       .qk_nope_head_dim = 64,
                       .n_routed_experts = 128,
                       .num_experts_per_tok = 4,
                       .moe_intermediate_size = 2048,
                       .n_shared_experts = 1,
                       .topk_method = "greedy",
                       .scoring_func = "softmax",
                       .max_position_embeddings = 1048576,
                       .bos_token_id = 1,
                       .eos_token_id = 2,
                       .rope = {.type = RopeType::kYarn,
                                .factor = 128,
                                .mscale = 1,
                                .mscale_all_dim = 1,
                                .original_max_position_embeddings = 8192},
                       .query_scale = {.beta = 0.1, .length = 8192}},
          .fixed_router = true,
          .single_group = true,
          .rope_part_of_qk = true};
}

// Mistral's own folders (params.json): Mistral Large 3 and Small 4.
Family MistralLarge3() {
  Family family = Mistral4();
  family.architecture = "MistralLarge3ForCausalLM";
  family.model_types = {"mistral_large3"};
  family.defaults.rope = {};
  family.defaults.query_scale = {};
  family.rope_part_of_qk = false;
  family.names = {
      {"layers.*.attention_norm", "model.layers.*.input_layernorm"},
      {"layers.*.attention.wq", "model.layers.*.self_attn.q_proj"},
      {"layers.*.attention.wq_a", "model.layers.*.self_attn.q_a_proj"},
      {"layers.*.attention.q_a_norm", "model.layers.*.self_attn.q_a_layernorm"},
      {"layers.*.attention.wq_b", "model.layers.*.self_attn.q_b_proj"},
      {"layers.*.attention.wkv_a_with_mqa", "model.layers.*.self_attn.kv_a_proj_with_mqa"},
      {"layers.*.attention.kv_a_norm", "model.layers.*.self_attn.kv_a_layernorm"},
      {"layers.*.attention.wkv_b", "model.layers.*.self_attn.kv_b_proj"},
      {"layers.*.attention.wo", "model.layers.*.self_attn.o_proj"},
      {"layers.*.ffn_norm", "model.layers.*.post_attention_layernorm"},
      {"layers.*.feed_forward.w1", "model.layers.*.mlp.gate_proj"},
      {"layers.*.feed_forward.w2", "model.layers.*.mlp.down_proj"},
      {"layers.*.feed_forward.w3", "model.layers.*.mlp.up_proj"},
      {"layers.*.gate", "model.layers.*.mlp.gate"},
      {"layers.*.experts.*.w1", "model.layers.*.mlp.experts.*.gate_proj"},
      {"layers.*.experts.*.w2", "model.layers.*.mlp.experts.*.down_proj"},
      {"layers.*.experts.*.w3", "model.layers.*.mlp.experts.*.up_proj"},
      {"layers.*.shared_experts.w1", "model.layers.*.mlp.shared_experts.gate_proj"},
      {"layers.*.shared_experts.w2", "model.layers.*.mlp.shared_experts.down_proj"},
      {"layers.*.shared_experts.w3", "model.layers.*.mlp.shared_experts.up_proj"},
      {"tok_embeddings", "model.embed_tokens"},
      {"norm", "model.norm"},
      {"output", "lm_head"},
      {"vision_encoder", "vision_tower"},
      {"vision_language_adapter", "multi_modal_projector"},
      {"patch_merger", "multi_modal_projector.patch_merger"},
      {"pre_mm_projector_norm", "multi_modal_projector.norm"},
  };
  return family;
}

std::vector<Family> MakeFamilies() {
  return {DeepseekV2(), DeepseekV3(), DeepseekV32(), Glm4MoeLite(), GlmMoeDsa(),    Youtu(),
          MiniCpm3(),   SarvamMla(),  AxK1(),        Mistral4(),    MistralLarge3()};
}

struct Refused {
  std::string_view architecture, model_type;
  std::string_view why;
};
constexpr std::string_view kSparse = "what it adds to sparse attention with an indexer is not supported";
constexpr std::string_view kLinear = "most of its layers are linear attention, which is not supported";
constexpr Refused kRefused[] = {
    {"AXK2ForCausalLM", "axk2", kSparse},
    {"HYV4ForCausalLM", "hy_v4", kSparse},
    {"MistralLarge4ForCausalLM", "mistral_large4", kSparse},
    {"Glm5NextForConditionalGeneration", "glm5_next", kLinear},
    {"KimiLinearForCausalLM", "kimi_linear", kLinear},
    {"KimiK3ForConditionalGeneration", "kimi_k3", kLinear},
    {"BailingMoeV2_5ForCausalLM", "bailing_hybrid", kLinear},
    {"BailingMoeV3ForCausalLM", "bailing_hybrid", kLinear},
    {"GigaChat35ForCausalLM", "gigachat35", kLinear},
    {"LongcatFlashForCausalLM", "longcat_flash", "two attentions a layer and zero experts are not supported"},
    {"PanguUltraMoEForCausalLM", "pangu_ultra_moe", "norms around each half of a layer are not supported"},
    {"DeepseekV4ForCausalLM", "deepseek_v4", "its attention is not MLA"},
};

bool Contains(const std::vector<std::string_view>& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

}  // namespace

const std::vector<Family>& Families() {
  static const std::vector<Family> families = MakeFamilies();
  return families;
}

const std::vector<Wrapper>& Wrappers() {
  static const std::vector<Wrapper> wrappers = {
      {"KimiK25ForConditionalGeneration", "kimi_k25", {"deepseek_v3", "kimi_k2"}},  // Kimi-K2.5, K2.6, K2.7
      {"Kimi_K25ForConditionalGeneration", "kimi_k25", {"deepseek_v3", "kimi_k2"}},
      {"KimiVLForConditionalGeneration", "kimi_vl", {"deepseek_v3"}},  // Kimi-VL, whose text is Moonlight
      {"Mistral3ForConditionalGeneration", "mistral3", {"mistral4"}},  // Mistral Small 4
  };
  return wrappers;
}

// Published names begin with "language_model."; transformers 5 keeps "model.language_model.X" in memory, and its
// save_pretrained writes "language_model.model.blocks.N" for a layer of Kimi-K2.5 (5.23).
const std::vector<NameRule>& WrapperNames() {
  static const std::vector<NameRule> rules = {
      {"model.language_model", "model"},
      {"language_model.model.blocks.*", "model.layers.*"},
      {"language_model.model", "model"},
      {"language_model", ""},
  };
  return rules;
}

const Family* FindFamily(std::string_view architecture, std::string_view model_type) {
  for (const Family& family : Families()) {
    if (architecture.empty() ? Contains(family.model_types, model_type) : family.architecture == architecture) {
      return &family;
    }
  }
  return nullptr;
}

const Wrapper* FindWrapper(std::string_view architecture, std::string_view model_type) {
  for (const Wrapper& wrapper : Wrappers()) {
    if (architecture.empty() ? wrapper.model_type == model_type : wrapper.architecture == architecture) return &wrapper;
  }
  return nullptr;
}

std::string KnownArchitectures() {
  std::string text = "known are ";
  for (const Family& family : Families()) {
    text.append(family.architecture).append(", ");
  }
  for (const Wrapper& wrapper : Wrappers()) {
    text.append(wrapper.architecture).append(&wrapper == &Wrappers().back() ? " (text)" : ", ");
  }
  return text;
}

std::string_view WhyRefused(std::string_view architecture, std::string_view model_type) {
  for (const Refused& refused : kRefused) {
    if (architecture.empty() ? refused.model_type == model_type : refused.architecture == architecture) {
      return refused.why;
    }
  }
  return {};
}

}  // namespace mxmla
