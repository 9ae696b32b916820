#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mxmla {
namespace {

double MScale(double factor, double mscale) { return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

// The dimension (of d) whose pair turns `rotations` times over `length` tokens.
double CorrectionDim(double rotations, double d, double theta, double length) {
  return d * std::log(length / (rotations * 2 * std::numbers::pi)) / (2 * std::log(theta));
}

}  // namespace

RopeFrequencies::RopeFrequencies(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  const int64_t d = config.qk_rope_head_dim;
  for (int64_t i = 0; i < d / 2; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(d);
    inverse_frequencies_.push_back(1.0f / std::pow(static_cast<float>(rope.theta), exponent));
  }
  if (rope.type == RopeType::kLongRope) {
    for (int64_t i = 0; i < d / 2; ++i) inverse_frequencies_[i] /= static_cast<float>(rope.divisors[i]);
    factor_ = static_cast<float>(rope.attention_factor.value_or(1));
  }
  if (rope.type != RopeType::kYarn) return;

  double low = CorrectionDim(rope.beta_fast, d, rope.theta, rope.original_max_position_embeddings);
  double high = CorrectionDim(rope.beta_slow, d, rope.theta, rope.original_max_position_embeddings);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(d - 1));
  if (low == high) high += 0.001;  // the ramp's slope stays finite
  for (int64_t i = 0; i < d / 2; ++i) {
    const float ramp = std::clamp(static_cast<float>((static_cast<double>(i) - low) / (high - low)), 0.0f, 1.0f);
    const float extrapolated = inverse_frequencies_[i];
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(d);
    const float interpolated =
        1.0f / (static_cast<float>(rope.factor) * std::pow(static_cast<float>(rope.theta), exponent));
    inverse_frequencies_[i] = interpolated * ramp + extrapolated * (1.0f - ramp);
  }
  if (rope.attention_factor) {
    factor_ = static_cast<float>(*rope.attention_factor);
  } else if (rope.mscale != 0 && rope.mscale_all_dim != 0) {
    factor_ = static_cast<float>(MScale(rope.factor, rope.mscale) / MScale(rope.factor, rope.mscale_all_dim));
  } else {
    factor_ = static_cast<float>(MScale(rope.factor, 1));
  }
}

float SoftmaxScale(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  double scale = 1.0 / std::sqrt(static_cast<double>(config.qk_nope_head_dim + config.qk_rope_head_dim));
  if (rope.type == RopeType::kYarn && rope.mscale_all_dim != 0) {
    const double m = MScale(rope.factor, rope.mscale_all_dim);
    scale *= m * m;
  }
  return static_cast<float>(scale);
}

}  // namespace mxmla
