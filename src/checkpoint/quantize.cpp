#include "checkpoint/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/gguf_model.h"
#include "checkpoint/json_reader.h"
#include "checkpoint/quantization_config.h"
#include "checkpoint/quantize_plan.h"
#include "checkpoint/weights.h"
#include "core/thread_pool.h"
#include "ops/quantize_block.h"

namespace mxmla {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPieceElements = int64_t{1} << 24;  // of a matrix, quantised and written in one go

// Shards of at most `limit` bytes (a larger tensor has one of its own); within a shard the wide dtypes come first.
std::vector<std::vector<const QuantizeItem*>> Shards(const std::vector<QuantizeItem>& items, uint64_t limit) {
  std::vector<std::vector<const QuantizeItem*>> shards(1);
  uint64_t bytes = 0;
  for (const QuantizeItem& item : items) {
    if (!shards.back().empty() && bytes + item.output_bytes() > limit) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(&item);
    bytes += item.output_bytes();
  }
  for (std::vector<const QuantizeItem*>& shard : shards) {
    std::stable_sort(shard.begin(), shard.end(),
                     [](const QuantizeItem* a, const QuantizeItem* b) { return a->alignment() > b->alignment(); });
  }
  return shards;
}

class ItemWriter {
 public:
  ItemWriter(const QuantizeOptions& options, int64_t total_bytes)
      : options_(options), scratch_(static_cast<size_t>(options.pool->threads())) {
    progress_.total_bytes = total_bytes;
  }

  void Write(const QuantizeItem& item, SafetensorsWriter* out) {
    progress_.tensor = item.outputs.front().name;
    if (item.kind == QuantizeItem::Kind::kCopy) return WriteCopy(item, out);
    if (!item.split) return WriteMatrix(item, out);
    QuantizeItem joined = item;
    const std::vector<float> values = Joined(*item.split, item.heads);
    const int64_t latent = ColumnCount(item.split->values);
    joined.matrix = View<const float, 2>::Contiguous(values.data(), {std::ssize(values) / latent, latent});
    WriteMatrix(joined, out);
  }

  std::vector<QuantizeError> errors() const {
    std::vector<QuantizeError> result;
    for (const auto& [group, sums] : groups_) {
      const double squares = sums.second.squares;
      result.push_back({group, sums.first, squares > 0 ? std::sqrt(sums.second.difference / squares) : 0});
    }
    return result;
  }

 private:
  // kv_b_proj (heads * (qk_nope_head_dim + v_head_dim), kv_lora_rank): of each head the keys' transpose, then the
  // values.
  std::vector<float> Joined(const SplitHeads& split, int64_t heads) {
    const int64_t latent = ColumnCount(split.values), nope = ColumnCount(split.keys);
    const int64_t v = RowCount(split.values) / heads;
    std::vector<float> joined(static_cast<size_t>(heads * (nope + v) * latent));
    options_.pool->ParallelFor(heads, [&](int64_t h, int worker) {
      float* const to = joined.data() + h * (nope + v) * latent;  // (nope + v, latent)
      float* const row = Scratch(worker, nope);
      for (int64_t l = 0; l < latent; ++l) {
        DequantizeRow(split.keys, h * latent + l, row);
        for (int64_t i = 0; i < nope; ++i) to[i * latent + l] = row[i];
      }
      for (int64_t i = 0; i < v; ++i) DequantizeRow(split.values, h * v + i, to + (nope + i) * latent);
    });
    return joined;
  }

  void WriteMatrix(const QuantizeItem& item, SafetensorsWriter* out) {
    const int64_t n = RowCount(item.matrix);
    const int64_t k = ColumnCount(item.matrix);
    // Whole squares of FP8.
    const int64_t piece = std::max<int64_t>(1, kPieceElements / std::max<int64_t>(k, 1) / kFp8Block) * kFp8Block;
    Error error;
    if (item.kind == QuantizeItem::Kind::kFp8) {
      WriteFp8(item, piece, &error, out);
      return Count(item, error);
    }
    scales_.assign(item.kind == QuantizeItem::Kind::kMxfp4 ? static_cast<size_t>(n * k / kMxBlock) : 0, e8m0{});
    for (int64_t begin = 0; begin < n; begin += piece) {
      const int64_t rows = std::min(piece, n - begin);
      if (item.kind == QuantizeItem::Kind::kBf16) {
        Round(item, begin, rows, &error, out);
      } else {
        Quantize(item, begin, rows, &error, out);
      }
      Advance(item.source_bytes * rows / std::max<int64_t>(n, 1));
    }
    out->Write(std::as_bytes(std::span(scales_)));
    Count(item, error);
  }

  // Sums over elements, in the order of rows.
  struct Error {
    double difference = 0, squares = 0;  // of what was written from the source; of the source

    void Add(float source, float written) {
      const double off = static_cast<double>(written) - static_cast<double>(source);
      difference += off * off;
      squares += static_cast<double>(source) * static_cast<double>(source);
    }
    void Add(const Error& other) {
      difference += other.difference;
      squares += other.squares;
    }
  };

  void Count(const QuantizeItem& item, const Error& error) {
    if (item.group.empty()) return;
    auto& [matrices, sums] = groups_[item.group];
    ++matrices;
    sums.Add(error);
  }

  [[noreturn]] static void FailNan(const QuantizeItem& item, const std::string& place) {
    Fail(ErrorCode::kTensor, TensorSubject(*item.source), "finite weights", "NaN or infinity in " + place);
  }

  void Advance(int64_t bytes) {
    if (options_.cancel && options_.cancel->load(std::memory_order_relaxed)) {
      Fail(ErrorCode::kOutput, "quantize", "to finish", "an interruption", "nothing was left behind");
    }
    progress_.done_bytes = std::min(progress_.done_bytes + bytes, progress_.total_bytes);
    if (options_.progress) options_.progress(progress_);
  }

  void WriteCopy(const QuantizeItem& item, SafetensorsWriter* out) {
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

  void Round(const QuantizeItem& item, int64_t begin, int64_t rows, Error* error, SafetensorsWriter* out) {
    const int64_t k = ColumnCount(item.matrix);
    std::vector<bf16> values(static_cast<size_t>(rows * k));
    std::vector<Error> sums(static_cast<size_t>(rows));
    options_.pool->ParallelFor(rows, [&](int64_t r, int worker) {
      float* row = Scratch(worker, k);
      DequantizeRow(item.matrix, begin + r, row);
      for (int64_t i = 0; i < k; ++i) {
        const bf16 value = bf16::FromFloat(row[i]);
        values[static_cast<size_t>(r * k + i)] = value;
        sums[static_cast<size_t>(r)].Add(row[i], value.ToFloat());
      }
    });
    for (const Error& sum : sums) error->Add(sum);
    out->Write(std::as_bytes(std::span(values)));
  }

  void Quantize(const QuantizeItem& item, int64_t begin, int64_t rows, Error* error, SafetensorsWriter* out) {
    const int64_t k = ColumnCount(item.matrix);
    const int64_t blocks = k / kMxBlock;
    codes_.resize(static_cast<size_t>(rows * k / 2));
    std::vector<Error> sums(static_cast<size_t>(rows));
    options_.pool->ParallelFor(rows, [&](int64_t r, int worker) {
      float* row = Scratch(worker, k);
      DequantizeRow(item.matrix, begin + r, row);
      for (int64_t b = 0; b < blocks; ++b) {
        const e8m0 scale = QuantizeMxfp4Block(row + b * kMxBlock, options_.scale_mode,
                                              codes_.data() + (r * blocks + b) * (kMxBlock / 2));
        scales_[static_cast<size_t>((begin + r) * blocks + b)] = scale;
        if (scale.bits == e8m0::kNan) {
          FailNan(item, fmt::format("row {}, columns {} to {}", begin + r, b * kMxBlock, (b + 1) * kMxBlock - 1));
        }
        for (int64_t i = 0; i < kMxBlock; ++i) {
          const e2m1x2 pair = codes_[static_cast<size_t>(((r * blocks + b) * kMxBlock + i) / 2)];
          sums[static_cast<size_t>(r)].Add(row[b * kMxBlock + i], (i % 2 ? pair.High() : pair.Low()) * scale.ToFloat());
        }
      }
    });
    for (const Error& sum : sums) error->Add(sum);
    out->Write(std::as_bytes(std::span(codes_)));
  }

  // Squares of 128 x 128: their scales are written before the codes.
  void WriteFp8(const QuantizeItem& item, int64_t piece, Error* error, SafetensorsWriter* out) {
    const int64_t n = RowCount(item.matrix);
    const int64_t k = ColumnCount(item.matrix);
    const int64_t row_squares = (n + kFp8Block - 1) / kFp8Block;
    const int64_t squares = (k + kFp8Block - 1) / kFp8Block;
    std::vector<float> scales(static_cast<size_t>(row_squares * squares));
    std::vector<e4m3> codes(static_cast<size_t>(n * k));
    std::vector<Error> sums(static_cast<size_t>(n));
    for (int64_t begin = 0; begin < n; begin += piece) {
      const int64_t end = std::min(n, begin + piece);
      options_.pool->ParallelFor((end - begin + kFp8Block - 1) / kFp8Block, [&](int64_t task, int worker) {
        const int64_t first = begin + task * kFp8Block;
        const int64_t rows = std::min(kFp8Block, n - first);
        float* values = Scratch(worker, rows * k);
        for (int64_t r = 0; r < rows; ++r) DequantizeRow(item.matrix, first + r, values + r * k);
        for (int64_t s = 0; s < squares; ++s) {
          const int64_t last = std::min(k, (s + 1) * kFp8Block);
          float largest = 0;
          for (int64_t r = 0; r < rows; ++r) {
            for (int64_t i = s * kFp8Block; i < last; ++i) {
              const float magnitude = std::fabs(values[r * k + i]);
              if (!(magnitude <= largest)) largest = magnitude;  // NaN stays
            }
            if (!std::isfinite(largest)) {
              FailNan(item, fmt::format("row {}, columns {} to {}", first + r, s * kFp8Block, last - 1));
            }
          }
          const float scale = largest > 0 ? largest / e4m3::kMax : 1.0f;
          scales[static_cast<size_t>(first / kFp8Block * squares + s)] = scale;
          for (int64_t r = 0; r < rows; ++r) {
            for (int64_t i = s * kFp8Block; i < last; ++i) {
              const e4m3 code = e4m3::FromFloat(values[r * k + i] / scale);
              codes[static_cast<size_t>((first + r) * k + i)] = code;
              sums[static_cast<size_t>(first + r)].Add(values[r * k + i], code.ToFloat() * scale);
            }
          }
        }
      });
      Advance(item.source_bytes * (end - begin) / n);
    }
    for (const Error& sum : sums) error->Add(sum);
    out->Write(std::as_bytes(std::span(scales)));
    out->Write(std::as_bytes(std::span(codes)));
  }

  const QuantizeOptions& options_;
  std::map<std::string, std::pair<int64_t, Error>> groups_;  // matrices and sums
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

using OrderedJson = nlohmann::ordered_json;

// Inputs are declared as in published MXFP4 checkpoints.
OrderedJson QuarkConfig(ScaleMode mode, const std::vector<std::string>& exclude) {
  return {{"quant_method", "quark"},
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
}

OrderedJson Fp8Config(const std::vector<std::string>& exclude) {
  return {{"quant_method", "fp8"},
          {"fmt", "e4m3"},
          {"activation_scheme", "dynamic"},
          {"weight_block_size", {kFp8Block, kFp8Block}},
          {"modules_to_not_convert", exclude}};
}

// The source's config.json, or what a GGUF file's metadata amount to.
OrderedJson SourceConfig(const std::string& source, const std::string& gguf) {
  if (gguf.empty()) return OrderedJson::parse(ReadTextFile(source + "/config.json", ErrorCode::kBadConfig));
  OrderedJson config = OrderedJson::parse(GgufToConfig(GgufFile::Open(gguf)->header(), gguf).dump());
  config["hidden_act"] = "silu";
  config["torch_dtype"] = "bfloat16";
  return config;
}

// With the target's quantization_config.
std::string QuantizedConfig(OrderedJson config, const QuantizeOptions& options,
                            const std::vector<std::string>& exclude) {
  if (config.contains("text_config") && config["text_config"].is_object()) {
    config["text_config"].erase("quantization_config");
  }
  config.erase("quantization_config");
  if (options.format == TargetFormat::kMxfp4) config["quantization_config"] = QuarkConfig(options.scale_mode, exclude);
  if (options.format == TargetFormat::kFp8) config["quantization_config"] = Fp8Config(exclude);
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
    const bool rewritten =
        name == "config.json" || name == "model.safetensors.index.json" || name == "hf_quant_config.json";
    if (rewritten || entry.file_size(status) > kLargest) continue;
    CopyFile(path.string(), destination + "/" + name);
  }
  if (status) Fail(ErrorCode::kMissingFile, source, "a readable folder", status.message());
}

}  // namespace

QuantizeResult QuantizeCheckpoint(const std::string& source, const std::string& destination,
                                  const QuantizeOptions& options) {
  const ModelConfig config = LoadConfig(source);
  const std::string gguf = FindGguf(source);
  if (gguf.empty() && !fs::exists(source + "/config.json")) {
    Fail(ErrorCode::kMissingFile, source + "/config.json", "a folder in the layout of Hugging Face",
         "Mistral's params.json alone", "convert the folder with transformers first");
  }
  const Checkpoint checkpoint = Checkpoint::Open(source);
  QuantizeResult result;
  result.notes = LoadWeights(checkpoint, config).notes;
  const QuantizePlan plan(checkpoint, config, options);
  const std::vector<QuantizeItem>& items = plan.items();
  for (const QuantizeItem& item : items) {
    if (!item.group.empty()) ++result.quantized;
    result.source_bytes += item.source_bytes;
    result.output_bytes += static_cast<int64_t>(item.output_bytes());
  }
  result.kept = plan.kept();
  result.exclude = plan.ExcludePatterns();
  if (plan.dequantized() > 0) {
    result.notes.push_back(fmt::format("{} quantised matrices become BF16", plan.dequantized()));
  }
  if (!plan.ragged().empty()) {
    result.notes.push_back(fmt::format("{} matrices ({}{}) stay as they are: their rows are no multiple of {} elements",
                                       plan.ragged().size(), plan.ragged().front(),
                                       plan.ragged().size() > 1 ? ", ..." : "", kMxBlock));
  }

  OutputFolder folder(destination);
  if (folder.FreeBytes() < static_cast<uint64_t>(result.output_bytes)) {
    Fail(ErrorCode::kOutput, destination, fmt::format("{} free bytes on the disk", result.output_bytes),
         fmt::format("{}", folder.FreeBytes()));
  }
  const std::vector<std::vector<const QuantizeItem*>> shards = Shards(items, options.shard_bytes);
  result.shards = static_cast<int64_t>(shards.size());
  ItemWriter writer(options, result.source_bytes);
  nlohmann::json weight_map = nlohmann::json::object();
  for (size_t s = 0; s < shards.size(); ++s) {
    const std::string name = shards.size() == 1 ? "model.safetensors"
                                                : fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
    std::vector<OutputTensor> tensors;
    for (const QuantizeItem* item : shards[s])
      tensors.insert(tensors.end(), item->outputs.begin(), item->outputs.end());
    for (const OutputTensor& tensor : tensors) weight_map[tensor.name] = name;
    SafetensorsWriter out(folder.path() + "/" + name, tensors);
    for (const QuantizeItem* item : shards[s]) writer.Write(*item, &out);
    out.Finish();
  }
  if (shards.size() > 1) {
    const nlohmann::json index = {{"metadata", {{"total_size", result.output_bytes}}}, {"weight_map", weight_map}};
    WriteFile(folder.path() + "/model.safetensors.index.json", index.dump(2) + "\n");
  }
  if (gguf.empty()) CopySmallFiles(source, folder.path());
  for (const auto& [name, text] : options.files) WriteFile(folder.path() + "/" + name, text);
  WriteFile(folder.path() + "/config.json", QuantizedConfig(SourceConfig(source, gguf), options, result.exclude));
  result.errors = writer.errors();
  folder.Commit();
  return result;
}

}  // namespace mxmla
