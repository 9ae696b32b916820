#include <cmath>

#include "checkpoint/tensor_reader.h"
#include "checkpoint/weights.h"
#include "core/thread_pool.h"
#include "temp_folder.h"
#include "tiny_model.h"

namespace mxmla {
namespace {

ModelConfig Config(Precision precision, const std::vector<std::string>& exclude = {}) {
  nlohmann::json json = TinyConfig();
  json["hidden_size"] = 256;
  json["q_lora_rank"] = 160;
  Declare(&json, precision);
  if (!exclude.empty()) json["quantization_config"]["exclude"] = exclude;
  return ParseConfig(json.dump(), {}, "config.json");
}

TEST(DummyWeights, FollowTheConfig) {
  ThreadPool pool(2);
  EXPECT_EQ(FormatName(DummyWeights(Config(Precision::kBf16), 1, pool).layers[1].o_proj), "bf16");
  const ModelWeights fp8 = DummyWeights(Config(Precision::kFp8), 1, pool);
  EXPECT_EQ(FormatName(fp8.layers[1].experts.up_proj[3]), "fp8-block128");
  EXPECT_EQ(FormatName(fp8.lm_head), "bf16");
  EXPECT_EQ(FormatName(fp8.layers[1].router), "bf16");
  EXPECT_EQ((std::get<Fp8Block>(fp8.layers[1].q_b_proj).scales.shape), (std::array<int64_t, 2>{1, 2}));
  const ModelWeights mxfp4 = DummyWeights(Config(Precision::kMxfp4, {"re:.*self_attn.*"}), 1, pool);
  EXPECT_EQ(FormatName(mxfp4.layers[1].o_proj), "bf16");
  EXPECT_EQ(FormatName(mxfp4.layers[1].shared_experts.down_proj), "mxfp4");
  EXPECT_EQ(mxfp4.layers[1].e_score_correction_bias.shape[0], 4);
}

// Every matrix keeps the magnitude of what it is multiplied with, and no element is NaN.
TEST(DummyWeights, RowsHaveUnitNorm) {
  ThreadPool pool(2);
  for (const Precision precision : {Precision::kBf16, Precision::kFp8, Precision::kMxfp4}) {
    const ModelWeights weights = DummyWeights(Config(precision), 7, pool);
    for (const LinearWeight* weight : {&weights.embed_tokens, &weights.layers[0].q_a_proj, &weights.layers[2].o_proj,
                                       &weights.layers[1].experts.down_proj[2], &weights.lm_head}) {
      double sum = 0;
      std::vector<float> row(static_cast<size_t>(ColumnCount(*weight)));
      for (int64_t r = 0; r < RowCount(*weight); ++r) {
        DequantizeRow(*weight, r, row.data());
        for (float value : row) sum += static_cast<double>(value) * value;
      }
      const double norm = std::sqrt(sum / static_cast<double>(RowCount(*weight)));
      EXPECT_GT(norm, 0.4) << FormatName(*weight);
      EXPECT_LT(norm, 2.5) << FormatName(*weight);
    }
    for (int i = 0; i < 256; ++i) EXPECT_NEAR(weights.norm(i), 1.0f, 0.06f);
  }
}

TEST(DummyWeights, DoNotDependOnTheThreads) {
  ThreadPool one(1), two(2);
  const ModelWeights a = DummyWeights(Config(Precision::kMxfp4), 3, one);
  const ModelWeights b = DummyWeights(Config(Precision::kMxfp4), 3, two);
  const ModelWeights c = DummyWeights(Config(Precision::kMxfp4), 4, two);
  std::vector<float> x(256), y(256), z(256);
  DequantizeRow(a.layers[1].experts.up_proj[1], 5, x.data());
  DequantizeRow(b.layers[1].experts.up_proj[1], 5, y.data());
  DequantizeRow(c.layers[1].experts.up_proj[1], 5, z.data());
  EXPECT_EQ(x, y);
  EXPECT_NE(x, z);
}

TEST(DummyWeights, RefusedWhenTheyDoNotFit) {
  ThreadPool pool(1);
  const ModelConfig huge = LoadConfigFile(MXMLA_CONFIGS "/kimi-k2-mxfp4.json");
  ExpectError(ErrorCode::kMemory, {"GB of memory", "--layers"}, [&] { DummyWeights(huge, 1, pool); });
}

}  // namespace
}  // namespace mxmla
