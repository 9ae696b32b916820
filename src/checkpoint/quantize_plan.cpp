#include "checkpoint/quantize_plan.h"

#include <fmt/format.h>

#include "checkpoint/tensor_names.h"

namespace mxmla {
namespace {

using Item = QuantizeItem;

bool IsProjection(std::string_view module) {
  const std::string_view last = module.substr(module.rfind('.') + 1);
  if (last == "weights_proj") return false;  // an indexer's, which is never quantised
  return last == "kv_a_proj_with_mqa" || (last.size() > 5 && last.ends_with("_proj"));
}

std::string GroupOf(std::string_view module) {
  const auto holds = [&](std::string_view part) { return module.find(part) != std::string_view::npos; };
  if (holds(".kv_b_proj")) return "kv_b_proj";
  if (holds(".self_attn.")) return "attention";
  if (holds(".shared_experts.")) return "shared experts";
  return holds(".experts.") ? "experts" : "dense mlp";
}

// The module whose scale `name` is, or "".
std::string ScaledModule(std::string_view name) {
  for (std::string_view suffix : {".weight_scale_inv", ".weight_scale", ".weight_scale_2", ".weight_global_scale",
                                  ".weight_shape", ".qscale_weight"}) {
    if (name.ends_with(suffix)) return std::string(name.substr(0, name.size() - suffix.size()));
  }
  return {};
}

bool HasFourBits(const LinearWeight& weight) {
  return std::visit(
      [](const auto& w) {
        using W = std::decay_t<decltype(w)>;
        return std::is_same_v<W, Mxfp4<const e2m1x2, 2>> || std::is_same_v<W, Int4Group> || std::is_same_v<W, Nvfp4> ||
               std::is_same_v<W, GgmlMatrix<q4_k>> || std::is_same_v<W, GgmlMatrix<ggml_mxfp4>>;
      },
      weight);
}

Item::Kind KindOf(TargetFormat format) {
  switch (format) {
    case TargetFormat::kMxfp4:
      return Item::Kind::kMxfp4;
    case TargetFormat::kFp8:
      return Item::Kind::kFp8;
    case TargetFormat::kBf16:
      break;
  }
  return Item::Kind::kBf16;
}

}  // namespace

QuantizePlan::QuantizePlan(const Checkpoint& checkpoint, const ModelConfig& config, const QuantizeOptions& options)
    : checkpoint_(checkpoint), config_(config), options_(options), matched_(options.exclude.size(), false) {
  for (const std::string& pattern : options.exclude)
    user_.emplace_back(std::vector{pattern}, "--exclude", ErrorCode::kUsage);
  std::map<std::string, const Tensor*> names;
  for (const auto& [name, tensor] : checkpoint.tensors()) names.emplace(CanonicalName(name, config.names), tensor);
  mtp_ = MtpLayers(names, config.num_hidden_layers);
  // In the files' order, so that the source is read front to back.
  for (const auto& file : checkpoint_.files()) {
    for (const Tensor& tensor : file->tensors()) {
      if (checkpoint_.Find(tensor.name) == &tensor) Add(tensor);
    }
  }
  for (size_t i = 0; i < matched_.size(); ++i) {
    if (!matched_[i]) {
      Fail(ErrorCode::kUsage, "--exclude " + user_[i].patterns().front(),
           "a pattern that matches a module of the model", "none that does",
           "names look like model.layers.0.self_attn.o_proj; globs and re: patterns match too");
    }
  }
}

std::vector<std::string> QuantizePlan::ExcludePatterns() const {
  if (options_.format == TargetFormat::kFp8) {
    std::vector<std::string> names = {"lm_head"};
    names.insert(names.end(), kept_names_.begin(), kept_names_.end());
    return names;
  }
  std::vector<std::string> patterns = {"lm_head", "re:.*embed_tokens$", "re:.*mlp\\.gate$"};
  if (config_.indexer.topk > 0) patterns.push_back("re:.*indexer\\.weights_proj$");
  for (int64_t layer : mtp_) patterns.push_back(fmt::format("re:.*model\\.layers\\.{}\\..*", layer));
  if (config_.multimodal) {
    for (std::string_view part : {"vision_tower", "mm_projector", "multi_modal_projector"}) {
      patterns.push_back(fmt::format("re:.*{}\\..*", part));
    }
  }
  for (const ExcludeList& list : user_) patterns.push_back(GlobAsRegex(list.patterns().front()));
  patterns.insert(patterns.end(), ragged_.begin(), ragged_.end());
  return patterns;
}

bool QuantizePlan::InTree(const std::string& canonical) const {
  const int64_t layer = LayerOf(canonical);
  return layer >= 0 && layer < config_.num_hidden_layers;
}

// Whether the projection gets the target's format, as far as its shape and the user say.
bool QuantizePlan::Quantizes(const std::string& module, int64_t k, bool excluded) {
  const bool ragged = options_.format == TargetFormat::kMxfp4 && k % kMxBlock != 0;
  if (!excluded && ragged) ragged_.push_back(module);
  if (!excluded && !ragged) return true;
  ++kept_;
  kept_names_.push_back(module);
  return false;
}

// Every pattern that matches is marked, so that an idle one can be reported.
bool QuantizePlan::ExcludedByUser(const std::string& module) {
  bool excluded = false;
  for (size_t i = 0; i < user_.size(); ++i) {
    if (!user_[i].Matches(module)) continue;
    matched_[i] = true;
    excluded = true;
  }
  return excluded;
}

void QuantizePlan::Add(const Tensor& tensor) {
  const std::string canonical = CanonicalName(tensor.name, config_.names);
  const auto find = [&](const std::string& name) { return checkpoint_.Find(name); };
  // Goes with its weight.
  if (const std::string scaled = ScaledModule(tensor.name); !scaled.empty() && FindMatrix(scaled, find).weight) return;
  if (ClassifySkipped(canonical, {}) == SkippedKind::kActivationScale) return;
  if (InTree(canonical) && tensor.shape.size() == 3 && tensor.name.ends_with("_proj")) return AddFused(tensor);
  const std::string module(ModuleOf(tensor.name));
  if (module.empty()) return AddCopy(tensor.name, tensor, {tensor.data, tensor.bytes}, tensor.shape);
  const bool excluded = ExcludedByUser(module);
  if (module.ends_with(".weights_proj")) kept_names_.push_back(module);
  const MatrixTensors tensors = FindMatrix(module, find);
  const bool quantized = tensors.scale || tensors.scale_inv;
  const auto [n, k] = MatrixExtents(tensors);
  if (n > 0 && InTree(canonical) && IsProjection(module) && Quantizes(module, k, excluded)) {
    return AddProjection(module, tensor, ReadMatrix(tensors, n, k, &scales_));
  }
  if (quantized && n > 0) {
    ++dequantized_;
    return AddMatrix(Item::Kind::kBf16, module, tensor, ReadMatrix(tensors, n, k, &scales_));
  }
  AddCopy(tensor.name, tensor, {tensor.data, tensor.bytes}, tensor.shape);
}

// Experts in one tensor become one matrix each, under the published names.
void QuantizePlan::AddFused(const Tensor& tensor) {
  const size_t last = tensor.name.rfind('.') + 1;
  const std::string projection = tensor.name.substr(last);
  const bool gate_up = projection == "gate_up_proj";
  const std::vector<std::string> parts =
      gate_up ? std::vector<std::string>{"gate_proj", "up_proj"} : std::vector<std::string>{projection};
  const int64_t rows = tensor.shape[1] / static_cast<int64_t>(parts.size());
  const int64_t k = tensor.shape[2];
  for (int64_t e = 0; e < tensor.shape[0]; ++e) {
    LinearWeight whole;
    if (tensor.dtype == TensorDType::kF32) {
      whole = tensor.As<float, 3>().Select(0, e);
    } else if (tensor.dtype == TensorDType::kF16) {
      whole = tensor.As<f16, 3>().Select(0, e);
    } else {
      whole = tensor.As<bf16, 3>().Select(0, e);
    }
    const auto row_bytes = static_cast<size_t>(k) * static_cast<size_t>(TensorDTypeBits(tensor.dtype) / 8);
    for (size_t part = 0; part < parts.size(); ++part) {
      const int64_t begin = static_cast<int64_t>(part) * rows;
      const std::string module = fmt::format("{}{}.{}", tensor.name.substr(0, last), e, parts[part]);
      if (Quantizes(module, k, ExcludedByUser(module))) {
        AddProjection(module, tensor, Rows(whole, begin, rows));
      } else {
        const std::byte* data = tensor.data + static_cast<size_t>(e * tensor.shape[1] + begin) * row_bytes;
        AddCopy(module + kWeightSuffix, tensor, {data, static_cast<size_t>(rows) * row_bytes}, {rows, k});
      }
    }
  }
}

void QuantizePlan::AddProjection(const std::string& module, const Tensor& tensor, const LinearWeight& matrix) {
  if (options_.format == TargetFormat::kMxfp4 && HasFourBits(matrix) && !options_.requantize) {
    Fail(ErrorCode::kQuantization, TensorSubject(tensor), "a matrix of more than 4 bits, to become MXFP4",
         std::string(FormatName(matrix)), "two roundings to 4 bits lose more than one; --requantize does it anyway");
  }
  AddMatrix(KindOf(options_.format), module, tensor, matrix);
}

void QuantizePlan::AddCopy(const std::string& name, const Tensor& tensor, std::span<const std::byte> raw,
                           const std::vector<int64_t>& shape) {
  Item item;
  item.module = name;
  item.source = &tensor;
  item.raw = raw;
  item.outputs = {{name, tensor.dtype, shape}};
  item.source_bytes = static_cast<int64_t>(raw.size());
  items_.push_back(std::move(item));
}

void QuantizePlan::AddMatrix(Item::Kind kind, const std::string& module, const Tensor& tensor,
                             const LinearWeight& matrix) {
  const int64_t n = RowCount(matrix);
  const int64_t k = ColumnCount(matrix);
  Item item;
  item.kind = kind;
  item.module = module;
  item.source = &tensor;
  item.matrix = matrix;
  item.source_bytes = ByteCount(matrix);
  const std::string weight = module + kWeightSuffix;
  if (kind == KindOf(options_.format)) item.group = GroupOf(CanonicalName(weight, config_.names));
  switch (kind) {
    case Item::Kind::kMxfp4:
      item.outputs = {{weight, TensorDType::kU8, {n, k / 2}},
                      {module + kMxfp4ScaleSuffix, TensorDType::kU8, {n, k / kMxBlock}}};
      break;
    case Item::Kind::kFp8: {
      const auto squares = [](int64_t extent) { return (extent + kFp8Block - 1) / kFp8Block; };
      item.outputs = {{module + kFp8ScaleSuffix, TensorDType::kF32, {squares(n), squares(k)}},
                      {weight, TensorDType::kF8E4m3, {n, k}}};
      break;
    }
    default:
      item.outputs = {{weight, TensorDType::kBf16, {n, k}}};
      break;
  }
  items_.push_back(std::move(item));
}

}  // namespace mxmla
