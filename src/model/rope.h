// Rotary frequencies and the softmax scale that goes with them, YaRN included.
#pragma once

#include <vector>

#include "checkpoint/config.h"

namespace mxmla {

// The inverse frequency of each pair of qk_rope_head_dim dimensions, and the factor of cos and sin. With YaRN (Peng et
// al. 2023, arXiv 2309.00071, section 3): frequencies are a blend of theta^(-2i/d) and the same divided by `factor`,
// along a ramp between the dimensions that turn beta_fast and beta_slow times over the original context; cos and sin
// are multiplied by m(mscale) / m(mscale_all_dim), m(s) = 0.1 s ln(factor) + 1 (m(1) alone when either is absent).
class RopeFrequencies {
 public:
  explicit RopeFrequencies(const ModelConfig& config);

  const std::vector<float>& inverse_frequencies() const { return inverse_frequencies_; }
  float factor() const { return factor_; }

 private:
  std::vector<float> inverse_frequencies_;  // (d/2)
  float factor_ = 1;
};

// (qk_nope_head_dim + qk_rope_head_dim)^-0.5, times m(mscale_all_dim)^2 with YaRN when mscale_all_dim is set.
float SoftmaxScale(const ModelConfig& config);

}  // namespace mxmla
