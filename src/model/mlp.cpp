#include "model/mlp.h"

#include <optional>
#include <span>

#include "core/float_view.h"
#include "ops/fused.h"
#include "ops/linear.h"
#include "ops/moe.h"
#include "ops/norm.h"

namespace mxmla {
namespace {

class Mlp {
 public:
  Mlp(const ExecContext& context, const Step& step, const LayerWeights& layer, const JoinedWeights& joined,
      const PlacedExperts& experts, const LinearWeight& next)
      : context_(context),
        options_(step.options),
        c_(step.config),
        b_(step.buffers),
        layer_(layer),
        joined_(joined),
        placed_(experts),
        next_(next),
        row_length_(step.views.row_length),
        norm_eps_(step.norm_eps),
        shared_parts_(step.shared_parts),
        rows_(step.shape.rows()),
        prompt_begin_(step.shape.absorbed_rows) {}

  void Run() {
    if (!layer_.is_moe) {
      const RmsNormArgs norm = InputNorm(FormatsOf({&layer_.mlp.gate_proj, 1}) | FormatsOf({&layer_.mlp.up_proj, 1}));
      Dense(layer_.mlp, "mlp", b_.Plain(b_.delta, rows_), &norm);
      return;
    }
    const bool shared = c_.n_shared_experts > 0 && shared_parts_ == 0;
    Formats formats = FormatsOf(layer_.experts.gate_proj) | FormatsOf(layer_.experts.up_proj);
    formats.plain = true;  // the router's
    if (shared)
      formats =
          formats | FormatsOf({&layer_.shared_experts.gate_proj, 1}) | FormatsOf({&layer_.shared_experts.up_proj, 1});
    RouteRows(InputNorm(formats));
    CombineExpertsArgs combine;
    combine.pairs = AsInput(b_.Plain(b_.expert_out, Pairs()));
    combine.expert_weights = Weights();
    if (shared) {
      const FloatOutput<2> out = b_.Plain(b_.shared_out, rows_);
      Dense(layer_.shared_experts, "shared_experts", out);
      combine.shared = AsInput(out);
    }
    combine.out = b_.Plain(c_.post_mlp_norm ? b_.combined : b_.delta, rows_);
    Experts(combine);
    if (c_.post_mlp_norm) NormOutput(combine.out);
  }

 private:
  // Experts of a row, and of all rows; each is a product.
  int64_t Slots() const { return c_.num_experts_per_tok + shared_parts_; }
  int64_t Pairs() const { return rows_ * Slots(); }
  int64_t ExpertCount() const { return c_.n_routed_experts + shared_parts_; }

  // Which formats of their input some products read.
  struct Formats {
    bool plain = false;
    bool quantized = false;

    Formats operator|(Formats other) const { return {plain || other.plain, quantized || other.quantized}; }
  };

  Formats FormatsOf(std::span<const LinearWeight> weights) const {
    Formats formats;
    for (const LinearWeight& weight : weights) {
      (TakesQuantized(options_, weight) ? formats.quantized : formats.plain) = true;
    }
    return formats;
  }

  // The norm's output in every format that a consumer reads.
  RmsNormArgs InputNorm(Formats formats) const {
    RmsNormArgs norm;
    norm.x = AsInput(b_.Plain(b_.delta, rows_));
    norm.residual = b_.Float(b_.residual, rows_);
    norm.residual_out = b_.Float(b_.attended, rows_);
    norm.weight = layer_.post_attention_layernorm;
    norm.eps = norm_eps_;
    if (formats.quantized) norm.quantized = b_.Quantized(b_.normed_quantized, rows_);
    norm.scale_mode = b_.scale_mode();
    if (formats.plain) norm.out = b_.Plain(b_.normed, rows_);
    return norm;
  }

  // Of a mixture's result, before it is added to the residual stream.
  void NormOutput(const FloatOutput<2>& x) {
    RmsNormArgs norm;
    norm.x = AsInput(x);
    norm.weight = layer_.post_mlp_layernorm;
    norm.eps = static_cast<float>(c_.rms_norm_eps);
    norm.out = b_.Plain(b_.delta, rows_);
    RmsNorm(context_, norm);
  }

  Activation<2> Input(const LinearWeight& weight) const {
    if (TakesQuantized(options_, weight)) return AsActivation(b_.Quantized(b_.normed_quantized, rows_));
    return AsActivation(b_.Plain(b_.normed, rows_));
  }

  // The rows that products read, in the one format that all of them take or in both.
  struct Inputs {
    Activation<2> x;
    std::optional<Activation<2>> x_quantized;
  };

  static Inputs InputsOf(const std::optional<Activation<2>>& plain, const std::optional<Activation<2>>& quantized) {
    if (!plain) return {*quantized, std::nullopt};
    return {*plain, quantized};
  }

  // silu(gate) * up of a (rows, 2 * width) buffer, in the formats that are read.
  // `product` writes that buffer, where it has not been run.
  Inputs Activate(const FloatOutput<2>& gate_up, int64_t rows, int64_t width, Formats formats, PlainBuffer plain,
                  QuantizedBuffer quantized, const GroupedLinearArgs* product = nullptr) const {
    // The buffers were planned for the widest layer: a narrower one takes a dense view of the same memory.
    plain.columns = width;
    quantized.columns = width;
    SiluMulArgs silu;
    silu.gate = AsInput(Slice(gate_up, 1, 0, width));
    silu.up = AsInput(Slice(gate_up, 1, width, width));
    silu.scale_mode = b_.scale_mode();
    std::optional<Activation<2>> plain_out, quantized_out;
    const auto write = [&](const ActivationOutput<2>& out) {
      silu.out = out;
      if (product && formats.plain != formats.quantized) {
        GatedExperts(context_, {*product, silu});
      } else {
        SiluMul(context_, silu);
      }
      return AsActivation(out);
    };
    if (product && formats.plain && formats.quantized) GroupedLinear(context_, *product, "experts");
    if (formats.plain) plain_out = write(AsDestination(b_.Plain(plain, rows)));
    if (formats.quantized) quantized_out = write(AsDestination(b_.Quantized(quantized, rows)));
    return InputsOf(plain_out, quantized_out);
  }

  // `norm` writes what the first products read, where it has not been run.
  void Dense(const MlpWeights& weights, std::string_view name, const FloatOutput<2>& out,
             const RmsNormArgs* norm = nullptr) {
    const int64_t width = RowCount(weights.gate_proj);
    const FloatOutput<2> gate_up = Slice(b_.Plain(b_.gate_up, rows_), 1, 0, 2 * width);
    if (joined_.gate_up) {
      const LinearArgs product{Input(*joined_.gate_up), *joined_.gate_up, gate_up, prompt_begin_};
      norm ? NormLinear(context_, {*norm, product}, name) : Linear(context_, product, name);
    } else {
      if (norm) RmsNorm(context_, *norm);
      const auto product = [&](const LinearWeight& weight, int64_t begin, const LinearWeight& behind) {
        const NextWeights next(behind);
        Linear(context_, {Input(weight), weight, Slice(gate_up, 1, begin, width), prompt_begin_, &next}, name);
      };
      product(weights.gate_proj, 0, weights.up_proj);
      product(weights.up_proj, width, weights.down_proj);
    }
    const Inputs inputs = Activate(gate_up, rows_, width, FormatsOf({&weights.down_proj, 1}), b_.mlp, b_.mlp_quantized);
    const NextWeights next = layer_.is_moe ? NextWeights(layer_.experts.gate_proj, ExpertBegin()) : NextWeights(next_);
    Linear(context_, {inputs.x, weights.down_proj, out, prompt_begin_, &next}, name);
  }

  void RouteRows(const RmsNormArgs& norm) {
    RouterArgs router;
    router.x = AsInput(b_.Plain(b_.normed, rows_));
    router.weight = layer_.router;
    if (layer_.e_score_correction_bias.data) router.bias = layer_.e_score_correction_bias;
    router.row_length = row_length_;
    router.options = c_.router_options();
    router.logits = b_.Float(b_.router_logits, rows_);
    router.expert_ids = Ids().Slice(1, 0, c_.num_experts_per_tok);
    router.expert_weights = Weights().Slice(1, 0, c_.num_experts_per_tok);
    NormRouter(context_,
               {norm, router, {Ids(), b_.Ints(b_.expert_begin, ExpertCount() + 1), b_.Ints(b_.expert_pairs, Pairs())}});
  }

  View<const int32_t, 1> ExpertBegin() const { return b_.Ints(b_.expert_begin, ExpertCount() + 1); }
  // (rows, slots)
  View<int32_t, 2> Ids() const { return b_.Ints(b_.expert_ids, Pairs()).Split(0, rows_, Slots()); }
  View<float, 2> Weights() const {
    return View<float, 1>::Contiguous(b_.Float(b_.expert_weights, 0).data, {Pairs()}).Split(0, rows_, Slots());
  }

  void Experts(const CombineExpertsArgs& combine) {
    const ExpertWeights& experts = layer_.experts;
    const int64_t width = c_.moe_intermediate_size;
    const FloatOutput<2> gate_up = b_.Plain(b_.expert_gate_up, Pairs());
    const View<const int32_t, 1> begin = ExpertBegin();
    const View<const int32_t, 1> pairs = b_.Ints(b_.expert_pairs, Pairs());
    const auto product = [&](const Inputs& inputs, int64_t pairs_per_row, const std::vector<LinearWeight>& weights,
                             const std::shared_ptr<const void>& placed, const FloatOutput<2>& out,
                             const NextWeights* next = nullptr) {
      return GroupedLinearArgs{inputs.x,
                               pairs_per_row,
                               weights,
                               begin,
                               pairs,
                               out,
                               inputs.x_quantized,
                               placed.get(),
                               prompt_begin_ * (Slots() / pairs_per_row),
                               next};
    };
    const auto normed = [&](const std::vector<LinearWeight>& weights) {
      const Formats formats = FormatsOf(weights);
      std::optional<Activation<2>> plain, quantized;
      if (formats.plain) plain = AsActivation(b_.Plain(b_.normed, rows_));
      if (formats.quantized) quantized = AsActivation(b_.Quantized(b_.normed_quantized, rows_));
      return InputsOf(plain, quantized);
    };
    const auto activate = [&](const GroupedLinearArgs* gate_up_product) {
      return Activate(gate_up, Pairs(), width, FormatsOf(experts.down_proj), b_.expert_mlp, b_.expert_mlp_quantized,
                      gate_up_product);
    };
    Inputs activated;
    if (!joined_.expert_gate_up.empty()) {
      const GroupedLinearArgs args =
          product(normed(joined_.expert_gate_up), Slots(), joined_.expert_gate_up, placed_.gate_up, gate_up);
      activated = activate(&args);
    } else {
      const Inputs gate = normed(experts.gate_proj), up = normed(experts.up_proj);
      const NextWeights to_up(experts.up_proj, begin), to_down(experts.down_proj, begin);
      GroupedLinear(context_,
                    product(gate, Slots(), experts.gate_proj, placed_.gate_proj, Slice(gate_up, 1, 0, width), &to_up),
                    "experts");
      GroupedLinear(context_,
                    product(up, Slots(), experts.up_proj, placed_.up_proj, Slice(gate_up, 1, width, width), &to_down),
                    "experts");
      activated = activate(nullptr);
    }
    const NextWeights to_layer(next_);
    CombinedExperts(context_, {product(activated, 1, experts.down_proj, placed_.down_proj,
                                       b_.Plain(b_.expert_out, Pairs()), &to_layer),
                               combine});
  }

  const ExecContext& context_;
  const ModelOptions& options_;
  const ModelConfig& c_;
  const Activations& b_;
  const LayerWeights& layer_;
  const JoinedWeights& joined_;
  const PlacedExperts& placed_;
  const LinearWeight& next_;  // of the next layer
  const View<const int32_t, 1> row_length_;
  const float norm_eps_;
  const int64_t shared_parts_;
  const int64_t rows_;
  const int64_t prompt_begin_;
};

}  // namespace

void MlpLayer(const ExecContext& context, const Step& step, const LayerWeights& layer, const JoinedWeights& joined,
              const PlacedExperts& experts, const LinearWeight& next) {
  Mlp(context, step, layer, joined, experts, next).Run();
}

}  // namespace mxmla
