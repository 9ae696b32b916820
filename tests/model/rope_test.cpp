#include <gtest/gtest.h>

#include <cmath>

#include "model/rope.h"

namespace mxmla {
namespace {

ModelConfig Config() {
  ModelConfig config;
  config.qk_rope_head_dim = 64;
  config.qk_nope_head_dim = 128;
  config.rope.theta = 10000;
  return config;
}

ModelConfig YarnConfig() {
  ModelConfig config = Config();
  config.rope.type = RopeType::kYarn;
  config.rope.factor = 40;
  config.rope.mscale = 1;
  config.rope.mscale_all_dim = 1;
  config.rope.original_max_position_embeddings = 4096;
  return config;
}

TEST(Rope, PlainFrequenciesAreInversePowersOfTheta) {
  const RopeFrequencies angles(Config());
  ASSERT_EQ(angles.inverse_frequencies().size(), 32u);
  for (int i = 0; i < 32; ++i) {
    EXPECT_NEAR(angles.inverse_frequencies()[i], std::pow(10000.0, -2.0 * i / 64), 1e-7);
  }
  EXPECT_EQ(angles.factor(), 1.0f);
  EXPECT_FLOAT_EQ(SoftmaxScale(Config()), 1 / std::sqrt(192.0f));
}

// The ends of the ramp: fast pairs keep their frequency, slow ones are divided by the factor. With 4096 original tokens
// and theta 10000 the correction range of DeepSeek-V3 is dimensions 10 to 23.
TEST(Rope, YarnKeepsFastPairsAndStretchesSlowOnes) {
  const std::vector<float> plain = RopeFrequencies(Config()).inverse_frequencies();
  const std::vector<float> yarn = RopeFrequencies(YarnConfig()).inverse_frequencies();
  for (int i = 0; i <= 10; ++i) EXPECT_FLOAT_EQ(yarn[i], plain[i]) << i;
  for (int i = 23; i < 32; ++i) EXPECT_NEAR(yarn[i], plain[i] / 40, plain[i] * 1e-6) << i;
  for (int i = 11; i < 23; ++i) {
    EXPECT_LT(yarn[i], plain[i]) << i;
    EXPECT_GT(yarn[i], plain[i] / 40) << i;
  }
}

TEST(Rope, YarnScales) {
  ModelConfig config = YarnConfig();
  EXPECT_FLOAT_EQ(RopeFrequencies(config).factor(), 1.0f);
  const double m = 0.1 * std::log(40.0) + 1;
  EXPECT_NEAR(SoftmaxScale(config), m * m / std::sqrt(192.0), 1e-7);
  config.rope.mscale = 0.707;
  const double m707 = 0.1 * 0.707 * std::log(40.0) + 1;
  EXPECT_NEAR(RopeFrequencies(config).factor(), m707 / m, 1e-6);
  config.rope.mscale_all_dim = 0;
  EXPECT_NEAR(RopeFrequencies(config).factor(), m, 1e-6);
  EXPECT_FLOAT_EQ(SoftmaxScale(config), 1 / std::sqrt(192.0f));
  config.rope.attention_factor = 1.5;
  EXPECT_FLOAT_EQ(RopeFrequencies(config).factor(), 1.5f);
}

TEST(Rope, LongRopeDividesEachFrequency) {
  ModelConfig config = Config();
  const std::vector<float> plain = RopeFrequencies(config).inverse_frequencies();
  config.rope.type = RopeType::kLongRope;
  for (int i = 0; i < 32; ++i) config.rope.divisors.push_back(1 + 0.5 * i);
  EXPECT_EQ(RopeFrequencies(config).factor(), 1.0f);
  config.rope.attention_factor = 1.25;
  const RopeFrequencies angles(config);
  for (int i = 0; i < 32; ++i) {
    EXPECT_FLOAT_EQ(angles.inverse_frequencies()[i], plain[i] / (1 + 0.5f * static_cast<float>(i))) << i;
  }
  EXPECT_EQ(angles.factor(), 1.25f);
  EXPECT_FLOAT_EQ(SoftmaxScale(config), 1 / std::sqrt(192.0f));
}

}  // namespace
}  // namespace mxmla
