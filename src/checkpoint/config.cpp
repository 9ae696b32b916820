#include "checkpoint/config.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>

#include "checkpoint/json_reader.h"
#include "checkpoint/quantization_config.h"

namespace mxmla {
namespace {

constexpr int64_t kMaxWidth = int64_t{1} << 24;         // of a row, and the vocabulary
constexpr int64_t kMaxHead = int64_t{1} << 16;          // heads, and a head's dimensions
constexpr int64_t kMaxCount = int64_t{1} << 16;         // layers, experts
constexpr int64_t kMaxLength = (int64_t{1} << 31) - 1;  // positions and token ids are int32
constexpr double kMaxParameters = 0x1p56;

constexpr std::string_view kKnownArchitectures =
    "known are DeepseekV2ForCausalLM, DeepseekV3ForCausalLM (also as kimi_k2) and KimiK25ForConditionalGeneration";

// What transformers' DeepseekV2Config and DeepseekV3Config assume of an absent key.
struct Defaults {
  int64_t vocab_size, hidden_size, intermediate_size, moe_intermediate_size, num_hidden_layers, num_attention_heads;
  int64_t n_shared_experts, n_routed_experts, num_experts_per_tok, n_group, topk_group, first_k_dense_replace;
  int64_t max_position_embeddings, num_nextn_predict_layers, bos_token_id, eos_token_id;
  bool norm_topk_prob;
  double routed_scaling_factor;
  std::string_view topk_method, scoring_func;
};

// num_experts_per_tok 0 stands for "none": a mixture then needs the key.
constexpr Defaults kDeepseekV2 = {.vocab_size = 102400,
                                  .hidden_size = 4096,
                                  .intermediate_size = 11008,
                                  .moe_intermediate_size = 1407,
                                  .num_hidden_layers = 32,
                                  .num_attention_heads = 32,
                                  .n_shared_experts = 2,
                                  .n_routed_experts = 64,
                                  .num_experts_per_tok = 0,
                                  .n_group = 1,
                                  .topk_group = 1,
                                  .first_k_dense_replace = 0,
                                  .max_position_embeddings = 2048,
                                  .num_nextn_predict_layers = 0,
                                  .bos_token_id = 1,
                                  .eos_token_id = 2,
                                  .norm_topk_prob = false,
                                  .routed_scaling_factor = 1.0,
                                  .topk_method = "greedy",
                                  .scoring_func = "softmax"};
constexpr Defaults kDeepseekV3 = {.vocab_size = 129280,
                                  .hidden_size = 7168,
                                  .intermediate_size = 18432,
                                  .moe_intermediate_size = 2048,
                                  .num_hidden_layers = 61,
                                  .num_attention_heads = 128,
                                  .n_shared_experts = 1,
                                  .n_routed_experts = 256,
                                  .num_experts_per_tok = 8,
                                  .n_group = 8,
                                  .topk_group = 4,
                                  .first_k_dense_replace = 3,
                                  .max_position_embeddings = 4096,
                                  .num_nextn_predict_layers = 1,
                                  .bos_token_id = 0,
                                  .eos_token_id = 1,
                                  .norm_topk_prob = true,
                                  .routed_scaling_factor = 2.5,
                                  .topk_method = "noaux_tc",
                                  .scoring_func = "sigmoid"};

constexpr int64_t kQLoraRank = 1536, kKvLoraRank = 512, kQkNopeHeadDim = 128, kQkRopeHeadDim = 64, kVHeadDim = 128;

struct KnownArchitecture {
  std::string_view name;  // in `architectures`
  std::string_view model_type;
  Architecture architecture;
  bool multimodal;
};
constexpr KnownArchitecture kArchitectures[] = {
    {"DeepseekV2ForCausalLM", "deepseek_v2", Architecture::kDeepseekV2, false},
    {"DeepseekV3ForCausalLM", "deepseek_v3", Architecture::kDeepseekV3, false},
    {"DeepseekV3ForCausalLM", "kimi_k2", Architecture::kDeepseekV3, false},
    {"KimiK25ForConditionalGeneration", "kimi_k25", Architecture::kDeepseekV3, true},
    {"Kimi_K25ForConditionalGeneration", "kimi_k25", Architecture::kDeepseekV3, true},
};

// By the first name under `architectures`; a config without that key is known by its model_type.
KnownArchitecture FindArchitecture(const JsonFields& root) {
  const std::vector<std::string> names = root.StringList("architectures");
  const std::string model_type = root.StringOrNull("model_type", "");
  for (const KnownArchitecture& known : kArchitectures) {
    if (names.empty() ? known.model_type == model_type : known.name == names.front()) return known;
  }
  const bool by_type = names.empty();
  if (by_type && model_type.empty()) {
    Fail(ErrorCode::kArchitecture, root.Subject("architectures"), "a model architecture", "none", kKnownArchitectures);
  }
  Fail(ErrorCode::kArchitecture, root.Subject(by_type ? "model_type" : "architectures"),
       "an architecture that mxmla runs", by_type ? model_type : names.front(), kKnownArchitectures);
}

// The text part of a multimodal config must be DeepSeek-V3's architecture.
void CheckTextConfig(const JsonFields& text) {
  const std::string type = text.StringOrNull("model_type", "deepseek_v3");
  if (type != "deepseek_v3" && type != "kimi_k2") {
    Fail(ErrorCode::kArchitecture, text.Subject("model_type"), "deepseek_v3 or kimi_k2", type, kKnownArchitectures);
  }
}

// A key that has several spellings: the value of the one that is there; two that differ are refused.
std::string_view OneSpelling(const JsonFields& fields, std::initializer_list<std::string_view> spellings) {
  std::string_view found;
  for (std::string_view key : spellings) {
    const Json* value = fields.Find(key);
    if (!value) continue;
    if (!found.empty() && *fields.Find(found) != *value) {
      fields.Refuse(key, fmt::format("the value of {}, {}", found, ShowJson(*fields.Find(found))), ShowJson(*value));
    }
    if (found.empty()) found = key;
  }
  return found.empty() ? *spellings.begin() : found;
}

void ReadSizes(const JsonFields& fields, const Defaults& defaults, ModelConfig* config) {
  ModelConfig& c = *config;
  c.vocab_size = fields.Int("vocab_size", defaults.vocab_size, 1, kMaxWidth);
  c.hidden_size = fields.Int("hidden_size", defaults.hidden_size, 1, kMaxWidth);
  c.intermediate_size = fields.Int("intermediate_size", defaults.intermediate_size, 1, kMaxWidth);
  c.num_hidden_layers = fields.Int("num_hidden_layers", defaults.num_hidden_layers, 1, kMaxCount);
  c.num_attention_heads = fields.Int("num_attention_heads", defaults.num_attention_heads, 1, kMaxHead);
  c.q_lora_rank = fields.IntOrNull("q_lora_rank", kQLoraRank, 0, 0, kMaxWidth);
  c.kv_lora_rank = fields.Int("kv_lora_rank", kKvLoraRank, 1, kMaxWidth);
  c.qk_nope_head_dim = fields.Int("qk_nope_head_dim", kQkNopeHeadDim, 1, kMaxHead);
  c.qk_rope_head_dim = fields.Int("qk_rope_head_dim", kQkRopeHeadDim, 2, kMaxHead);
  c.v_head_dim = fields.IntOrNull("v_head_dim", kVHeadDim, kVHeadDim, 1, kMaxHead);
  c.max_position_embeddings = fields.Int("max_position_embeddings", defaults.max_position_embeddings, 1, kMaxLength);
  c.rms_norm_eps = fields.Number("rms_norm_eps", 1e-6, 0, 1);
  c.rope_interleave = fields.BoolOrNull("rope_interleave", true);
  // These layers are skipped in any case, so spellings that differ do no harm.
  const std::string_view mtp =
      fields.HasValue("num_nextn_predict_layers") ? "num_nextn_predict_layers" : "num_mtp_layers";
  c.num_nextn_predict_layers = fields.IntOrNull(mtp, defaults.num_nextn_predict_layers, 0, 0, kMaxCount);
}

RouterMethod ReadRouterMethod(const JsonFields& fields, const Defaults& defaults) {
  const std::string method = fields.StringOrNull("topk_method", defaults.topk_method);
  const bool sigmoid = method == "noaux_tc";
  const std::string score = fields.StringOrNull(
      "scoring_func", fields.HasValue("topk_method") ? (sigmoid ? "sigmoid" : "softmax") : defaults.scoring_func);
  if (method == "greedy" && score == "softmax") return RouterMethod::kGreedy;
  if (method == "group_limited_greedy" && score == "softmax") return RouterMethod::kGroupLimitedGreedy;
  if (sigmoid && score == "sigmoid") return RouterMethod::kNoauxTc;
  fields.Refuse("topk_method",
                "greedy or group_limited_greedy with scoring_func softmax, or noaux_tc with scoring_func sigmoid",
                method + " with " + score);
}

void ReadMixture(const JsonFields& fields, const Defaults& defaults, ModelConfig* config) {
  ModelConfig& c = *config;
  const std::string_view experts = OneSpelling(fields, {"n_routed_experts", "num_experts", "num_local_experts"});
  c.n_routed_experts = fields.IntOrNull(experts, defaults.n_routed_experts, 0, 0, kMaxCount);
  c.n_shared_experts = fields.IntOrNull("n_shared_experts", defaults.n_shared_experts, 0, 0, kMaxCount);
  c.num_experts_per_tok =
      fields.IntOrNull("num_experts_per_tok", defaults.num_experts_per_tok, defaults.num_experts_per_tok, 0, kMaxCount);
  c.moe_intermediate_size = fields.IntOrNull("moe_intermediate_size", defaults.moe_intermediate_size,
                                             defaults.moe_intermediate_size, 1, kMaxWidth);
  c.n_group = fields.IntOrNull("n_group", defaults.n_group, 1, 1, kMaxCount);
  c.topk_group = fields.IntOrNull("topk_group", defaults.topk_group, 1, 1, kMaxCount);
  c.first_k_dense_replace = fields.IntOrNull("first_k_dense_replace", defaults.first_k_dense_replace,
                                             defaults.first_k_dense_replace, 0, kMaxCount);
  c.moe_layer_freq = fields.IntOrNull("moe_layer_freq", 1, 1, 1, kMaxCount);
  c.norm_topk_prob = fields.BoolOrNull("norm_topk_prob", defaults.norm_topk_prob);
  c.routed_scaling_factor = fields.Number("routed_scaling_factor", defaults.routed_scaling_factor, 1e-6, 1e6);
  c.topk_method = ReadRouterMethod(fields, defaults);
}

// rope_scaling wins over rope_parameters, and a theta inside either over one beside it, as in transformers.
RopeConfig ReadRope(const JsonFields& fields, int64_t max_position_embeddings) {
  constexpr double kLargest = 1e12;
  RopeConfig rope;
  rope.theta = fields.NumberOrNull("rope_theta", rope.theta, 1, kLargest);
  rope.original_max_position_embeddings = max_position_embeddings;
  std::optional<JsonFields> scaling = fields.Object("rope_scaling");
  if (!scaling || scaling->json().empty()) scaling = fields.Object("rope_parameters");
  if (!scaling) return rope;
  const JsonFields& s = *scaling;
  rope.theta = s.NumberOrNull("rope_theta", rope.theta, 1, kLargest);
  if (s.NumberOrNull("partial_rotary_factor", 1, 0, 1) != 1) {
    s.Refuse("partial_rotary_factor", "1", ShowJson(*s.Find("partial_rotary_factor")));
  }
  const std::string_view type_key = s.HasValue("rope_type") ? "rope_type" : "type";
  const std::string type = s.StringOrNull(type_key, "default");
  if (type == "default") return rope;
  if (type != "yarn") s.Refuse(type_key, "default or yarn", type);
  rope.type = RopeType::kYarn;
  rope.beta_fast = s.NumberOrNull("beta_fast", rope.beta_fast, 0, kLargest);
  rope.beta_slow = s.NumberOrNull("beta_slow", rope.beta_slow, 0, kLargest);
  if (rope.beta_fast == 0) rope.beta_fast = 32;  // as transformers reads a zero
  if (rope.beta_slow == 0) rope.beta_slow = 1;
  rope.mscale = s.NumberOrNull("mscale", 0, 0, 1e3);
  rope.mscale_all_dim = s.NumberOrNull("mscale_all_dim", 0, 0, 1e3);
  if (s.HasValue("attention_factor")) rope.attention_factor = s.Number("attention_factor", 1, 0, 1e3);
  rope.truncate = s.BoolOrNull("truncate", true);
  const JsonFields& original = fields.HasValue("original_max_position_embeddings") ? fields : s;
  rope.original_max_position_embeddings = original.IntOrNull(
      "original_max_position_embeddings", max_position_embeddings, max_position_embeddings, 1, kMaxLength);
  if (!s.Find("factor")) s.Refuse("factor", "a number from 1", "nothing");
  rope.factor = s.NumberOrNull(
      "factor",
      static_cast<double>(max_position_embeddings) / static_cast<double>(rope.original_max_position_embeddings), 1,
      1e6);
  if (rope.factor < 1)
    s.Refuse("factor", "a number from 1", fmt::format("null, and lengths in the ratio {}", rope.factor));
  if (rope.theta <= 1) s.Refuse("rope_theta", "more than 1 with yarn", fmt::format("{}", rope.theta));
  return rope;
}

// Features of the configuration classes that no published model uses and the engine does not have.
void RefuseUnsupported(const JsonFields& fields) {
  for (std::string_view key : {"attention_bias", "mlp_bias"}) {
    if (fields.BoolOrNull(key, false)) fields.Refuse(key, "false", "true", "projections with a bias are not supported");
  }
  const std::string activation = fields.StringOrNull("hidden_act", "silu");
  if (activation != "silu") fields.Refuse("hidden_act", "silu", activation);
}

// A wrapper's own ids win over its text_config's, as in transformers' GenerationConfig.from_model_config.
void ReadTokens(const JsonFields& root, const JsonFields& text, const Defaults& defaults,
                std::string_view generation_config, const std::string& generation_subject, ModelConfig* config) {
  const auto holder = [&](std::string_view key) -> const JsonFields& { return root.HasValue(key) ? root : text; };
  config->bos_token_id = holder("bos_token_id").IntOrNull("bos_token_id", defaults.bos_token_id, -1, 0, kMaxLength);
  config->eos_token_ids = holder("eos_token_id").IntList("eos_token_id", {defaults.eos_token_id}, 0, kMaxLength);
  if (generation_config.empty()) return;
  const Json json = ParseJsonObject(generation_config, generation_subject, ErrorCode::kBadConfig);
  const JsonFields generation(json, generation_subject);
  if (generation.HasValue("eos_token_id"))
    config->eos_token_ids = generation.IntList("eos_token_id", {}, 0, kMaxLength);
}

}  // namespace

std::string_view ArchitectureName(Architecture architecture) {
  return architecture == Architecture::kDeepseekV2 ? "DeepseekV2" : "DeepseekV3";
}

std::string_view RouterMethodName(RouterMethod method) {
  switch (method) {
    case RouterMethod::kGreedy:
      return "greedy";
    case RouterMethod::kGroupLimitedGreedy:
      return "group_limited_greedy";
    case RouterMethod::kNoauxTc:
      return "noaux_tc";
  }
  return "?";
}

std::string_view QuantMethodName(QuantMethod method) {
  switch (method) {
    case QuantMethod::kNone:
      return "none";
    case QuantMethod::kFp8:
      return "fp8";
    case QuantMethod::kQuark:
      return "quark mxfp4";
  }
  return "?";
}

void ValidateConfig(const ModelConfig& c, const std::string& subject) {
  const auto require = [&](bool met, std::string_view key, const std::string& expected, int64_t found) {
    if (!met) Fail(ErrorCode::kBadConfig, subject + ": " + std::string(key), expected, fmt::format("{}", found));
  };
  require(c.num_hidden_layers >= 1, "num_hidden_layers", "at least 1", c.num_hidden_layers);
  require(c.qk_rope_head_dim % 2 == 0, "qk_rope_head_dim", "an even number", c.qk_rope_head_dim);
  bool mixture = false;
  for (int64_t layer = 0; layer < c.num_hidden_layers && !mixture; ++layer) mixture = c.IsMoeLayer(layer);
  if (mixture) {
    const int64_t experts = c.n_routed_experts;
    require(c.num_experts_per_tok >= 1 && c.num_experts_per_tok <= experts, "num_experts_per_tok",
            fmt::format("from 1 to the {} experts", experts), c.num_experts_per_tok);
    if (c.topk_method != RouterMethod::kGreedy) {
      require(c.n_group <= experts && experts % c.n_group == 0, "n_group",
              fmt::format("a divisor of the {} experts", experts), c.n_group);
      require(c.topk_group <= c.n_group, "topk_group", fmt::format("at most the {} groups", c.n_group), c.topk_group);
      const int64_t in_group = experts / c.n_group;
      if (c.topk_method == RouterMethod::kNoauxTc) {
        require(in_group >= 2, "n_group", "at least 2 experts a group, whose two best scores noaux_tc adds", c.n_group);
      }
      require(c.num_experts_per_tok <= c.topk_group * in_group, "num_experts_per_tok",
              fmt::format("at most the {} experts of {} groups", c.topk_group * in_group, c.topk_group),
              c.num_experts_per_tok);
    }
  }
  // In doubles: the point is to see an overflow.
  const auto d = [](int64_t value) { return static_cast<double>(value); };
  const double heads = d(c.num_attention_heads);
  const double attention = d(c.hidden_size) * (d(c.q_lora_rank) + d(c.kv_row()) + heads * d(c.v_head_dim)) +
                           heads * d(c.qk_head_dim()) * d(c.q_lora_rank ? c.q_lora_rank : c.hidden_size) +
                           heads * d(c.qk_nope_head_dim + c.v_head_dim) * d(c.kv_lora_rank);
  const double experts = d(c.n_routed_experts + c.n_shared_experts) * d(c.moe_intermediate_size);
  const double mlp = 3.0 * d(c.hidden_size) * (d(c.intermediate_size) + experts);
  const double parameters = d(c.num_hidden_layers) * (attention + mlp) + 2.0 * d(c.vocab_size) * d(c.hidden_size);
  if (!(parameters < kMaxParameters)) {
    Fail(ErrorCode::kBadConfig, subject, "sizes of at most 2^56 parameters in all", fmt::format("{:.3g}", parameters));
  }
}

ModelConfig ParseConfig(std::string_view text, std::string_view generation_config, const std::string& subject) {
  const Json json = ParseJsonObject(text, subject, ErrorCode::kBadConfig);
  const JsonFields root(json, subject);
  const KnownArchitecture known = FindArchitecture(root);
  const Defaults& defaults = known.architecture == Architecture::kDeepseekV2 ? kDeepseekV2 : kDeepseekV3;

  ModelConfig config;
  config.architecture = known.architecture;
  config.architecture_name = known.name;
  config.model_type = root.StringOrNull("model_type", known.model_type);
  config.multimodal = known.multimodal;
  JsonFields fields = root;
  // A multimodal head is tied unless either level says otherwise: transformers' default for this class.
  bool tied = false;
  if (known.multimodal) {
    if (!root.HasValue("text_config"))
      root.Refuse("text_config", "an object", root.Find("text_config") ? "null" : "nothing");
    fields = *root.Object("text_config");
    CheckTextConfig(fields);
    tied = fields.BoolOrNull("tie_word_embeddings", true);
  }
  config.tie_word_embeddings = root.BoolOrNull("tie_word_embeddings", tied);

  RefuseUnsupported(fields);
  ReadSizes(fields, defaults, &config);
  ReadMixture(fields, defaults, &config);
  config.rope = ReadRope(fields, config.max_position_embeddings);
  ReadTokens(root, fields, defaults, generation_config,
             (std::filesystem::path(subject).parent_path() / "generation_config.json").string(), &config);
  const std::string_view dtype = fields.HasValue("dtype") ? "dtype" : "torch_dtype";
  config.dtype = fields.StringOrNull(dtype, "");
  const JsonFields& quantized = root.HasValue("quantization_config") ? root : fields;
  if (const std::optional<JsonFields> quantization = quantized.Object("quantization_config")) {
    config.quantization = ParseQuantization(*quantization);
  }
  ValidateConfig(config, subject);
  return config;
}

ModelConfig LoadConfig(const std::string& folder) {
  std::error_code status;
  if (!std::filesystem::is_directory(folder, status)) {
    Fail(ErrorCode::kNoModel, folder, "a model folder", std::filesystem::exists(folder, status) ? "a file" : "nothing");
  }
  const std::string generation_path = folder + "/generation_config.json";
  std::string generation;
  if (std::filesystem::exists(generation_path, status))
    generation = ReadTextFile(generation_path, ErrorCode::kBadConfig);
  const std::string path = folder + "/config.json";
  return ParseConfig(ReadTextFile(path, ErrorCode::kBadConfig), generation, path);
}

ModelConfig LoadConfigFile(const std::string& path) {
  return ParseConfig(ReadTextFile(path, ErrorCode::kBadConfig), {}, path);
}

}  // namespace mxmla
