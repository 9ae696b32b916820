#include <algorithm>
#include <cmath>
#include <map>

#include "checkpoint/weights.h"

namespace mxmla {
namespace {

class GroupCounter {
 public:
  explicit GroupCounter(std::string name) { group_.name = std::move(name); }

  // A decoded token reads `used` of the `count` matrices or rows that `weight` stands for one of.
  void Add(const LinearWeight& weight, double read_share = 1) {
    const int64_t parameters = RowCount(weight) * ColumnCount(weight);
    const int64_t bytes = ByteCount(weight);
    Count(FormatName(weight), parameters, bytes, read_share);
  }
  // A vector that is stored as `dtype` and read as float32.
  void Add(const View<const float, 1>& vector, TensorDType dtype) {
    const int64_t stored = vector.size() * TensorDTypeBits(dtype) / 8;
    Count(dtype == TensorDType::kBf16 ? "bf16" : dtype == TensorDType::kF16 ? "f16" : "f32", vector.size(), stored, 1);
    decode_bytes_ += static_cast<double>(vector.size() * 4 - stored);
  }
  // A second reading of weights that another group counts.
  void AddReading(const LinearWeight& weight) {
    decode_parameters_ += static_cast<double>(RowCount(weight) * ColumnCount(weight));
    decode_bytes_ += static_cast<double>(ByteCount(weight));
    formats_[std::string(FormatName(weight))] += 0;
  }

  TensorGroup Finish() {
    group_.decode_bytes = std::llround(decode_bytes_);
    group_.decode_parameters = std::llround(decode_parameters_);
    std::vector<std::pair<int64_t, std::string>> order;
    for (const auto& [name, bytes] : formats_) order.emplace_back(-bytes, name);
    std::sort(order.begin(), order.end());
    for (const auto& [bytes, name] : order) group_.formats.push_back(name);
    return group_;
  }

 private:
  void Count(std::string_view format, int64_t parameters, int64_t bytes, double read_share) {
    ++group_.tensors;
    group_.parameters += parameters;
    group_.bytes += bytes;
    decode_parameters_ += static_cast<double>(parameters) * read_share;
    decode_bytes_ += static_cast<double>(bytes) * read_share;
    formats_[std::string(format)] += bytes;
  }

  TensorGroup group_;
  double decode_parameters_ = 0, decode_bytes_ = 0;
  std::map<std::string, int64_t> formats_;
};

}  // namespace

WeightSummary SummarizeWeights(const ModelWeights& weights, const ModelConfig& config) {
  GroupCounter embedding("embedding"), attention("attention"), kv_b("kv_b_proj"), dense("dense mlp"),
      experts("experts"), shared("shared experts"), router("router"), norms("norms"), head("head");
  const auto add_mlp = [](GroupCounter& group, const MlpWeights& mlp) {
    group.Add(mlp.gate_proj);
    group.Add(mlp.up_proj);
    group.Add(mlp.down_proj);
  };
  const auto stored = [&weights](const View<const float, 1>& vector) {
    const auto at = weights.vector_dtypes.find(vector.data);
    return at == weights.vector_dtypes.end() ? TensorDType::kF32 : at->second;
  };
  embedding.Add(weights.embed_tokens, 1.0 / static_cast<double>(config.vocab_size));
  for (const LayerWeights& layer : weights.layers) {
    norms.Add(layer.input_layernorm, stored(layer.input_layernorm));
    norms.Add(layer.post_attention_layernorm, stored(layer.post_attention_layernorm));
    if (config.q_lora_rank > 0) {
      attention.Add(layer.q_a_proj);
      norms.Add(layer.q_a_layernorm, stored(layer.q_a_layernorm));
      attention.Add(layer.q_b_proj);
    } else {
      attention.Add(layer.q_proj);
    }
    attention.Add(layer.kv_a_proj_with_mqa);
    norms.Add(layer.kv_a_layernorm, stored(layer.kv_a_layernorm));
    kv_b.Add(layer.kv_b_proj);
    attention.Add(layer.o_proj);
    if (!layer.is_moe) {
      add_mlp(dense, layer.mlp);
      continue;
    }
    router.Add(layer.router);
    if (layer.e_score_correction_bias.data)
      router.Add(layer.e_score_correction_bias, stored(layer.e_score_correction_bias));
    const double used = static_cast<double>(config.num_experts_per_tok) / static_cast<double>(config.n_routed_experts);
    for (const auto* projection : {&layer.experts.gate_proj, &layer.experts.up_proj, &layer.experts.down_proj}) {
      for (const LinearWeight& expert : *projection) experts.Add(expert, used);
    }
    if (config.n_shared_experts > 0) add_mlp(shared, layer.shared_experts);
  }
  norms.Add(weights.norm, stored(weights.norm));
  if (weights.tied) {
    head.AddReading(weights.lm_head);
  } else {
    head.Add(weights.lm_head);
  }

  WeightSummary summary;
  for (GroupCounter* counter : {&embedding, &attention, &kv_b, &dense, &experts, &shared, &router, &norms, &head}) {
    TensorGroup group = counter->Finish();
    if (group.tensors == 0 && group.decode_bytes == 0) continue;
    summary.parameters += group.parameters;
    summary.bytes += group.bytes;
    summary.decode_parameters += group.decode_parameters;
    summary.decode_bytes += group.decode_bytes;
    summary.groups.push_back(std::move(group));
  }
  return summary;
}

}  // namespace mxmla
