// AMD Quark's quantization_config.
#include <fmt/format.h>

#include "checkpoint/quantization_config.h"

namespace mxmla {
namespace {

// The spec of MXFP4 weights.
void RequireMxfp4(const JsonFields& weight) {
  RequirePresent(weight, "dtype", "fp4");
  RequireOneOf(weight, "dtype", {"fp4"});
  RequirePresent(weight, "group_size", "32");
  if (*weight.Find("group_size") != kMxBlock) {
    RefuseQuantization(weight, "group_size", "32", ShowJson(*weight.Find("group_size")));
  }
  RequirePresent(weight, "scale_format", "e8m0");
  RequireOneOf(weight, "scale_format", {"e8m0"});
  RequireOneOf(weight, "qscheme", {"per_group"});
  if (weight.HasValue("ch_axis") && *weight.Find("ch_axis") != -1 && *weight.Find("ch_axis") != 1) {
    RefuseQuantization(weight, "ch_axis", "-1, the contracted axis", ShowJson(*weight.Find("ch_axis")));
  }
  if (weight.HasValue("is_dynamic") && *weight.Find("is_dynamic") != false) {
    RefuseQuantization(weight, "is_dynamic", "false", ShowJson(*weight.Find("is_dynamic")));
  }
}

ScaleMode ParseScaleMode(const JsonFields& weight) {
  // Only says how the weights were made; unknown ways are as good as the known.
  const std::string name = weight.StringOrNull("scale_calculation_mode", "even");
  if (name == "floor") return ScaleMode::kFloor;
  if (name == "ceil") return ScaleMode::kCeil;
  return ScaleMode::kEven;
}

// Quark's FP8: one scale a tensor, a row (`ch_axis` 0) or a square of 128.
WeightFormat ParseFp8(const JsonFields& weight) {
  RequirePresent(weight, "qscheme", "per_tensor, per_channel or per_block");
  RequireOneOf(weight, "qscheme", {"per_tensor", "per_channel", "per_block"});
  if (weight.HasValue("is_dynamic") && *weight.Find("is_dynamic") != false) {
    RefuseQuantization(weight, "is_dynamic", "false", ShowJson(*weight.Find("is_dynamic")));
  }
  const std::string scheme = weight.StringOrNull("qscheme", "");
  if (scheme == "per_tensor") return WeightFormat::kFp8Tensor;
  if (scheme == "per_channel") {
    if (weight.HasValue("ch_axis") && *weight.Find("ch_axis") != 0) {
      RefuseQuantization(weight, "ch_axis", "0, a scale a row", ShowJson(*weight.Find("ch_axis")));
    }
    return WeightFormat::kFp8Channel;
  }
  const Json* block = weight.Find("block_size");
  if (!block || *block != Json::array({kFp8Block, kFp8Block})) {
    RefuseQuantization(weight, "block_size", "[128, 128]", block ? ShowJson(*block) : "nothing");
  }
  return WeightFormat::kFp8Squares;
}

// The format of config.weight; Quark writes a list of two for double quantisation.
WeightFormat ParseWeight(const JsonFields& config, ScaleMode* mode) {
  RequirePresent(config, "weight", "an object with dtype fp4 or fp8_e4m3");
  if (!config.Find("weight")->is_object()) {
    RefuseQuantization(config, "weight", "one object with dtype fp4 or fp8_e4m3", ShowJson(*config.Find("weight")));
  }
  const JsonFields weight = *config.Object("weight");
  if (weight.StringOrNull("dtype", "") == "fp8_e4m3") return ParseFp8(weight);
  RequireMxfp4(weight);
  if (mode) *mode = ParseScaleMode(weight);
  return WeightFormat::kMxfp4;
}

// Formats by layer; a layer without a `weight` stays as it is.
void ParseOverrides(const JsonFields& fields, std::string_view key, QuantizationConfig* result) {
  const std::optional<JsonFields> overrides = fields.Object(key);
  if (!overrides) return;
  for (const auto& [layer, unused] : overrides->json().items()) {
    const std::optional<JsonFields> layer_config = overrides->Object(layer);
    std::optional<WeightFormat> format;
    if (layer_config && layer_config->HasValue("weight")) format = ParseWeight(*layer_config, nullptr);
    if (layer.find_first_of("*?[:") == std::string::npos) {
      result->named[layer] = format;
    } else {
      result->overrides.push_back({ExcludeList({layer}, overrides->Subject(layer)), format});
    }
  }
}

// Formats by the type of layer: allowed where they are what projections have anyway.
void CheckTypes(const JsonFields& fields, const QuantizationConfig& result) {
  constexpr std::string_view kKey = "layer_type_quant_config";
  const std::optional<JsonFields> types = fields.Object(kKey);
  if (!types) return;
  for (const auto& [type, unused] : types->json().items()) {
    const std::optional<JsonFields> own = types->Object(type);
    if (!own || !own->HasValue("weight") || ParseWeight(*own, nullptr) == result.format) continue;
    RefuseQuantization(*types, type, "the format of global_quant_config", "another");
  }
}

// Algorithms that leave the weights to be multiplied as they are; a rotation of the activations would not.
void CheckAlgorithms(const JsonFields& fields) {
  if (!fields.HasValue("algo_config")) return;
  const Json& config = *fields.Find("algo_config");
  const auto check = [&](const Json& algorithm) {
    if (!algorithm.is_object() || !algorithm.contains("name") || !algorithm["name"].is_string()) return;
    const std::string& name = algorithm["name"].get_ref<const std::string&>();
    if (name == "rotation" || name == "quarot")
      RefuseQuantization(fields, "algo_config", "no rotation of activations", name);
  };
  if (config.is_array()) {
    for (const Json& algorithm : config) check(algorithm);
  } else {
    check(config);
  }
}

}  // namespace

QuantizationConfig ParseQuark(const JsonFields& fields) {
  QuantizationConfig result;
  result.method = QuantMethod::kQuark;
  RequirePresent(fields, "global_quant_config", "an object with the weights' dtype");
  const JsonFields global = *fields.Object("global_quant_config");
  result.format = ParseWeight(global, &result.scale_mode);
  if (global.HasValue("input_tensors") && global.Find("input_tensors")->is_object()) {
    result.input_dtype = global.Object("input_tensors")->StringOrNull("dtype", "");
  }
  ParseOverrides(fields, "layer_quant_config", &result);
  CheckTypes(fields, result);
  CheckAlgorithms(fields);
  if (const std::optional<JsonFields> exported = fields.Object("export")) {
    RequireOneOf(*exported, "weight_format", {"real_quantized"});
    RequireOneOf(*exported, "pack_method", {"reorder", "order"});
  }
  result.exclude = ExcludeList(fields.StringList("exclude"), fields.Subject("exclude"));
  return result;
}

}  // namespace mxmla
