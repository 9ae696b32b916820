// The quantization_config of compressed-tensors, as llm-compressor and Moonshot write it.
#include <fmt/format.h>

#include "checkpoint/quantization_config.h"

namespace mxmla {
namespace {

int64_t IntOf(const JsonFields& fields, std::string_view key) {
  RequirePresent(fields, key, "an integer");
  const Json& value = *fields.Find(key);
  if (!value.is_number_integer()) RefuseQuantization(fields, key, "an integer", ShowJson(value));
  return value.get<int64_t>();
}

// Of 4 or 8 bits.
WeightFormat ParseInt(const JsonFields& weights) {
  constexpr std::string_view kHint = "of integers, 4 bits in symmetric groups of 32 are read (Kimi-K2-Thinking's)";
  const auto refuse = [&](std::string_view key, std::string_view expected) {
    RefuseQuantization(weights, key, expected, weights.HasValue(key) ? ShowJson(*weights.Find(key)) : "nothing", kHint);
  };
  if (IntOf(weights, "num_bits") != 4) refuse("num_bits", "4");
  if (weights.StringOrNull("strategy", "") != "group") refuse("strategy", "group");
  if (IntOf(weights, "group_size") != kInt4Group) refuse("group_size", "32");
  if (!weights.BoolOrNull("symmetric", true)) refuse("symmetric", "true");
  // With "group" the columns are permuted by a weight_g_idx.
  if (weights.HasValue("actorder") && weights.StringOrNull("actorder", "") == "group") refuse("actorder", "null");
  return WeightFormat::kInt4;
}

WeightFormat ParseFloat(const JsonFields& weights) {
  const int64_t bits = IntOf(weights, "num_bits");
  RequirePresent(weights, "strategy", "tensor, channel, block, group or tensor_group");
  const std::string strategy = weights.StringOrNull("strategy", "");
  if (bits == 8 && strategy == "tensor") return WeightFormat::kFp8Tensor;
  if (bits == 8 && strategy == "channel") return WeightFormat::kFp8Channel;
  if (bits == 8 && strategy == "block") {
    const Json* block = weights.Find("block_structure");
    if (!block || *block != Json::array({kFp8Block, kFp8Block})) {
      RefuseQuantization(weights, "block_structure", "[128, 128]", block ? ShowJson(*block) : "nothing");
    }
    return WeightFormat::kFp8Squares;
  }
  if (bits == 8 && strategy == "group" && IntOf(weights, "group_size") == kMxBlock) return WeightFormat::kMxfp8;
  if (bits == 4 && strategy == "group" && IntOf(weights, "group_size") == kMxBlock) return WeightFormat::kMxfp4;
  if (bits == 4 && strategy == "tensor_group" && IntOf(weights, "group_size") == kNvBlock) return WeightFormat::kNvfp4;
  RefuseQuantization(weights, "strategy",
                     "tensor, channel, block or groups of 32 (8 bits); groups of 32 or tensor_group of 16 (4 bits)",
                     fmt::format("{} bits, {}, group_size {}", bits, strategy,
                                 weights.Find("group_size") ? ShowJson(*weights.Find("group_size")) : "nothing"));
}

WeightFormat ParseWeights(const JsonFields& weights) {
  RequirePresent(weights, "type", "int or float");
  RequireOneOf(weights, "type", {"int", "float"});
  if (weights.HasValue("dynamic") && *weights.Find("dynamic") != false) {
    RefuseQuantization(weights, "dynamic", "false", ShowJson(*weights.Find("dynamic")));
  }
  return weights.StringOrNull("type", "") == "int" ? ParseInt(weights) : ParseFloat(weights);
}

}  // namespace

QuantizationConfig ParseCompressedTensors(const JsonFields& fields) {
  QuantizationConfig result;
  result.method = QuantMethod::kCompressedTensors;
  RequireOneOf(fields, "quantization_status", {"compressed", "frozen"});
  if (const std::optional<JsonFields> sparsity = fields.Object("sparsity_config")) {
    RequireOneOf(*sparsity, "format", {"dense"});
  }
  if (const std::optional<JsonFields> transforms = fields.Object("transform_config")) {
    if (!transforms->json().empty()) {
      RefuseQuantization(fields, "transform_config", "none: no rotation of activations", "one");
    }
  }
  RequirePresent(fields, "config_groups", "an object of groups with weights of compressed-tensors");
  const JsonFields groups = *fields.Object("config_groups");
  for (const auto& [name, unused] : groups.json().items()) {
    RequirePresent(groups, name, "an object with targets and weights");
    const JsonFields group = *groups.Object(name);
    RequirePresent(group, "weights", "an object with num_bits and type");
    const WeightFormat format = ParseWeights(*group.Object("weights"));
    std::vector<std::string> modules;
    for (const std::string& target : group.StringList("targets")) {
      // The name of a class stands for all projections.
      if (target == "Linear") {
        result.format = format;
      } else {
        modules.push_back(target);
      }
    }
    if (!modules.empty()) {
      result.overrides.push_back({ExcludeList(std::move(modules), group.Subject("targets")), format});
    }
  }
  if (!result.format && result.overrides.empty()) {
    RefuseQuantization(fields, "config_groups", "a group with weights", "none");
  }
  result.exclude = ExcludeList(fields.StringList("ignore"), fields.Subject("ignore"));
  return result;
}

}  // namespace mxmla
