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
  std::deque<std::vector<float>> vectors;
  std::deque<std::vector<std::byte>> widened;
  std::deque<Tensor> tensors;  // of the widened values
};

class CheckpointSource : public WeightSource {
 public:
  CheckpointSource(const Checkpoint& checkpoint, const ModelConfig& config, ValueCheck check)
      : checkpoint_(checkpoint), config_(config), check_(check), storage_(std::make_shared<Storage>()) {
    storage_->files = checkpoint.files();
    for (const auto& [name, tensor] : checkpoint.tensors()) {
      const auto [at, inserted] = tensors_.emplace(CanonicalName(name, config.names), tensor);
      if (!inserted) {
        Fail(ErrorCode::kTensor, TensorSubject(*tensor), "one tensor of that name",
             "\"" + at->second->name + "\" beside it");
      }
    }
  }

  LinearWeight Matrix(const std::string& module, int64_t n, int64_t k, bool plain) override {
    MatrixTensors tensors;
    tensors.weight = Take(module + kWeightSuffix);
    if (!tensors.weight) FailMissing(module + kWeightSuffix, fmt::format("({}, {})", n, k));
    tensors.fp8_scale = Take(module + kFp8ScaleSuffix);
    tensors.mxfp4_scale = Take(module + kMxfp4ScaleSuffix);
    if (tensors.weight->shape == std::vector<int64_t>{n, k}) tensors.weight = Widened(tensors.weight);
    LinearWeight result = ReadMatrix(tensors, n, k);
    if (plain && IsQuantized(result)) {
      Fail(ErrorCode::kTensor, TensorSubject(*tensors.weight), DescribeShape("BF16 or F32", n, k),
           tensors.weight->Describe(), "embeddings and routers are not quantised");
    }
    if (check_ == ValueCheck::kAll || IsRouter(module)) CheckMatrix(tensors);
    Compare(module, result);
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

  std::optional<ExpertWeights> FusedExperts(const std::string& mlp) override {
    const Tensor* gate_up = Take(mlp + ".experts.gate_up_proj");
    const Tensor* down = Take(mlp + ".experts.down_proj");
    if (!gate_up && !down) return std::nullopt;
    const int64_t experts = config_.n_routed_experts;
    const int64_t hidden = config_.hidden_size;
    const int64_t width = config_.moe_intermediate_size;
    if (!gate_up) FailMissing(mlp + ".experts.gate_up_proj", fmt::format("({}, {}, {})", experts, 2 * width, hidden));
    if (!down) FailMissing(mlp + ".experts.down_proj", fmt::format("({}, {}, {})", experts, hidden, width));
    if (gate_up->shape == std::vector<int64_t>{experts, 2 * width, hidden}) gate_up = Widened(gate_up);
    if (down->shape == std::vector<int64_t>{experts, hidden, width}) down = Widened(down);
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
    note(excluded_, "MXFP4 matrices are named in the exclude list of config.json");
    note(undeclared_fp8_, "matrices are FP8 although config.json has no fp8 quantization_config");
    note(undeclared_mxfp4_, "matrices are MXFP4 although config.json has no quark quantization_config");
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

  // The config against the file: what the file holds decides.
  void Compare(const std::string& module, const LinearWeight& weight) {
    const QuantizationConfig& quantization = config_.quantization;
    if (std::holds_alternative<Fp8Block>(weight) && quantization.method != QuantMethod::kFp8) {
      undeclared_fp8_.push_back(module);
    }
    if (std::holds_alternative<Mxfp4<const e2m1x2, 2>>(weight)) {
      if (quantization.method != QuantMethod::kQuark) {
        undeclared_mxfp4_.push_back(module);
      } else if (quantization.exclude.Matches(module)) {
        excluded_.push_back(module);
      }
    }
  }

  // Matrix `index` of a tensor (count, n, k).
  LinearWeight FusedMatrix(const Tensor& tensor, int64_t index, int64_t count, int64_t n, int64_t k) const {
    const bool dtype_fits = tensor.dtype == TensorDType::kBf16 || tensor.dtype == TensorDType::kF32;
    if (!dtype_fits || tensor.shape != std::vector<int64_t>{count, n, k}) {
      Fail(ErrorCode::kTensor, TensorSubject(tensor), fmt::format("BF16 or F32 ({}, {}, {})", count, n, k),
           tensor.Describe(), "quantised experts are stored one by one");
    }
    if (tensor.dtype == TensorDType::kF32) return tensor.As<float, 3>().Select(0, index);
    return tensor.As<bf16, 3>().Select(0, index);
  }

  [[noreturn]] void FailMissing(const std::string& name, const std::string& shape) const {
    Fail(ErrorCode::kTensor, fmt::format("tensor \"{}\"", name), "shape " + shape,
         fmt::format("no such tensor in {}", checkpoint_.folder()),
         "config.json and the weights do not fit each other");
  }

  [[noreturn]] void FailUnexpected(const std::string& name, const Tensor& tensor) const {
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
  std::vector<std::string> excluded_, undeclared_fp8_, undeclared_mxfp4_, unused_;
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
