#include "checkpoint/quantize_plan.h"

#include <fmt/format.h>

#include <algorithm>

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

// GGUF's blocks, which safetensors files cannot hold.
bool IsGgmlBlock(TensorDType dtype) {
  return dtype == TensorDType::kQ8_0 || dtype == TensorDType::kQ4K || dtype == TensorDType::kQ6K ||
         dtype == TensorDType::kGgmlMxfp4;
}

// In the files' order, so that the source is read front to back.
std::vector<const Tensor*> InFileOrder(const Checkpoint& checkpoint) {
  std::vector<const Tensor*> tensors;
  for (const auto& file : checkpoint.files()) {
    for (const Tensor& tensor : file->tensors()) {
      if (checkpoint.Find(tensor.name) == &tensor) tensors.push_back(&tensor);
    }
  }
  if (checkpoint.gguf()) {
    for (const auto& [name, tensor] : checkpoint.tensors()) tensors.push_back(tensor);
    std::sort(tensors.begin(), tensors.end(), [](const Tensor* a, const Tensor* b) {
      return std::pair(a->file, a->data) < std::pair(b->file, b->data);
    });
  }
  return tensors;
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
  for (const Tensor* tensor : InFileOrder(checkpoint)) Add(*tensor);
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
  const bool gguf = config_.quantization.method == QuantMethod::kGguf;
  if (tensor.shape.size() == 3 && tensor.name.ends_with("_proj") && (gguf || InTree(canonical))) {
    return AddFused(tensor, InTree(canonical));
  }
  const std::string module(ModuleOf(tensor.name));
  if (gguf && module.ends_with(".v_b_proj")) return;  // goes with k_b_proj
  if (gguf && module.ends_with(".k_b_proj")) {
    return AddSplitHeads(module.substr(0, module.size() - std::string_view("k_b_proj").size()), tensor);
  }
  if (module.empty()) return AddCopy(tensor.name, tensor, {tensor.data, tensor.bytes}, tensor.shape);
  const bool excluded = ExcludedByUser(module);
  if (module.ends_with(".weights_proj")) kept_names_.push_back(module);
  const MatrixTensors tensors = FindMatrix(module, find);
  const bool quantized = tensors.scale || tensors.scale_inv || IsGgmlBlock(tensor.dtype);
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

// Experts in one tensor become one matrix each, under the published names. `projections` false: of a layer that is not
// run, whose matrices are never quantised.
void QuantizePlan::AddFused(const Tensor& tensor, bool projections) {
  const size_t last = tensor.name.rfind('.') + 1;
  const std::string projection = tensor.name.substr(last);
  const std::vector<std::string> parts = projection == "gate_up_proj" ? std::vector<std::string>{"gate_proj", "up_proj"}
                                                                      : std::vector<std::string>{projection};
  const int64_t experts = tensor.shape[0];
  const int64_t rows = tensor.shape[1] / static_cast<int64_t>(parts.size());
  const int64_t k = tensor.shape[2];
  Tensor& flat = flat_.emplace_back(tensor);
  flat.shape = {experts * tensor.shape[1], k};
  const LinearWeight all = ReadMatrix({&flat}, flat.shape[0], k, &scales_);
  for (int64_t e = 0; e < experts; ++e) {
    for (size_t part = 0; part < parts.size(); ++part) {
      const int64_t begin = e * tensor.shape[1] + static_cast<int64_t>(part) * rows;
      const std::string module = fmt::format("{}{}.{}", tensor.name.substr(0, last), e, parts[part]);
      if (projections && Quantizes(module, k, ExcludedByUser(module))) {
        AddProjection(module, tensor, Rows(all, begin, rows));
      } else if (IsGgmlBlock(tensor.dtype)) {
        ++dequantized_;
        AddMatrix(Item::Kind::kBf16, module, tensor, Rows(all, begin, rows));
      } else {
        const auto row_bytes = static_cast<size_t>(k) * static_cast<size_t>(TensorDTypeBits(tensor.dtype) / 8);
        AddCopy(module + kWeightSuffix, tensor,
                {tensor.data + static_cast<size_t>(begin) * row_bytes, static_cast<size_t>(rows) * row_bytes},
                {rows, k});
      }
    }
  }
}

// GGUF's k_b_proj (heads, kv_lora_rank, qk_nope_head_dim) and v_b_proj (heads, v_head_dim, kv_lora_rank).
void QuantizePlan::AddSplitHeads(const std::string& attention, const Tensor& keys) {
  const int64_t heads = config_.num_attention_heads;
  const int64_t nope = config_.qk_nope_head_dim, latent = config_.kv_lora_rank, v = config_.v_head_dim;
  const Tensor* values = checkpoint_.Find(attention + "v_b_proj.weight");
  const auto flat = [&](const Tensor* tensor, int64_t n, int64_t k) -> LinearWeight {
    if (!tensor || tensor->shape != std::vector<int64_t>{heads, n, k}) {
      Fail(ErrorCode::kTensor, attention + (tensor == &keys ? "k_b_proj" : "v_b_proj"),
           fmt::format("({}, {}, {})", heads, n, k), tensor ? tensor->Describe() : "no such tensor");
    }
    Tensor& matrix = flat_.emplace_back(*tensor);
    matrix.shape = {heads * n, k};
    return ReadMatrix({&matrix}, heads * n, k, &scales_);
  };
  const SplitHeads split{flat(&keys, latent, nope), flat(values, v, latent)};
  const std::string module = attention + "kv_b_proj";
  const bool quantizes = InTree(module + kWeightSuffix) && Quantizes(module, latent, ExcludedByUser(module));
  if (quantizes) {
    CheckBits(keys, split.keys);
    CheckBits(*values, split.values);
  } else {
    ++dequantized_;
  }
  Item item = ItemOf(quantizes ? KindOf(options_.format) : Item::Kind::kBf16, module, keys, heads * (nope + v), latent);
  item.source_bytes = ByteCount(split.keys) + ByteCount(split.values);
  item.split = split;
  item.heads = heads;
  items_.push_back(std::move(item));
}

void QuantizePlan::CheckBits(const Tensor& tensor, const LinearWeight& matrix) const {
  if (options_.format == TargetFormat::kMxfp4 && HasFourBits(matrix) && !options_.requantize) {
    Fail(ErrorCode::kQuantization, TensorSubject(tensor), "a matrix of more than 4 bits, to become MXFP4",
         std::string(FormatName(matrix)), "two roundings to 4 bits lose more than one; --requantize does it anyway");
  }
}

void QuantizePlan::AddProjection(const std::string& module, const Tensor& tensor, const LinearWeight& matrix) {
  CheckBits(tensor, matrix);
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
  Item item = ItemOf(kind, module, tensor, RowCount(matrix), ColumnCount(matrix));
  item.matrix = matrix;
  item.source_bytes = ByteCount(matrix);
  items_.push_back(std::move(item));
}

// Of an (n, k) matrix, without its source.
Item QuantizePlan::ItemOf(Item::Kind kind, const std::string& module, const Tensor& tensor, int64_t n,
                          int64_t k) const {
  Item item;
  item.kind = kind;
  item.module = module;
  item.source = &tensor;
  const std::string weight = module + kWeightSuffix;
  const std::string canonical = CanonicalName(weight, config_.names);
  if (kind == KindOf(options_.format) && InTree(canonical)) item.group = GroupOf(canonical);
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
  return item;
}

}  // namespace mxmla
