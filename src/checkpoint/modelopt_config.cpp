// The quantisation of NVIDIA ModelOpt: flat in config.json, or under `quantization` in hf_quant_config.json.
#include <fmt/format.h>

#include <map>

#include "checkpoint/quantization_config.h"

namespace mxmla {
namespace {

WeightFormat FormatOf(const JsonFields& fields, std::string_view key, const std::string& algorithm) {
  const std::map<std::string, WeightFormat> kFormats = {
      {"FP8", WeightFormat::kFp8Tensor},        {"FP8_PER_CHANNEL_PER_TOKEN", WeightFormat::kFp8Channel},
      {"FP8_PB_WO", WeightFormat::kFp8Squares}, {"FP8_PB_REAL", WeightFormat::kFp8Squares},
      {"MXFP8", WeightFormat::kMxfp8},          {"NVFP4", WeightFormat::kNvfp4},
      {"W4A16_NVFP4", WeightFormat::kNvfp4},    {"W4A8_NVFP4_FP8", WeightFormat::kNvfp4},
  };
  const auto at = kFormats.find(algorithm);
  if (at != kFormats.end()) return at->second;
  RefuseQuantization(fields, key, "NVFP4, FP8, FP8_PER_CHANNEL_PER_TOKEN, FP8_PB_WO, MXFP8 or MIXED_PRECISION",
                     algorithm, algorithm == "NVFP4_AWQ" ? "AWQ scales the activations, which is not supported" : "");
}

// The size of NVFP4's groups, wherever it stands.
void CheckGroupSize(const JsonFields& fields) {
  const auto check = [](const JsonFields& holder) {
    if (!holder.HasValue("group_size")) return;
    const Json& size = *holder.Find("group_size");
    if (size != kNvBlock && size != kMxBlock && size != 0) {
      RefuseQuantization(holder, "group_size", "16 (NVFP4) or 32 (MXFP8)", ShowJson(size));
    }
  };
  check(fields);
  const std::optional<JsonFields> groups = fields.Object("config_groups");
  if (!groups) return;
  for (const auto& [name, unused] : groups->json().items()) {
    const std::optional<JsonFields> group = groups->Object(name);
    if (!group) continue;
    if (const std::optional<JsonFields> weights = group->Object("weights")) check(*weights);
  }
}

}  // namespace

QuantizationConfig ParseModelOpt(const JsonFields& outer) {
  // Some files have hf_quant_config.json's content under this key.
  const std::optional<JsonFields> inner = outer.Object("quantization");
  const JsonFields& fields = inner ? *inner : outer;
  QuantizationConfig result;
  result.method = QuantMethod::kModelOpt;
  RequirePresent(fields, "quant_algo", "NVFP4, FP8 or MIXED_PRECISION");
  const std::string algorithm = fields.StringOrNull("quant_algo", "");
  if (algorithm != "MIXED_PRECISION") {
    result.format = FormatOf(fields, "quant_algo", algorithm);
  } else {
    RequirePresent(fields, "quantized_layers", "an object of layers");
    const JsonFields layers = *fields.Object("quantized_layers");
    for (const auto& [name, unused] : layers.json().items()) {
      RequirePresent(layers, name, "an object with quant_algo");
      const JsonFields layer = *layers.Object(name);
      const std::string own = layer.StringOrNull("quant_algo", "");
      result.named[name] = FormatOf(layer, "quant_algo", own);
    }
  }
  CheckGroupSize(fields);
  std::vector<std::string> exclude;
  for (const char* key : {"ignore", "exclude_modules", "modules_to_not_convert"}) {
    for (std::string& pattern : fields.StringList(key)) exclude.push_back(std::move(pattern));
  }
  result.exclude = ExcludeList(std::move(exclude), fields.Subject("exclude_modules"));
  return result;
}

QuantizationConfig ParseModelOptFile(const JsonFields& file) {
  RequirePresent(file, "quantization", "an object with quant_algo");
  // A folder that is not quantised says so with null.
  if (!file.Object("quantization")->HasValue("quant_algo")) return {};
  return ParseModelOpt(file);
}

}  // namespace mxmla
