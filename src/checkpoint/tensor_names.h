// What a checkpoint's tensors are called: published prefixes, and the tensors that are no part of the text model.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/config.h"
#include "checkpoint/safetensors.h"

namespace mxmla {

// The name in DeepSeek's spelling, by the first rule that fits; `name` itself when none does.
std::string CanonicalName(std::string_view name, const std::vector<NameRule>& rules);

// The layer of "model.layers.N.", or -1.
int64_t LayerOf(std::string_view canonical_name);

// The layers beyond num_hidden_layers that multi-token prediction added: those with eh_proj, enorm or hnorm.
template <class Names>
std::set<int64_t> MtpLayers(const Names& canonical_names, int64_t num_hidden_layers);

enum class SkippedKind { kNone, kMtp, kVision, kRotary, kActivationScale };
// Why a tensor outside the tree may be skipped; kNone when it may not.
SkippedKind ClassifySkipped(std::string_view canonical_name, const std::set<int64_t>& mtp_layers);

// The module of "MODULE.weight" or "MODULE.weight_packed", or "" for another name.
std::string_view ModuleOf(std::string_view name);

bool IsMtpMarker(std::string_view canonical_name);

template <class Names>
std::set<int64_t> MtpLayers(const Names& canonical_names, int64_t num_hidden_layers) {
  std::set<int64_t> layers;
  for (const auto& [name, unused] : canonical_names) {
    const int64_t layer = LayerOf(name);
    if (layer >= num_hidden_layers && IsMtpMarker(name)) layers.insert(layer);
  }
  return layers;
}

}  // namespace mxmla
