// Launches that quantise on their way to a product. `ref` would quantise other numbers, not rounded to bf16, so that
// the parts on the device, each checked against `ref` by itself, say what is to come out.
#include "core/float_view.h"
#include "hip/selftest_operands.h"
#include "ops/fused.h"

namespace mxmla::hip {
namespace {

// Rows that one part writes and the next reads, (rows, k).
class Between {
 public:
  Between(OpCase& c, Kind kind, int64_t rows, int64_t k) : kind_(kind), rows_(rows), k_(k) {
    if (kind == Kind::kFp8) {
      fp8_ = &c.Make<e4m3>(rows * k);
      groups_ = &c.Make<float>(rows * (k / 128));
    } else {
      codes_ = &c.Make<e2m1x2>(rows * k / 2);
      scales_ = &c.Make<e8m0>(rows * k / 32);
    }
  }

  QuantizedOutput<2> Out() const {
    constexpr Side kDevice = Side::kDevice;
    if (kind_ == Kind::kFp8) {
      return Fp8Group<e4m3, 2>{Matrix(*fp8_, kDevice, rows_, k_), Matrix(*groups_, kDevice, rows_, k_ / 128)};
    }
    return Mxfp4<e2m1x2, 2>{Matrix(*codes_, kDevice, rows_, k_ / 2), Matrix(*scales_, kDevice, rows_, k_ / 32)};
  }

 private:
  Kind kind_;
  int64_t rows_, k_;
  Buffer<e4m3>* fp8_ = nullptr;
  Buffer<float>* groups_ = nullptr;
  Buffer<e2m1x2>* codes_ = nullptr;
  Buffer<e8m0>* scales_ = nullptr;
};

// Runs `op(context, to)`, a launch of several ops that writes `count` elements of T, and its parts.
template <class T, class Op>
Finding RunBoth(Backend& backend, OpCase& c, const std::string& name, int64_t count, const Op& op) {
  Buffer<T>&result = c.Result<T>(count), &of_parts = c.Make<T>(count);
  return c.Run(name, [&](const ExecContext& context, Side side) {
    if (side == Side::kDevice) return op(context, result);
    if (context.planned) return;
    KernelSet parts = backend.kernels();
    parts.norm_linear.clear();
    parts.latent_query.clear();
    parts.attend_project.clear();
    parts.gated_experts.clear();
    ExecContext on_device = backend.Context();
    on_device.kernels = &parts;
    WorkspaceMemory workspace;
    const auto run = [&](const ExecContext& on) { op(on, of_parts); };
    workspace.Plan(on_device, backend, run);
    run(on_device);
    Check(Hip().stream_synchronize(static_cast<hipStream_t>(on_device.stream)), "selftest", "kernels that end");
    result.host() = of_parts.Fetch();
  });
}

constexpr Side kDevice = Side::kDevice;

Finding CheckNormLinear(Backend& backend, Kind kind, const char* format) {
  const int64_t rows = 3, n = 512, k = 1536;
  OpCase c(backend, 20);
  const Operand w(c, kind, n, k);
  const Between between(c, kind, rows, k);
  Buffer<float>&x = c.Random<float>(rows * k), &residual = c.Random<float>(rows * k), &gain = c.Random<float>(k),
  &summed = c.Make<float>(rows * k);
  return RunBoth<float>(
      backend, c, fmt::format("norm_linear that quantises, {}, {} x {} x {}", format, rows, n, k), rows * n,
      [&](const ExecContext& context, Buffer<float>& to) {
        NormLinearArgs args;
        args.norm = NormOfSum(x, residual, summed, gain, kDevice, rows, k);
        args.norm.quantized = between.Out();
        args.linear = {AsActivation(between.Out()), w.Weight(kDevice), FloatOutput<2>(Matrix(to, kDevice, rows, n))};
        NormLinear(context, args, "norm_linear");
      });
}

Finding CheckLatentQuery(Backend& backend, Kind kind, const char* format) {
  const int64_t rows = 3, head = kNope + kValues;
  OpCase c(backend, 21);
  const Operand w(c, kind, kHeads * head, kLatents);
  const Between between(c, kind, rows * kHeads, kNope);
  Buffer<bf16>&q = c.Random<bf16>(rows * kHeads * (kNope + kRotated)),
  &kv = c.Random<bf16>(rows * (kLatents + kRotated)), &cache = c.Make<bf16>(rows * (kLatents + kRotated));
  Buffer<float>&gain = c.Random<float>(kLatents), &cosine = c.Random<float>(rows * kRotated / 2),
  &sine = c.Random<float>(rows * kRotated / 2);
  return RunBoth<bf16>(
      backend, c, fmt::format("latent_query that quantises, {}, {} rows, {} heads", format, rows, kHeads),
      rows * kHeads * (kLatents + kRotated), [&](const ExecContext& context, Buffer<bf16>& to) {
        const auto of_kv = Const(Matrix(kv, kDevice, rows, kLatents + kRotated));
        const auto of_cache = Matrix(cache, kDevice, rows, kLatents + kRotated);
        const auto of_q = Const(Cube(q, kDevice, rows, kHeads, kNope + kRotated));
        const auto of_query = Cube(to, kDevice, rows, kHeads, kLatents + kRotated);
        LatentQueryArgs args;
        args.latent.x = FloatInput<2>(of_kv.Slice(1, 0, kLatents));
        args.latent.weight = Const(Vector(gain, kDevice, kLatents));
        args.latent.eps = 1e-6f;
        args.latent.out = FloatOutput<2>(of_cache.Slice(1, 0, kLatents));
        args.key.x = FloatInput<3>(of_kv.Slice(1, kLatents, kRotated).Split(1, 1, kRotated));
        args.key.cos = args.query.cos = Const(Matrix(cosine, kDevice, rows, kRotated / 2));
        args.key.sin = args.query.sin = Const(Matrix(sine, kDevice, rows, kRotated / 2));
        args.key.out = FloatOutput<3>(of_cache.Slice(1, kLatents, kRotated).Split(1, 1, kRotated));
        args.quantize = QuantizeArgs{FloatInput<3>(of_q.Slice(2, 0, kNope)), SplitRows(between.Out(), rows, kHeads)};
        args.absorb.q_nope = AsActivation(args.quantize->out);
        args.absorb.w_kc = {w.Weight(kDevice), kHeads, head, 0, kNope};
        args.absorb.out = FloatOutput<3>(of_query.Slice(2, 0, kLatents));
        args.query.x = FloatInput<3>(of_q.Slice(2, kNope, kRotated));
        args.query.out = FloatOutput<3>(of_query.Slice(2, kLatents, kRotated));
        LatentQuery(context, args);
      });
}

Finding CheckAttendProject(Backend& backend, Kind kind, const char* format) {
  const int64_t rows = 2, page_size = 64, length = 300, pages_of_row = 5, width = kLatents + kRotated;
  const int64_t pages = rows * pages_of_row;
  OpCase c(backend, 22);
  const Operand w(c, kind, kHeads * kValues, kLatents);
  const Between between(c, kind, rows * kHeads, kLatents);
  Buffer<bf16>&query = c.Random<bf16>(rows * kHeads * width), &cache = c.Random<bf16>(pages * page_size * width),
  &attended = c.Make<bf16>(rows * kHeads * kLatents);
  Buffer<int32_t>&table = c.Make<int32_t>(pages), &sequence = c.Make<int32_t>(rows), &lengths = c.Make<int32_t>(rows);
  for (int64_t p = 0; p < pages; ++p) table.host()[static_cast<size_t>(p)] = static_cast<int32_t>(pages - 1 - p);
  sequence.host() = {0, 1};
  lengths.host() = {static_cast<int32_t>(length), 33};
  return RunBoth<float>(
      backend, c, fmt::format("attend_project that quantises, {}, context {}, {} heads", format, length, kHeads),
      rows * kHeads * kValues, [&](const ExecContext& context, Buffer<float>& to) {
        AttendProjectArgs args;
        args.attend.query = FloatInput<3>(Const(Cube(query, kDevice, rows, kHeads, width)));
        args.attend.kv_pages = Const(Cube(cache, kDevice, pages, page_size, width));
        args.attend.block_table = Const(Matrix(table, kDevice, rows, pages_of_row));
        args.attend.row_sequence = Const(Vector(sequence, kDevice, rows));
        args.attend.row_length = Const(Vector(lengths, kDevice, rows));
        args.attend.kv_lora_rank = kLatents;
        args.attend.softmax_scale = 0.07f;
        const auto plain = Cube(attended, kDevice, rows, kHeads, kLatents);
        args.attend.out = FloatOutput<3>(plain);
        args.quantize = QuantizeArgs{FloatInput<3>(Const(plain)), SplitRows(between.Out(), rows, kHeads)};
        args.project = {AsActivation(args.quantize->out),
                        {w.Weight(kDevice), kHeads, kValues, 0, kValues},
                        {FloatOutput<3>(Cube(to, kDevice, rows, kHeads, kValues))}};
        AttendProject(context, args);
      });
}

// Of MXFP4, the codes.
Finding CheckGatedExperts(Backend& backend) {
  constexpr int64_t kExperts = 8, kTopK = 4, kRows = 2, kHidden = 512, kWidth = 128, kPairsOfRows = kRows * kTopK;
  OpCase c(backend, 23);
  const Operand x(c, Kind::kMxfp4, kRows, kHidden), w(c, Kind::kMxfp4, kExperts * 2 * kWidth, kHidden);
  Buffer<int32_t>&begin = c.Make<int32_t>(kExperts + 1), &order = c.Make<int32_t>(kPairsOfRows);
  for (int64_t e = 0; e <= kExperts; ++e) begin.host()[static_cast<size_t>(e)] = static_cast<int32_t>(e);
  for (int64_t p = 0; p < kPairsOfRows; ++p) order.host()[static_cast<size_t>(p)] = static_cast<int32_t>(p);
  Buffer<bf16>& between = c.Make<bf16>(kPairsOfRows * 2 * kWidth);
  Buffer<e8m0>& scales = c.Make<e8m0>(kPairsOfRows * kWidth / 32);
  std::vector<LinearWeight> weights;
  for (int64_t e = 0; e < kExperts; ++e) weights.push_back(Rows(w.Weight(kDevice), e * 2 * kWidth, 2 * kWidth));
  const std::shared_ptr<const void> placed = backend.PlaceExperts(weights);
  return RunBoth<e2m1x2>(
      backend, c, fmt::format("gated experts that quantise, MXFP4, {} pairs", kPairsOfRows), kPairsOfRows * kWidth / 2,
      [&](const ExecContext& context, Buffer<e2m1x2>& to) {
        const auto both = Matrix(between, kDevice, kPairsOfRows, 2 * kWidth);
        GatedExpertsArgs args{
            {x.Input(kDevice), kTopK, weights, Const(Vector(begin, kDevice, kExperts + 1)),
             Const(Vector(order, kDevice, kPairsOfRows)), FloatOutput<2>(both)},
            {FloatInput<2>(Const(both.Slice(1, 0, kWidth))), FloatInput<2>(Const(both.Slice(1, kWidth, kWidth))),
             ActivationOutput<2>(Mxfp4<e2m1x2, 2>{Matrix(to, kDevice, kPairsOfRows, kWidth / 2),
                                                  Matrix(scales, kDevice, kPairsOfRows, kWidth / 32)})}};
        args.product.placed = placed.get();
        GatedExperts(context, args);
      });
}

}  // namespace

void CheckQuantizedLaunches(Backend& backend, const Report& report) {
  for (const auto& [kind, format] : {std::pair{Kind::kFp8, "FP8"}, {Kind::kMxfp4, "MXFP4"}}) {
    report(CheckNormLinear(backend, kind, format));
    report(CheckLatentQuery(backend, kind, format));
    report(CheckAttendProject(backend, kind, format));
  }
  report(CheckGatedExperts(backend));
}

}  // namespace mxmla::hip
