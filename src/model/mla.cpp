#include "model/mla.h"

#include "core/float_view.h"
#include "ops/attention.h"
#include "ops/fused.h"
#include "ops/head_product.h"
#include "ops/indexer.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/quantize.h"
#include "ops/rope.h"

namespace mxmla {
namespace {

constexpr float kIndexKeyNormEps = 1e-6f;  // fixed by the reference implementations

// The op calls of one layer; each method is a few rows of the table in DESIGN.md.
class Attention {
 public:
  Attention(const ExecContext& context, const Step& step, const LayerWeights& layer, const AbsorbedWeights& absorbed,
            const JoinedWeights& joined, int64_t index)
      : context_(context),
        step_(step),
        c_(step.config),
        b_(step.buffers),
        layer_(layer),
        absorbed_(absorbed),
        joined_(joined),
        index_(index),
        indexes_(UsesIndexer(c_, step.options) && c_.HasIndexer(index)),
        kv_pages_(step.buffers.KvPages(index)),
        rows_(step.shape.rows()) {}

  void Run() {
    DownProject(InputNorm(index_ == 0));
    if (indexes_) WriteIndexKeys();
    ProjectQuery();
    if (indexes_ && step_.shape.sparse && step_.shape.absorbed_rows > 0) ChooseTokens();
    if (step_.shape.absorbed_rows < rows_) WriteCache();
    AttendAbsorbed();
    AttendExpanded();
    ProjectOutput();
  }

 private:
  Activation<2> Input(const LinearWeight& weight, const PlainBuffer& plain, const QuantizedBuffer& quantized) const {
    if (TakesQuantized(step_.options, weight)) return AsActivation(b_.Quantized(quantized, rows_));
    return AsActivation(b_.Plain(plain, rows_));
  }

  int64_t PromptBegin() const { return step_.shape.absorbed_rows; }

  const LinearWeight& FirstQuery() const { return c_.q_lora_rank > 0 ? layer_.q_a_proj : layer_.q_proj; }

  // 1: residual add and RMSNorm, in every format that a projection reads.
  RmsNormArgs InputNorm(bool first_layer) const {
    RmsNormArgs norm;
    norm.x = AsInput(b_.Plain(first_layer ? b_.residual : b_.delta, rows_));
    if (!first_layer) {
      norm.residual = b_.Float(b_.attended, rows_);
      norm.residual_out = b_.Float(b_.residual, rows_);
    }
    norm.weight = layer_.input_layernorm;
    norm.eps = step_.norm_eps;
    const bool query = TakesQuantized(step_.options, FirstQuery());
    const bool latent = TakesQuantized(step_.options, layer_.kv_a_proj_with_mqa);
    const bool index_key = indexes_ && TakesQuantized(step_.options, layer_.indexer.wk);
    if (!query || !latent || indexes_) norm.out = b_.Plain(b_.normed, rows_);
    if (query || latent || index_key) norm.quantized = b_.Quantized(b_.normed_quantized, rows_);
    norm.scale_mode = b_.scale_mode();
    return norm;
  }

  // Of `down`'s rows: q_a, or q itself where nothing compresses it.
  int64_t QueryColumns() const { return RowCount(FirstQuery()); }

  // 1 and 2: one buffer (rows, q_lora_rank + kv_lora_rank + qk_rope_head_dim), read as three slices.
  void DownProject(const RmsNormArgs& norm) {
    const FloatOutput<2> down = b_.Plain(b_.down, rows_);
    const auto args = [&](const LinearWeight& weight, const FloatOutput<2>& out, const NextWeights* next = nullptr) {
      return LinearArgs{Input(weight, b_.normed, b_.normed_quantized), weight, out, PromptBegin(), next};
    };
    if (joined_.down && !indexes_) return NormLinear(context_, {norm, args(*joined_.down, down)}, "q_kv_a_proj");
    RmsNorm(context_, norm);  // an indexer reads it too
    if (joined_.down) return Linear(context_, args(*joined_.down, down), "q_kv_a_proj");
    const auto product = [&](const LinearWeight& weight, const FloatOutput<2>& out, std::string_view name,
                             const NextWeights& next) { Linear(context_, args(weight, out, &next), name); };
    product(FirstQuery(), Slice(down, 1, 0, QueryColumns()), c_.q_lora_rank > 0 ? "q_a_proj" : "q_proj",
            NextWeights(layer_.kv_a_proj_with_mqa));
    product(layer_.kv_a_proj_with_mqa, Slice(down, 1, QueryColumns(), c_.kv_lora_rank + c_.qk_rope_head_dim),
            "kv_a_proj_with_mqa", c_.q_lora_rank > 0 ? NextWeights(layer_.q_b_proj) : NextWeights(absorbed_.w_kc));
  }

  // 3 and 6, the key's side: the normed latent and the rotated k_pe go straight into the page.
  struct CacheRow {
    RmsNormArgs latent;
    RopeArgs key;
  };
  CacheRow CacheArgs() const {
    const FloatOutput<2> down = b_.Plain(b_.down, rows_);
    RmsNormArgs norm;
    norm.x = AsInput(Slice(down, 1, QueryColumns(), c_.kv_lora_rank));
    norm.weight = layer_.kv_a_layernorm;
    norm.eps = static_cast<float>(c_.lora_norm_eps);
    const auto write = [&](const auto& pages) {
      FloatOutput<2> key;
      if constexpr (std::is_same_v<std::decay_t<decltype(pages)>, Fp8Kv<e4m3, 3>>) {
        norm.quantized = Fp8Group<e4m3, 2>{pages.latent.values.Flatten(0), pages.latent.scales.Flatten(0)};
        key = pages.key.Flatten(0);
      } else {
        norm.out = pages.Flatten(0).Slice(1, 0, c_.kv_lora_rank);
        key = pages.Flatten(0).Slice(1, c_.kv_lora_rank, c_.qk_rope_head_dim);
      }
      return key;
    };
    const FloatOutput<2> key = std::visit(write, kv_pages_);  // (pages * page_size, qk_rope_head_dim)
    norm.out_index = step_.views.slots;

    RopeArgs rope;
    rope.x = AsInput(
        Split(Slice(down, 1, QueryColumns() + c_.kv_lora_rank, c_.qk_rope_head_dim), 1, 1, c_.qk_rope_head_dim));
    rope.cos = step_.cos;
    rope.sin = step_.sin;
    rope.interleaved = c_.rope_interleave;
    rope.out = Split(key, 1, 1, c_.qk_rope_head_dim);
    rope.out_index = step_.views.slots;
    return {norm, rope};
  }
  void WriteCache() {
    const CacheRow args = CacheArgs();
    RmsNorm(context_, args.latent);
    Rope(context_, args.key);
  }

  // 3 and 4, the query's side: q (rows, heads * (qk_nope_head_dim + qk_rope_head_dim)).
  void ProjectQuery() {
    if (c_.q_lora_rank == 0) return;
    const FloatOutput<2> q = b_.Plain(b_.q, rows_);
    RmsNormArgs norm;
    norm.x = AsInput(Slice(b_.Plain(b_.down, rows_), 1, 0, c_.q_lora_rank));
    norm.weight = layer_.q_a_layernorm;
    if (step_.views.query_scale) norm.row_scale = *step_.views.query_scale;  // q_b_proj is linear
    norm.eps = static_cast<float>(c_.lora_norm_eps);
    const bool quantized = TakesQuantized(step_.options, layer_.q_b_proj);
    const bool index_quantized = indexes_ && TakesQuantized(step_.options, layer_.indexer.wq_b);
    if (quantized || index_quantized) norm.quantized = b_.Quantized(b_.q_latent_quantized, rows_);
    norm.scale_mode = b_.scale_mode();
    if (!quantized || (indexes_ && !index_quantized)) norm.out = b_.Plain(b_.q_latent, rows_);
    const NextWeights next(absorbed_.w_kc);
    const LinearArgs product{Input(layer_.q_b_proj, b_.q_latent, b_.q_latent_quantized), layer_.q_b_proj, q,
                             PromptBegin(), &next};
    if (!indexes_) return NormLinear(context_, {norm, product}, "q_b_proj");
    RmsNorm(context_, norm);  // the indexer reads it too
    Linear(context_, product, "q_b_proj");
  }

  // The indexer's keys of all rows go into its pages, whether or not this step chooses.
  void WriteIndexKeys() {
    const FloatOutput<2> key = b_.Plain(b_.index_key, rows_);
    Linear(context_, {Input(layer_.indexer.wk, b_.normed, b_.normed_quantized), layer_.indexer.wk, key, PromptBegin()},
           "indexer.wk");
    IndexKeyArgs args;
    args.x = AsInput(key);
    args.weight = layer_.indexer.k_norm;
    args.bias = layer_.indexer.k_norm_bias;
    args.eps = kIndexKeyNormEps;
    args.cos = step_.cos;
    args.sin = step_.sin;
    args.interleaved = c_.indexer.interleaved;
    args.out = Flatten(b_.IndexKeyPages(index_), 0);
    args.out_index = step_.views.slots;
    IndexKey(context_, args);
  }

  // The tokens that rows with longer contexts attend to. The queries rotate where they are.
  void ChooseTokens() {
    const int64_t rows = step_.shape.absorbed_rows;
    const IndexerConfig& c = c_.indexer;
    const FloatOutput<2> product = b_.Plain(b_.index_query, rows);
    const auto input = [&](const LinearWeight& weight, const PlainBuffer& plain, const QuantizedBuffer& quantized) {
      if (TakesQuantized(step_.options, weight)) return AsActivation(b_.Quantized(quantized, rows));
      return AsActivation(b_.Plain(plain, rows));
    };
    Linear(context_, {input(layer_.indexer.wq_b, b_.q_latent, b_.q_latent_quantized), layer_.indexer.wq_b, product},
           "indexer.wq_b");
    const FloatOutput<3> query = Split(product, 1, c.heads, c.head_dim);
    const FloatOutput<3> rotated = Slice(query, 2, 0, c_.qk_rope_head_dim);
    RopeArgs rope;
    rope.x = AsInput(rotated);
    rope.cos = step_.cos.Rows(0, rows);
    rope.sin = step_.sin.Rows(0, rows);
    rope.interleaved = c.interleaved;
    rope.out = rotated;
    Rope(context_, rope);
    const View<float, 2> weights = b_.Float(b_.index_weights, rows);
    Linear(context_, {AsActivation(b_.Plain(b_.normed, rows)), layer_.indexer.weights_proj, weights},
           "indexer.weights_proj");
    IndexTopKArgs top;
    top.query = AsInput(query);
    top.weights = weights;
    top.key_pages = AsInput(b_.IndexKeyPages(index_));
    top.block_table = step_.views.block_table;
    top.row_sequence = step_.views.row_sequence.Rows(0, rows);
    top.row_length = step_.views.row_length.Rows(0, rows);
    top.chosen = Chosen(rows);
    IndexTopK(context_, top);
  }

  // Written by this layer, or by the last before it that has an indexer.
  View<int32_t, 2> Chosen(int64_t rows) const {
    return b_.Ints(b_.chosen, rows * c_.indexer.topk).Split(0, rows, c_.indexer.topk);
  }

  // (rows, heads, qk_nope_head_dim + qk_rope_head_dim)
  FloatOutput<3> QueryHeads() const {
    const FloatOutput<2> q =
        c_.q_lora_rank > 0 ? b_.Plain(b_.q, rows_) : Slice(b_.Plain(b_.down, rows_), 1, 0, QueryColumns());
    return Split(q, 1, c_.num_attention_heads, c_.qk_nope_head_dim + c_.qk_rope_head_dim);
  }

  // q_pe of rows first .. first + count, rotated into `out` (count, heads, qk_rope_head_dim).
  RopeArgs QueryRope(int64_t first, int64_t count, const FloatOutput<3>& out) const {
    RopeArgs rope;
    rope.x = AsInput(Slice(Slice(QueryHeads(), 0, first, count), 2, c_.qk_nope_head_dim, c_.qk_rope_head_dim));
    rope.cos = step_.cos.Rows(first, count);
    rope.sin = step_.sin.Rows(first, count);
    rope.interleaved = c_.rope_interleave;
    rope.out = out;
    return rope;
  }

  // What `weight` multiplies of x (rows, heads, n): x itself, or `quantized`, which the quantisation that is returned
  // writes.
  std::optional<QuantizeArgs> QuantizeFor(const LinearWeight& weight, const FloatOutput<3>& x,
                                          const QuantizedBuffer& quantized, int64_t rows, Activation<3>* input) const {
    *input = AsActivation(x);
    if (!TakesQuantized(step_.options, weight)) return std::nullopt;
    const int64_t heads = c_.num_attention_heads;
    const QuantizedOutput<3> out = SplitRows(b_.Quantized(quantized, rows * heads), rows, heads);
    *input = AsActivation(out);
    return QuantizeArgs{AsInput(x), out, b_.scale_mode()};
  }

  // 5 to 8 for the rows that attend in the latent space.
  void AttendAbsorbed() {
    const int64_t rows = step_.shape.absorbed_rows;
    if (rows == 0) return;
    const int64_t heads = c_.num_attention_heads;
    const FloatOutput<3> query = Split(b_.Plain(b_.query, rows), 1, heads, c_.kv_lora_rank + c_.qk_rope_head_dim);

    QueryAbsorbArgs absorb;
    const FloatOutput<3> q_nope = Slice(Slice(QueryHeads(), 0, 0, rows), 2, 0, c_.qk_nope_head_dim);
    const std::optional<QuantizeArgs> quantize =
        QuantizeFor(absorbed_.w_kc.tensor, q_nope, b_.q_nope_quantized, rows, &absorb.q_nope);
    absorb.w_kc = absorbed_.w_kc;
    absorb.output_major = absorbed_.w_kc_output_major;
    absorb.out = Slice(query, 2, 0, c_.kv_lora_rank);
    const RopeArgs rope = QueryRope(0, rows, Slice(query, 2, c_.kv_lora_rank, c_.qk_rope_head_dim));
    if (rows == rows_) {
      const CacheRow cache = CacheArgs();
      LatentQuery(context_, {cache.latent, cache.key, absorb, rope, quantize});
    } else {
      if (quantize) Quantize(context_, *quantize);
      QueryAbsorb(context_, absorb);
      Rope(context_, rope);
    }

    const FloatOutput<3> attended = Split(b_.Plain(b_.attention, rows), 1, heads, c_.kv_lora_rank);
    DecodeAttentionArgs attend;
    attend.query = AsInput(query);
    attend.kv_pages = AsKvInput(kv_pages_);
    attend.block_table = step_.views.block_table;
    attend.row_sequence = step_.views.row_sequence.Rows(0, rows);
    attend.row_length = step_.views.row_length.Rows(0, rows);
    attend.kv_lora_rank = c_.kv_lora_rank;
    attend.softmax_scale = step_.softmax_scale;
    attend.out = attended;
    if (step_.shape.sparse) attend.chosen = Chosen(rows);
    ProjectValues(attend, attended, rows);
  }

  // 7 and 8: attention, and its output x w_vc by one of the three layouts.
  void ProjectValues(const DecodeAttentionArgs& attend, const FloatOutput<3>& attended, int64_t rows) {
    const int64_t heads = c_.num_attention_heads;
    const bool quantized = TakesQuantized(step_.options, layer_.o_proj);
    ValueProjectArgs project;
    const std::optional<QuantizeArgs> quantize =
        QuantizeFor(absorbed_.w_vc.tensor, attended, b_.attention_quantized, rows, &project.attn);
    project.w_vc = absorbed_.w_vc;
    project.scale_mode = b_.scale_mode();
    const NextWeights next(layer_.o_proj);
    project.next = &next;
    const auto run = [&] { AttendProject(context_, {attend, project, quantize}); };

    const FloatOutput<2> flat = b_.Plain(b_.values, rows);
    const FloatOutput<3> token_major = Split(flat, 1, heads, c_.v_head_dim);
    switch (step_.options.v_layout) {
      case VLayout::kFused:
        project.out = quantized ? AsDestination(b_.Quantized(b_.values_quantized, rows)) : AsDestination(flat);
        run();
        return;
      case VLayout::kStrided:
        project.out = token_major;
        run();
        break;
      case VLayout::kCopy: {
        // (heads, rows, v_head_dim) memory, seen as (rows, heads, v_head_dim).
        const FloatOutput<3> head_major = Permute<3>(
            Split(Slice(b_.Plain(b_.values_head_major, heads), 1, 0, rows * c_.v_head_dim), 1, rows, c_.v_head_dim),
            {1, 0, 2});
        project.out = head_major;
        run();
        Copy(context_, {AsInput(head_major), token_major});
        break;
      }
    }
    if (quantized) {
      FlattenQuantize(context_, {AsInput(token_major), b_.Quantized(b_.values_quantized, rows), b_.scale_mode()});
    }
  }

  // The rows whose keys and values are cheaper expanded: attention writes o_proj's input itself.
  void AttendExpanded() {
    const int64_t first = step_.shape.absorbed_rows;
    const int64_t rows = step_.shape.expanded_rows;
    if (rows == 0) return;
    const FloatOutput<3> query = Slice(QueryHeads(), 0, first, rows);
    Rope(context_, QueryRope(first, rows, Slice(query, 2, c_.qk_nope_head_dim, c_.qk_rope_head_dim)));
    const FloatOutput<3> out =
        Slice(Split(b_.Plain(b_.values, rows_), 1, c_.num_attention_heads, c_.v_head_dim), 0, first, rows);
    PrefillAttentionArgs attend;
    attend.query = AsInput(query);
    attend.kv_pages = AsKvInput(kv_pages_);
    attend.block_table = step_.views.block_table;
    attend.row_sequence = step_.views.row_sequence.Rows(first, rows);
    attend.row_length = step_.views.row_length.Rows(first, rows);
    attend.segment_begin = step_.views.segment_begin;
    attend.w_kc = layer_.w_kc;
    attend.w_vc = layer_.w_vc;
    attend.softmax_scale = step_.softmax_scale;
    attend.out = out;
    PrefillAttention(context_, attend);
    if (TakesQuantized(step_.options, layer_.o_proj)) {
      FlattenQuantize(context_,
                      {AsInput(out), Slice(b_.Quantized(b_.values_quantized, rows_), 0, first, rows), b_.scale_mode()});
    }
  }

  // 9
  void ProjectOutput() {
    const MlpWeights& dense = layer_.is_moe ? layer_.shared_experts : layer_.mlp;
    const NextWeights next(dense.gate_proj);
    Linear(context_,
           {Input(layer_.o_proj, b_.values, b_.values_quantized), layer_.o_proj, b_.Plain(b_.delta, rows_),
            PromptBegin(), &next},
           "o_proj");
  }

  const ExecContext& context_;
  const Step& step_;
  const ModelConfig& c_;
  const Activations& b_;
  const LayerWeights& layer_;
  const AbsorbedWeights& absorbed_;
  const JoinedWeights& joined_;
  const int64_t index_;  // of the layer
  const bool indexes_;   // the layer has an indexer, and the session a use for it
  const KvOutput<3> kv_pages_;
  const int64_t rows_;
};

}  // namespace

void AttentionLayer(const ExecContext& context, const Step& step, const LayerWeights& layer,
                    const AbsorbedWeights& absorbed, const JoinedWeights& joined, int64_t index) {
  Attention(context, step, layer, absorbed, joined, index).Run();
}

}  // namespace mxmla
