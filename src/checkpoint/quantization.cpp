#include "checkpoint/quantization.h"

namespace mxmla {

std::string_view WeightFormatName(WeightFormat format) {
  switch (format) {
    case WeightFormat::kFp8Squares:
      return "fp8-block128";
    case WeightFormat::kFp8Channel:
      return "fp8-channel";
    case WeightFormat::kFp8Tensor:
      return "fp8-tensor";
    case WeightFormat::kMxfp8:
      return "mxfp8";
    case WeightFormat::kMxfp4:
      return "mxfp4";
    case WeightFormat::kNvfp4:
      return "nvfp4";
    case WeightFormat::kInt4:
      return "int4-g32";
  }
  return "?";
}

std::optional<WeightFormat> QuantizationConfig::FormatOf(std::string_view module) const {
  if (exclude.Matches(module)) return std::nullopt;
  constexpr std::string_view kTextPrefix = "language_model.";
  auto own_format = named.find(module);
  if (own_format == named.end() && module.starts_with(kTextPrefix)) {
    own_format = named.find(module.substr(kTextPrefix.size()));
  }
  if (own_format != named.end()) return own_format->second;
  for (const Override& own : overrides) {
    if (own.modules.Matches(module)) return own.format;
  }
  return format;
}

std::string QuantizationName(const QuantizationConfig& quantization) {
  std::string name;
  switch (quantization.method) {
    case QuantMethod::kNone:
      return "none";
    case QuantMethod::kFp8:
      // DeepSeek's blocks are what the name means by itself.
      if (quantization.format == WeightFormat::kFp8Squares) return "fp8";
      name = "fp8";
      break;
    case QuantMethod::kQuark:
      name = "quark";
      break;
    case QuantMethod::kCompressedTensors:
      name = "compressed-tensors";
      break;
    case QuantMethod::kModelOpt:
      name = "modelopt";
      break;
    case QuantMethod::kGguf:
      return "gguf";
  }
  if (quantization.format) name += " " + std::string(WeightFormatName(*quantization.format));
  if (!quantization.overrides.empty() || !quantization.named.empty())
    name += quantization.format ? ", mixed" : " mixed";
  return name;
}

}  // namespace mxmla
