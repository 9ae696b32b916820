#include "checkpoint/weights.h"

#include <bit>
#include <cstring>

#include "checkpoint/tensor_names.h"
#include "temp_folder.h"
#include "tiny_model.h"

namespace mxmla {
namespace {

ModelWeights Load(const TempFolder& folder) {
  return LoadWeights(Checkpoint::Open(folder.path()), LoadConfig(folder.path()));
}

bool HasNote(const ModelWeights& weights, std::string_view part) {
  for (const std::string& note : weights.notes) {
    if (note.find(part) != std::string::npos) return true;
  }
  return false;
}

const std::byte* DataOf(const LinearWeight& weight) {
  return std::visit(
      [](const auto& w) {
        if constexpr (requires { w.data; }) {
          return reinterpret_cast<const std::byte*>(w.data);
        } else {
          return reinterpret_cast<const std::byte*>(w.values.data);
        }
      },
      weight);
}

class EveryPrecision : public testing::TestWithParam<std::tuple<Precision, bool>> {};  // and whether it is V2

TEST_P(EveryPrecision, ViewsLieInTheMappedFile) {
  const auto [precision, v2] = GetParam();
  nlohmann::json json = v2 ? TinyV2Config() : TinyConfig();
  Declare(&json, precision);
  TempFolder folder;
  const TensorMap tensors = TinyTensors(json, precision);
  WriteModel(folder, json, tensors);
  const Checkpoint checkpoint = Checkpoint::Open(folder.path());
  const ModelWeights weights = LoadWeights(checkpoint, LoadConfig(folder.path()));
  EXPECT_TRUE(weights.notes.empty());
  ASSERT_EQ(weights.layers.size(), 3u);

  const char* const formats[] = {"bf16", "f32", "fp8-block128", "mxfp4"};
  const auto expect = [&](const LinearWeight& weight, const std::string& name, int64_t n, int64_t k,
                          bool plain = false) {
    SCOPED_TRACE(name);
    EXPECT_EQ(RowCount(weight), n);
    EXPECT_EQ(ColumnCount(weight), k);
    EXPECT_EQ(FormatName(weight), plain ? "bf16" : formats[static_cast<int>(precision)]);
    EXPECT_EQ(DataOf(weight), checkpoint.Find(name)->data);
  };
  expect(weights.embed_tokens, "model.embed_tokens.weight", 40, 64, true);
  expect(weights.lm_head, "lm_head.weight", 40, 64, true);
  const LayerWeights& dense = weights.layers[0];
  EXPECT_FALSE(dense.is_moe);
  expect(dense.mlp.down_proj, "model.layers.0.mlp.down_proj.weight", 64, 96);
  const std::string attention = "model.layers.1.self_attn.";
  const LayerWeights& layer = weights.layers[1];
  ASSERT_TRUE(layer.is_moe);
  if (v2) {
    expect(layer.q_proj, attention + "q_proj.weight", 80, 64);
    EXPECT_EQ(layer.e_score_correction_bias.data, nullptr);
  } else {
    expect(layer.q_a_proj, attention + "q_a_proj.weight", 32, 64);
    expect(layer.q_b_proj, attention + "q_b_proj.weight", 80, 32);
    EXPECT_EQ(layer.q_a_layernorm.shape[0], 32);
    EXPECT_EQ(layer.e_score_correction_bias.shape[0], 4);
  }
  expect(layer.kv_a_proj_with_mqa, attention + "kv_a_proj_with_mqa.weight", 40, 64);
  expect(layer.kv_b_proj, attention + "kv_b_proj.weight", 128, 32);
  expect(layer.o_proj, attention + "o_proj.weight", 64, 64);
  expect(layer.router, "model.layers.1.mlp.gate.weight", 4, 64, true);
  ASSERT_EQ(layer.experts.gate_proj.size(), 4u);
  expect(layer.experts.up_proj[3], "model.layers.1.mlp.experts.3.up_proj.weight", 32, 64);
  expect(layer.experts.down_proj[2], "model.layers.1.mlp.experts.2.down_proj.weight", 64, 32);
  expect(layer.shared_experts.gate_proj, "model.layers.1.mlp.shared_experts.gate_proj.weight", 32, 64);

  // Heads of kv_b_proj: 32 rows of keys, then 32 of values, each head.
  EXPECT_EQ(layer.w_kc.heads, 2);
  EXPECT_EQ(DataOf(layer.w_kc.Head(0)), DataOf(layer.kv_b_proj));
  EXPECT_EQ(DataOf(layer.w_vc.Head(1)), DataOf(Rows(layer.kv_b_proj, 96, 32)));
  EXPECT_EQ(RowCount(layer.w_vc.Head(1)), 32);
}

INSTANTIATE_TEST_SUITE_P(Weights, EveryPrecision,
                         testing::Combine(testing::Values(Precision::kBf16, Precision::kF32, Precision::kFp8,
                                                          Precision::kMxfp4),
                                          testing::Bool()),
                         [](const auto& test) {
                           return testing::PrintToString(std::get<0>(test.param)) +
                                  (std::get<1>(test.param) ? "_V2" : "_V3");
                         });

TEST(Weights, VectorsAreWidenedExactly) {
  nlohmann::json json = TinyConfig();
  TensorMap tensors = TinyTensors(json, Precision::kBf16);
  // 1, -2, the smallest and largest finite halves, a subnormal.
  const uint16_t halves[] = {0x3c00, 0xc000, 0x0001, 0x7bff, 0x8203};
  const float values[] = {1.0f, -2.0f, 0x1p-24f, 65504.0f, -515.0f * 0x1p-24f};
  std::string bytes;
  for (int i = 0; i < 64; ++i) {
    bytes += static_cast<char>(halves[i % 5]);
    bytes += static_cast<char>(halves[i % 5] >> 8);
  }
  tensors["model.norm.weight"] = {"model.norm.weight", "F16", {64}, bytes};
  TempFolder folder;
  WriteModel(folder, json, tensors);
  const ModelWeights weights = Load(folder);
  for (int i = 0; i < 64; ++i) EXPECT_EQ(weights.norm(i), values[i % 5]);
  const std::string& norm = tensors["model.layers.0.input_layernorm.weight"].bytes;
  for (int i = 0; i < 64; ++i) {
    const uint32_t bits = static_cast<uint32_t>(static_cast<uint8_t>(norm[static_cast<size_t>(2 * i)])) << 16 |
                          static_cast<uint32_t>(static_cast<uint8_t>(norm[static_cast<size_t>(2 * i + 1)])) << 24;
    EXPECT_EQ(std::bit_cast<uint32_t>(weights.layers[0].input_layernorm(i)), bits);
  }
}

// A matrix of F16 whose element i is halves[i % count].
TestTensor HalfMatrix(const std::string& module, std::vector<int64_t> shape, std::vector<uint16_t> halves) {
  int64_t count = 1;
  for (int64_t extent : shape) count *= extent;
  std::string bytes;
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t half = halves[static_cast<size_t>(i) % halves.size()];
    bytes += static_cast<char>(half);
    bytes += static_cast<char>(half >> 8);
  }
  return {module + ".weight", "F16", std::move(shape), bytes};
}

TEST(Weights, HalfMatricesStayAndRoutersAreWidenedExactly) {
  const nlohmann::json json = TinyConfig();
  TensorMap tensors = TinyTensors(json, Precision::kBf16);
  const auto put = [&](const std::string& module, std::vector<int64_t> shape, std::vector<uint16_t> halves) {
    tensors[module + ".weight"] = HalfMatrix(module, std::move(shape), std::move(halves));
  };
  const std::string layer = "model.layers.1.";
  // A router of bf16 values becomes BF16.
  put(layer + "self_attn.o_proj", {64, 64}, {0x3c08, 0xc000, 0x0003});
  put(layer + "mlp.experts.2.up_proj", {32, 64}, {0x3c01, 0x8000, 0x0001});
  put(layer + "mlp.gate", {4, 64}, {0x3c00});
  put("model.embed_tokens", {40, 64}, {0x7bff});
  TempFolder folder;
  WriteModel(folder, json, tensors);
  const ModelWeights weights = Load(folder);
  const LayerWeights& held = weights.layers[1];
  const auto& o_proj = std::get<View<const f16, 2>>(held.o_proj);
  const auto& up = std::get<View<const f16, 2>>(held.experts.up_proj[2]);
  for (int64_t i = 0; i < 64; ++i) {
    EXPECT_EQ(o_proj(0, i).ToFloat(), (std::array{1 + 0x1p-7f, -2.0f, 0x3p-24f}[static_cast<size_t>(i % 3)]));
    EXPECT_EQ(up(0, i).ToFloat(), (std::array{1 + 0x1p-10f, -0.0f, 0x1p-24f}[static_cast<size_t>(i % 3)]));
  }
  EXPECT_EQ(FormatName(held.router), "bf16");
  EXPECT_EQ(FormatName(weights.embed_tokens), "f16");
  EXPECT_TRUE(HasNote(weights, "1 matrices of F16 were widened"));

  const WeightSummary summary = SummarizeWeights(weights, LoadConfig(folder.path()));
  int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) bytes += static_cast<int64_t>(tensor.bytes.size());
  EXPECT_EQ(summary.bytes, bytes);
  using Names = std::vector<std::string>;
  for (const TensorGroup& group : summary.groups) {
    SCOPED_TRACE(group.name);
    EXPECT_EQ(group.converted, group.name == "router");
    if (group.name == "embedding") {
      EXPECT_EQ(group.formats, Names{"f16"});
      EXPECT_EQ(group.used, Names{"f16"});
      EXPECT_EQ(group.decode_bytes, 64 * 2);
    }
    if (group.name == "experts") {
      EXPECT_EQ(group.formats, (Names{"bf16", "f16"}));
      EXPECT_EQ(group.used, (Names{"bf16", "f16"}));
    }
    if (group.name == "norms") {
      EXPECT_EQ(group.formats, Names{"bf16"});
      EXPECT_EQ(group.used, Names{"f32"});
    }
  }
}

TEST(Weights, FusedExpertsOfHalves) {
  const nlohmann::json json = TinyConfig();
  TensorMap tensors = TinyTensors(json, Precision::kBf16);
  std::erase_if(tensors, [](const auto& entry) { return entry.first.find(".experts.") != std::string::npos; });
  for (const char* mlp : {"model.layers.1.mlp", "model.layers.2.mlp"}) {
    for (const auto& [name, shape] :
         {std::pair{".experts.gate_up_proj", std::vector<int64_t>{4, 64, 64}}, {".experts.down_proj", {4, 64, 32}}}) {
      TestTensor tensor = HalfMatrix("", shape, {0x3c01, 0x4000, 0x3c00});
      tensor.name = std::string(mlp) + name;
      tensors[tensor.name] = tensor;
    }
  }
  TempFolder folder;
  WriteModel(folder, json, tensors);
  const ModelWeights weights = Load(folder);
  const auto& up = std::get<View<const f16, 2>>(weights.layers[1].experts.up_proj[3]);
  const int64_t first = 3 * 64 * 64 + 32 * 64;
  for (int64_t i = 0; i < 64; ++i) {
    EXPECT_EQ(up(0, i).ToFloat(), (std::array{1 + 0x1p-10f, 2.0f, 1.0f}[static_cast<size_t>((first + i) % 3)]));
  }
  for (const TensorGroup& group : SummarizeWeights(weights, LoadConfig(folder.path())).groups) {
    EXPECT_FALSE(group.converted);
    if (group.name == "experts") {
      EXPECT_EQ(group.used, std::vector<std::string>{"f16"});
    }
  }
}

TEST(Weights, SurviveTheirCheckpointAndAMove) {
  TempFolder folder;
  WriteModel(folder, TinyConfig(), TinyTensors(TinyConfig(), Precision::kBf16));
  ModelWeights first = Load(folder);
  const float before = first.norm(3);
  const ModelWeights second = std::move(first);
  EXPECT_EQ(second.norm(3), before);
  float sum = 0;
  const auto& head = std::get<View<const bf16, 2>>(second.lm_head);
  for (int i = 0; i < 40; ++i) sum += head(i, 63).ToFloat();
  EXPECT_NE(sum, 0.0f);
}

TEST(Weights, TiedHead) {
  nlohmann::json json = TinyConfig();
  TensorMap tensors = TinyTensors(json, Precision::kBf16);
  json["tie_word_embeddings"] = true;
  TempFolder folder;
  WriteModel(folder, json, tensors);
  EXPECT_FALSE(Load(folder).tied);  // the file holds a head of its own
  tensors.erase("lm_head.weight");
  WriteModel(folder, json, tensors);
  const ModelWeights weights = Load(folder);
  EXPECT_TRUE(weights.tied);
  EXPECT_EQ(DataOf(weights.lm_head), DataOf(weights.embed_tokens));
}

TEST(Weights, FusedExperts) {
  for (const Precision precision : {Precision::kBf16, Precision::kF32}) {
    const nlohmann::json json = TinyConfig();
    TensorMap tensors = TinyTensors(json, precision);
    const std::string dtype = precision == Precision::kF32 ? "F32" : "BF16";
    TensorMap fused = tensors;
    for (int layer = 1; layer < 3; ++layer) {
      const std::string prefix = "model.layers." + std::to_string(layer) + ".mlp.experts.";
      std::string gate_up, down;
      for (int e = 0; e < 4; ++e) {
        const std::string expert = prefix + std::to_string(e) + ".";
        gate_up += tensors[expert + "gate_proj.weight"].bytes + tensors[expert + "up_proj.weight"].bytes;
        down += tensors[expert + "down_proj.weight"].bytes;
        for (const char* projection : {"gate_proj", "up_proj", "down_proj"})
          fused.erase(expert + projection + ".weight");
      }
      fused[prefix + "gate_up_proj"] = {prefix + "gate_up_proj", dtype, {4, 64, 64}, gate_up};
      fused[prefix + "down_proj"] = {prefix + "down_proj", dtype, {4, 64, 32}, down};
    }
    TempFolder separate_folder, fused_folder;
    WriteModel(separate_folder, json, tensors);
    WriteModel(fused_folder, json, fused);
    const ModelWeights a = Load(separate_folder);
    const ModelWeights b = Load(fused_folder);
    for (int layer = 1; layer < 3; ++layer) {
      for (size_t e = 0; e < 4; ++e) {
        for (auto projection : {&ExpertWeights::gate_proj, &ExpertWeights::up_proj, &ExpertWeights::down_proj}) {
          const LinearWeight& x = (a.layers[static_cast<size_t>(layer)].experts.*projection)[e];
          const LinearWeight& y = (b.layers[static_cast<size_t>(layer)].experts.*projection)[e];
          ASSERT_EQ(x.index(), y.index());
          ASSERT_EQ(ByteCount(x), ByteCount(y));
          EXPECT_EQ(std::memcmp(DataOf(x), DataOf(y), static_cast<size_t>(ByteCount(x))), 0);
        }
      }
    }
    fused["model.layers.1.mlp.experts.down_proj"].shape = {4, 32, 64};
    WriteModel(fused_folder, json, fused);
    ExpectError(ErrorCode::kTensor, {"model.layers.1.mlp.experts.down_proj", "(4, 64, 32)", "(4, 32, 64)"},
                [&] { Load(fused_folder); });
  }
}

TEST(Weights, SkipsMultiTokenPrediction) {
  nlohmann::json json = TinyConfig();
  for (int declared : {0, 1}) {
    json["num_nextn_predict_layers"] = declared;
    TensorMap tensors = TinyTensors(json, Precision::kBf16);
    AddMatrix(&tensors, "model.layers.3.eh_proj", 64, 128, Precision::kBf16);
    AddMatrix(&tensors, "model.layers.3.embed_tokens", 40, 64, Precision::kBf16);
    AddVector(&tensors, "model.layers.3.enorm.weight", 64);
    AddMatrix(&tensors, "model.layers.3.self_attn.o_proj", 64, 64, Precision::kFp8);
    TempFolder folder;
    WriteModel(folder, json, tensors);
    const ModelWeights weights = Load(folder);
    EXPECT_EQ(weights.layers.size(), 3u);
    EXPECT_TRUE(HasNote(weights, "skipped 5 tensors of multi-token prediction (layer 3)"));
  }
}

TEST(Weights, SkipsRotaryTablesAndActivationScales) {
  TensorMap tensors = TinyTensors(TinyConfig(), Precision::kBf16);
  AddVector(&tensors, "model.layers.0.self_attn.rotary_emb.inv_freq", 4, "F32");
  AddVector(&tensors, "model.layers.0.self_attn.o_proj.input_scale", 1, "F32");
  AddVector(&tensors, "model.layers.0.self_attn.k_scale", 1, "F32");
  TempFolder folder;
  WriteModel(folder, TinyConfig(), tensors);
  const ModelWeights weights = Load(folder);
  EXPECT_TRUE(HasNote(weights, "1 rotary_emb.inv_freq"));
  EXPECT_TRUE(HasNote(weights, "skipped 2 scales of activations"));
}

TEST(Weights, NameRules) {
  const std::vector<NameRule> rules = {{"layers.*.experts.*.w1", "model.layers.*.mlp.experts.*.gate_proj"},
                                       {"layers.*.attention.wq_a", "model.layers.*.self_attn.q_a_proj"},
                                       {"norm", "model.norm"},
                                       {"text", ""}};
  EXPECT_EQ(CanonicalName("layers.10.experts.7.w1.weight", rules), "model.layers.10.mlp.experts.7.gate_proj.weight");
  EXPECT_EQ(CanonicalName("layers.3.attention.wq_a.qscale_weight", rules),
            "model.layers.3.self_attn.q_a_proj.qscale_weight");
  EXPECT_EQ(CanonicalName("norm.weight", rules), "model.norm.weight");
  EXPECT_EQ(CanonicalName("text.model.norm.weight", rules), "model.norm.weight");
  // Whole parts only, and numbers only where a number stands.
  for (const char* other : {"norm", "norm_2.weight", "layers.x.attention.wq_a.weight", "layers..attention.wq_a.weight",
                            "layers.3.attention.wq_ab.weight", "model.norm.weight", ""}) {
    EXPECT_EQ(CanonicalName(other, rules), other);
  }
}

TEST(Weights, MultimodalNames) {
  nlohmann::json text = TinyConfig();
  text["model_type"] = "kimi_k2";
  const nlohmann::json json = {
      {"architectures", {"KimiK25ForConditionalGeneration"}}, {"model_type", "kimi_k25"}, {"text_config", text}};
  const TensorMap plain = TinyTensors(text, Precision::kMxfp4);
  const auto renamed = [&](auto rename) {
    TensorMap tensors;
    for (const auto& [name, tensor] : plain) {
      tensors[rename(name)] = tensor;
      tensors[rename(name)].name = rename(name);
    }
    AddMatrix(&tensors, "vision_tower.encoder.blocks.0.wqkv", 8, 8, Precision::kBf16);
    AddMatrix(&tensors, "mm_projector.proj.0", 8, 8, Precision::kBf16);
    return tensors;
  };
  for (const TensorMap& tensors :
       {renamed([](const std::string& name) { return "language_model." + name; }), renamed([](const std::string& name) {
          const bool layer = name.substr(0, 13) == "model.layers.";
          return "language_model." + (layer ? "model.blocks." + name.substr(13) : name);
        }),
        renamed([](const std::string& name) { return name; }), renamed([](const std::string& name) {
          return name.substr(0, 6) == "model." ? "model.language_model." + name.substr(6) : name;
        })}) {
    TempFolder folder;
    WriteModel(folder, json, tensors);
    const ModelWeights weights = Load(folder);
    EXPECT_EQ(FormatName(weights.layers[2].experts.up_proj[1]), "mxfp4");
    EXPECT_TRUE(HasNote(weights, "skipped 2 tensors of the vision tower"));
  }
  // A text config does not expect the prefix.
  TempFolder folder;
  WriteModel(folder, text, renamed([](const std::string& name) { return "language_model." + name; }));
  ExpectError(ErrorCode::kTensor, {"model.embed_tokens.weight", "no such tensor"}, [&] { Load(folder); });
}

TEST(Weights, PrecisionIsDecidedTensorByTensor) {
  nlohmann::json json = TinyConfig();
  Declare(&json, Precision::kMxfp4);
  json["quantization_config"]["exclude"] = {"re:.*self_attn.*", "lm_head"};
  TensorMap tensors = TinyTensors(json, Precision::kMxfp4);
  for (int layer = 0; layer < 3; ++layer) {
    const std::string module = "model.layers." + std::to_string(layer) + ".self_attn.kv_b_proj";
    tensors.erase(module + ".weight_scale");
    AddMatrix(&tensors, module, 128, 32, layer == 1 ? Precision::kFp8 : Precision::kBf16);
  }
  TempFolder folder;
  WriteModel(folder, json, tensors);
  const ModelWeights weights = Load(folder);
  EXPECT_EQ(FormatName(weights.layers[0].kv_b_proj), "bf16");
  EXPECT_EQ(FormatName(weights.layers[1].kv_b_proj), "fp8-block128");
  EXPECT_EQ(FormatName(weights.layers[0].o_proj), "mxfp4");
  EXPECT_TRUE(HasNote(weights, "12 matrices of mxfp4 are named in the exclude list"));
  EXPECT_TRUE(HasNote(weights, "1 matrices of fp8-block128 are named in the exclude list"));
}

TEST(Weights, F8E8m0ScalesAreScales) {
  nlohmann::json json = TinyConfig();
  Declare(&json, Precision::kMxfp4);
  TensorMap tensors = TinyTensors(json, Precision::kMxfp4);
  for (auto& [name, tensor] : tensors) {
    if (name.find("weight_scale") != std::string::npos) tensor.dtype = "F8_E8M0";
  }
  TempFolder folder;
  WriteModel(folder, json, tensors);
  EXPECT_EQ(FormatName(Load(folder).layers[0].o_proj), "mxfp4");
}

TEST(Weights, Summary) {
  nlohmann::json json = TinyConfig();
  Declare(&json, Precision::kMxfp4);
  TempFolder folder;
  const TensorMap tensors = TinyTensors(json, Precision::kMxfp4);
  WriteModel(folder, json, tensors);
  const ModelConfig config = LoadConfig(folder.path());
  const WeightSummary summary = SummarizeWeights(Load(folder), config);

  // The parameters, counted from the file's tensors.
  int64_t parameters = 0, projection_bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    int64_t count = 1;
    for (int64_t extent : tensor.shape) count *= extent;
    if (name.find("weight_scale") == std::string::npos) parameters += tensor.dtype == "U8" ? 2 * count : count;
    if (tensor.dtype == "U8") projection_bytes += count;
  }
  EXPECT_EQ(summary.parameters, parameters);
  std::map<std::string, TensorGroup> groups;
  int64_t bytes = 0, decode_bytes = 0;
  for (const TensorGroup& group : summary.groups) {
    groups[group.name] = group;
    bytes += group.bytes;
    decode_bytes += group.decode_bytes;
  }
  EXPECT_EQ(bytes, summary.bytes);
  EXPECT_EQ(decode_bytes, summary.decode_bytes);
  EXPECT_EQ(groups["attention"].bytes + groups["kv_b_proj"].bytes + groups["dense mlp"].bytes +
                groups["experts"].bytes + groups["shared experts"].bytes,
            projection_bytes);
  EXPECT_EQ(groups["experts"].tensors, 2 * 4 * 3);
  EXPECT_EQ(groups["experts"].decode_bytes, groups["experts"].bytes / 2);  // the top 2 of 4
  EXPECT_EQ(groups["embedding"].decode_bytes, 64 * 2);                     // one row
  EXPECT_EQ(groups["head"].decode_bytes, 40 * 64 * 2);
  EXPECT_EQ(groups["experts"].formats, std::vector<std::string>{"mxfp4"});
  EXPECT_EQ(groups["router"].formats, (std::vector<std::string>{"bf16", "f32"}));
  EXPECT_EQ(groups["norms"].tensors, 3 * 4 + 1);
}

}  // namespace
}  // namespace mxmla
