// What `mxmla quantize` writes: every tensor of the source as an item of the output.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/config.h"
#include "checkpoint/quantize.h"
#include "checkpoint/tensor_reader.h"
#include "checkpoint/weight_tree.h"
#include "checkpoint/writer.h"

namespace mxmla {

// One tensor or matrix of the output.
struct QuantizeItem {
  enum class Kind { kCopy, kBf16, kMxfp4, kFp8 };
  Kind kind = Kind::kCopy;
  std::string module;              // without ".weight"; a copied tensor's whole name
  const Tensor* source = nullptr;  // for messages
  std::span<const std::byte> raw;  // kCopy
  LinearWeight matrix;             // the others
  // Instead of `matrix`: kv_b_proj from GGUF's two tensors, of so many heads.
  std::optional<SplitHeads> split;
  int64_t heads = 0;
  std::vector<OutputTensor> outputs;
  std::string group;  // for the errors; "" for matrices that are not quantised
  int64_t source_bytes = 0;

  uint64_t output_bytes() const {
    uint64_t sum = 0;
    for (const OutputTensor& tensor : outputs) sum += tensor.bytes();
    return sum;
  }
  int64_t alignment() const { return TensorDTypeBits(outputs.front().dtype); }
};

// Decides what becomes of every tensor. The checkpoint, the config and the options outlive it, and it the items.
class QuantizePlan {
 public:
  QuantizePlan(const Checkpoint& checkpoint, const ModelConfig& config, const QuantizeOptions& options);

  const std::vector<QuantizeItem>& items() const { return items_; }
  // For config.json: patterns in the spelling that other engines know (Quark), or names (FP8).
  std::vector<std::string> ExcludePatterns() const;
  // Projections whose rows are no multiple of 32 elements.
  const std::vector<std::string>& ragged() const { return ragged_; }
  int64_t kept() const { return kept_; }                // projections that stay as they are
  int64_t dequantized() const { return dequantized_; }  // quantised matrices that become BF16

 private:
  bool InTree(const std::string& canonical) const;
  bool Quantizes(const std::string& module, int64_t k, bool excluded);
  bool ExcludedByUser(const std::string& module);
  void Add(const Tensor& tensor);
  void AddFused(const Tensor& tensor, bool projections);
  void AddSplitHeads(const std::string& attention, const Tensor& keys);
  void AddProjection(const std::string& module, const Tensor& tensor, const LinearWeight& matrix);
  void AddCopy(const std::string& name, const Tensor& tensor, std::span<const std::byte> raw,
               const std::vector<int64_t>& shape);
  void AddMatrix(QuantizeItem::Kind kind, const std::string& module, const Tensor& tensor, const LinearWeight& matrix);
  QuantizeItem ItemOf(QuantizeItem::Kind kind, const std::string& module, const Tensor& tensor, int64_t n,
                      int64_t k) const;
  void CheckBits(const Tensor& tensor, const LinearWeight& matrix) const;

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const QuantizeOptions& options_;
  std::vector<ExcludeList> user_;  // a pattern each
  std::vector<bool> matched_;
  std::set<int64_t> mtp_;
  WidenedScales scales_;
  std::deque<Tensor> flat_;  // stacked matrices seen as one
  std::vector<QuantizeItem> items_;
  std::vector<std::string> ragged_;
  std::vector<std::string> kept_names_;
  int64_t kept_ = 0, dequantized_ = 0;
};

}  // namespace mxmla
