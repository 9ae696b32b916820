// Every op of a step against `ref`, by the kernels that a step would take.
#include "hip/selftest_operands.h"
#include "ops/attention.h"
#include "ops/embedding.h"
#include "ops/fused.h"
#include "ops/quantize.h"
#include "ops/sample.h"

namespace mxmla::hip {
namespace {

// --- products ---

void Products(Backend& backend, const Report& report) {
  for (const NamedPair& pair : kPairs) {
    for (const bool prompt : {false, true}) {
      if (prompt && pair.x != Kind::kMxfp4) continue;
      const int64_t rows = prompt ? 70 : 21, n = 200, k = 1536;
      OpCase c(backend, 1);
      const Operand x(c, pair.x, rows, k), w(c, pair.w, n, k);
      Buffer<float>& out = c.Result<float>(rows * n, kExact);
      report(c.Run(fmt::format("linear {}, {} {}x {} x {}", pair.name, rows, prompt ? "rows of a prompt " : "", n, k),
                   [&](const ExecContext& context, Side side) {
                     LinearArgs args{x.Input(side), w.Weight(side), FloatOutput<2>(Matrix(out, side, rows, n))};
                     if (prompt) args.prompt_begin = 0;
                     Linear(context, args);
                   }));
    }
  }
  for (const Kind kind : {Kind::kBf16, Kind::kFp8, Kind::kMxfp4}) {
    const int64_t rows = 2, n = 2112, k = 2048;
    OpCase c(backend, 2);
    const Operand w(c, kind, n, k);
    Buffer<float>&x = c.Random<float>(rows * k), &residual = c.Random<float>(rows * k), &gain = c.Random<float>(k);
    Buffer<bf16>& between = c.Make<bf16>(rows * k);
    Buffer<float>& summed = c.Result<float>(rows * k, kExact);
    Buffer<float>& out = c.Result<float>(rows * n, kRounded);
    report(c.Run(fmt::format("norm_linear {}, {} x {} x {}", kPairs[static_cast<int>(kind)].name, rows, n, k),
                 [&](const ExecContext& context, Side side) {
                   NormLinearArgs args;
                   args.norm = NormOfSum(x, residual, summed, gain, side, rows, k);
                   args.norm.out = FloatOutput<2>(Matrix(between, side, rows, k));
                   args.linear = {Activation<2>(Const(Matrix(between, side, rows, k))), w.Weight(side),
                                  FloatOutput<2>(Matrix(out, side, rows, n))};
                   NormLinear(context, args, "norm_linear");
                 }));
  }
}

// --- the query, the cache and the V projection ---

void HeadProducts(Backend& backend, const Report& report) {
  const int64_t rows = 3, head = kNope + kValues;
  for (const Kind kind : {Kind::kBf16, Kind::kFp8, Kind::kMxfp4}) {
    const char* name = kPairs[static_cast<int>(kind)].name;
    {
      OpCase c(backend, 3);
      const Operand w(c, kind, kHeads * head, kLatents);
      Buffer<bf16>&q = c.Random<bf16>(rows * kHeads * (kNope + kRotated)),
      &kv = c.Random<bf16>(rows * (kLatents + kRotated));
      Buffer<float>&gain = c.Random<float>(kLatents), &cosine = c.Random<float>(rows * kRotated / 2),
      &sine = c.Random<float>(rows * kRotated / 2);
      Buffer<int64_t>& slot = c.Make<int64_t>(rows);
      for (int64_t r = 0; r < rows; ++r) slot.host()[static_cast<size_t>(r)] = 2 * r + 1;
      Buffer<bf16>& cache = c.Result<bf16>((2 * rows + 1) * (kLatents + kRotated), kRounded);
      std::ranges::fill(cache.host(), bf16{});
      Buffer<bf16>& query = c.Result<bf16>(rows * kHeads * (kLatents + kRotated), kRounded);
      report(c.Run(fmt::format("latent_query {}, {} rows, {} heads", name, rows, kHeads),
                   [&](const ExecContext& context, Side side) {
                     const auto of_kv = Const(Matrix(kv, side, rows, kLatents + kRotated));
                     const auto of_cache = Matrix(cache, side, 2 * rows + 1, kLatents + kRotated);
                     const auto of_q = Const(Cube(q, side, rows, kHeads, kNope + kRotated));
                     const auto of_query = Cube(query, side, rows, kHeads, kLatents + kRotated);
                     const auto slots = Const(Vector(slot, side, rows));
                     LatentQueryArgs args;
                     args.latent.x = FloatInput<2>(of_kv.Slice(1, 0, kLatents));
                     args.latent.weight = Const(Vector(gain, side, kLatents));
                     args.latent.eps = 1e-6f;
                     args.latent.out = FloatOutput<2>(of_cache.Slice(1, 0, kLatents));
                     args.latent.out_index = slots;
                     args.key.x = FloatInput<3>(of_kv.Slice(1, kLatents, kRotated).Split(1, 1, kRotated));
                     args.key.cos = Const(Matrix(cosine, side, rows, kRotated / 2));
                     args.key.sin = Const(Matrix(sine, side, rows, kRotated / 2));
                     args.key.out = FloatOutput<3>(of_cache.Slice(1, kLatents, kRotated).Split(1, 1, kRotated));
                     args.key.out_index = slots;
                     args.absorb.q_nope = Activation<3>(of_q.Slice(2, 0, kNope));
                     args.absorb.w_kc = {w.Weight(side), kHeads, head, 0, kNope};
                     args.absorb.out = FloatOutput<3>(of_query.Slice(2, 0, kLatents));
                     args.query.x = FloatInput<3>(of_q.Slice(2, kNope, kRotated));
                     args.query.cos = args.key.cos;
                     args.query.sin = args.key.sin;
                     args.query.out = FloatOutput<3>(of_query.Slice(2, kLatents, kRotated));
                     LatentQuery(context, args);
                   }));
    }
    OpCase c(backend, 4);
    const Operand w(c, kind, kHeads * head, kLatents);
    Buffer<bf16>& attended = c.Random<bf16>(rows * kHeads * kLatents);
    Buffer<float>& out = c.Result<float>(rows * kHeads * kValues, kExact);
    report(c.Run(fmt::format("value_project {}, {} rows, {} heads, strided", name, rows, kHeads),
                 [&](const ExecContext& context, Side side) {
                   ValueProject(context, {Activation<3>(Const(Cube(attended, side, rows, kHeads, kLatents))),
                                          {w.Weight(side), kHeads, head, kNope, kValues},
                                          {FloatOutput<3>(Cube(out, side, rows, kHeads, kValues))}});
                 }));
  }
}

// The fused outputs: codes of ref's quantiser, bit for bit, of the values that the device itself projects.
void FusedOutputs(Backend& backend, const Report& report) {
  const int64_t rows = 3, columns = kHeads * kValues;
  for (const bool fp8 : {false, true}) {
    OpCase c(backend, 5);
    const Operand w(c, Kind::kMxfp4, columns, kLatents);
    Buffer<bf16>&attended = c.Random<bf16>(rows * kHeads * kLatents), &values = c.Make<bf16>(rows * columns);
    Buffer<e2m1x2>* codes = fp8 ? nullptr : &c.Result<e2m1x2>(rows * columns / 2);
    Buffer<e8m0>* scales = fp8 ? nullptr : &c.Result<e8m0>(rows * columns / 32);
    Buffer<e4m3>* fp8_codes = fp8 ? &c.Result<e4m3>(rows * columns) : nullptr;
    Buffer<float>* fp8_scales = fp8 ? &c.Result<float>(rows * columns / 128) : nullptr;
    const auto out = [&](Side side) -> QuantizedOutput<2> {
      if (fp8) {
        return Fp8Group<e4m3, 2>{Matrix(*fp8_codes, side, rows, columns),
                                 Matrix(*fp8_scales, side, rows, columns / 128)};
      }
      return Mxfp4<e2m1x2, 2>{Matrix(*codes, side, rows, columns / 2), Matrix(*scales, side, rows, columns / 32)};
    };
    const auto project = [&](const ExecContext& context, const ActivationOutput<2>& to) {
      ValueProject(context, {Activation<3>(Const(Cube(attended, Side::kDevice, rows, kHeads, kLatents))),
                             {w.Weight(Side::kDevice), kHeads, kValues, 0, kValues},
                             {to}});
    };
    report(c.Run(
        fmt::format("value_project, {} rows, {} heads, fused {}", rows, kHeads, fp8 ? "FP8" : "MXFP4"),
        [&](const ExecContext& context, Side side) {
          if (side == Side::kDevice) {
            return project(context, std::visit([](const auto& to) -> ActivationOutput<2> { return to; }, out(side)));
          }
          if (!context.planned) {
            project(backend.Context(), ActivationOutput<2>(Matrix(values, Side::kDevice, rows, columns)));
            Check(Hip().stream_synchronize(static_cast<hipStream_t>(backend.Context().stream)), "selftest",
                  "kernels that end");
            values.host() = values.Fetch();
          }
          FlattenQuantize(context, {FloatInput<3>(Const(Cube(values, side, rows, kHeads, kValues))), out(side)});
        }));
  }
}

// --- attention ---

void Attention(Backend& backend, const Report& report) {
  const int64_t page_size = 64, length = 700, rows = 2, pages_of_row = (length + page_size - 1) / page_size;
  const int64_t pages = rows * pages_of_row, width = kLatents + kRotated;
  for (const bool fp8 : {false, true}) {
    for (const int which : {0, 1, 2}) {  // attention, with the V projection, and with expanded heads
      OpCase c(backend, 6);
      const Operand w(c, Kind::kMxfp4, kHeads * (kNope + kValues), kLatents);
      Buffer<bf16>&query = c.Random<bf16>(rows * kHeads * width), &plain = c.Random<bf16>(pages * page_size * width),
      &between = c.Make<bf16>(rows * kHeads * kLatents);
      const int64_t fp8_row = Fp8KvRowStride(kLatents, kRotated);
      Buffer<e4m3>& coded = c.Make<e4m3>(pages * page_size * fp8_row);
      const auto cache = [&](Side side) { return Fp8KvPages(coded.On(side), pages, page_size, kLatents, kRotated); };
      std::uniform_real_distribution<float> uniform(-1, 1);
      const Fp8Kv<e4m3, 3> on_host = cache(Side::kHost);
      for (int64_t p = 0; fp8 && p < pages; ++p) {
        for (int64_t t = 0; t < page_size; ++t) {
          for (int64_t k = 0; k < kLatents; ++k)
            on_host.latent.values(p, t, k) = e4m3::FromFloat(400 * uniform(c.rng()));
          for (int64_t k = 0; k < kLatents / 128; ++k) on_host.latent.scales(p, t, k) = 1.0f / 400;
          for (int64_t k = 0; k < kRotated; ++k) on_host.key(p, t, k) = bf16::FromFloat(uniform(c.rng()));
        }
      }
      Buffer<int32_t>&table = c.Make<int32_t>(pages), &sequence = c.Make<int32_t>(rows),
      &lengths = c.Make<int32_t>(rows), &segments = c.Make<int32_t>(rows + 1);
      for (int64_t p = 0; p < pages; ++p) table.host()[static_cast<size_t>(p)] = static_cast<int32_t>(pages - 1 - p);
      sequence.host() = {0, 1};
      lengths.host() = {static_cast<int32_t>(length), 33};
      segments.host() = {0, 1, 2};
      Buffer<float>& out = c.Result<float>(rows * kHeads * (which == 0 ? kLatents : kValues), 2 * kRounded);
      const auto kv = [&](Side side) -> KvInput<3> {
        if (fp8) return Fp8Kv<const e4m3, 3>(cache(side));
        return Const(Cube(plain, side, pages, page_size, width));
      };
      const char* names[] = {"decode_attention", "attend_project", "prefill_attention"};
      report(c.Run(
          fmt::format("{}, {} cache, context {}, {} heads", names[which], fp8 ? "FP8" : "bf16", length, kHeads),
          [&](const ExecContext& context, Side side) {
            const auto of_query = Const(Cube(query, side, rows, kHeads, width));
            const HeadWeight w_vc{w.Weight(side), kHeads, kNope + kValues, kNope, kValues};
            if (which == 2) {
              PrefillAttentionArgs args;
              args.query = FloatInput<3>(of_query.Slice(2, 0, kNope + kRotated));
              args.kv_pages = kv(side);
              args.block_table = Const(Matrix(table, side, rows, pages_of_row));
              args.row_sequence = Const(Vector(sequence, side, rows));
              args.row_length = Const(Vector(lengths, side, rows));
              args.segment_begin = Const(Vector(segments, side, rows + 1));
              args.w_kc = {w.Weight(side), kHeads, kNope + kValues, 0, kNope};
              args.w_vc = w_vc;
              args.softmax_scale = 0.07f;
              args.out = FloatOutput<3>(Cube(out, side, rows, kHeads, kValues));
              return PrefillAttention(context, args);
            }
            DecodeAttentionArgs args;
            args.query = FloatInput<3>(of_query);
            args.kv_pages = kv(side);
            args.block_table = Const(Matrix(table, side, rows, pages_of_row));
            args.row_sequence = Const(Vector(sequence, side, rows));
            args.row_length = Const(Vector(lengths, side, rows));
            args.kv_lora_rank = kLatents;
            args.softmax_scale = 0.07f;
            if (which == 0) {
              args.out = FloatOutput<3>(Cube(out, side, rows, kHeads, kLatents));
              return DecodeAttention(context, args);
            }
            const auto attended = Cube(between, side, rows, kHeads, kLatents);
            args.out = FloatOutput<3>(attended);
            AttendProject(
                context,
                {args,
                 {Activation<3>(Const(attended)), w_vc, {FloatOutput<3>(Cube(out, side, rows, kHeads, kValues))}}});
          }));
    }
  }
}

// --- experts ---

void Experts(Backend& backend, const Report& report) {
  constexpr int64_t kExperts = 16, kTopK = 4, kRows = 3, kHidden = 1024, kWidth = 256;
  {
    OpCase c(backend, 7);
    Buffer<float>&x = c.Random<float>(kRows * kHidden), &residual = c.Random<float>(kRows * kHidden),
    &gain = c.Random<float>(kHidden), &bias = c.Random<float>(kExperts, 0.1f),
    &weight = c.Random<float>(kExperts * kHidden, 0.05f), &logits = c.Make<float>(kRows * kExperts);
    Buffer<bf16>& normed = c.Result<bf16>(kRows * kHidden, kRounded);
    Buffer<float>&summed = c.Result<float>(kRows * kHidden, kExact),
    &weights = c.Result<float>(kRows * kTopK, kRounded);
    Buffer<int32_t>&ids = c.Result<int32_t>(kRows * kTopK), &begin = c.Result<int32_t>(kExperts + 1),
    &pairs = c.Result<int32_t>(kRows * kTopK);
    report(c.Run(fmt::format("norm_router, {} rows, {} of {} experts", kRows, kTopK, kExperts),
                 [&](const ExecContext& context, Side side) {
                   NormRouterArgs args;
                   args.norm = NormOfSum(x, residual, summed, gain, side, kRows, kHidden);
                   args.norm.out = FloatOutput<2>(Matrix(normed, side, kRows, kHidden));
                   args.router.x = FloatInput<2>(Const(Matrix(normed, side, kRows, kHidden)));
                   args.router.weight = Const(Matrix(weight, side, kExperts, kHidden));
                   args.router.bias = Const(Vector(bias, side, kExperts));
                   args.router.options = {RouterMethod::kNoauxTc, 4, 2, kTopK, true, 2.5f};
                   args.router.logits = Matrix(logits, side, kRows, kExperts);
                   args.router.expert_ids = Matrix(ids, side, kRows, kTopK);
                   args.router.expert_weights = Matrix(weights, side, kRows, kTopK);
                   args.group = {Const(Matrix(ids, side, kRows, kTopK)), Vector(begin, side, kExperts + 1),
                                 Vector(pairs, side, kRows * kTopK)};
                   NormRouter(context, args);
                 }));
  }
  for (const NamedPair& pair : kPairs) {
    OpCase c(backend, 8);
    const int64_t pairs = kRows * kTopK;
    const Operand x(c, pair.x, kRows, kHidden), gated_x(c, pair.x, pairs, kWidth),
        gate_up(c, pair.w, kExperts * 2 * kWidth, kHidden), down(c, pair.w, kExperts * kHidden, kWidth);
    Buffer<int32_t>&begin = c.Make<int32_t>(kExperts + 1), &order = c.Make<int32_t>(pairs);
    for (int64_t e = 0; e <= kExperts; ++e)
      begin.host()[static_cast<size_t>(e)] = static_cast<int32_t>(std::min(e, pairs));
    for (int64_t p = 0; p < pairs; ++p) order.host()[static_cast<size_t>(p)] = static_cast<int32_t>(p);
    Buffer<bf16>& between = c.Make<bf16>(pairs * 2 * kWidth);
    Buffer<float>&products = c.Make<float>(pairs * kHidden), &weights = c.Random<float>(pairs);
    Buffer<bf16>& gated = c.Result<bf16>(pairs * kWidth, kRounded);
    Buffer<float>& combined = c.Result<float>(kRows * kHidden, kExact);
    // Per side, and alive as long as the case.
    std::vector<LinearWeight> weights_of[2][2];
    std::shared_ptr<const void> placed[2];
    for (const Side side : {Side::kHost, Side::kDevice}) {
      auto& of_side = weights_of[static_cast<int>(side)];
      for (int64_t e = 0; e < kExperts; ++e) {
        of_side[0].push_back(Rows(gate_up.Weight(side), e * 2 * kWidth, 2 * kWidth));
        of_side[1].push_back(Rows(down.Weight(side), e * kHidden, kHidden));
      }
    }
    for (int i = 0; i < 2; ++i) placed[i] = backend.PlaceExperts(weights_of[static_cast<int>(Side::kDevice)][i]);
    report(c.Run(fmt::format("experts {}, {} pairs, 2 x {} x {}", pair.name, pairs, kWidth, kHidden),
                 [&](const ExecContext& context, Side side) {
                   const auto product = [&](const Operand& of, int which, int64_t pairs_per_row,
                                            const FloatOutput<2>& out) {
                     GroupedLinearArgs args{of.Input(side),
                                            pairs_per_row,
                                            weights_of[static_cast<int>(side)][which],
                                            Const(Vector(begin, side, kExperts + 1)),
                                            Const(Vector(order, side, pairs)),
                                            out};
                     if (side == Side::kDevice) args.placed = placed[which].get();
                     return args;
                   };
                   const auto both = Matrix(between, side, pairs, 2 * kWidth);
                   GatedExperts(context, {product(x, 0, kTopK, FloatOutput<2>(both)),
                                          {FloatInput<2>(Const(both.Slice(1, 0, kWidth))),
                                           FloatInput<2>(Const(both.Slice(1, kWidth, kWidth))),
                                           ActivationOutput<2>(Matrix(gated, side, pairs, kWidth))}});
                   const auto sums = Matrix(products, side, pairs, kHidden);
                   CombinedExperts(context, {product(gated_x, 1, 1, FloatOutput<2>(sums)),
                                             {FloatInput<2>(Const(sums)),
                                              Const(Matrix(weights, side, kRows, kTopK)),
                                              {},
                                              FloatOutput<2>(Matrix(combined, side, kRows, kHidden))}});
                 }));
  }
}

// --- rows ---

void RowOps(Backend& backend, const Report& report) {
  constexpr int64_t kRows = 5, kWide = 7168;
  {
    OpCase c(backend, 9);
    Buffer<float>&x = c.Random<float>(kRows * kWide), &residual = c.Random<float>(kRows * kWide),
    &gain = c.Random<float>(kWide);
    Buffer<float>& summed = c.Result<float>(kRows * kWide, kExact);
    Buffer<bf16>& out = c.Result<bf16>(kRows * kWide, kRounded);
    report(c.Run(fmt::format("rms_norm, {} x {}", kRows, kWide), [&](const ExecContext& context, Side side) {
      RmsNormArgs args;
      args.x = FloatInput<2>(Const(Matrix(x, side, kRows, kWide)));
      args.residual = Matrix(residual, side, kRows, kWide);
      args.residual_out = Matrix(summed, side, kRows, kWide);
      args.weight = Const(Vector(gain, side, kWide));
      args.eps = 1e-6f;
      args.out = FloatOutput<2>(Matrix(out, side, kRows, kWide));
      RmsNorm(context, args);
    }));
  }
  {
    OpCase c(backend, 10);
    Buffer<bf16>& x = c.Random<bf16>(kRows * kWide);
    Buffer<e2m1x2>& codes = c.Result<e2m1x2>(kRows * kWide / 2);
    Buffer<e8m0>& scales = c.Result<e8m0>(kRows * kWide / 32);
    Buffer<e4m3>& fp8 = c.Result<e4m3>(kRows * kWide);
    Buffer<float>& fp8_scales = c.Result<float>(kRows * kWide / 128);
    Buffer<bf16>& copied = c.Result<bf16>(kRows * kWide);
    report(c.Run(fmt::format("quantize, flatten_quantize, copy, {} x {}", kRows, kWide), [&](const ExecContext& context,
                                                                                             Side side) {
      const FloatInput<3> in = Const(Cube(x, side, kRows, 7, kWide / 7));
      Quantize(context, {FloatInput<3>(Const(Cube(x, side, kRows, 1, kWide))),
                         QuantizedOutput<3>(Fp8Group<e4m3, 3>{Cube(fp8, side, kRows, 1, kWide),
                                                              Cube(fp8_scales, side, kRows, 1, kWide / 128)})});
      FlattenQuantize(context, {in, QuantizedOutput<2>(Mxfp4<e2m1x2, 2>{Matrix(codes, side, kRows, kWide / 2),
                                                                        Matrix(scales, side, kRows, kWide / 32)})});
      Copy(context, {in, FloatOutput<3>(Cube(copied, side, kRows, 7, kWide / 7))});
    }));
  }
  {
    OpCase c(backend, 11);
    Buffer<int32_t>& positions = c.Make<int32_t>(kRows);
    positions.host() = {0, 1, 77, 4095, 131071};
    Buffer<float>& frequencies = c.Make<float>(kRotated / 2);
    for (size_t i = 0; i < frequencies.host().size(); ++i) {
      frequencies.host()[i] = std::pow(10000.0f, -static_cast<float>(i) / 32);
    }
    Buffer<float>&cosine = c.Result<float>(kRows * kRotated / 2, kExact),
    &sine = c.Result<float>(kRows * kRotated / 2, kExact);
    Buffer<bf16>& x = c.Random<bf16>(kRows * kHeads * kRotated);
    Buffer<bf16>& turned = c.Result<bf16>(kRows * kHeads * kRotated, kRounded);
    report(c.Run(fmt::format("rope_angles, rope, {} rows, {} heads", kRows, kHeads), [&](const ExecContext& context,
                                                                                         Side side) {
      const auto cosines = Matrix(cosine, side, kRows, kRotated / 2), sines = Matrix(sine, side, kRows, kRotated / 2);
      RopeAngles(context, {Const(Vector(positions, side, kRows)), Const(Vector(frequencies, side, kRotated / 2)), 1.0f,
                           cosines, sines});
      RopeArgs args;
      args.x = FloatInput<3>(Const(Cube(x, side, kRows, kHeads, kRotated)));
      args.cos = Const(cosines);
      args.sin = Const(sines);
      args.out = FloatOutput<3>(Cube(turned, side, kRows, kHeads, kRotated));
      Rope(context, args);
    }));
  }
  constexpr int64_t kVocab = 4000, kHidden = 256;
  OpCase c(backend, 12);
  const Operand table(c, Kind::kBf16, kVocab, kHidden);
  Buffer<int32_t>& tokens = c.Make<int32_t>(kRows);
  tokens.host() = {0, 3999, 17, 5, 5};
  Buffer<float>& embedded = c.Result<float>(kRows * kHidden);
  Buffer<float>&logits = c.Random<float>(kRows * kVocab, 4), &uniform = c.Make<float>(kRows);
  uniform.host() = {0.1f, 0.4f, 0.6f, 0.8f, 0.95f};
  Buffer<SamplingOptions>& options = c.Make<SamplingOptions>(kRows);
  for (size_t r = 1; r < options.host().size(); r += 2) options.host()[r].temperature = 0.8f;
  Buffer<int32_t>& sampled = c.Result<int32_t>(kRows);
  report(
      c.Run(fmt::format("embedding, sample, {} rows of {}", kRows, kVocab), [&](const ExecContext& context, Side side) {
        Embedding(context, {Const(Vector(tokens, side, kRows)), table.Weight(side),
                            FloatOutput<2>(Matrix(embedded, side, kRows, kHidden))});
        SampleArgs args{};
        args.logits = Const(Matrix(logits, side, kRows, kVocab));
        args.options = Const(Vector(options, side, kRows));
        args.uniform = Const(Vector(uniform, side, kRows));
        args.tokens = Vector(sampled, side, kRows);
        Sample(context, args);
      }));
}

}  // namespace

void CheckOps(Backend& backend, const Report& report) {
  Products(backend, report);
  HeadProducts(backend, report);
  FusedOutputs(backend, report);
  Attention(backend, report);
  Experts(backend, report);
  RowOps(backend, report);
  CheckQuantizedLaunches(backend, report);
}

}  // namespace mxmla::hip
