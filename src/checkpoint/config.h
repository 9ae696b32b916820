// A model's config.json: the shapes, the router, the rotary embedding and the quantisation, under their published
// names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/exclude_list.h"
#include "core/dtype.h"
#include "ops/moe.h"

namespace mxmla {

// A published name and this program's, both from a tensor name's first dot-separated part on; `*` stands for a number,
// the same in both. What follows is kept.
struct NameRule {
  std::string_view published, canonical;
};

enum class RopeType {
  kDefault,
  kYarn,
  kLongRope,  // each frequency divided by a factor of its own
};

// From rope_theta and rope_scaling (published), or from rope_parameters (transformers 5). Factors are doubles, because
// the tables are computed in double before they are rounded.
struct RopeConfig {
  double theta = 10000;
  RopeType type = RopeType::kDefault;
  // kLongRope: of each pair of dimensions.
  std::vector<double> divisors = {};
  // The rest only counts for kYarn, attention_factor for kLongRope too.
  double factor = 1;  // derived from the lengths when the config says null
  double beta_fast = 32;
  double beta_slow = 1;
  double mscale = 0;                             // 0: absent
  double mscale_all_dim = 0;                     // 0: absent; the softmax scale is then left alone
  std::optional<double> attention_factor = {};   // of cos and sin; absent: from mscale and mscale_all_dim
  int64_t original_max_position_embeddings = 0;  // tokens; max_position_embeddings when absent
  bool truncate = true;                          // round the correction range outwards to whole dimensions
};

// Queries grow with their position: times 1 + beta ln(1 + floor(position / length)).
struct QueryScale {
  double beta = 0;
  int64_t length = 0;  // tokens; 0: no such scale
};

// Sparse attention: an indexer of small heads chooses the tokens that a query attends to (ops/indexer.h).
struct IndexerConfig {
  int64_t topk = 0;  // tokens that a query attends to at most; 0: no indexer, every token
  int64_t heads = 0;
  int64_t head_dim = 0;      // the first qk_rope_head_dim of them are rotated
  bool interleaved = false;  // how
  // A layer each: whether the layer has an indexer of its own; one without takes the choice of the layer before.
  std::vector<bool> own;
};

enum class QuantMethod {
  kNone,
  kFp8,    // quant_method fp8, weight_block_size [128, 128]
  kQuark,  // quant_method quark, weights fp4 in groups of 32 with e8m0 scales
};

// What config.json says of the weights. The precision of a tensor follows from what the file holds; this only decides
// for dummy weights, and is checked against the file.
struct QuantizationConfig {
  QuantMethod method = QuantMethod::kNone;
  ExcludeList exclude;                      // quark's exclude, fp8's modules_to_not_convert
  ScaleMode scale_mode = ScaleMode::kEven;  // quark's scale_calculation_mode
  std::string input_dtype;                  // quark's input_tensors.dtype ("fp4", ...); "" when absent
};

struct ModelConfig {
  std::string architecture_name;  // as in the config: "DeepseekV3ForCausalLM", "KimiK25ForConditionalGeneration"
  std::string model_type;         // "deepseek_v2", "deepseek_v3", "kimi_k2", "kimi_k25", ...
  std::vector<NameRule> names;    // of the tensors; the first that fits counts
  // A multimodal checkpoint: the text parameters stood under text_config, and its tensors bear "language_model.".
  bool multimodal = false;

  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;      // of a dense layer's MLP
  int64_t moe_intermediate_size = 0;  // of one expert
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;

  int64_t n_routed_experts = 0;  // 0: every layer is dense
  int64_t n_shared_experts = 0;  // one MLP of n_shared_experts * moe_intermediate_size; 0: none
  int64_t num_experts_per_tok = 0;
  int64_t n_group = 1;
  int64_t topk_group = 1;
  RouterMethod topk_method = RouterMethod::kNoauxTc;  // with scoring_func: softmax, or sigmoid for noaux_tc
  bool norm_topk_prob = false;
  double routed_scaling_factor = 1;
  int64_t first_k_dense_replace = 0;
  int64_t moe_layer_freq = 1;
  bool optional_bias = false;  // e_score_correction_bias may be absent
  bool post_mlp_norm = false;  // a mixture's result is normed (post_mlp_layernorm) before it is added

  int64_t q_lora_rank = 0;  // 0: q_proj instead of q_a_proj, q_a_layernorm, q_b_proj
  int64_t kv_lora_rank = 0;
  int64_t qk_nope_head_dim = 0;
  int64_t qk_rope_head_dim = 0;  // even
  int64_t v_head_dim = 0;

  IndexerConfig indexer;

  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  // Of q_a_layernorm and kv_a_layernorm: the reference implementations fix it, whatever rms_norm_eps says.
  double lora_norm_eps = 1e-6;
  RopeConfig rope;
  bool rope_interleave = true;
  QueryScale query_scale;
  // Factors of the embedding, of what each half of a layer adds to the residual stream, and of the head's input.
  double embedding_scale = 1, residual_scale = 1, logits_scale = 1;
  bool tie_word_embeddings = false;  // lm_head may be absent: embed_tokens serves

  int64_t num_nextn_predict_layers = 0;  // MTP layers: skipped
  int64_t bos_token_id = -1;             // -1: none
  std::vector<int64_t> eos_token_ids;    // generation_config.json's, else config.json's; may be empty
  std::string dtype;                     // torch_dtype or dtype, "" when absent; for information only

  QuantizationConfig quantization;

  int64_t qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  // Elements of a KV cache row.
  int64_t kv_row() const { return kv_lora_rank + qk_rope_head_dim; }
  bool HasIndexer(int64_t layer) const { return indexer.topk > 0 && indexer.own[static_cast<size_t>(layer)]; }
  int64_t IndexerLayers() const {
    int64_t count = 0;
    for (int64_t layer = 0; layer < num_hidden_layers; ++layer) count += HasIndexer(layer) ? 1 : 0;
    return count;
  }
  bool IsMoeLayer(int64_t layer) const {
    return n_routed_experts > 0 && layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
  }
  RouterOptions router_options() const {
    return {topk_method,         n_group,        topk_group,
            num_experts_per_tok, norm_topk_prob, static_cast<float>(routed_scaling_factor)};
  }
};

// Reads folder/config.json or, where there is none, Mistral's params.json, and folder/generation_config.json when it is
// there. Absent keys take the defaults of the family's class in transformers (model_family.h). Errors: kNoModel,
// kMissingFile, kBadConfig (naming the key), kArchitecture, kQuantization.
ModelConfig LoadConfig(const std::string& folder);

// The same from a file of any name (configs/*.json), without a generation config.
ModelConfig LoadConfigFile(const std::string& path);

// The same from text, of a config.json or a params.json; `subject` names it in errors. `generation_config` is empty
// when there is none.
ModelConfig ParseConfig(std::string_view text, std::string_view generation_config, const std::string& subject);

// Throws an Error (kBadConfig) when a size is out of range or sizes do not fit each other. Parsing does this; call it
// after changing a config (bench --layers, --experts).
void ValidateConfig(const ModelConfig& config, const std::string& subject);

std::string_view RouterMethodName(RouterMethod method);  // "greedy", "group_limited_greedy", "noaux_tc"
std::string_view QuantMethodName(QuantMethod method);    // "none", "fp8", "quark mxfp4"

}  // namespace mxmla
