#include "checkpoint/quantize.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <limits>

#include "checkpoint/weights.h"
#include "core/thread_pool.h"
#include "temp_folder.h"
#include "tiny_model.h"

namespace mxmla {
namespace {

namespace fs = std::filesystem;

std::string Fixture(const std::string& name) { return std::string(MXMLA_FIXTURES) + "/" + name; }

QuantizeResult Quantize(const std::string& source, const std::string& destination, QuantizeOptions options = {}) {
  ThreadPool pool(2);
  options.pool = &pool;
  return QuantizeCheckpoint(source, destination, options);
}

// Entries of the folder, partial ones too.
int Entries(const std::string& folder) {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder)) ++count;
  return count;
}

void ExpectSameBytes(const Tensor& found, const Tensor& expected) {
  SCOPED_TRACE(found.name);
  EXPECT_EQ(found.Describe(), expected.Describe());
  ASSERT_EQ(found.bytes, expected.bytes);
  EXPECT_EQ(std::memcmp(found.data, expected.data, found.bytes), 0);
}

// Against ml_dtypes' arithmetic (tools/golden/checkpoint_fixtures.py), bit for bit.
TEST(Quantize, MatchesTheGoldens) {
  struct Case {
    const char* source;
    ScaleMode mode;
    const char* golden;
  };
  for (const Case& c : {Case{"bf16", ScaleMode::kEven, "bf16_even"}, Case{"bf16", ScaleMode::kFloor, "bf16_floor"},
                        Case{"bf16", ScaleMode::kCeil, "bf16_ceil"}, Case{"fp8", ScaleMode::kEven, "fp8_even"}}) {
    SCOPED_TRACE(c.golden);
    TempFolder folder;
    QuantizeOptions options;
    options.scale_mode = c.mode;
    const QuantizeResult result = Quantize(Fixture(c.source), folder / "out", options);
    EXPECT_EQ(result.quantized, 10);
    EXPECT_EQ(result.kept, 0);
    EXPECT_EQ(result.shards, 1);
    const Checkpoint found = Checkpoint::Open(folder / "out");
    const auto golden = SafetensorsFile::Open(Fixture(std::string(c.golden) + ".safetensors"));
    ASSERT_GE(golden->tensors().size(), 4u);
    for (const Tensor& tensor : golden->tensors()) {
      ASSERT_NE(found.Find(tensor.name), nullptr) << tensor.name;
      ExpectSameBytes(*found.Find(tensor.name), tensor);
    }
    // What is no projection is untouched.
    const Checkpoint source = Checkpoint::Open(Fixture(c.source));
    for (const char* name : {"model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.gate.weight",
                             "model.norm.weight", "model.layers.0.mlp.gate.e_score_correction_bias"}) {
      ExpectSameBytes(*found.Find(name), *source.Find(name));
    }
    // The folder loads, without a note, as what it says it is.
    const ModelConfig config = LoadConfig(folder / "out");
    EXPECT_EQ(config.quantization.method, QuantMethod::kQuark);
    EXPECT_EQ(config.quantization.scale_mode, c.mode);
    const ModelWeights weights = LoadWeights(found, config);
    EXPECT_TRUE(weights.notes.empty());
    EXPECT_EQ(FormatName(weights.layers[0].kv_b_proj), "mxfp4");
    EXPECT_EQ(Entries(folder.path()), 1);
  }
}

TEST(Quantize, CopiesTheSmallFilesAndKeepsTheConfig) {
  TempFolder folder;
  Quantize(Fixture("bf16"), folder / "out/");
  EXPECT_EQ(ReadWhole(folder / "out/tokenizer_config.json"), "{}\n");
  const nlohmann::json before = nlohmann::json::parse(ReadWhole(Fixture("bf16/config.json")));
  nlohmann::json after = nlohmann::json::parse(ReadWhole(folder / "out/config.json"));
  const nlohmann::json quantization = after["quantization_config"];
  after.erase("quantization_config");
  EXPECT_EQ(after, before);
  EXPECT_EQ(quantization["quant_method"], "quark");
  const nlohmann::json& weight = quantization["global_quant_config"]["weight"];
  EXPECT_EQ(weight["dtype"], "fp4");
  EXPECT_EQ(weight["group_size"], 32);
  EXPECT_EQ(weight["scale_format"], "e8m0");
  EXPECT_EQ(weight["scale_calculation_mode"], "even");
  EXPECT_EQ(quantization["export"]["weight_format"], "real_quantized");
  EXPECT_EQ(quantization["exclude"], nlohmann::json({"lm_head", "re:.*embed_tokens$", "re:.*mlp\\.gate$"}));
}

TEST(Quantize, ExcludedFp8BecomesBf16) {
  TempFolder folder;
  QuantizeOptions options;
  options.exclude = {"*.experts.1.*", "model.layers.0.self_attn.o_proj"};
  const QuantizeResult result = Quantize(Fixture("fp8"), folder / "out", options);
  EXPECT_EQ(result.quantized, 6);
  EXPECT_EQ(result.kept, 4);
  const Checkpoint found = Checkpoint::Open(folder / "out");
  const auto golden = SafetensorsFile::Open(Fixture("fp8_dequantized.safetensors"));
  ExpectSameBytes(*found.Find(golden->tensors()[0].name), golden->tensors()[0]);
  EXPECT_EQ(found.Find("model.layers.0.self_attn.o_proj.weight")->dtype, TensorDType::kBf16);
  EXPECT_EQ(found.Find("model.layers.0.self_attn.o_proj.weight_scale_inv"), nullptr);
  EXPECT_EQ(result.exclude.at(3), "re:.*\\.experts\\.1\\..*$");
  EXPECT_EQ(result.exclude.at(4), "model.layers.0.self_attn.o_proj");
  // Precision is decided tensor by tensor: the experts of one layer may differ.
  const ModelWeights weights = LoadWeights(found, LoadConfig(folder / "out"));
  const std::vector<LinearWeight>& experts = weights.layers.back().experts.gate_proj;
  EXPECT_EQ(FormatName(experts.at(0)), "mxfp4");
  EXPECT_EQ(FormatName(experts.at(1)), "bf16");
}

TEST(Quantize, RaggedRowsAndMtpLayersStay) {
  nlohmann::json config = TinyConfig();
  config["intermediate_size"] = 40;  // rows of down_proj that are no multiple of 32
  Declare(&config, Precision::kFp8);
  TensorMap tensors = TinyTensors(config, Precision::kFp8);
  AddMatrix(&tensors, "model.layers.3.eh_proj", 64, 128, Precision::kFp8);
  AddMatrix(&tensors, "model.layers.3.self_attn.o_proj", 64, 64, Precision::kBf16);
  TempFolder folder;
  fs::create_directory(folder / "in");
  WriteModel(folder, config, tensors);
  fs::rename(folder / "config.json", folder / "in/config.json");
  fs::rename(folder / "model.safetensors", folder / "in/model.safetensors");
  const QuantizeResult result = Quantize(folder / "in", folder / "out");
  const Checkpoint found = Checkpoint::Open(folder / "out");
  EXPECT_EQ(found.Find("model.layers.0.mlp.down_proj.weight")->Describe(), "BF16 (64, 40)");
  EXPECT_EQ(found.Find("model.layers.0.mlp.up_proj.weight")->Describe(), "U8 (40, 32)");
  EXPECT_EQ(found.Find("model.layers.3.eh_proj.weight")->Describe(), "BF16 (64, 128)");
  EXPECT_EQ(found.Find("model.layers.3.self_attn.o_proj.weight")->Describe(), "BF16 (64, 64)");
  const ModelConfig after = LoadConfig(folder / "out");
  EXPECT_TRUE(after.quantization.exclude.Matches("model.layers.0.mlp.down_proj"));
  EXPECT_TRUE(after.quantization.exclude.Matches("model.layers.3.eh_proj"));
  EXPECT_FALSE(after.quantization.exclude.Matches("model.layers.0.mlp.up_proj"));
  EXPECT_EQ(result.kept, 1);
  EXPECT_EQ(LoadWeights(found, after).notes.size(), 1u);  // the MTP layer
}

TEST(Quantize, FusedExpertsAndMultimodalNames) {
  nlohmann::json text = TinyConfig();
  Declare(&text, Precision::kFp8);
  const nlohmann::json config = {
      {"architectures", {"KimiK25ForConditionalGeneration"}}, {"model_type", "kimi_k25"}, {"text_config", text}};
  const TensorMap plain = TinyTensors(text, Precision::kBf16);
  TensorMap tensors;
  std::map<std::string, std::string> gate_up, down;
  for (const auto& [name, tensor] : plain) {
    const size_t at = name.find(".experts.");
    if (at == std::string::npos) {
      tensors["language_model." + name] = tensor;
      tensors["language_model." + name].name = "language_model." + name;
      continue;
    }
    // Sorted by name: down_proj, gate_proj, up_proj of expert 0, then of expert 1, ...
    const std::string prefix = "language_model." + name.substr(0, at + 9);
    (name.find("down_proj") != std::string::npos ? down : gate_up)[prefix] += tensor.bytes;
  }
  for (const auto& [prefix, bytes] : gate_up)
    tensors[prefix + "gate_up_proj"] = {prefix + "gate_up_proj", "BF16", {4, 64, 64}, bytes};
  for (const auto& [prefix, bytes] : down)
    tensors[prefix + "down_proj"] = {prefix + "down_proj", "BF16", {4, 64, 32}, bytes};
  TempFolder fused, separate;
  fused.Write("notes.txt", "x");
  WriteModel(fused, config, tensors);
  WriteModel(separate, text, plain);
  TempFolder out;
  Quantize(fused.path(), out / "fused");
  Quantize(separate.path(), out / "separate");
  const Checkpoint a = Checkpoint::Open(out / "fused");
  const Checkpoint b = Checkpoint::Open(out / "separate");
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (const auto& [name, tensor] : b.tensors()) {
    const Tensor* found = a.Find("language_model." + name);
    ASSERT_NE(found, nullptr) << name;
    ExpectSameBytes(*found, *tensor);
  }
  const ModelConfig after = LoadConfig(out / "fused");
  EXPECT_EQ(after.quantization.method, QuantMethod::kQuark);
  EXPECT_TRUE(LoadWeights(a, after).notes.empty());
  EXPECT_FALSE(
      nlohmann::json::parse(ReadWhole(out / "fused/config.json"))["text_config"].contains("quantization_config"));
  EXPECT_EQ(ReadWhole(out / "fused/notes.txt"), "x");
}

TEST(Quantize, Shards) {
  TempFolder folder;
  QuantizeOptions options;
  options.shard_bytes = 5000;
  const QuantizeResult result = Quantize(Fixture("bf16"), folder / "out", options);
  EXPECT_GT(result.shards, 2);
  Quantize(Fixture("bf16"), folder / "whole");
  const Checkpoint sharded = Checkpoint::Open(folder / "out");
  const Checkpoint whole = Checkpoint::Open(folder / "whole");
  EXPECT_EQ(static_cast<int64_t>(sharded.files().size()), result.shards);
  ASSERT_EQ(sharded.tensors().size(), whole.tensors().size());
  for (const auto& [name, tensor] : whole.tensors()) ExpectSameBytes(*sharded.Find(name), *tensor);
  EXPECT_NO_THROW(LoadWeights(sharded, LoadConfig(folder / "out")));
  const nlohmann::json index = nlohmann::json::parse(ReadWhole(folder / "out/model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], result.output_bytes);
}

TEST(Quantize, ProgressEndsAtTheTotal) {
  TempFolder folder;
  QuantizeOptions options;
  int64_t last = 0, total = 0;
  options.progress = [&](const QuantizeProgress& progress) {
    EXPECT_GE(progress.done_bytes, last);
    EXPECT_FALSE(progress.tensor.empty());
    last = progress.done_bytes;
    total = progress.total_bytes;
  };
  const QuantizeResult result = Quantize(Fixture("fp8"), folder / "out", options);
  EXPECT_EQ(total, result.source_bytes);
  EXPECT_EQ(last, total);
}

TEST(Quantize, RefusedDestinations) {
  TempFolder folder;
  folder.Write("file", "x");
  fs::create_directory(folder / "taken");
  for (const char* name : {"file", "taken", "taken/"}) {
    ExpectError(ErrorCode::kOutput, {folder.path(), "one that exists"},
                [&] { Quantize(Fixture("bf16"), folder / name); });
  }
  ExpectError(ErrorCode::kOutput, {"no folder"}, [&] { Quantize(Fixture("bf16"), folder / "none/out"); });
  ExpectError(ErrorCode::kOutput, {"an empty name"}, [&] { Quantize(Fixture("bf16"), ""); });
  EXPECT_EQ(ReadWhole(folder / "file"), "x");
  EXPECT_EQ(Entries(folder.path()), 2);
  EXPECT_EQ(Entries(folder / "taken"), 0);
  if (geteuid() != 0) {  // root may write everywhere
    chmod((folder / "taken").c_str(), 0500);
    ExpectError(ErrorCode::kOutput, {"denied"}, [&] { Quantize(Fixture("bf16"), folder / "taken/out"); });
  }
}

TEST(Quantize, NothingIsLeftBehind) {
  TempFolder folder;
  std::atomic<bool> cancel = false;
  QuantizeOptions options;
  options.cancel = &cancel;
  options.progress = [&](const QuantizeProgress& progress) {
    EXPECT_EQ(Entries(folder.path()), 1);  // the partial folder
    if (progress.done_bytes > progress.total_bytes / 2) cancel = true;
  };
  ExpectError(ErrorCode::kOutput, {"an interruption"}, [&] { Quantize(Fixture("bf16"), folder / "out", options); });
  EXPECT_EQ(Entries(folder.path()), 0);
  options.cancel = nullptr;
  options.progress = [](const QuantizeProgress&) { throw std::runtime_error("from the caller"); };
  EXPECT_THROW(Quantize(Fixture("bf16"), folder / "out", options), std::runtime_error);
  EXPECT_EQ(Entries(folder.path()), 0);
}

TEST(Quantize, RefusedSources) {
  TempFolder folder;
  Quantize(Fixture("bf16"), folder / "out");
  ExpectError(ErrorCode::kQuantization, {"MXFP4", "--requantize"}, [&] { Quantize(folder / "out", folder / "again"); });
  ExpectError(ErrorCode::kNoModel, {"none"}, [&] { Quantize(folder / "none", folder / "again"); });
  QuantizeOptions options;
  options.exclude = {"*o_proj", "*.o_porj"};
  ExpectError(ErrorCode::kUsage, {"--exclude *.o_porj", "none that does"},
              [&] { Quantize(Fixture("bf16"), folder / "again", options); });
  options.exclude = {"re:("};
  ExpectError(ErrorCode::kUsage, {"--exclude", "re:("}, [&] { Quantize(Fixture("bf16"), folder / "again", options); });
  EXPECT_EQ(Entries(folder.path()), 1);

  TensorMap tensors = TinyTensors(TinyConfig(), Precision::kBf16);
  std::string& bytes = tensors["model.layers.1.self_attn.o_proj.weight"].bytes;
  bytes.replace(2 * (5 * 64 + 40), 2, "\xc0\x7f");  // NaN at (5, 40)
  TempFolder source;
  WriteModel(source, TinyConfig(), tensors);
  ExpectError(ErrorCode::kTensor, {"model.layers.1.self_attn.o_proj.weight", "row 5, columns 32 to 63"},
              [&] { Quantize(source.path(), folder / "again"); });
  tensors.erase("model.norm.weight");
  WriteModel(source, TinyConfig(), tensors);
  ExpectError(ErrorCode::kTensor, {"model.norm.weight"}, [&] { Quantize(source.path(), folder / "again"); });
  EXPECT_EQ(Entries(folder.path()), 1);
}

}  // namespace
}  // namespace mxmla
