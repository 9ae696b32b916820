#include "checkpoint/quantization_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace mxmla {
namespace {

constexpr std::string_view kKnown =
    "known are none, fp8 (blocks of [128, 128], MXFP8, one scale a tensor), quark (MXFP4, FP8), compressed-tensors "
    "(INT4 in groups of 32, MXFP4, NVFP4, FP8) and modelopt (NVFP4, FP8)";

QuantizationConfig ParseFp8(const JsonFields& fields) {
  QuantizationConfig result;
  result.method = QuantMethod::kFp8;
  RequireOneOf(fields, "fmt", {"e4m3", "float8_e4m3fn"});
  RequireOneOf(fields, "scale_fmt", {"ue8m0", "float"});
  if (fields.String("scale_fmt", "float") == "ue8m0") {
    result.fp8_activation_scale_mode = ScaleMode::kCeil;
  }
  result.exclude = ExcludeList(fields.StringList("modules_to_not_convert"), fields.Subject("modules_to_not_convert"));
  const Json* block = fields.HasValue("weight_block_size") ? fields.Find("weight_block_size") : nullptr;
  RequireOneOf(fields, "activation_scheme", {"dynamic", block ? "dynamic" : "static"});
  if (!block) {
    result.format = WeightFormat::kFp8Tensor;
  } else if (*block == Json::array({kFp8Block, kFp8Block})) {
    result.format = WeightFormat::kFp8Squares;
  } else if (*block == Json::array({1, kMxBlock})) {
    result.format = WeightFormat::kMxfp8;
  } else {
    RefuseQuantization(fields, "weight_block_size", "[128, 128] or [1, 32]", ShowJson(*block));
  }
  return result;
}

// Formats whose layouts no kernel reads, and what to do instead.
void RefuseForeign(const JsonFields& fields, std::string_view method) {
  std::string_view reason;
  if (method == "gptq" || method == "gptq_marlin") {
    reason = "GPTQ packs integers along k, with zero points and a permutation of the columns";
  } else if (method == "awq" || method == "awq_marlin") {
    reason = "AWQ packs integers along n in an order of its own, with zero points";
  } else if (method == "bitsandbytes") {
    reason = "bitsandbytes flattens its tensors";
  } else if (method == "mxfp4") {
    reason = "these are gpt-oss's blocks";
  } else {
    return;
  }
  RefuseQuantization(
      fields, "quant_method", "a format that mxmla reads in place", std::string(method),
      fmt::format("{}; take the BF16 or FP8 release and let mxmla quantize write MXFP4 from it", reason));
}

}  // namespace

void RefuseQuantization(const JsonFields& fields, std::string_view key, std::string_view expected,
                        std::string_view found, std::string_view hint) {
  Fail(ErrorCode::kQuantization, fields.Subject(key), expected, found, hint.empty() ? kKnown : hint);
}

void RequireOneOf(const JsonFields& fields, std::string_view key, std::initializer_list<std::string_view> allowed) {
  if (!fields.HasValue(key)) return;
  const Json& value = *fields.Find(key);
  if (value.is_string()) {
    for (std::string_view name : allowed) {
      if (value.get_ref<const std::string&>() == name) return;
    }
  }
  RefuseQuantization(fields, key, fmt::format("{}", fmt::join(allowed, " or ")), ShowJson(value));
}

void RequirePresent(const JsonFields& fields, std::string_view key, std::string_view expected) {
  if (!fields.HasValue(key)) RefuseQuantization(fields, key, expected, fields.Find(key) ? "null" : "nothing");
}

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

void RefuseMlx(const JsonFields& root) {
  RefuseQuantization(root, "quantization", "a format that mxmla reads in place", ShowJson(*root.Find("quantization")),
                     "this looks like MLX's layout, whose groups have a scale and a bias; take the BF16 or FP8 release "
                     "and let mxmla quantize write MXFP4 from it");
}

QuantizationConfig ParseQuantization(const JsonFields& quantization) {
  if (!quantization.HasValue("quant_method") && quantization.HasValue("quant_algo")) return ParseModelOpt(quantization);
  if (!quantization.HasValue("quant_method") && quantization.HasValue("bits") && quantization.HasValue("group_size")) {
    RefuseQuantization(quantization, "quant_method", "a known method", "nothing, but bits and group_size",
                       "this looks like MLX's layout, whose groups have a scale and a bias; take the BF16 or FP8 "
                       "release and let mxmla quantize write MXFP4 from it");
  }
  RequirePresent(quantization, "quant_method", "fp8, quark, compressed-tensors or modelopt");
  const Json& method = *quantization.Find("quant_method");
  if (method == "fp8" || method == "mxfp8") return ParseFp8(quantization);
  if (method == "quark") return ParseQuark(quantization);
  if (method == "compressed-tensors") return ParseCompressedTensors(quantization);
  if (method == "modelopt" || method == "modelopt_fp4" || method == "modelopt_mixed") {
    return ParseModelOpt(quantization);
  }
  if (method.is_string()) RefuseForeign(quantization, method.get_ref<const std::string&>());
  RefuseQuantization(quantization, "quant_method", "fp8, quark, compressed-tensors or modelopt", ShowJson(method));
}

}  // namespace mxmla
