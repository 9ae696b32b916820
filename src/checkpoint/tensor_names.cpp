#include "checkpoint/tensor_names.h"

#include <charconv>
#include <optional>

namespace mxmla {
namespace {

bool ConsumePrefix(std::string_view* text, std::string_view prefix) {
  if (text->substr(0, prefix.size()) != prefix) return false;
  text->remove_prefix(prefix.size());
  return true;
}

bool HasSuffix(std::string_view text, std::string_view suffix) {
  return text.size() >= suffix.size() && text.substr(text.size() - suffix.size()) == suffix;
}

// What follows `pattern` in `name`, from a dot on; the numbers that its stars stand for go to `numbers`.
std::optional<std::string_view> MatchRule(std::string_view name, std::string_view pattern,
                                          std::vector<std::string_view>* numbers) {
  size_t at = 0;
  for (char c : pattern) {
    const size_t begin = at;
    if (c != '*') {
      if (at == name.size() || name[at] != c) return std::nullopt;
      ++at;
      continue;
    }
    while (at < name.size() && name[at] >= '0' && name[at] <= '9') ++at;
    if (at == begin) return std::nullopt;
    numbers->push_back(name.substr(begin, at - begin));
  }
  if (at == name.size() || name[at] != '.') return std::nullopt;
  return name.substr(at);
}

// What follows "model.layers.N."; empty for another name.
std::string_view InLayer(std::string_view name, int64_t* layer) {
  if (!ConsumePrefix(&name, "model.layers.")) return {};
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), *layer);
  if (error != std::errc() || end == name.data() + name.size() || *end != '.' || *layer < 0) return {};
  return name.substr(static_cast<size_t>(end - name.data()) + 1);
}

}  // namespace

std::string CanonicalName(std::string_view name, const std::vector<NameRule>& rules) {
  for (const NameRule& rule : rules) {
    std::vector<std::string_view> numbers;
    const std::optional<std::string_view> rest = MatchRule(name, rule.published, &numbers);
    if (!rest) continue;
    std::string result;
    size_t number = 0;
    for (char c : rule.canonical) {
      if (c == '*') {
        result += numbers[number++];
      } else {
        result += c;
      }
    }
    return result + std::string(result.empty() ? rest->substr(1) : *rest);
  }
  return std::string(name);
}

int64_t LayerOf(std::string_view canonical_name) {
  int64_t layer = -1;
  return InLayer(canonical_name, &layer).empty() ? -1 : layer;
}

bool IsMtpMarker(std::string_view canonical_name) {
  int64_t layer = -1;
  const std::string_view rest = InLayer(canonical_name, &layer);
  return rest == "eh_proj.weight" || rest == "enorm.weight" || rest == "hnorm.weight";
}

SkippedKind ClassifySkipped(std::string_view canonical_name, const std::set<int64_t>& mtp_layers) {
  if (mtp_layers.contains(LayerOf(canonical_name))) return SkippedKind::kMtp;
  std::string_view name = canonical_name;
  ConsumePrefix(&name, "model.");
  for (std::string_view prefix : {"vision_tower.", "mm_projector.", "multi_modal_projector."}) {
    if (name.substr(0, prefix.size()) == prefix) return SkippedKind::kVision;
  }
  if (HasSuffix(name, "rotary_emb.inv_freq")) return SkippedKind::kRotary;
  for (std::string_view suffix : {".input_scale", ".output_scale", ".q_scale", ".k_scale", ".v_scale",
                                  ".input_global_scale", ".activation_scale", ".qscale_act"}) {
    if (HasSuffix(name, suffix)) return SkippedKind::kActivationScale;
  }
  return SkippedKind::kNone;
}

std::string_view ModuleOf(std::string_view name) {
  for (std::string_view suffix : {".weight", ".weight_packed"}) {
    if (HasSuffix(name, suffix)) return name.substr(0, name.size() - suffix.size());
  }
  return {};
}

}  // namespace mxmla
