#include "checkpoint/weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <deque>
#include <unordered_set>

#include "checkpoint/tensor_names.h"
#include "checkpoint/tensor_reader.h"
#include "checkpoint/weight_tree.h"

namespace mxmla {
namespace {

struct Storage {
  std::vector<std::shared_ptr<const SafetensorsFile>> files;
  std::shared_ptr<const void> gguf;
  std::deque<std::vector<float>> vectors;
  std::deque<std::vector<std::byte>> widened;
  std::deque<Tensor> tensors;  // of the widened values
  WidenedScales scales;
  std::deque<Tensor> tensors_of_gguf;  // with fewer dimensions than in the file
};

class CheckpointSource : public WeightSource {
 public:
  CheckpointSource(const Checkpoint& checkpoint, const ModelConfig& config, ValueCheck check)
      : checkpoint_(checkpoint), config_(config), check_(check), storage_(std::make_shared<Storage>()) {
    storage_->files = checkpoint.files();
    storage_->gguf = checkpoint.gguf();
    for (const auto& [name, tensor] : checkpoint.tensors()) {
      const auto [at, inserted] = tensors_.emplace(CanonicalName(name, config.names), tensor);
      if (!inserted) {
        Fail(ErrorCode::kTensor, TensorSubject(*tensor), "one tensor of that name",
             "\"" + at->second->name + "\" beside it");
      }
    }
  }

  LinearWeight Matrix(const std::string& module, int64_t n, int64_t k, bool plain) override {
    MatrixTensors tensors = FindMatrix(module, [&](const std::string& name) { return Take(name); });
    if (!tensors.weight) FailMissing(module + kWeightSuffix, fmt::format("({}, {})", n, k));
    if (IsRouter(module) && tensors.weight->shape == std::vector<int64_t>{n, k}) {
      tensors.weight = Widened(tensors.weight);
    }
    LinearWeight result = ReadMatrix(tensors, n, k, &storage_->scales);
    const bool embeds = config_.quantization.method == QuantMethod::kGguf && !IsRouter(module);
    if (plain && IsQuantized(result) && !embeds) {
      Fail(ErrorCode::kTensor, TensorSubject(*tensors.weight), DescribeShape("BF16 or F32", n, k),
           tensors.weight->Describe(), "embeddings and routers are not quantised");
    }
    if (check_ == ValueCheck::kAll || IsRouter(module)) CheckMatrix(tensors);
    Compare(module, tensors.weight->name, result);
    return result;
  }

  View<const float, 1> Vector(const std::string& name, int64_t n) override {
    const Tensor* tensor = Take(name);
    if (!tensor) FailMissing(name, fmt::format("({})", n));
    // A NaN here would reach every token or, in a router, choose experts without a trace.
    CheckFinite(*tensor);
    const std::vector<float>& values = storage_->vectors.emplace_back(ReadVector(*tensor, n));
    vector_dtypes_.emplace(values.data(), tensor->dtype);
    return View<const float, 1>::Contiguous(values.data(), {n});
  }

  View<const float, 1> OptionalVector(const std::string& name, int64_t n) override {
    return tensors_.contains(name) ? Vector(name, n) : View<const float, 1>{};
  }

  void UnusedVector(const std::string& name) override {
    if (Take(name)) unused_.push_back(name);
  }

  bool HasHead() override { return tensors_.contains("lm_head.weight"); }

  std::optional<SplitHeads> Split(const std::string& attention) override {
    const Tensor* keys = Take(attention + "k_b_proj.weight");
    const Tensor* values = Take(attention + "v_b_proj.weight");
    if (!keys && !values) return std::nullopt;
    const int64_t heads = config_.num_attention_heads;
    const int64_t nope = config_.qk_nope_head_dim, latent = config_.kv_lora_rank, v = config_.v_head_dim;
    if (!keys) FailMissing(attention + "k_b_proj.weight", fmt::format("({}, {}, {})", heads, latent, nope));
    if (!values) FailMissing(attention + "v_b_proj.weight", fmt::format("({}, {}, {})", heads, v, latent));
    return SplitHeads{FlatMatrix(*keys, heads, latent, nope), FlatMatrix(*values, heads, v, latent)};
  }

  std::optional<ExpertWeights> FusedExperts(const std::string& mlp) override {
    if (tensors_.contains(mlp + ".experts.gate_proj")) return StackedExperts(mlp);
    const Tensor* gate_up = Take(mlp + ".experts.gate_up_proj");
    const Tensor* down = Take(mlp + ".experts.down_proj");
    if (!gate_up && !down) return std::nullopt;
    const int64_t experts = config_.n_routed_experts;
    const int64_t hidden = config_.hidden_size;
    const int64_t width = config_.moe_intermediate_size;
    if (!gate_up) FailMissing(mlp + ".experts.gate_up_proj", fmt::format("({}, {}, {})", experts, 2 * width, hidden));
    if (!down) FailMissing(mlp + ".experts.down_proj", fmt::format("({}, {}, {})", experts, hidden, width));
    ExpertWeights result;
    for (int64_t e = 0; e < experts; ++e) {
      const LinearWeight both = FusedMatrix(*gate_up, e, experts, 2 * width, hidden);
      result.gate_proj.push_back(Rows(both, 0, width));
      result.up_proj.push_back(Rows(both, width, width));
      result.down_proj.push_back(FusedMatrix(*down, e, experts, hidden, width));
    }
    if (check_ == ValueCheck::kAll) {
      CheckFinite(*gate_up);
      CheckFinite(*down);
    }
    return result;
  }

  // Every tensor that the tree did not take is skipped with a note, or refused.
  std::vector<std::string> CheckRest() {
    const std::set<int64_t> mtp = MtpLayers(tensors_, config_.num_hidden_layers);
    std::map<SkippedKind, int64_t> skipped;
    for (const auto& [name, tensor] : tensors_) {
      if (taken_.contains(tensor)) continue;
      const SkippedKind kind = ClassifySkipped(name, mtp);
      if (kind == SkippedKind::kNone) FailUnexpected(name, *tensor);
      ++skipped[kind];
    }
    std::vector<std::string> notes;
    for (const auto& file : storage_->files) {
      if (file->realigned() == 0) continue;
      notes.push_back(
          fmt::format("{} tensors of {} are not aligned and were copied into memory; a file saved by the "
                      "safetensors library is mapped as it is",
                      file->realigned(), file->path()));
    }
    for (const auto& [kind, count] : skipped) notes.push_back(SkipNote(kind, count, mtp));
    const auto note = [&](const std::vector<std::string>& modules, std::string_view what) {
      if (modules.empty()) return;
      notes.push_back(fmt::format("{} {} ({}{}): the tensors are used as the file holds them", modules.size(), what,
                                  modules.front(), modules.size() > 1 ? ", ..." : ""));
    };
    if (!storage_->tensors.empty()) {
      notes.push_back(fmt::format("{} matrices of F16 were widened into memory, exactly", storage_->tensors.size()));
    }
    if (!unused_.empty()) {
      notes.push_back(fmt::format("skipped {} norms ({}{}): the model does not use those of its dense layers",
                                  unused_.size(), unused_.front(), unused_.size() > 1 ? ", ..." : ""));
    }
    for (const auto& [format, modules] : excluded_) {
      note(modules, fmt::format("matrices of {} are named in the exclude list of config.json", format));
    }
    for (const auto& [format, modules] : undeclared_) {
      note(modules, fmt::format("matrices are of {} although config.json does not say so", format));
    }
    return notes;
  }

  std::shared_ptr<const void> storage() const { return storage_; }
  std::map<const float*, TensorDType> vector_dtypes() const { return vector_dtypes_; }
  std::map<const void*, const void*> widened() const { return widened_; }

 private:
  // The tensor of that canonical name, or null; it counts as used.
  const Tensor* Take(const std::string& name) {
    const auto at = tensors_.find(name);
    if (at == tensors_.end()) return nullptr;
    taken_.insert(at->second);
    return at->second;
  }

  static bool IsRouter(std::string_view module) { return module.ends_with(".mlp.gate"); }

  // A tensor of F16 as one that products read; any other as it is.
  const Tensor* Widened(const Tensor* tensor) {
    if (tensor->dtype != TensorDType::kF16) return tensor;
    std::vector<std::byte>& values = storage_->widened.emplace_back();
    const Tensor& result = storage_->tensors.emplace_back(WidenHalf(*tensor, &values));
    widened_.emplace(values.data(), values.data() + values.size());
    return &result;
  }

  // The config against the file: what the file holds decides. `name` is the weight's in the file.
  void Compare(const std::string& module, std::string_view name, const LinearWeight& weight) {
    const QuantizationConfig& quantization = config_.quantization;
    if (!IsQuantized(weight) || quantization.method == QuantMethod::kGguf) return;
    const std::string_view stored(ModuleOf(name));
    const std::string format(FormatName(weight));
    if (quantization.exclude.Matches(module) || quantization.exclude.Matches(stored)) {
      excluded_[format].push_back(module);
      return;
    }
    std::optional<WeightFormat> declared = quantization.FormatOf(stored);
    if (!declared) declared = quantization.FormatOf(module);
    if (!declared || WeightFormatName(*declared) != format) undeclared_[format].push_back(module);
  }

  // The (count * n, k) matrix of a tensor (count, n, k).
  LinearWeight FlatMatrix(const Tensor& tensor, int64_t count, int64_t n, int64_t k) {
    if (tensor.shape != std::vector<int64_t>{count, n, k}) {
      Fail(ErrorCode::kTensor, TensorSubject(tensor), fmt::format("({}, {}, {})", count, n, k), tensor.Describe());
    }
    Tensor& flat = storage_->tensors_of_gguf.emplace_back(tensor);
    flat.shape = {count * n, k};
    const MatrixTensors tensors{&flat};
    if (check_ == ValueCheck::kAll) CheckMatrix(tensors);
    return ReadMatrix(tensors, count * n, k, &storage_->scales);
  }

  // GGUF's experts: one tensor a projection.
  ExpertWeights StackedExperts(const std::string& mlp) {
    const int64_t experts = config_.n_routed_experts;
    ExpertWeights result;
    const auto read = [&](std::string_view projection, int64_t n, int64_t k, std::vector<LinearWeight>* to) {
      const std::string name = fmt::format("{}.experts.{}", mlp, projection);
      const Tensor* tensor = Take(name);
      if (!tensor) FailMissing(name, fmt::format("({}, {}, {})", experts, n, k));
      const LinearWeight all = FlatMatrix(*tensor, experts, n, k);
      for (int64_t e = 0; e < experts; ++e) to->push_back(Rows(all, e * n, n));
    };
    read("gate_proj", config_.moe_intermediate_size, config_.hidden_size, &result.gate_proj);
    read("up_proj", config_.moe_intermediate_size, config_.hidden_size, &result.up_proj);
    read("down_proj", config_.hidden_size, config_.moe_intermediate_size, &result.down_proj);
    return result;
  }

  // Matrix `index` of a tensor (count, n, k).
  LinearWeight FusedMatrix(const Tensor& tensor, int64_t index, int64_t count, int64_t n, int64_t k) const {
    const bool dtype_fits =
        tensor.dtype == TensorDType::kBf16 || tensor.dtype == TensorDType::kF32 || tensor.dtype == TensorDType::kF16;
    if (!dtype_fits || tensor.shape != std::vector<int64_t>{count, n, k}) {
      Fail(ErrorCode::kTensor, TensorSubject(tensor), fmt::format("BF16 or F32 ({}, {}, {})", count, n, k),
           tensor.Describe(), "quantised experts are stored one by one");
    }
    if (tensor.dtype == TensorDType::kF32) return tensor.As<float, 3>().Select(0, index);
    if (tensor.dtype == TensorDType::kF16) return tensor.As<f16, 3>().Select(0, index);
    return tensor.As<bf16, 3>().Select(0, index);
  }

  [[noreturn]] void FailMissing(const std::string& name, const std::string& shape) const {
    const std::string module = name.substr(0, name.rfind('.'));
    if (const auto at = tensors_.find(module + ".qweight"); at != tensors_.end()) {
      Fail(ErrorCode::kTensor, TensorSubject(*at->second), "\"" + name + "\"", at->second->Describe(),
           "GPTQ's and AWQ's packed integers are not read; take the BF16 or FP8 release");
    }
    Fail(ErrorCode::kTensor, fmt::format("tensor \"{}\"", name), "shape " + shape,
         fmt::format("no such tensor in {}", checkpoint_.folder()),
         "config.json and the weights do not fit each other");
  }

  [[noreturn]] void FailUnexpected(const std::string& name, const Tensor& tensor) const {
    struct Foreign {
      std::string_view suffix, why;
    };
    constexpr Foreign kForeign[] = {
        {".weight_zero_point", "asymmetric integers are not read; take the BF16 or FP8 release"},
        {".weight_g_idx", "columns in another order are not read; take the BF16 or FP8 release"},
        {".pre_quant_scale", "activations scaled before the product (AWQ) are not supported"},
    };
    for (const Foreign& foreign : kForeign) {
      if (!name.ends_with(foreign.suffix)) continue;
      Fail(ErrorCode::kTensor, TensorSubject(tensor), "no such tensor", tensor.Describe(), foreign.why);
    }
    const int64_t layer = LayerOf(name);
    const bool beyond = layer >= config_.num_hidden_layers;
    Fail(ErrorCode::kTensor, TensorSubject(tensor),
         beyond ? fmt::format("layers 0 to {}, as num_hidden_layers says", config_.num_hidden_layers - 1)
                : fmt::format("no tensor of that name in a {}", config_.architecture_name),
         tensor.Describe(), "config.json and the weights do not fit each other");
  }

  static std::string SkipNote(SkippedKind kind, int64_t count, const std::set<int64_t>& mtp) {
    switch (kind) {
      case SkippedKind::kMtp:
        return fmt::format("skipped {} tensors of multi-token prediction (layer {})", count, fmt::join(mtp, ", "));
      case SkippedKind::kVision:
        return fmt::format("skipped {} tensors of the vision tower: only text is supported", count);
      case SkippedKind::kRotary:
        return fmt::format("skipped {} rotary_emb.inv_freq tensors: the angles come from config.json", count);
      case SkippedKind::kActivationScale:
        return fmt::format("skipped {} scales of activations and caches: those are quantised by what they hold", count);
      case SkippedKind::kNone:
        break;
    }
    return {};
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const ValueCheck check_;
  std::shared_ptr<Storage> storage_;
  std::map<std::string, const Tensor*> tensors_;  // by canonical name
  std::unordered_set<const Tensor*> taken_;
  std::map<const float*, TensorDType> vector_dtypes_;
  std::map<const void*, const void*> widened_;
  std::map<std::string, std::vector<std::string>, std::less<>> excluded_, undeclared_;  // modules by their format
  std::vector<std::string> unused_;
};

}  // namespace

ModelWeights LoadWeights(const Checkpoint& checkpoint, const ModelConfig& config, ValueCheck check) {
  CheckpointSource source(checkpoint, config, check);
  ModelWeights weights = BuildWeights(config, source);
  weights.notes = source.CheckRest();
  weights.vector_dtypes = source.vector_dtypes();
  weights.widened = source.widened();
  weights.storage = source.storage();
  return weights;
}

}  // namespace mxmla
