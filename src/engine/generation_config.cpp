#include "engine/generation_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "checkpoint/json_reader.h"

namespace mxmla {

SuggestedSampling ReadSuggestedSampling(const std::string& folder) {
  const std::string path = folder + "/generation_config.json";
  std::error_code status;
  SuggestedSampling suggested;
  if (!std::filesystem::exists(path, status)) return suggested;
  const Json json = ParseJsonObject(ReadTextFile(path, ErrorCode::kBadConfig), path, ErrorCode::kBadConfig);
  const JsonFields fields(json, path);
  const auto number = [&](const char* key, double low, double high, std::optional<float>* value) {
    if (fields.HasValue(key)) *value = static_cast<float>(fields.Number(key, 0, low, high));
  };
  number("repetition_penalty", 1e-3, 1e3, &suggested.repetition_penalty);
  if (fields.HasValue("do_sample") && !fields.Bool("do_sample", false)) {
    suggested.temperature = 0;
    return suggested;
  }
  if (fields.HasValue("do_sample")) suggested.temperature = 1;
  number("temperature", 0, 1000, &suggested.temperature);
  number("top_p", 0, 1, &suggested.top_p);
  number("min_p", 0, 1, &suggested.min_p);
  // -1 is how some files spell "all".
  if (fields.HasValue("top_k")) suggested.top_k = std::max<int64_t>(0, fields.Int("top_k", 0, -1, int64_t{1} << 31));
  return suggested;
}

SamplingOptions SuggestedSampling::Applied() const {
  SamplingOptions options;
  options.temperature = temperature.value_or(options.temperature);
  options.top_k = top_k.value_or(options.top_k);
  options.top_p = top_p.value_or(options.top_p);
  options.min_p = min_p.value_or(options.min_p);
  options.repetition_penalty = repetition_penalty.value_or(options.repetition_penalty);
  return options;
}

std::string SuggestedSampling::Flags() const {
  const SamplingOptions options = Applied(), plain;
  std::string flags;
  const auto add = [&](const char* flag, auto value, auto neutral) {
    if (value != neutral) flags += fmt::format("{}{} {}", flags.empty() ? "" : " ", flag, value);
  };
  add("--temperature", options.temperature, plain.temperature);
  if (options.temperature > 0) {
    add("--top-k", options.top_k, plain.top_k);
    add("--top-p", options.top_p, plain.top_p);
    add("--min-p", options.min_p, plain.min_p);
  }
  add("--repetition-penalty", options.repetition_penalty, plain.repetition_penalty);
  return flags;
}

}  // namespace mxmla
