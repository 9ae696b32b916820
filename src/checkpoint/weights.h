// A model's weights as a tree of views into the mapped checkpoint: nothing is copied, split, transposed or
// re-quantised. Two exceptions, both exact: vectors (norm weights, e_score_correction_bias) are widened to float32 at
// load, and matrices of F16, which no kernel reads, to BF16 where every value is one and to F32 elsewhere.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/config.h"
#include "checkpoint/safetensors.h"
#include "core/scaled.h"

namespace mxmla {

class ThreadPool;

struct MlpWeights {
  LinearWeight gate_proj;  // (intermediate, hidden)
  LinearWeight up_proj;    // (intermediate, hidden)
  LinearWeight down_proj;  // (hidden, intermediate)
};

// The routed experts, one of each an expert, each in the format the file holds it in.
struct ExpertWeights {
  std::vector<LinearWeight> gate_proj;  // (moe_intermediate, hidden)
  std::vector<LinearWeight> up_proj;    // (moe_intermediate, hidden)
  std::vector<LinearWeight> down_proj;  // (hidden, moe_intermediate)
};

// Of a layer's indexer (ops/indexer.h).
struct IndexerWeights {
  LinearWeight wq_b;                 // (index heads * index_head_dim, q_lora_rank)
  LinearWeight wk;                   // (index_head_dim, hidden)
  View<const float, 1> k_norm;       // (index_head_dim)
  View<const float, 1> k_norm_bias;  // (index_head_dim)
  LinearWeight weights_proj;         // (index heads, hidden), float32 or bf16
};

struct LayerWeights {
  View<const float, 1> input_layernorm;           // (hidden)
  View<const float, 1> post_attention_layernorm;  // (hidden)

  // Without q_lora_rank: q_proj. With: q_a_proj, q_a_layernorm and q_b_proj. The others are empty.
  LinearWeight q_proj;                  // (heads * qk_head_dim, hidden)
  LinearWeight q_a_proj;                // (q_lora_rank, hidden)
  View<const float, 1> q_a_layernorm;   // (q_lora_rank)
  LinearWeight q_b_proj;                // (heads * qk_head_dim, q_lora_rank)
  LinearWeight kv_a_proj_with_mqa;      // (kv_lora_rank + qk_rope_head_dim, hidden)
  View<const float, 1> kv_a_layernorm;  // (kv_lora_rank)
  LinearWeight kv_b_proj;               // (heads * (qk_nope_head_dim + v_head_dim), kv_lora_rank)
  HeadWeight w_kc;                      // kv_b_proj's rows of keys: heads of (qk_nope_head_dim, kv_lora_rank)
  HeadWeight w_vc;                      // kv_b_proj's rows of values: heads of (v_head_dim, kv_lora_rank)
  LinearWeight o_proj;                  // (hidden, heads * v_head_dim)
  IndexerWeights indexer;               // empty where the layer has none

  bool is_moe = false;
  MlpWeights mlp;                                // a dense layer's; empty when is_moe
  LinearWeight router;                           // mlp.gate: (experts, hidden), float32 or bf16
  View<const float, 1> e_score_correction_bias;  // (experts), noaux_tc only and not always; else its data is null
  ExpertWeights experts;
  MlpWeights shared_experts;  // intermediate = moe_intermediate * n_shared_experts; empty when there are none
  View<const float, 1> post_mlp_layernorm;  // (hidden), of a mixture with post_mlp_norm; else its data is null
};

struct ModelWeights {
  LinearWeight embed_tokens;  // (vocab, hidden), float32 or bf16
  std::vector<LayerWeights> layers;
  View<const float, 1> norm;  // (hidden)
  LinearWeight lm_head;       // (vocab, hidden); embed_tokens itself when tied
  bool tied = false;

  // What the file holds the widened vectors in, by their first element.
  std::map<const float*, TensorDType> vector_dtypes;
  // The memory of matrices that the file holds in F16: each one's begin and end.
  std::map<const void*, const void*> widened;

  // What was skipped, and what the file says against the config: a line each, for the caller to print.
  std::vector<std::string> notes;

  // Keeps the mappings and the widened vectors alive; views outlive a move of ModelWeights.
  std::shared_ptr<const void> storage;
};

// Which values are read for NaN and infinity when weights are loaded: reading all takes minutes for a checkpoint that
// is larger than the memory. A NaN that was not looked at ends in NaN logits, which generation refuses; one in a router
// or its bias might not, since it can lose every comparison.
enum class ValueCheck {
  kSmall,  // vectors and routers
  kAll,
};

// Every tensor is checked against the config: an Error (kTensor) names the one that is missing, unexpected, of a wrong
// shape or dtype; kNanScale the one with a value, of those that `check` names, that is NaN, infinite or, for a scale,
// negative. Skipped with a note: MTP layers (the tensors of a layer beyond num_hidden_layers that holds eh_proj, enorm
// or hnorm), the vision tower and its projector, the post_mlp_layernorm of dense layers, rotary_emb.inv_freq, and the
// scales of activations and caches that Quark writes (input_scale, ...).
ModelWeights LoadWeights(const Checkpoint& checkpoint, const ModelConfig& config,
                         ValueCheck check = ValueCheck::kSmall);

// Random weights in the config's precision (quantization_config, its exclude list honoured), for benchmarks: magnitudes
// are such that activations stay finite. Fills memory that asks for huge pages. An Error (kMemory) when it does not
// fit.
ModelWeights DummyWeights(const ModelConfig& config, uint64_t seed, ThreadPool& pool);

// One line of `mxmla inspect`.
struct TensorGroup {
  std::string name;  // "embedding", "attention", "indexer", "kv_b_proj", "dense mlp", "experts", "shared experts",
                     // "router", "norms", "head"
  int64_t tensors = 0;
  int64_t parameters = 0;  // elements of the matrices and vectors, scales not counted
  int64_t bytes = 0;       // values and scales, as stored
  int64_t decode_bytes =
      0;  // what one decoded token reads: top-k experts, one embedding row, vectors widened to float32
  int64_t decode_parameters = 0;     // elements that one decoded token uses
  std::vector<std::string> formats;  // the distinct formats as stored, most bytes first
  std::vector<std::string> used;     // the formats that each of those is computed with
  bool converted = false;            // whether matrices are used in another format than they are stored in
};

struct WeightSummary {
  std::vector<TensorGroup> groups;  // those with tensors, in the order above
  int64_t parameters = 0;           // a tied head counts once
  int64_t bytes = 0;
  int64_t decode_parameters = 0;  // "active" parameters of a token
  int64_t decode_bytes = 0;       // weights one decoded token reads (batch 1, without the KV cache)
};
WeightSummary SummarizeWeights(const ModelWeights& weights, const ModelConfig& config);

}  // namespace mxmla
