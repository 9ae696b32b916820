#include "checkpoint/quantization_config.h"

#include <fmt/format.h>

namespace mxmla {
namespace {

constexpr std::string_view kKnown =
    "known are none, fp8 with weight_block_size [128, 128], and quark with fp4 weights in groups of 32 (MXFP4)";

[[noreturn]] void Refuse(const JsonFields& fields, std::string_view key, std::string_view expected,
                         std::string_view found) {
  Fail(ErrorCode::kQuantization, fields.Subject(key), expected, found, kKnown);
}

// The key is absent, null, or one of `allowed`.
void RequireOneOf(const JsonFields& fields, std::string_view key, std::initializer_list<std::string_view> allowed) {
  if (!fields.HasValue(key)) return;
  const Json& value = *fields.Find(key);
  if (value.is_string()) {
    for (std::string_view name : allowed) {
      if (value.get_ref<const std::string&>() == name) return;
    }
  }
  Refuse(fields, key, fmt::format("{}", fmt::join(allowed, " or ")), ShowJson(value));
}

void RequirePresent(const JsonFields& fields, std::string_view key, std::string_view expected) {
  if (!fields.HasValue(key)) Refuse(fields, key, expected, fields.Find(key) ? "null" : "nothing");
}

QuantizationConfig ParseFp8(const JsonFields& fields) {
  QuantizationConfig result;
  result.method = QuantMethod::kFp8;
  RequireOneOf(fields, "fmt", {"e4m3"});
  RequireOneOf(fields, "activation_scheme", {"dynamic"});
  RequirePresent(fields, "weight_block_size", "[128, 128]");
  const Json& block = *fields.Find("weight_block_size");
  if (block != Json::array({kFp8Block, kFp8Block})) Refuse(fields, "weight_block_size", "[128, 128]", ShowJson(block));
  result.exclude = ExcludeList(fields.StringList("modules_to_not_convert"), fields.Subject("modules_to_not_convert"));
  return result;
}

// The spec of MXFP4 weights.
void RequireMxfp4(const JsonFields& weight) {
  RequirePresent(weight, "dtype", "fp4");
  RequireOneOf(weight, "dtype", {"fp4"});
  RequirePresent(weight, "group_size", "32");
  if (*weight.Find("group_size") != kMxBlock) {
    Refuse(weight, "group_size", "32", ShowJson(*weight.Find("group_size")));
  }
  RequirePresent(weight, "scale_format", "e8m0");
  RequireOneOf(weight, "scale_format", {"e8m0"});
  RequireOneOf(weight, "qscheme", {"per_group"});
  if (weight.HasValue("ch_axis") && *weight.Find("ch_axis") != -1 && *weight.Find("ch_axis") != 1) {
    Refuse(weight, "ch_axis", "-1, the contracted axis", ShowJson(*weight.Find("ch_axis")));
  }
  if (weight.HasValue("is_dynamic") && *weight.Find("is_dynamic") != false) {
    Refuse(weight, "is_dynamic", "false", ShowJson(*weight.Find("is_dynamic")));
  }
}

ScaleMode ParseScaleMode(const JsonFields& weight) {
  // Only says how the weights were made; unknown ways are as good as the known.
  const std::string name = weight.StringOrNull("scale_calculation_mode", "even");
  if (name == "floor") return ScaleMode::kFloor;
  if (name == "ceil") return ScaleMode::kCeil;
  return ScaleMode::kEven;
}

// A weight's spec is an object; Quark writes a list of them for double quantisation.
JsonFields WeightSpec(const JsonFields& config) {
  RequirePresent(config, "weight", "an object with dtype fp4");
  if (!config.Find("weight")->is_object()) {
    Refuse(config, "weight", "one object with dtype fp4", ShowJson(*config.Find("weight")));
  }
  return *config.Object("weight");
}

// Overrides by layer: allowed where they leave the weights MXFP4 or unquantised.
void CheckOverrides(const JsonFields& fields, std::string_view key) {
  const std::optional<JsonFields> overrides = fields.Object(key);
  if (!overrides) return;
  for (const auto& [layer, unused] : overrides->json().items()) {
    const std::optional<JsonFields> layer_config = overrides->Object(layer);
    if (layer_config && layer_config->HasValue("weight")) RequireMxfp4(WeightSpec(*layer_config));
  }
}

// Algorithms that leave the weights to be multiplied as they are; a rotation of the activations would not.
void CheckAlgorithms(const JsonFields& fields) {
  if (!fields.HasValue("algo_config")) return;
  const Json& config = *fields.Find("algo_config");
  const auto check = [&](const Json& algorithm) {
    if (!algorithm.is_object() || !algorithm.contains("name") || !algorithm["name"].is_string()) return;
    const std::string& name = algorithm["name"].get_ref<const std::string&>();
    if (name == "rotation" || name == "quarot") Refuse(fields, "algo_config", "no rotation of activations", name);
  };
  if (config.is_array()) {
    for (const Json& algorithm : config) check(algorithm);
  } else {
    check(config);
  }
}

QuantizationConfig ParseQuark(const JsonFields& fields) {
  QuantizationConfig result;
  result.method = QuantMethod::kQuark;
  RequirePresent(fields, "global_quant_config", "an object with the weights' dtype fp4");
  const JsonFields global = *fields.Object("global_quant_config");
  const JsonFields weight = WeightSpec(global);
  RequireMxfp4(weight);
  result.scale_mode = ParseScaleMode(weight);
  if (global.HasValue("input_tensors") && global.Find("input_tensors")->is_object()) {
    result.input_dtype = global.Object("input_tensors")->StringOrNull("dtype", "");
  }
  CheckOverrides(fields, "layer_quant_config");
  CheckOverrides(fields, "layer_type_quant_config");
  CheckAlgorithms(fields);
  if (const std::optional<JsonFields> exported = fields.Object("export")) {
    RequireOneOf(*exported, "weight_format", {"real_quantized"});
    RequireOneOf(*exported, "pack_method", {"reorder", "order"});
  }
  result.exclude = ExcludeList(fields.StringList("exclude"), fields.Subject("exclude"));
  return result;
}

}  // namespace

std::string_view ScaleModeName(ScaleMode mode) {
  switch (mode) {
    case ScaleMode::kEven:
      return "even";
    case ScaleMode::kFloor:
      return "floor";
    case ScaleMode::kCeil:
      return "ceil";
  }
  return "?";
}

QuantizationConfig ParseQuantization(const JsonFields& quantization) {
  RequirePresent(quantization, "quant_method", "fp8 or quark");
  const Json& method = *quantization.Find("quant_method");
  if (method == "fp8") return ParseFp8(quantization);
  if (method == "quark") return ParseQuark(quantization);
  Refuse(quantization, "quant_method", "fp8 or quark", ShowJson(method));
}

}  // namespace mxmla
