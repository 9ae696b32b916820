#include "model/placed_weights.h"

#include <fmt/format.h>

#include "model/rope.h"
#include "ops/quantize_block.h"

namespace mxmla {
namespace {

void QuantizeRow(const float* values /* (k) */, int64_t k, e2m1x2* codes /* (k/2) */, e8m0* scales /* (k/32) */) {
  for (int64_t block = 0; block < k / kMxBlock; ++block) {
    scales[block] = QuantizeMxfp4Block(values + block * kMxBlock, ScaleMode::kEven, codes + block * kMxBlock / 2);
  }
}

LinearWeight Mxfp4View(const std::vector<e2m1x2>& codes, const std::vector<e8m0>& scales, int64_t n, int64_t k) {
  return Mxfp4<const e2m1x2, 2>{View<const e2m1x2, 2>::Contiguous(codes.data(), {n, k / 2}),
                                View<const e8m0, 2>::Contiguous(scales.data(), {n, k / kMxBlock})};
}

void RoundToBf16(float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) values[i] = bf16::FromFloat(values[i]).ToFloat();
}

void AbsorbMxfp4(const ModelConfig& config, const LayerWeights& layer, ThreadPool& pool, AbsorbedLayer* result) {
  const int64_t heads = config.num_attention_heads;
  const int64_t nope = config.qk_nope_head_dim;
  const int64_t v = config.v_head_dim;
  const int64_t latent = config.kv_lora_rank;
  if (nope % kMxBlock != 0 || latent % kMxBlock != 0) {
    Fail(ErrorCode::kQuantization, "--absorb-dtype mxfp4", "qk_nope_head_dim and kv_lora_rank that are multiples of 32",
         fmt::format("{} and {}", nope, latent), "use --absorb-dtype checkpoint or bf16");
  }
  result->codes_kc.resize(heads * latent * nope / 2);
  result->scales_kc.resize(heads * latent * nope / kMxBlock);
  result->codes_vc.resize(heads * v * latent / 2);
  result->scales_vc.resize(heads * v * latent / kMxBlock);
  pool.ParallelFor(heads, [&](int64_t h, int) {
    std::vector<float> row(latent);
    std::vector<float> transposed(latent * nope);  // (kv_lora_rank, qk_nope_head_dim)
    const LinearWeight w_kc = layer.w_kc.Head(h);
    for (int64_t n = 0; n < nope; ++n) {
      DequantizeRow(w_kc, n, row.data());
      RoundToBf16(row.data(), latent);
      for (int64_t l = 0; l < latent; ++l) transposed[l * nope + n] = row[l];
    }
    for (int64_t l = 0; l < latent; ++l) {
      const int64_t at = h * latent + l;
      QuantizeRow(&transposed[l * nope], nope, &result->codes_kc[at * nope / 2],
                  &result->scales_kc[at * nope / kMxBlock]);
    }
    const LinearWeight w_vc = layer.w_vc.Head(h);
    for (int64_t r = 0; r < v; ++r) {
      const int64_t at = h * v + r;
      DequantizeRow(w_vc, r, row.data());
      RoundToBf16(row.data(), latent);
      QuantizeRow(row.data(), latent, &result->codes_vc[at * latent / 2], &result->scales_vc[at * latent / kMxBlock]);
    }
  });
  result->weights.w_kc = {Mxfp4View(result->codes_kc, result->scales_kc, heads * latent, nope), heads, latent, 0,
                          latent};
  result->weights.w_vc = {Mxfp4View(result->codes_vc, result->scales_vc, heads * v, latent), heads, v, 0, v};
  result->weights.w_kc_output_major = true;
}

AbsorbedLayer AbsorbLayer(const ModelConfig& config, const LayerWeights& layer, AbsorbDType dtype, ThreadPool& pool) {
  AbsorbedLayer result;
  result.weights.w_kc = layer.w_kc;
  result.weights.w_vc = layer.w_vc;
  result.weights.w_kc_output_major = layer.w_kc_output_major;
  if (dtype != AbsorbDType::kCheckpoint && layer.w_kc_output_major) {
    Fail(ErrorCode::kQuantization, "--absorb-dtype", "checkpoint for a GGUF model",
         dtype == AbsorbDType::kBf16 ? "bf16" : "mxfp4", "the file holds kv_b_proj's halves in tensors of their own");
  }
  if (dtype == AbsorbDType::kMxfp4) AbsorbMxfp4(config, layer, pool, &result);
  if (dtype == AbsorbDType::kBf16 && !std::holds_alternative<View<const bf16, 2>>(layer.kv_b_proj)) {
    const int64_t n = RowCount(layer.kv_b_proj);
    const int64_t k = ColumnCount(layer.kv_b_proj);
    result.values.resize(n * k);
    pool.ParallelFor(n, [&](int64_t r, int) {
      std::vector<float> row(k);
      DequantizeRow(layer.kv_b_proj, r, row.data());
      for (int64_t i = 0; i < k; ++i) result.values[r * k + i] = bf16::FromFloat(row[i]);
    });
    const LinearWeight tensor = View<const bf16, 2>::Contiguous(result.values.data(), {n, k});
    result.weights.w_kc.tensor = tensor;
    result.weights.w_vc.tensor = tensor;
  }
  return result;
}

// What is neither the checkpoint's nor a layer's.
struct Made {
  std::shared_ptr<const RopeFrequencies> rope;
  std::vector<float> norm;  // (hidden): the last norm's weights times logits_scale, or empty
};

}  // namespace

PlacedWeights PlaceWeights(const ModelConfig& config, const ModelWeights& weights, AbsorbDType dtype,
                           ThreadPool& pool) {
  PlacedWeights placed;
  placed.weights = weights;
  for (const LayerWeights& layer : weights.layers) placed.absorbed.push_back(AbsorbLayer(config, layer, dtype, pool));
  placed.joined.resize(weights.layers.size());
  placed.experts.resize(weights.layers.size());
  const auto rope = std::make_shared<const RopeFrequencies>(config);
  const std::vector<float>& frequencies = rope->inverse_frequencies();
  placed.inverse_frequencies =
      View<const float, 1>::Contiguous(frequencies.data(), {static_cast<int64_t>(frequencies.size())});
  placed.rope_factor = rope->factor();
  placed.softmax_scale = SoftmaxScale(config);
  const double stream = config.residual_scale;
  placed.embedding_scale = static_cast<float>(config.embedding_scale / stream);
  placed.norm_eps = static_cast<float>(config.rms_norm_eps / (stream * stream));
  const auto made = std::make_shared<Made>(Made{rope, {}});
  if (config.logits_scale != 1) {
    for (int64_t i = 0; i < weights.norm.size(); ++i) {
      made->norm.push_back(static_cast<float>(static_cast<double>(weights.norm(i)) * config.logits_scale));
    }
    placed.weights.norm = View<const float, 1>::Contiguous(made->norm.data(), {weights.norm.size()});
  }
  placed.storage = made;
  return placed;
}

void PlaceExperts(Backend& backend, PlacedWeights* placed) {
  for (size_t i = 0; i < placed->experts.size(); ++i) {
    const LayerWeights& layer = placed->weights.layers[i];
    if (!layer.is_moe) continue;
    const std::vector<LinearWeight>& joined = placed->joined[i].expert_gate_up;
    PlacedExperts& experts = placed->experts[i];
    experts.down_proj = backend.PlaceExperts(layer.experts.down_proj);
    if (!joined.empty()) {
      experts.gate_up = backend.PlaceExperts(joined);
    } else {
      experts.gate_proj = backend.PlaceExperts(layer.experts.gate_proj);
      experts.up_proj = backend.PlaceExperts(layer.experts.up_proj);
    }
  }
}

}  // namespace mxmla
