// The names and shapes of a model's weights: walked for a checkpoint and, the same way, for dummy weights.
#pragma once

#include <optional>
#include <string>

#include "checkpoint/weights.h"

namespace mxmla {

struct SplitHeads {
  LinearWeight keys;    // (heads * kv_lora_rank, qk_nope_head_dim)
  LinearWeight values;  // (heads * v_head_dim, kv_lora_rank)
};

// Where the tree's leaves come from.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // The matrix `module`.weight (n, k), in any precision or, when `plain`, in float32 or bf16.
  virtual LinearWeight Matrix(const std::string& module, int64_t n, int64_t k, bool plain) = 0;
  virtual View<const float, 1> Vector(const std::string& name, int64_t n) = 0;
  // The same, or a view of null where there is none.
  virtual View<const float, 1> OptionalVector(const std::string& name, int64_t n) = 0;
  // A vector that checkpoints hold and the model does not use.
  virtual void UnusedVector(const std::string& name) = 0;
  // Whether lm_head has a matrix of its own.
  virtual bool HasHead() = 0;
  // The heads of kv_b_proj as two tensors, keys and values (GGUF's attn_k_b and attn_v_b), if they are.
  virtual std::optional<SplitHeads> Split(const std::string& attention) = 0;
  // Experts stored as one tensor a projection (transformers 5's way), if they are.
  virtual std::optional<ExpertWeights> FusedExperts(const std::string& mlp) = 0;
};

// The tree of `config`'s weights; notes and storage are left to the caller.
ModelWeights BuildWeights(const ModelConfig& config, WeightSource& source);

}  // namespace mxmla
