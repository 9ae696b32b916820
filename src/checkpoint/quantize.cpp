#include "checkpoint/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/json_reader.h"
#include "checkpoint/quantization_config.h"
#include "checkpoint/tensor_names.h"
#include "checkpoint/tensor_reader.h"
#include "checkpoint/weights.h"
#include "checkpoint/writer.h"
#include "core/thread_pool.h"
#include "ops/quantize_block.h"

namespace mxmla {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPieceElements = int64_t{1} << 24;  // of a matrix, quantised and written in one go

// One tensor or matrix of the output.
struct Item {
  enum class Kind { kCopy, kBf16, kMxfp4 };
  Kind kind = Kind::kCopy;
  std::string module;              // without ".weight"; a copied tensor's whole name
  const Tensor* source = nullptr;  // for messages
  std::span<const std::byte> raw;  // kCopy
  LinearWeight matrix;             // the others
  std::vector<OutputTensor> outputs;
  int64_t source_bytes = 0;

  uint64_t output_bytes() const {
    uint64_t sum = 0;
    for (const OutputTensor& tensor : outputs) sum += tensor.bytes();
    return sum;
  }
  int64_t alignment() const { return TensorDTypeBits(outputs.front().dtype); }
};

// Decides what becomes of every tensor.
class Planner {
 public:
  Planner(const Checkpoint& checkpoint, const ModelConfig& config, const QuantizeOptions& options)
      : checkpoint_(checkpoint), config_(config), matched_(options.exclude.size(), false) {
    for (const std::string& pattern : options.exclude)
      user_.emplace_back(std::vector{pattern}, "--exclude", ErrorCode::kUsage);
    for (const auto& [name, tensor] : checkpoint.tensors()) names_.emplace(CanonicalName(name, config.names), tensor);
    mtp_ = MtpLayers(names_, config.num_hidden_layers);
  }

  std::vector<Item> Plan() {
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
    return std::move(items_);
  }

  // For config.json: patterns in the spelling that other engines know.
  std::vector<std::string> ExcludePatterns() const {
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

  const std::vector<std::string>& ragged() const { return ragged_; }
  int64_t kept() const { return kept_; }
  int64_t dequantized() const { return dequantized_; }

 private:
  static bool IsProjection(std::string_view module) {
    const std::string_view last = module.substr(module.rfind('.') + 1);
    if (last == "weights_proj") return false;  // an indexer's, which is never quantised
    return last == "kv_a_proj_with_mqa" || (last.size() > 5 && last.substr(last.size() - 5) == "_proj");
  }

  bool InTree(const std::string& canonical) const {
    const int64_t layer = LayerOf(canonical);
    return layer >= 0 && layer < config_.num_hidden_layers;
  }

  // Whether the projection becomes MXFP4, as far as its shape and the user say.
  bool Quantizes(const std::string& module, int64_t k, bool excluded) {
    const bool ragged = k % kMxBlock != 0;
    if (!excluded && ragged) ragged_.push_back(module);
    if (excluded || ragged) ++kept_;
    return !excluded && !ragged;
  }

  // Every pattern that matches is marked, so that an idle one can be reported.
  bool ExcludedByUser(const std::string& module) {
    bool excluded = false;
    for (size_t i = 0; i < user_.size(); ++i) {
      if (!user_[i].Matches(module)) continue;
      matched_[i] = true;
      excluded = true;
    }
    return excluded;
  }

  void Add(const Tensor& tensor) {
    const std::string canonical = CanonicalName(tensor.name, config_.names);
    const std::string name = tensor.name;
    if (EndsWith(name, kFp8ScaleSuffix)) return;  // goes with its weight
    if (InTree(canonical) && tensor.shape.size() == 3 && EndsWith(name, "_proj")) return AddFused(tensor);
    const std::string module(ModuleOf(name));
    if (module.empty()) return AddCopy(tensor.name, tensor, {tensor.data, tensor.bytes}, tensor.shape);
    const bool excluded = ExcludedByUser(module);
    MatrixTensors tensors{&tensor, checkpoint_.Find(module + kFp8ScaleSuffix), nullptr};
    const bool fp8 = tensor.dtype == TensorDType::kF8E4m3 && tensors.fp8_scale;
    const auto [n, k] = MatrixExtents(tensors);
    if (n > 0 && InTree(canonical) && IsProjection(module) && Quantizes(module, k, excluded)) {
      return AddMatrix(Item::Kind::kMxfp4, module, tensor, ReadMatrix(tensors, n, k));
    }
    if (fp8) {
      ++dequantized_;
      return AddMatrix(Item::Kind::kBf16, module, tensor, ReadMatrix(tensors, n, k));
    }
    AddCopy(tensor.name, tensor, {tensor.data, tensor.bytes}, tensor.shape);
  }

  // Experts in one tensor become one matrix each, under the published names.
  void AddFused(const Tensor& tensor) {
    const size_t last = tensor.name.rfind('.') + 1;
    const std::string projection = tensor.name.substr(last);
    const bool gate_up = projection == "gate_up_proj";
    const std::vector<std::string> parts =
        gate_up ? std::vector<std::string>{"gate_proj", "up_proj"} : std::vector<std::string>{projection};
    const int64_t rows = tensor.shape[1] / static_cast<int64_t>(parts.size());
    for (int64_t e = 0; e < tensor.shape[0]; ++e) {
      LinearWeight whole;
      if (tensor.dtype == TensorDType::kF32) {
        whole = tensor.As<float, 3>().Select(0, e);
      } else {
        whole = tensor.As<bf16, 3>().Select(0, e);
      }
      for (size_t part = 0; part < parts.size(); ++part) {
        const LinearWeight matrix = Rows(whole, static_cast<int64_t>(part) * rows, rows);
        const std::string module = fmt::format("{}{}.{}", tensor.name.substr(0, last), e, parts[part]);
        if (Quantizes(module, tensor.shape[2], ExcludedByUser(module))) {
          AddMatrix(Item::Kind::kMxfp4, module, tensor, matrix);
        } else {
          const auto* data = std::visit(
              [](const auto& w) -> const std::byte* {
                if constexpr (requires { w.data; }) {
                  return reinterpret_cast<const std::byte*>(w.data);
                } else {
                  return nullptr;
                }
              },
              matrix);
          AddCopy(module + kWeightSuffix, tensor, {data, static_cast<size_t>(ByteCount(matrix))},
                  {rows, tensor.shape[2]});
        }
      }
    }
  }

  void AddCopy(const std::string& name, const Tensor& tensor, std::span<const std::byte> raw,
               const std::vector<int64_t>& shape) {
    Item item;
    item.module = name;
    item.source = &tensor;
    item.raw = raw;
    item.outputs = {{name, tensor.dtype, shape}};
    item.source_bytes = static_cast<int64_t>(raw.size());
    items_.push_back(std::move(item));
  }

  void AddMatrix(Item::Kind kind, const std::string& module, const Tensor& tensor, const LinearWeight& matrix) {
    const int64_t n = RowCount(matrix);
    const int64_t k = ColumnCount(matrix);
    Item item;
    item.kind = kind;
    item.module = module;
    item.source = &tensor;
    item.matrix = matrix;
    item.source_bytes = ByteCount(matrix);
    if (kind == Item::Kind::kBf16) {
      item.outputs = {{module + kWeightSuffix, TensorDType::kBf16, {n, k}}};
    } else {
      item.outputs = {{module + kWeightSuffix, TensorDType::kU8, {n, k / 2}},
                      {module + kMxfp4ScaleSuffix, TensorDType::kU8, {n, k / kMxBlock}}};
    }
    items_.push_back(std::move(item));
  }

  static bool EndsWith(std::string_view text, std::string_view suffix) {
    return text.size() >= suffix.size() && text.substr(text.size() - suffix.size()) == suffix;
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  std::vector<ExcludeList> user_;  // a pattern each
  std::vector<bool> matched_;
  std::map<std::string, const Tensor*> names_;
  std::set<int64_t> mtp_;
  std::vector<Item> items_;
  std::vector<std::string> ragged_;
  int64_t kept_ = 0, dequantized_ = 0;
};

// Shards of at most `limit` bytes (a larger tensor has one of its own); within a shard the wide dtypes come first.
std::vector<std::vector<const Item*>> Shards(const std::vector<Item>& items, uint64_t limit) {
  std::vector<std::vector<const Item*>> shards(1);
  uint64_t bytes = 0;
  for (const Item& item : items) {
    if (!shards.back().empty() && bytes + item.output_bytes() > limit) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(&item);
    bytes += item.output_bytes();
  }
  for (std::vector<const Item*>& shard : shards) {
    std::stable_sort(shard.begin(), shard.end(),
                     [](const Item* a, const Item* b) { return a->alignment() > b->alignment(); });
  }
  return shards;
}

class ItemWriter {
 public:
  ItemWriter(const QuantizeOptions& options, int64_t total_bytes)
      : options_(options), scratch_(static_cast<size_t>(options.pool->threads())) {
    progress_.total_bytes = total_bytes;
  }

  void Write(const Item& item, SafetensorsWriter* out) {
    progress_.tensor = item.outputs.front().name;
    if (item.kind == Item::Kind::kCopy) return WriteCopy(item, out);
    const int64_t n = RowCount(item.matrix);
    const int64_t k = ColumnCount(item.matrix);
    const int64_t piece = std::max<int64_t>(1, kPieceElements / std::max<int64_t>(k, 1));
    scales_.assign(item.kind == Item::Kind::kMxfp4 ? static_cast<size_t>(n * k / kMxBlock) : 0, e8m0{});
    for (int64_t begin = 0; begin < n; begin += piece) {
      const int64_t rows = std::min(piece, n - begin);
      if (item.kind == Item::Kind::kBf16) {
        Round(item, begin, rows, out);
      } else {
        Quantize(item, begin, rows, out);
      }
      Advance(item.source_bytes * rows / std::max<int64_t>(n, 1));
    }
    out->Write(std::as_bytes(std::span(scales_)));
  }

 private:
  void Advance(int64_t bytes) {
    if (options_.cancel && options_.cancel->load(std::memory_order_relaxed)) {
      Fail(ErrorCode::kOutput, "quantize", "to finish", "an interruption", "nothing was left behind");
    }
    progress_.done_bytes = std::min(progress_.done_bytes + bytes, progress_.total_bytes);
    if (options_.progress) options_.progress(progress_);
  }

  void WriteCopy(const Item& item, SafetensorsWriter* out) {
    constexpr size_t kPiece = size_t{32} << 20;
    for (size_t begin = 0; begin < item.raw.size(); begin += kPiece) {
      const size_t count = std::min(kPiece, item.raw.size() - begin);
      out->Write(item.raw.subspan(begin, count));
      Advance(static_cast<int64_t>(count));
    }
  }

  float* Scratch(int worker, int64_t k) {
    std::vector<float>& row = scratch_[static_cast<size_t>(worker)];
    row.resize(static_cast<size_t>(k));
    return row.data();
  }

  void Round(const Item& item, int64_t begin, int64_t rows, SafetensorsWriter* out) {
    const int64_t k = ColumnCount(item.matrix);
    std::vector<bf16> values(static_cast<size_t>(rows * k));
    options_.pool->ParallelFor(rows, [&](int64_t r, int worker) {
      float* row = Scratch(worker, k);
      DequantizeRow(item.matrix, begin + r, row);
      for (int64_t i = 0; i < k; ++i) values[static_cast<size_t>(r * k + i)] = bf16::FromFloat(row[i]);
    });
    out->Write(std::as_bytes(std::span(values)));
  }

  void Quantize(const Item& item, int64_t begin, int64_t rows, SafetensorsWriter* out) {
    const int64_t k = ColumnCount(item.matrix);
    const int64_t blocks = k / kMxBlock;
    codes_.resize(static_cast<size_t>(rows * k / 2));
    options_.pool->ParallelFor(rows, [&](int64_t r, int worker) {
      float* row = Scratch(worker, k);
      DequantizeRow(item.matrix, begin + r, row);
      for (int64_t b = 0; b < blocks; ++b) {
        const e8m0 scale = QuantizeMxfp4Block(row + b * kMxBlock, options_.scale_mode,
                                              codes_.data() + (r * blocks + b) * (kMxBlock / 2));
        scales_[static_cast<size_t>((begin + r) * blocks + b)] = scale;
        if (scale.bits == e8m0::kNan) {
          Fail(ErrorCode::kTensor, TensorSubject(*item.source), "finite weights",
               fmt::format("NaN or infinity in row {}, columns {} to {}", begin + r, b * kMxBlock,
                           (b + 1) * kMxBlock - 1));
        }
      }
    });
    out->Write(std::as_bytes(std::span(codes_)));
  }

  const QuantizeOptions& options_;
  QuantizeProgress progress_;
  std::vector<std::vector<float>> scratch_;
  std::vector<e2m1x2> codes_;
  std::vector<e8m0> scales_;  // of the whole matrix, written after its values
};

nlohmann::ordered_json Mxfp4Spec(ScaleMode mode, bool dynamic) {
  return {{"dtype", "fp4"},
          {"is_dynamic", dynamic},
          {"qscheme", "per_group"},
          {"ch_axis", -1},
          {"group_size", kMxBlock},
          {"block_size", nullptr},
          {"symmetric", nullptr},
          {"round_method", "half_even"},
          {"scale_type", "float"},
          {"scale_format", "e8m0"},
          {"scale_calculation_mode", ScaleModeName(mode)},
          {"mx_element_dtype", nullptr},
          {"observer_cls", "PerBlockMXObserver"},
          {"is_scale_quant", false}};
}

// The source's config.json with Quark's quantization_config. Inputs are declared as in published MXFP4 checkpoints.
std::string QuantizedConfig(const std::string& text, ScaleMode mode, const std::vector<std::string>& exclude) {
  using OrderedJson = nlohmann::ordered_json;
  OrderedJson config = OrderedJson::parse(text);
  if (config.contains("text_config") && config["text_config"].is_object()) {
    config["text_config"].erase("quantization_config");
  }
  config["quantization_config"] = {{"quant_method", "quark"},
                                   {"quant_mode", "eager_mode"},
                                   {"global_quant_config",
                                    {{"weight", Mxfp4Spec(mode, false)},
                                     {"input_tensors", Mxfp4Spec(ScaleMode::kEven, true)},
                                     {"output_tensors", nullptr},
                                     {"bias", nullptr},
                                     {"target_device", nullptr}}},
                                   {"exclude", exclude},
                                   {"algo_config", nullptr},
                                   {"softmax_quant_spec", nullptr},
                                   {"layer_quant_config", OrderedJson::object()},
                                   {"layer_type_quant_config", OrderedJson::object()},
                                   {"kv_cache_quant_config", OrderedJson::object()},
                                   {"kv_cache_post_rope", false},
                                   {"export",
                                    {{"kv_cache_group", OrderedJson::array()},
                                     {"min_kv_scale", 0.0},
                                     {"pack_method", "reorder"},
                                     {"weight_format", "real_quantized"},
                                     {"weight_merge_groups", nullptr}}}};
  return config.dump(2) + "\n";
}

// The tokenizer, the generation config, the licence, ...: everything small that is neither weights nor rewritten.
void CopySmallFiles(const std::string& source, const std::string& destination) {
  constexpr uintmax_t kLargest = uintmax_t{256} << 20;
  const std::set<std::string> weights = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"};
  std::error_code status;
  for (const fs::directory_entry& entry : fs::directory_iterator(source, status)) {
    const fs::path& path = entry.path();
    const std::string name = path.filename().string();
    if (!entry.is_regular_file(status) || name[0] == '.' || weights.contains(path.extension().string())) continue;
    if (name == "config.json" || name == "model.safetensors.index.json" || entry.file_size(status) > kLargest) continue;
    CopyFile(path.string(), destination + "/" + name);
  }
  if (status) Fail(ErrorCode::kMissingFile, source, "a readable folder", status.message());
}

void RequireUnquantized(const Checkpoint& checkpoint, const ModelConfig& config) {
  const bool declared = config.quantization.method == QuantMethod::kQuark;
  bool held = false;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    held = held || (tensor->dtype == TensorDType::kU8 && !ModuleOf(name).empty());
  }
  if (declared || held) {
    Fail(ErrorCode::kQuantization, checkpoint.folder(), "a checkpoint in BF16 or FP8", "one that is MXFP4 already");
  }
}

}  // namespace

QuantizeResult QuantizeCheckpoint(const std::string& source, const std::string& destination,
                                  const QuantizeOptions& options) {
  const ModelConfig config = LoadConfig(source);
  if (!fs::exists(source + "/config.json")) {
    Fail(ErrorCode::kMissingFile, source + "/config.json", "a folder in the layout of Hugging Face",
         "Mistral's params.json alone", "convert the folder with transformers first");
  }
  const Checkpoint checkpoint = Checkpoint::Open(source);
  RequireUnquantized(checkpoint, config);
  QuantizeResult result;
  result.notes = LoadWeights(checkpoint, config).notes;
  Planner planner(checkpoint, config, options);
  const std::vector<Item> items = planner.Plan();
  for (const Item& item : items) {
    if (item.kind == Item::Kind::kMxfp4) ++result.quantized;
    result.source_bytes += item.source_bytes;
    result.output_bytes += static_cast<int64_t>(item.output_bytes());
  }
  result.kept = planner.kept();
  result.exclude = planner.ExcludePatterns();
  if (planner.dequantized() > 0) {
    result.notes.push_back(fmt::format("{} FP8 matrices that stay unquantised become BF16", planner.dequantized()));
  }
  if (!planner.ragged().empty()) {
    result.notes.push_back(fmt::format("{} matrices ({}{}) stay as they are: their rows are no multiple of {} elements",
                                       planner.ragged().size(), planner.ragged().front(),
                                       planner.ragged().size() > 1 ? ", ..." : "", kMxBlock));
  }

  OutputFolder folder(destination);
  if (folder.FreeBytes() < static_cast<uint64_t>(result.output_bytes)) {
    Fail(ErrorCode::kOutput, destination, fmt::format("{} free bytes on the disk", result.output_bytes),
         fmt::format("{}", folder.FreeBytes()));
  }
  const std::vector<std::vector<const Item*>> shards = Shards(items, options.shard_bytes);
  result.shards = static_cast<int64_t>(shards.size());
  ItemWriter writer(options, result.source_bytes);
  nlohmann::json weight_map = nlohmann::json::object();
  for (size_t s = 0; s < shards.size(); ++s) {
    const std::string name = shards.size() == 1 ? "model.safetensors"
                                                : fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
    std::vector<OutputTensor> tensors;
    for (const Item* item : shards[s]) tensors.insert(tensors.end(), item->outputs.begin(), item->outputs.end());
    for (const OutputTensor& tensor : tensors) weight_map[tensor.name] = name;
    SafetensorsWriter out(folder.path() + "/" + name, tensors);
    for (const Item* item : shards[s]) writer.Write(*item, &out);
    out.Finish();
  }
  if (shards.size() > 1) {
    const nlohmann::json index = {{"metadata", {{"total_size", result.output_bytes}}}, {"weight_map", weight_map}};
    WriteFile(folder.path() + "/model.safetensors.index.json", index.dump(2) + "\n");
  }
  CopySmallFiles(source, folder.path());
  WriteFile(folder.path() + "/config.json",
            QuantizedConfig(ReadTextFile(source + "/config.json", ErrorCode::kBadConfig), options.scale_mode,
                            result.exclude));
  folder.Commit();
  return result;
}

}  // namespace mxmla
