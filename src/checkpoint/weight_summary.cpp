#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "checkpoint/weights.h"

namespace mxmla {
namespace {

const void* DataOf(const LinearWeight& weight) {
  return std::visit(
      [](const auto& w) -> const void* {
        if constexpr (requires { w.data; })
          return w.data;
        else
          return w.values.data;
      },
      weight);
}

class GroupCounter {
 public:
  GroupCounter(std::string name, const ModelWeights& weights) : weights_(weights) { group_.name = std::move(name); }

  // A decoded token reads `used` of the `count` matrices or rows that `weight` stands for one of.
  void Add(const LinearWeight& weight, double read_share = 1) {
    const int64_t parameters = RowCount(weight) * ColumnCount(weight);
    const bool widened = IsWidened(weight);
    const int64_t stored = widened ? 2 * parameters : ByteCount(weight);
    group_.converted |= widened;
    Count(widened ? "f16" : FormatName(weight), FormatName(weight), parameters, stored, read_share);
    decode_bytes_ += static_cast<double>(ByteCount(weight) - stored) * read_share;
  }
  // A vector, read as float32.
  void Add(const View<const float, 1>& vector) {
    const auto at = weights_.vector_dtypes.find(vector.data);
    const TensorDType dtype = at == weights_.vector_dtypes.end() ? TensorDType::kF32 : at->second;
    const int64_t stored = vector.size() * TensorDTypeBits(dtype) / 8;
    const std::string_view format = dtype == TensorDType::kBf16 ? "bf16" : dtype == TensorDType::kF16 ? "f16" : "f32";
    Count(format, "f32", vector.size(), stored, 1);
    decode_bytes_ += static_cast<double>(vector.size() * 4 - stored);
  }
  // A second reading of weights that another group counts.
  void AddReading(const LinearWeight& weight) {
    const bool widened = IsWidened(weight);
    group_.converted |= widened;
    decode_parameters_ += static_cast<double>(RowCount(weight) * ColumnCount(weight));
    decode_bytes_ += static_cast<double>(ByteCount(weight));
    formats_[{std::string(widened ? "f16" : FormatName(weight)), std::string(FormatName(weight))}] += 0;
  }

  TensorGroup Finish() {
    group_.decode_bytes = std::llround(decode_bytes_);
    group_.decode_parameters = std::llround(decode_parameters_);
    std::vector<std::pair<int64_t, Formats>> order;
    for (const auto& [formats, bytes] : formats_) order.emplace_back(-bytes, formats);
    std::sort(order.begin(), order.end());
    const auto add = [](std::vector<std::string>* names, const std::string& name) {
      if (std::find(names->begin(), names->end(), name) == names->end()) names->push_back(name);
    };
    for (const auto& [bytes, formats] : order) {
      add(&group_.formats, formats.first);
      add(&group_.used, formats.second);
    }
    return group_;
  }

 private:
  using Formats = std::pair<std::string, std::string>;  // stored, used

  bool IsWidened(const LinearWeight& weight) const {
    const void* data = DataOf(weight);
    auto at = weights_.widened.upper_bound(data);
    return at != weights_.widened.begin() && std::less<>()(data, (--at)->second);
  }

  void Count(std::string_view stored, std::string_view used, int64_t parameters, int64_t bytes, double read_share) {
    ++group_.tensors;
    group_.parameters += parameters;
    group_.bytes += bytes;
    decode_parameters_ += static_cast<double>(parameters) * read_share;
    decode_bytes_ += static_cast<double>(bytes) * read_share;
    formats_[{std::string(stored), std::string(used)}] += bytes;
  }

  const ModelWeights& weights_;
  TensorGroup group_;
  double decode_parameters_ = 0, decode_bytes_ = 0;
  std::map<Formats, int64_t> formats_;
};

}  // namespace

WeightSummary SummarizeWeights(const ModelWeights& weights, const ModelConfig& config) {
  const auto named = [&weights](const char* name) { return GroupCounter(name, weights); };
  GroupCounter embedding = named("embedding"), attention = named("attention"), indexer = named("indexer"),
               kv_b = named("kv_b_proj"), dense = named("dense mlp"), experts = named("experts"),
               shared = named("shared experts"), router = named("router"), norms = named("norms"), head = named("head");
  const auto add_mlp = [](GroupCounter& group, const MlpWeights& mlp) {
    group.Add(mlp.gate_proj);
    group.Add(mlp.up_proj);
    group.Add(mlp.down_proj);
  };
  embedding.Add(weights.embed_tokens, 1.0 / static_cast<double>(config.vocab_size));
  for (const LayerWeights& layer : weights.layers) {
    norms.Add(layer.input_layernorm);
    norms.Add(layer.post_attention_layernorm);
    if (config.q_lora_rank > 0) {
      attention.Add(layer.q_a_proj);
      norms.Add(layer.q_a_layernorm);
      attention.Add(layer.q_b_proj);
    } else {
      attention.Add(layer.q_proj);
    }
    attention.Add(layer.kv_a_proj_with_mqa);
    norms.Add(layer.kv_a_layernorm);
    kv_b.Add(layer.kv_b_proj);
    attention.Add(layer.o_proj);
    if (RowCount(layer.indexer.wk) > 0) {
      indexer.Add(layer.indexer.wq_b);
      indexer.Add(layer.indexer.wk);
      indexer.Add(layer.indexer.weights_proj);
      norms.Add(layer.indexer.k_norm);
      norms.Add(layer.indexer.k_norm_bias);
    }
    if (!layer.is_moe) {
      add_mlp(dense, layer.mlp);
      continue;
    }
    if (layer.post_mlp_layernorm.data) norms.Add(layer.post_mlp_layernorm);
    router.Add(layer.router);
    if (layer.e_score_correction_bias.data) router.Add(layer.e_score_correction_bias);
    const double used = static_cast<double>(config.num_experts_per_tok) / static_cast<double>(config.n_routed_experts);
    for (const auto* projection : {&layer.experts.gate_proj, &layer.experts.up_proj, &layer.experts.down_proj}) {
      for (const LinearWeight& expert : *projection) experts.Add(expert, used);
    }
    if (config.n_shared_experts > 0) add_mlp(shared, layer.shared_experts);
  }
  norms.Add(weights.norm);
  if (weights.tied) {
    head.AddReading(weights.lm_head);
  } else {
    head.Add(weights.lm_head);
  }

  WeightSummary summary;
  for (GroupCounter* counter :
       {&embedding, &attention, &indexer, &kv_b, &dense, &experts, &shared, &router, &norms, &head}) {
    TensorGroup counted = counter->Finish();
    if (counted.tensors == 0 && counted.decode_bytes == 0) continue;
    summary.parameters += counted.parameters;
    summary.bytes += counted.bytes;
    summary.decode_parameters += counted.decode_parameters;
    summary.decode_bytes += counted.decode_bytes;
    summary.groups.push_back(std::move(counted));
  }
  return summary;
}

}  // namespace mxmla
