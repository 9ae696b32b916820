// What differs between the families of models, as data: one entry a family. The forward pass knows none of them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/config.h"

namespace mxmla {

// What an absent key means: the defaults of the family's configuration class in transformers.
struct ConfigDefaults {
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, num_hidden_layers = 0, num_attention_heads = 0;
  int64_t q_lora_rank = 1536, kv_lora_rank = 512, qk_nope_head_dim = 128, qk_rope_head_dim = 64;
  int64_t v_head_dim = 128;      // 0: hidden_size / num_attention_heads
  int64_t n_routed_experts = 0;  // 0: dense, the rest of this line then counts for nothing
  int64_t num_experts_per_tok = 0, moe_intermediate_size = 0, n_shared_experts = 0, n_group = 1, topk_group = 1;
  int64_t first_k_dense_replace = 0;
  double routed_scaling_factor = 1;
  bool norm_topk_prob = true;
  std::string_view topk_method = "noaux_tc", scoring_func = "sigmoid";
  int64_t max_position_embeddings = 0, num_nextn_predict_layers = 0;
  int64_t bos_token_id = -1, eos_token_id = -1;  // -1: none
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  bool rope_interleave = true;
  int64_t index_topk = 0, index_n_heads = 0, index_head_dim = 128;  // index_topk 0: no sparse attention
  bool indexer_rope_interleave = false;
  RopeConfig rope = {};  // when the config says nothing of it, with query_scale
  QueryScale query_scale = {};
};

struct Family {
  std::string_view architecture;  // in `architectures`
  std::vector<std::string_view>
      model_types;  // in `model_type`, also of a wrapper's text_config; the first is the usual
  ConfigDefaults defaults;
  std::vector<NameRule> names = {};  // of the tensors; empty: DeepSeek's own
  double lora_norm_eps = 1e-6;       // of the norms of the two latents
  bool fixed_router = false;         // the config's topk_method counts for nothing
  bool single_group = false;         // groups of experts are refused: no published model has them
  bool optional_bias = false;        // e_score_correction_bias may be absent
  bool post_mlp_norm = false;        // a mixture's result is normed before it is added to the residual stream
  bool scaled_streams = false;       // scale_emb, scale_depth and dim_model_base
  bool rope_part_of_qk = false;      // partial_rotary_factor counts from the whole query head
};

// A model of several modalities, whose text part is a family's.
struct Wrapper {
  std::string_view architecture;
  std::string_view model_type;
  std::vector<std::string_view> text_types;  // the first when text_config names none
};

const std::vector<Family>& Families();
const std::vector<Wrapper>& Wrappers();
// Prefixes of a wrapper's text tensors.
const std::vector<NameRule>& WrapperNames();

// By the name in `architectures`; by the model type where `architecture` is empty. Null when there is none.
const Family* FindFamily(std::string_view architecture, std::string_view model_type);
const Wrapper* FindWrapper(std::string_view architecture, std::string_view model_type);

// For the hint of an Error: "known are A (model types b, c), ...".
std::string KnownArchitectures();
// Why a model that is related but not supported is refused; empty for others.
std::string_view WhyRefused(std::string_view architecture, std::string_view model_type);

}  // namespace mxmla
