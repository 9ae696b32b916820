#include "checkpoint/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "checkpoint/json_reader.h"
#include "checkpoint/mistral_params.h"
#include "checkpoint/model_family.h"
#include "checkpoint/quantization_config.h"
#include "checkpoint/rope_config.h"

namespace mxmla {
namespace {

constexpr int64_t kMaxWidth = int64_t{1} << 24;         // of a row, and the vocabulary
constexpr int64_t kMaxHead = int64_t{1} << 16;          // heads, and a head's dimensions
constexpr int64_t kMaxCount = int64_t{1} << 16;         // layers, experts
constexpr int64_t kMaxLength = (int64_t{1} << 31) - 1;  // positions and token ids are int32
constexpr double kMaxParameters = 0x1p56;

// One of the two: a wrapper's family is that of its text part.
struct Architecture {
  const Family* family = nullptr;
  const Wrapper* wrapper = nullptr;
};

[[noreturn]] void RefuseArchitecture(const JsonFields& fields, std::string_view key, std::string_view expected,
                                     const std::string& found, std::string_view why = {}) {
  Fail(ErrorCode::kArchitecture, fields.Subject(key), expected, found,
       why.empty() ? KnownArchitectures() : std::string(why));
}

// By the first name under `architectures`; a config without that key is known by its model_type.
Architecture FindArchitecture(const JsonFields& root) {
  const std::vector<std::string> names = root.StringList("architectures");
  const std::string name = names.empty() ? "" : names.front();
  const std::string model_type = root.StringOrNull("model_type", "");
  const Architecture found{FindFamily(name, model_type), FindWrapper(name, model_type)};
  if (found.family || found.wrapper) return found;
  if (name.empty() && model_type.empty()) {
    RefuseArchitecture(root, "architectures", "a model architecture", "none");
  }
  RefuseArchitecture(root, name.empty() ? "model_type" : "architectures", "an architecture that mxmla runs",
                     name.empty() ? model_type : name, WhyRefused(name, model_type));
}

// Whether a wrapper's text parameters stand beside its other keys.
bool TextAtRoot(const JsonFields& root) { return !root.HasValue("text_config") && root.HasValue("num_hidden_layers"); }

// The family of a wrapper's text part.
const Family* TextFamily(const Wrapper& wrapper, const JsonFields& text, bool at_root) {
  const std::vector<std::string_view>& types = wrapper.text_types;
  const std::string type = at_root ? std::string(types.front()) : text.StringOrNull("model_type", types.front());
  if (std::find(types.begin(), types.end(), type) == types.end()) {
    RefuseArchitecture(text, "model_type", fmt::format("{}", fmt::join(types, " or ")), type);
  }
  return FindFamily("", type);
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

void ReadSizes(const JsonFields& fields, const ConfigDefaults& defaults, ModelConfig* config) {
  ModelConfig& c = *config;
  c.vocab_size = fields.Int("vocab_size", defaults.vocab_size, 1, kMaxWidth);
  c.hidden_size = fields.Int("hidden_size", defaults.hidden_size, 1, kMaxWidth);
  c.intermediate_size = fields.Int("intermediate_size", defaults.intermediate_size, 1, kMaxWidth);
  c.num_hidden_layers = fields.Int("num_hidden_layers", defaults.num_hidden_layers, 1, kMaxCount);
  c.num_attention_heads = fields.Int("num_attention_heads", defaults.num_attention_heads, 1, kMaxHead);
  c.q_lora_rank = fields.IntOrNull("q_lora_rank", defaults.q_lora_rank, 0, 0, kMaxWidth);
  c.kv_lora_rank = fields.Int("kv_lora_rank", defaults.kv_lora_rank, 1, kMaxWidth);
  c.qk_nope_head_dim = fields.Int("qk_nope_head_dim", defaults.qk_nope_head_dim, 1, kMaxHead);
  c.qk_rope_head_dim = fields.Int("qk_rope_head_dim", defaults.qk_rope_head_dim, 2, kMaxHead);
  const int64_t v_head_dim = defaults.v_head_dim > 0 ? defaults.v_head_dim : c.hidden_size / c.num_attention_heads;
  c.v_head_dim = fields.IntOrNull("v_head_dim", v_head_dim, v_head_dim, 1, kMaxHead);
  c.max_position_embeddings = fields.Int("max_position_embeddings", defaults.max_position_embeddings, 1, kMaxLength);
  c.rms_norm_eps = fields.Number("rms_norm_eps", defaults.rms_norm_eps, 0, 1);
  c.rope_interleave = fields.BoolOrNull("rope_interleave", defaults.rope_interleave);
  // These layers are skipped in any case, so spellings that differ do no harm.
  const std::string_view mtp =
      fields.HasValue("num_nextn_predict_layers") ? "num_nextn_predict_layers" : "num_mtp_layers";
  c.num_nextn_predict_layers = fields.IntOrNull(mtp, defaults.num_nextn_predict_layers, 0, 0, kMaxCount);
}

// transformers 5 spells each layer's kind out; published configs name a pattern ("FSSF..."), or how often a layer
// chooses anew and from which layer on one may not: layer i has an indexer where max(i - offset + 1, 0) is a multiple.
std::vector<bool> OwnIndexers(const JsonFields& fields, int64_t layers) {
  std::vector<bool> own;
  if (fields.HasValue("indexer_types")) {
    for (const std::string& type : fields.StringList("indexer_types")) {
      if (type != "full" && type != "shared") fields.Refuse("indexer_types", "full or shared", type);
      own.push_back(type == "full");
    }
  } else if (fields.HasValue("index_topk_pattern")) {
    for (const char type : fields.String("index_topk_pattern", {})) {
      if (type != 'F' && type != 'S') fields.Refuse("index_topk_pattern", "F and S", std::string(1, type));
      own.push_back(type == 'F');
    }
  } else {
    const int64_t freq = fields.IntOrNull("index_topk_freq", 1, 1, 0, kMaxCount);
    const int64_t offset = fields.IntOrNull("index_skip_topk_offset", 2, 2, 0, kMaxCount);
    for (int64_t i = 0; i < layers; ++i) {
      own.push_back(std::max<int64_t>(i - offset + 1, 0) % std::max<int64_t>(freq, 1) == 0);
    }
  }
  const std::string_view key = fields.HasValue("indexer_types") ? "indexer_types" : "index_topk_pattern";
  if (static_cast<int64_t>(own.size()) < layers) {
    fields.Refuse(key, fmt::format("the {} layers", layers), fmt::format("{}", own.size()));
  }
  if (!own.front()) fields.Refuse(key, "an indexer in the first layer", "none: there is no choice before it to share");
  return own;
}

void ReadIndexer(const JsonFields& fields, const ConfigDefaults& defaults, ModelConfig* config) {
  if (defaults.index_topk == 0) return;
  IndexerConfig& indexer = config->indexer;
  indexer.topk = fields.Int("index_topk", defaults.index_topk, 1, kMaxLength);
  indexer.heads = fields.Int("index_n_heads", defaults.index_n_heads, 1, kMaxHead);
  indexer.head_dim = fields.Int("index_head_dim", defaults.index_head_dim, 1, kMaxHead);
  indexer.interleaved = fields.BoolOrNull("indexer_rope_interleave", defaults.indexer_rope_interleave);
  indexer.own = OwnIndexers(fields, config->num_hidden_layers);
}

RouterMethod ReadRouterMethod(const JsonFields& fields, const Family& family) {
  const ConfigDefaults& defaults = family.defaults;
  const bool given = fields.HasValue("topk_method") && !family.fixed_router;
  const std::string method = given ? fields.String("topk_method", {}) : std::string(defaults.topk_method);
  const bool sigmoid = method == "noaux_tc";
  const std::string_view score_key = OneSpelling(fields, {"scoring_func", "score_function"});
  const std::string score =
      fields.StringOrNull(score_key, given ? (sigmoid ? "sigmoid" : "softmax") : defaults.scoring_func);
  if (method == "greedy" && score == "softmax") return RouterMethod::kGreedy;
  if (method == "group_limited_greedy" && score == "softmax") return RouterMethod::kGroupLimitedGreedy;
  if (sigmoid && score == "sigmoid") return RouterMethod::kNoauxTc;
  fields.Refuse("topk_method",
                "greedy or group_limited_greedy with scoring_func softmax, or noaux_tc with scoring_func sigmoid",
                method + " with " + score);
}

// transformers 5 spells the dense layers out: they must be the first.
int64_t DenseLayers(const JsonFields& fields, int64_t layers) {
  const std::vector<std::string> types = fields.StringList("mlp_layer_types");
  const auto first = std::find(types.begin(), types.end(), "sparse");
  for (auto type = types.begin(); type != types.end(); ++type) {
    if (*type == (type < first ? "dense" : "sparse")) continue;
    fields.Refuse("mlp_layer_types", "dense layers, then sparse ones", *type);
  }
  if (static_cast<int64_t>(types.size()) < layers) {
    fields.Refuse("mlp_layer_types", fmt::format("the {} layers", layers), fmt::format("{}", types.size()));
  }
  return first - types.begin();
}

void ReadMixture(const JsonFields& fields, const Family& family, ModelConfig* config) {
  const ConfigDefaults& defaults = family.defaults;
  ModelConfig& c = *config;
  const std::string_view experts = OneSpelling(fields, {"n_routed_experts", "num_experts", "num_local_experts"});
  c.n_routed_experts = fields.IntOrNull(experts, defaults.n_routed_experts, 0, 0, kMaxCount);
  const std::string_view shared = OneSpelling(fields, {"n_shared_experts", "num_shared_experts"});
  c.n_shared_experts = fields.IntOrNull(shared, defaults.n_shared_experts, 0, 0, kMaxCount);
  c.num_experts_per_tok =
      fields.IntOrNull("num_experts_per_tok", defaults.num_experts_per_tok, defaults.num_experts_per_tok, 0, kMaxCount);
  c.moe_intermediate_size = fields.IntOrNull("moe_intermediate_size", defaults.moe_intermediate_size,
                                             defaults.moe_intermediate_size, 1, kMaxWidth);
  c.n_group = fields.IntOrNull("n_group", defaults.n_group, 1, 1, kMaxCount);
  c.topk_group = fields.IntOrNull("topk_group", defaults.topk_group, 1, 1, kMaxCount);
  c.first_k_dense_replace = fields.IntOrNull("first_k_dense_replace", defaults.first_k_dense_replace,
                                             defaults.first_k_dense_replace, 0, kMaxCount);
  c.moe_layer_freq = fields.IntOrNull("moe_layer_freq", 1, 1, 1, kMaxCount);
  if (fields.HasValue("mlp_layer_types")) {
    c.first_k_dense_replace = DenseLayers(fields, c.num_hidden_layers);
    c.moe_layer_freq = 1;
  }
  if (family.single_group && c.n_group != 1) fields.Refuse("n_group", "1", fmt::format("{}", c.n_group));
  c.norm_topk_prob = fields.BoolOrNull("norm_topk_prob", defaults.norm_topk_prob);
  c.routed_scaling_factor = fields.Number("routed_scaling_factor", defaults.routed_scaling_factor, 1e-6, 1e6);
  c.topk_method = ReadRouterMethod(fields, family);
  c.optional_bias = family.optional_bias;
  c.post_mlp_norm = family.post_mlp_norm;
}

// Features of the configuration classes that no published model uses and the engine does not have.
void RefuseUnsupported(const JsonFields& fields) {
  for (std::string_view key : {"attention_bias", "mlp_bias"}) {
    if (fields.BoolOrNull(key, false)) fields.Refuse(key, "false", "true", "projections with a bias are not supported");
  }
  const std::string activation = fields.StringOrNull("hidden_act", "silu");
  if (activation != "silu") fields.Refuse("hidden_act", "silu", activation);
  if (fields.HasValue("sliding_window") && fields.BoolOrNull("use_sliding_window", true)) {
    fields.Refuse("sliding_window", "null", ShowJson(*fields.Find("sliding_window")));
  }
}

// MiniCPM's scales; null leaves one out.
void ReadScales(const JsonFields& fields, ModelConfig* config) {
  const double depth = std::sqrt(static_cast<double>(config->num_hidden_layers));
  const auto read = [&](std::string_view key, double absent, double null) {
    return fields.Find(key) ? fields.NumberOrNull(key, null, 1e-6, 1e6) : absent;
  };
  config->embedding_scale = read("scale_emb", 12, 1);
  config->residual_scale = read("scale_depth", 1.4, depth) / depth;
  const auto hidden = static_cast<double>(config->hidden_size);
  config->logits_scale = read("dim_model_base", 256, hidden) / hidden;
}

// A wrapper's own ids win over its text_config's, as in transformers' GenerationConfig.from_model_config.
void ReadTokens(const JsonFields& root, const JsonFields& text, const ConfigDefaults& defaults,
                std::string_view generation_config, const std::string& generation_subject, ModelConfig* config) {
  const auto holder = [&](std::string_view key) -> const JsonFields& { return root.HasValue(key) ? root : text; };
  config->bos_token_id = holder("bos_token_id").IntOrNull("bos_token_id", defaults.bos_token_id, -1, 0, kMaxLength);
  std::vector<int64_t> eos;
  if (defaults.eos_token_id >= 0) eos.push_back(defaults.eos_token_id);
  config->eos_token_ids = holder("eos_token_id").IntList("eos_token_id", eos, 0, kMaxLength);
  if (generation_config.empty()) return;
  const Json json = ParseJsonObject(generation_config, generation_subject, ErrorCode::kBadConfig);
  const JsonFields generation(json, generation_subject);
  if (generation.HasValue("eos_token_id"))
    config->eos_token_ids = generation.IntList("eos_token_id", {}, 0, kMaxLength);
}

}  // namespace

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
  if (c.indexer.topk > 0) {
    require(c.q_lora_rank > 0, "q_lora_rank", "at least 1: the indexer's queries come from that latent", c.q_lora_rank);
    require(c.indexer.head_dim >= c.qk_rope_head_dim, "index_head_dim",
            fmt::format("at least the {} rotated dimensions", c.qk_rope_head_dim), c.indexer.head_dim);
    require(static_cast<int64_t>(c.indexer.own.size()) >= c.num_hidden_layers, "num_hidden_layers",
            fmt::format("at most the {} layers whose indexers the config names", c.indexer.own.size()),
            c.num_hidden_layers);
  }
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
  Json json = ParseJsonObject(text, subject, ErrorCode::kBadConfig);
  if (IsMistralParams(json)) json = MistralParamsToConfig(JsonFields(json, subject));
  const JsonFields root(json, subject);
  const Architecture found = FindArchitecture(root);
  const Family* family = found.family;

  ModelConfig config;
  JsonFields fields = root;
  if (found.wrapper) {
    const bool at_root = TextAtRoot(root);
    if (!at_root && !root.HasValue("text_config"))
      root.Refuse("text_config", "an object", root.Find("text_config") ? "null" : "nothing");
    if (!at_root) fields = *root.Object("text_config");
    family = TextFamily(*found.wrapper, fields, at_root);
    config.multimodal = true;
    config.names = WrapperNames();
  }
  const ConfigDefaults& defaults = family->defaults;
  config.architecture_name = found.wrapper ? found.wrapper->architecture : family->architecture;
  config.model_type =
      root.StringOrNull("model_type", found.wrapper ? found.wrapper->model_type : family->model_types.front());
  config.names.insert(config.names.end(), family->names.begin(), family->names.end());
  config.lora_norm_eps = family->lora_norm_eps;
  // A wrapper's head is tied unless either level says otherwise: transformers' default for these classes.
  bool tied = defaults.tie_word_embeddings;
  if (found.wrapper) tied = fields.BoolOrNull("tie_word_embeddings", true);
  config.tie_word_embeddings = root.BoolOrNull("tie_word_embeddings", tied);

  RefuseUnsupported(fields);
  ReadSizes(fields, defaults, &config);
  ReadIndexer(fields, defaults, &config);
  ReadMixture(fields, *family, &config);
  if (family->scaled_streams) ReadScales(fields, &config);
  ReadRope(fields, *family, &config);
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
  std::string path = folder + "/config.json";
  if (!std::filesystem::exists(path, status) && std::filesystem::exists(folder + "/params.json", status))
    path = folder + "/params.json";
  return ParseConfig(ReadTextFile(path, ErrorCode::kBadConfig), generation, path);
}

ModelConfig LoadConfigFile(const std::string& path) {
  return ParseConfig(ReadTextFile(path, ErrorCode::kBadConfig), {}, path);
}

}  // namespace mxmla
