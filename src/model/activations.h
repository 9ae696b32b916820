// Every activation of a forward pass, in one plan of buffers made at start-up, each in the layout its consumer reads.
#pragma once

#include <optional>

#include "checkpoint/config.h"
#include "core/buffers.h"
#include "core/kv_format.h"
#include "model/options.h"
#include "ops/backend.h"

namespace mxmla {

// A reserved (rows, columns) buffer of plain activations: float32 or bf16.
struct PlainBuffer {
  int id = -1;
  int64_t columns = 0;
  DType dtype = DType::kF32;

  bool reserved() const { return id >= 0; }
};

// A reserved (rows, columns) buffer of quantised activations.
struct QuantizedBuffer {
  int values = -1;
  int scales = -1;
  int64_t columns = 0;  // elements
  ActivationFormat format = ActivationFormat::kPlain;

  bool reserved() const { return values >= 0; }
};

class Activations {
 public:
  // In the backend's memory; plain activations are of its type.
  Activations(const ModelConfig& config, const ModelOptions& options, Backend& backend);

  // Views of the first `rows` rows, row-major.
  FloatOutput<2> Plain(const PlainBuffer& buffer, int64_t rows) const;
  QuantizedOutput<2> Quantized(const QuantizedBuffer& buffer, int64_t rows) const;
  // How the scales of quantised outputs are chosen.
  ScaleMode scale_mode() const { return scale_mode_; }
  View<float, 2> Float(const PlainBuffer& buffer, int64_t rows) const;
  View<int32_t, 1> Ints(int id, int64_t count) const {
    return View<int32_t, 1>::Contiguous(plan_.Get<int32_t>(id), {count});
  }
  // The cache of layer `layer`: (pages, page_size, kv_lora_rank + qk_rope_head_dim). The last page is for padding rows:
  // written, never read.
  KvOutput<3> KvPages(int64_t layer) const;

  // The keys of layer `layer`'s indexer: (pages, page_size, index_head_dim), in the same pages; of layers with an
  // indexer, where UsesIndexer. In the plain activations' type, or bf16 where the cache is not that.
  FloatOutput<3> IndexKeyPages(int64_t layer) const;
  bool HasIndexKeys(int64_t layer) const {
    return !index_keys_.empty() && index_keys_[static_cast<size_t>(layer)].reserved();
  }

  size_t total_bytes() const { return plan_.total_bytes(); }
  int64_t layers() const { return static_cast<int64_t>(kv_.size()); }
  const BufferPlan& plan() const { return plan_; }

  // What a backend with plain activations of `dtype` would be asked for.
  struct Needs {
    size_t kv_cache = 0;
    size_t rest = 0;
  };
  static Needs NeedsOf(const ModelConfig& config, const ModelOptions& options, DType dtype);

  // The residual stream before a layer's attention and after it, and what is added to it: (rows, hidden) float32. Two
  // buffers, so that a kernel may read one in many places while it writes the other in one.
  PlainBuffer residual, attended, delta;
  // RMSNorm's output, plain and quantised: (rows, hidden).
  PlainBuffer normed;
  QuantizedBuffer normed_quantized;
  // q_a, latent and k_pe side by side: (rows, q_lora_rank + kv_lora_rank + qk_rope_head_dim). Without q_lora_rank the
  // queries stand where q_a does.
  PlainBuffer down;
  PlainBuffer q_latent;  // (rows, q_lora_rank), normed
  QuantizedBuffer q_latent_quantized;
  PlainBuffer q;                        // (rows, heads * (qk_nope_head_dim + qk_rope_head_dim)); with q_lora_rank
  QuantizedBuffer q_nope_quantized;     // (rows * heads, qk_nope_head_dim)
  PlainBuffer query;                    // (rows, heads * (kv_lora_rank + qk_rope_head_dim))
  PlainBuffer attention;                // (rows, heads * kv_lora_rank)
  QuantizedBuffer attention_quantized;  // (rows * heads, kv_lora_rank)
  PlainBuffer values;                   // (rows, heads * v_head_dim): o_proj's input
  PlainBuffer values_head_major;        // (heads, rows, v_head_dim), layout `copy` only
  QuantizedBuffer values_quantized;     // (rows, heads * v_head_dim)
  // The indexer's, where UsesIndexer.
  PlainBuffer index_key;      // (rows, index_head_dim): wk's product
  PlainBuffer index_query;    // (rows, index heads * index_head_dim)
  PlainBuffer index_weights;  // (rows, index heads) float32
  int chosen = -1;            // (rows, index_topk) int32; kept for the layers that share a choice
  // Dense and shared MLP: gate and up side by side, then their product.
  PlainBuffer gate_up;  // (rows, 2 * width)
  PlainBuffer mlp;      // (rows, width)
  QuantizedBuffer mlp_quantized;
  // Experts: a row for each (row, slot) pair; the slots are top_k, then those of shared experts that stand among the
  // routed ones.
  PlainBuffer expert_gate_up;  // (pairs, 2 * moe_intermediate_size)
  PlainBuffer expert_mlp;      // (pairs, moe_intermediate_size)
  QuantizedBuffer expert_mlp_quantized;
  PlainBuffer expert_out;                                     // (pairs, hidden) float32
  PlainBuffer shared_out;                                     // (rows, hidden) float32
  PlainBuffer combined;                                       // (rows, hidden) float32, with post_mlp_norm only
  PlainBuffer router_logits;                                  // (rows, experts) float32
  PlainBuffer expert_weights;                                 // (rows, top_k) float32
  int expert_ids = -1, expert_begin = -1, expert_pairs = -1;  // int32
  // The rows whose logits are wanted.
  PlainBuffer head_input;  // (logit rows, hidden)
  QuantizedBuffer head_input_quantized;
  PlainBuffer logits;  // (logit rows, vocab) float32
  // What they were sampled to; of logprobs, see ops/sample.h.
  int sampled_tokens = -1;   // (logit rows) int32
  PlainBuffer logprobs;      // (logit rows, 1) float32
  int top_tokens = -1;       // (logit rows, kMaxTopLogprobs) int32
  PlainBuffer top_logprobs;  // (logit rows, kMaxTopLogprobs) float32
  PlainBuffer cos, sin;      // (rows, qk_rope_head_dim / 2) float32

 private:
  // Planned, but without memory.
  Activations(const ModelConfig& config, const ModelOptions& options, DType dtype);

  PlainBuffer ReservePlain(const char* name, int64_t rows, int64_t columns, DType dtype);
  QuantizedBuffer ReserveQuantized(const char* name, int64_t rows, int64_t columns);
  int ReserveKv(int64_t rows);

  BufferPlan plan_;
  ActivationFormat format_;
  ScaleMode scale_mode_;
  DType dtype_;
  KvDType kv_dtype_;
  int64_t kv_pages_, page_size_, kv_lora_rank_, qk_rope_head_dim_;
  std::vector<int> kv_;                  // a layer each
  std::vector<PlainBuffer> index_keys_;  // a layer each, or none
};

}  // namespace mxmla
