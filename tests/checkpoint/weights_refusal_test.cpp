#include "checkpoint/weights.h"
#include "temp_folder.h"
#include "tiny_model.h"

namespace mxmla {
namespace {

class WeightsRefusal : public testing::Test {
 protected:
  // A checkpoint of `precision`, ready to be spoiled.
  void Make(Precision precision) {
    config_ = TinyConfig();
    Declare(&config_, precision);
    tensors_ = TinyTensors(config_, precision);
  }
  ModelWeights Load(ValueCheck check) {
    WriteModel(folder_, config_, tensors_);
    return LoadWeights(Checkpoint::Open(folder_.path()), LoadConfig(folder_.path()), check);
  }
  void ExpectRefused(ErrorCode code, std::initializer_list<std::string_view> parts,
                     ValueCheck check = ValueCheck::kSmall) {
    ExpectError(code, parts, [&] { Load(check); });
  }
  TestTensor& At(const std::string& name) {
    const auto at = tensors_.find(name);
    if (at == tensors_.end()) throw std::runtime_error("no " + name);
    return at->second;
  }
  void SetFloat(const std::string& name, int64_t index, std::string_view little_endian) {
    At(name).bytes.replace(static_cast<size_t>(4 * index), 4, little_endian);
  }

  TempFolder folder_;
  nlohmann::json config_;
  TensorMap tensors_;
  const std::string o_proj_ = "model.layers.1.self_attn.o_proj";
};

TEST_F(WeightsRefusal, EveryMissingTensorIsNamed) {
  for (const Precision precision : {Precision::kBf16, Precision::kFp8, Precision::kMxfp4}) {
    Make(precision);
    const TensorMap whole = tensors_;
    for (const auto& [name, unused] : whole) {
      SCOPED_TRACE(name);
      tensors_ = whole;
      tensors_.erase(name);
      ExpectRefused(ErrorCode::kTensor, {"\"" + name + "\"", "no such tensor"});
    }
  }
}

TEST_F(WeightsRefusal, EveryWrongShapeIsNamed) {
  for (const Precision precision : {Precision::kBf16, Precision::kFp8, Precision::kMxfp4}) {
    Make(precision);
    const TensorMap whole = tensors_;
    for (const auto& [name, tensor] : whole) {
      SCOPED_TRACE(name);
      tensors_ = whole;
      // One more row of zeros.
      const size_t row = tensor.bytes.size() / static_cast<size_t>(tensor.shape[0]);
      tensors_[name].shape[0] += 1;
      tensors_[name].bytes += std::string(row, '\0');
      ExpectRefused(ErrorCode::kTensor, {"\"" + name + "\"", "expected", "found " + tensor.dtype + " ("});
    }
  }
}

TEST_F(WeightsRefusal, UnexpectedTensors) {
  Make(Precision::kBf16);
  AddVector(&tensors_, "model.layers.1.self_attn.o_proj.bias", 64);
  ExpectRefused(ErrorCode::kTensor, {"model.layers.1.self_attn.o_proj.bias", "no tensor of that name", "BF16 (64)"});
  Make(Precision::kBf16);
  AddMatrix(&tensors_, "model.layers.1.mlp.experts.4.up_proj", 32, 64, Precision::kBf16);
  ExpectRefused(ErrorCode::kTensor, {"experts.4.up_proj.weight"});
  Make(Precision::kBf16);
  config_["num_hidden_layers"] = 2;  // layer 2 is then one too many: it has no eh_proj
  config_["num_nextn_predict_layers"] = 1;
  ExpectRefused(ErrorCode::kTensor, {"model.layers.2.", "layers 0 to 1"});
  Make(Precision::kBf16);
  AddMatrix(&tensors_, "other", 2, 2, Precision::kBf16);
  ExpectRefused(ErrorCode::kTensor, {"\"other.weight\""});
}

TEST_F(WeightsRefusal, ConfigAndWeightsOfDifferentModels) {
  Make(Precision::kBf16);
  config_["vocab_size"] = 41;
  ExpectRefused(ErrorCode::kTensor, {"model.embed_tokens.weight", "(41, 64)", "BF16 (40, 64)"});
  Make(Precision::kBf16);
  config_["num_attention_heads"] = 3;
  ExpectRefused(ErrorCode::kTensor, {"model.layers.0.self_attn.q_b_proj.weight", "(120, 32)", "(80, 32)"});
  Make(Precision::kBf16);
  config_["num_hidden_layers"] = 4;
  ExpectRefused(ErrorCode::kTensor, {"model.layers.3.input_layernorm.weight", "no such tensor"});
}

TEST_F(WeightsRefusal, Dtypes) {
  Make(Precision::kBf16);
  At(o_proj_ + ".weight").dtype = "F16";
  At(o_proj_ + ".weight").shape = {32, 128};
  ExpectRefused(ErrorCode::kTensor, {o_proj_, "BF16, F32, F16, F8_E4M3 or U8 (64, 64)", "F16 (32, 128)"});
  Make(Precision::kBf16);
  AddMatrix(&tensors_, "model.embed_tokens", 40, 64, Precision::kMxfp4);
  ExpectRefused(ErrorCode::kTensor, {"model.embed_tokens.weight", "BF16 or F32 (40, 64)", "U8 (40, 32)"});
  Make(Precision::kBf16);
  AddMatrix(&tensors_, "model.layers.1.mlp.gate", 4, 64, Precision::kFp8);
  ExpectRefused(ErrorCode::kTensor, {"model.layers.1.mlp.gate.weight", "F8_E4M3 (4, 64)"});
  Make(Precision::kFp8);
  At(o_proj_ + ".weight_scale_inv").dtype = "U8";
  At(o_proj_ + ".weight_scale_inv").bytes = "x";
  ExpectRefused(ErrorCode::kTensor, {o_proj_ + ".weight_scale_inv", "F32 (1, 1)", "U8 (1, 1)"});
  Make(Precision::kMxfp4);
  At(o_proj_ + ".weight_scale").dtype = "F8_E4M3";
  ExpectRefused(ErrorCode::kTensor, {o_proj_ + ".weight_scale", "U8 (64, 2)", "F8_E4M3 (64, 2)"});
}

TEST_F(WeightsRefusal, ScalesWithoutTheirWeights) {
  Make(Precision::kMxfp4);
  AddMatrix(&tensors_, o_proj_, 64, 64, Precision::kBf16);  // leaves the MXFP4 scale behind
  ExpectRefused(ErrorCode::kTensor, {o_proj_ + ".weight_scale", "beside a weight of BF16"});
  Make(Precision::kFp8);
  AddMatrix(&tensors_, o_proj_, 64, 64, Precision::kMxfp4);
  ExpectRefused(ErrorCode::kTensor, {o_proj_ + ".weight_scale_inv", "beside a weight of U8"});
  Make(Precision::kMxfp4);
  AddMatrix(&tensors_, o_proj_, 64, 64, Precision::kFp8);
  ExpectRefused(ErrorCode::kTensor, {o_proj_ + ".weight_scale", "beside a weight of F8_E4M3"});
}

TEST_F(WeightsRefusal, NanScales) {
  Make(Precision::kMxfp4);
  At(o_proj_ + ".weight_scale").bytes[2 * 17 + 1] = '\xff';
  ExpectRefused(ErrorCode::kNanScale, {o_proj_ + ".weight_scale", "(17, 1)", "255"}, ValueCheck::kAll);
  EXPECT_NO_THROW(Load(ValueCheck::kSmall));
  for (const auto& [bits, shown] :
       std::vector<std::pair<std::string_view, std::string_view>>{{std::string_view("\0\0\xc0\x7f", 4), "nan"},
                                                                  {std::string_view("\0\0\x80\x7f", 4), "inf"},
                                                                  {std::string_view("\0\0\x80\xff", 4), "-inf"},
                                                                  {std::string_view("\0\0\x80\xbf", 4), "-1"}}) {
    Make(Precision::kFp8);
    SetFloat(o_proj_ + ".weight_scale_inv", 0, bits);
    ExpectRefused(ErrorCode::kNanScale, {o_proj_ + ".weight_scale_inv", "(0, 0)", shown}, ValueCheck::kAll);
    EXPECT_NO_THROW(Load(ValueCheck::kSmall));
  }
}

TEST_F(WeightsRefusal, NanInSmallTensors) {
  const std::string layer = "model.layers.1.";
  for (const std::string name :
       {"model.norm.weight", "model.layers.0.input_layernorm.weight", "model.layers.2.post_attention_layernorm.weight",
        "model.layers.1.self_attn.q_a_layernorm.weight", "model.layers.1.self_attn.kv_a_layernorm.weight"}) {
    for (const char* bits : {"\xc0\x7f", "\x80\xff", "\x81\x7f"}) {
      Make(Precision::kMxfp4);
      At(name).bytes.replace(2 * 3, 2, bits, 2);
      ExpectRefused(ErrorCode::kNanScale, {"\"" + name + "\"", "finite", "at (3)"});
    }
  }
  Make(Precision::kMxfp4);
  SetFloat(layer + "mlp.gate.e_score_correction_bias", 2, std::string_view("\0\0\xc0\x7f", 4));
  ExpectRefused(ErrorCode::kNanScale, {layer + "mlp.gate.e_score_correction_bias", "at (2)"});
  Make(Precision::kMxfp4);
  At(layer + "mlp.gate.weight").bytes.replace(2 * (3 * 64 + 5), 2, "\xc0\x7f", 2);
  ExpectRefused(ErrorCode::kNanScale, {layer + "mlp.gate.weight", "at (3, 5)"});
  Make(Precision::kBf16);
  AddMatrix(&tensors_, layer + "mlp.gate", 4, 64, Precision::kF32);
  SetFloat(layer + "mlp.gate.weight", 64, std::string_view("\0\0\x80\x7f", 4));
  ExpectRefused(ErrorCode::kNanScale, {layer + "mlp.gate.weight", "at (1, 0)"});
}

TEST_F(WeightsRefusal, NanInAnyMatrixWhenAllIsChecked) {
  const auto spoil = [&](Precision precision, std::string_view bits, size_t index) {
    Make(precision);
    At(o_proj_ + ".weight").bytes.replace(bits.size() * index, bits.size(), bits);
    EXPECT_NO_THROW(Load(ValueCheck::kSmall));
    ExpectRefused(ErrorCode::kNanScale, {o_proj_ + ".weight", "finite", "at (63, 63)"}, ValueCheck::kAll);
  };
  spoil(Precision::kBf16, "\xc0\x7f", 64 * 64 - 1);
  spoil(Precision::kF32, std::string_view("\0\0\xc0\xff", 4), 64 * 64 - 1);
  spoil(Precision::kFp8, "\x7f", 64 * 64 - 1);
  for (const Precision precision : {Precision::kBf16, Precision::kF32, Precision::kFp8, Precision::kMxfp4}) {
    Make(precision);
    EXPECT_NO_THROW(Load(ValueCheck::kAll));
  }
}

}  // namespace
}  // namespace mxmla
