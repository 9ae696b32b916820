#include "checkpoint/rope_config.h"

#include <fmt/format.h>

#include <cmath>

namespace mxmla {
namespace {

constexpr double kLargest = 1e12;
constexpr int64_t kMaxLength = (int64_t{1} << 31) - 1;

// The key may stand beside the object or in it; the part of a head that is rotated is no choice of the config's.
void CheckPartialFactor(const JsonFields& fields, const Family& family, const ModelConfig& config) {
  const double expected = family.rope_part_of_qk
                              ? static_cast<double>(config.qk_rope_head_dim) / static_cast<double>(config.qk_head_dim())
                              : 1.0;
  const double found = fields.NumberOrNull("partial_rotary_factor", expected, 0, 1);
  if (std::abs(found - expected) > 1e-6) {
    fields.Refuse("partial_rotary_factor", fmt::format("{}", expected), fmt::format("{}", found));
  }
}

int64_t OriginalLength(const JsonFields& fields, const JsonFields& scaling, int64_t length) {
  const JsonFields& holder = fields.HasValue("original_max_position_embeddings") ? fields : scaling;
  return holder.IntOrNull("original_max_position_embeddings", length, length, 1, kMaxLength);
}

void ReadYarn(const JsonFields& s, int64_t max_position_embeddings, RopeConfig* result) {
  RopeConfig& rope = *result;
  rope.type = RopeType::kYarn;
  rope.beta_fast = s.NumberOrNull("beta_fast", 32, 0, kLargest);
  rope.beta_slow = s.NumberOrNull("beta_slow", 1, 0, kLargest);
  if (rope.beta_fast == 0) rope.beta_fast = 32;  // as transformers reads a zero
  if (rope.beta_slow == 0) rope.beta_slow = 1;
  rope.mscale = s.NumberOrNull("mscale", 0, 0, 1e3);
  rope.mscale_all_dim = s.NumberOrNull("mscale_all_dim", 0, 0, 1e3);
  rope.truncate = s.BoolOrNull("truncate", true);
  if (!s.Find("factor")) s.Refuse("factor", "a number from 1", "nothing");
  rope.factor = s.NumberOrNull(
      "factor",
      static_cast<double>(max_position_embeddings) / static_cast<double>(rope.original_max_position_embeddings), 1,
      1e6);
  if (rope.factor < 1)
    s.Refuse("factor", "a number from 1", fmt::format("null, and lengths in the ratio {}", rope.factor));
  if (rope.theta <= 1) s.Refuse("rope_theta", "more than 1 with yarn", fmt::format("{}", rope.theta));
}

std::vector<double> ReadFactors(const JsonFields& s, std::string_view key, int64_t count) {
  const Json* list = s.Find(key);
  const std::string expected = fmt::format("{} numbers above 0", count);
  if (!list || !list->is_array() || static_cast<int64_t>(list->size()) != count) {
    s.Refuse(key, expected,
             !list              ? "nothing"
             : list->is_array() ? fmt::format("{} values", list->size())
                                : ShowJson(*list));
  }
  std::vector<double> factors;
  for (const Json& item : *list) {
    if (!item.is_number() || !(item.get<double>() > 0 && item.get<double>() < kLargest)) {
      s.Refuse(key, expected, ShowJson(item));
    }
    factors.push_back(item.get<double>());
  }
  return factors;
}

// Which factors count depends on the length of the text where it can exceed the original one: a cache filled with the
// short ones would then be wrong, so that such a config is refused unless both are the same.
void ReadLongRope(const JsonFields& s, const ModelConfig& config, RopeConfig* rope) {
  rope->type = RopeType::kLongRope;
  rope->divisors = ReadFactors(s, "short_factor", config.qk_rope_head_dim / 2);
  const std::vector<double> others = ReadFactors(s, "long_factor", config.qk_rope_head_dim / 2);
  const auto length = static_cast<double>(config.max_position_embeddings);
  const auto original = static_cast<double>(rope->original_max_position_embeddings);
  if (length > original && others != rope->divisors) {
    s.Refuse("long_factor", "the values of short_factor, or a max_position_embeddings of the original length",
             fmt::format("other values, for {} tokens", config.max_position_embeddings));
  }
  const double ratio = s.NumberOrNull("factor", length / original, 0, 1e6);
  if (!rope->attention_factor) {
    rope->attention_factor = ratio <= 1 ? 1.0 : std::sqrt(1 + std::log(ratio) / std::log(original));
  }
}

// Beside the other keys (Mistral's own), or in the object and for the length of YaRN (transformers).
QueryScale ReadQueryScale(const JsonFields& fields, const JsonFields& scaling, const RopeConfig& rope) {
  QueryScale scale;
  if (const std::optional<JsonFields> own = fields.Object("llama_4_scaling")) {
    scale.beta = own->Number("beta", 0, 0, 1e3);
    scale.length = own->IntOrNull("original_max_position_embeddings", 0, 0, 1, kMaxLength);
    if (scale.length == 0) own->Refuse("original_max_position_embeddings", "an integer from 1", "nothing");
  } else if (scaling.HasValue("llama_4_scaling_beta")) {
    scale.beta = scaling.Number("llama_4_scaling_beta", 0, 0, 1e3);
    scale.length = rope.original_max_position_embeddings;
  }
  return scale;
}

}  // namespace

void ReadRope(const JsonFields& fields, const Family& family, ModelConfig* config) {
  RopeConfig& rope = config->rope;
  std::optional<JsonFields> scaling = fields.Object("rope_scaling");
  if (!scaling || scaling->json().empty()) scaling = fields.Object("rope_parameters");
  if (!scaling) rope = family.defaults.rope;
  rope.theta = fields.NumberOrNull("rope_theta", family.defaults.rope.theta, 1, kLargest);
  if (rope.original_max_position_embeddings == 0)
    rope.original_max_position_embeddings = config->max_position_embeddings;
  CheckPartialFactor(fields, family, *config);
  const JsonFields& s = scaling ? *scaling : fields;
  if (scaling) {
    rope.theta = s.NumberOrNull("rope_theta", rope.theta, 1, kLargest);
    CheckPartialFactor(s, family, *config);
    const std::string_view type_key = s.HasValue("rope_type") ? "rope_type" : "type";
    const std::string type = s.StringOrNull(type_key, "default");
    const bool yarn = type == "yarn" || type == "deepseek_yarn";
    if (!yarn && type != "longrope" && type != "default") s.Refuse(type_key, "default or yarn or longrope", type);
    if (type != "default") {
      rope.original_max_position_embeddings = OriginalLength(fields, s, config->max_position_embeddings);
      if (s.HasValue("attention_factor")) rope.attention_factor = s.Number("attention_factor", 1, 0, 1e3);
    }
    if (yarn) ReadYarn(s, config->max_position_embeddings, &rope);
    if (type == "longrope") ReadLongRope(s, *config, &rope);
  }
  const bool says = scaling || fields.HasValue("llama_4_scaling");
  config->query_scale = says ? ReadQueryScale(fields, s, rope) : family.defaults.query_scale;
  if (config->query_scale.length > 0 && config->q_lora_rank == 0) {
    fields.Refuse("q_lora_rank", "a rank, with queries that grow with their position", "none");
  }
}

}  // namespace mxmla
