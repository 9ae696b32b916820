// Ops that run in one launch where a backend has a kernel for it: against ref's parts, and bit for bit against the
// backend's own. Rows are aligned and padded, as such kernels ask for; the padding is canary.
#include "ops/fused.h"

#include "core/float_view.h"
#include "harness.h"

namespace mxmla::test {
namespace {

using FusedTest = BackendTest;

// Of two results rounded to bf16 each.
Tolerance Twice(const Backend& backend) {
  Tolerance tolerance = backend.For(Format::kBf16, 10);
  tolerance.relative *= 2;
  return tolerance;
}

// (rows, n) of T, 16 elements of canary behind each row.
template <class T>
class PaddedRows {
 public:
  PaddedRows(int64_t rows, int64_t n) : memory_(static_cast<size_t>(rows * (n + 16) + 16), Canary<T>()) {
    view = {memory_.data(), {rows, n}, {n + 16, 1}};
  }
  PaddedRows(Rng& rng, int64_t rows, int64_t n, float scale = 1) : PaddedRows(rows, n) {
    std::normal_distribution<float> normal(0, scale);
    ForEach([&](T& v) {
      if constexpr (std::is_same_v<T, float>) {
        v = normal(rng);
      } else {
        v = T::FromFloat(normal(rng));
      }
    });
  }
  template <class Body>
  void ForEach(const Body& body) const {
    for (int64_t r = 0; r < view.shape[0]; ++r) {
      for (int64_t j = 0; j < view.shape[1]; ++j) body(view(r, j));
    }
  }
  std::vector<double> Values() const {
    std::vector<double> values;
    ForEach([&](const T& v) {
      if constexpr (std::is_same_v<T, bf16>) {
        values.push_back(Bf16Value(v));
      } else {
        values.push_back(static_cast<double>(v));
      }
    });
    return values;
  }
  const OperandVector<T>& memory() const { return memory_; }
  bool PaddingUntouched() const {
    const T canary = Canary<T>();
    for (int64_t i = 0; i < static_cast<int64_t>(memory_.size()); ++i) {
      const bool inside = i / view.stride[0] < view.shape[0] && i % view.stride[0] < view.shape[1];
      if (!inside && std::memcmp(&memory_[static_cast<size_t>(i)], &canary, sizeof(T)) != 0) return false;
    }
    return true;
  }

  View<T, 2> view;

 private:
  OperandVector<T> memory_;
};

template <class T>
bool SameBits(const PaddedRows<T>& a, const PaddedRows<T>& b) {
  return a.memory().size() == b.memory().size() &&
         std::memcmp(a.memory().data(), b.memory().data(), a.memory().size() * sizeof(T)) == 0;
}

// Random weights in rows that a stream takes.
class AlignedWeight {
 public:
  AlignedWeight(Rng& rng, Format format, int64_t n, int64_t k) : half_(rng, n, k, 0.05f), codes_(n, k), scales_(n, k) {
    if (format == Format::kBf16) {
      view = View<const bf16, 2>(half_.view);
    } else if (format == Format::kMxfp4) {
      View<uint8_t, 2> codes = codes_.view.Slice(1, 0, k / 2), scales = scales_.view.Slice(1, 0, k / 32);
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < k / 2; ++j) codes(i, j) = static_cast<uint8_t>(Uniform(rng, 0, 255));
        for (int64_t j = 0; j < k / 32; ++j) scales(i, j) = static_cast<uint8_t>(Uniform(rng, 118, 126));
      }
      view = Mxfp4<const e2m1x2, 2>{{reinterpret_cast<const e2m1x2*>(codes.data), codes.shape, codes.stride},
                                    {reinterpret_cast<const e8m0*>(scales.data), scales.shape, scales.stride}};
    } else {
      codes_.ForEach([&](uint8_t& v) { v = static_cast<uint8_t>(Uniform(rng, 0, 0x7e) | Uniform(rng, 0, 1) << 7); });
      squares_.resize(static_cast<size_t>((n + 127) / 128 * ((k + 127) / 128)));
      for (float& s : squares_) s = std::uniform_real_distribution<float>(1e-4f, 1e-3f)(rng);
      view = Fp8Block{{reinterpret_cast<const e4m3*>(codes_.view.data), {n, k}, codes_.view.stride},
                      View<const float, 2>::Contiguous(squares_.data(), {(n + 127) / 128, (k + 127) / 128})};
    }
  }

  LinearWeight view;

 private:
  PaddedRows<bf16> half_;
  PaddedRows<uint8_t> codes_, scales_;
  OperandVector<float> squares_;
};

// Those of the backend but for the ops of this file.
KernelSet PartsOf(const Backend& backend) {
  KernelSet set = *backend.kernels;
  set.norm_linear.clear();
  set.latent_query.clear();
  set.attend_project.clear();
  set.norm_router.clear();
  return set;
}

// Runs `op` by the backend, by its parts and by ref, each into outputs of its own.
template <class Outputs, class Op>
void RunThrice(const Backend& backend, Outputs (&outputs)[3], const Op& op) {
  const KernelSet parts = PartsOf(backend);
  const Backend by_parts{backend.name, &parts, backend.partial, {}};
  const Backend runs[] = {backend, by_parts, RefBackend()};
  for (int i = 0; i < 3; ++i) {
    Machine machine(runs[i]);
    machine.Run([&](const ExecContext& context) { op(context, outputs[i]); });
  }
}

TEST_P(FusedTest, NormLinear) {
  const int64_t most = backend().name == "hip" ? 4 : 2;  // rows of one launch
  struct Case {
    int64_t rows, n, k;
    bool residual, row_scale, x_half;
  };
  for (const Case& c : {Case{1, 208, 2048, true, false, false}, Case{2, 130, 512, true, false, false},
                        Case{2, 72, 1536, false, true, true}, Case{2, 64, 7168, false, false, false},
                        Case{1, 1040, 512, true, false, false}, Case{3, 64, 512, true, false, false},
                        Case{5, 16, 256, true, false, false}}) {
    for (const Format format : {Format::kBf16, Format::kMxfp4, Format::kFp8}) {
      SCOPED_TRACE(testing::Message() << c.rows << " rows, " << c.n << " x " << c.k << " " << Name(format));
      const AlignedWeight w(rng_, format, c.n, c.k);
      const PaddedRows<float> x(rng_, c.rows, c.k), residual(rng_, c.rows, c.k), gain(rng_, 1, c.k), scale(rng_, 1, 8);
      const PaddedRows<bf16> x_half(rng_, c.rows, c.k);
      struct Outputs {
        explicit Outputs(const Case& c) : out(c.rows, c.n), residual_out(c.rows, c.k), between(c.rows, c.k) {}
        PaddedRows<float> out, residual_out;
        PaddedRows<bf16> between;
      };
      Outputs outputs[] = {Outputs(c), Outputs(c), Outputs(c)};
      NormLinearArgs last;
      RunThrice(backend(), outputs, [&](const ExecContext& context, const Outputs& to) {
        NormLinearArgs args;
        args.norm.x = c.x_half ? FloatInput<2>(View<const bf16, 2>(x_half.view)) : View<const float, 2>(x.view);
        if (c.residual) {
          args.norm.residual = residual.view;
          args.norm.residual_out = to.residual_out.view;
        }
        args.norm.weight = View<const float, 1>{gain.view.data, {c.k}, {1}};
        if (c.row_scale) args.norm.row_scale = View<const float, 1>{scale.view.data, {c.rows}, {1}};
        args.norm.eps = 1e-6f;
        args.norm.out = FloatOutput<2>(to.between.view);
        args.linear = {Activation<2>(View<const bf16, 2>(to.between.view)), w.view, FloatOutput<2>(to.out.view)};
        NormLinear(context, args, "linear");
        last = args;
      });
      for (const Kernel<NormLinearArgs>& kernel : backend().kernels->norm_linear) {
        EXPECT_EQ(Holds(kernel, last), c.rows <= most);
      }
      EXPECT_TRUE(SameBits(outputs[0].out, outputs[1].out));
      EXPECT_TRUE(SameBits(outputs[0].residual_out, outputs[1].residual_out));
      EXPECT_TRUE(outputs[0].out.PaddingUntouched());
      EXPECT_TRUE(Close(outputs[2].out.Values(), outputs[0].out.Values(), {0.01, 0.01, 1e-4}));
      if (c.residual) {
        EXPECT_TRUE(
            Close(outputs[2].residual_out.Values(), outputs[0].residual_out.Values(), backend().For(Format::kF32)));
      }
    }
  }
}

TEST_P(FusedTest, LatentQuery) {
  struct Case {
    int64_t rows, heads, nope, latents, rotated;
  };
  // An FP8 cache's rows in the memory of rows in bf16: codes and their scales where the latents would be.
  const auto codes_of = [](const PaddedRows<bf16>& cache, int64_t latents) {
    const int64_t slots = cache.view.shape[0], row = cache.view.stride[0] * 2;
    auto* const memory = reinterpret_cast<uint8_t*>(cache.view.data);
    return Fp8Group<e4m3, 2>{
        {reinterpret_cast<e4m3*>(memory), {slots, latents}, {row, 1}},
        {reinterpret_cast<float*>(memory + latents), {slots, (latents + 127) / 128}, {row / 4, 1}}};
  };
  for (const Case& c : {Case{1, 16, 128, 512, 64}, Case{9, 4, 64, 128, 32}, Case{40, 4, 128, 512, 64}}) {
    for (const auto& [format, fp8_cache] : {std::pair{Format::kBf16, false},
                                            {Format::kMxfp4, false},
                                            {Format::kFp8, false},
                                            {Format::kMxfp4, true},
                                            {Format::kFp8, true}}) {
      SCOPED_TRACE(testing::Message() << c.rows << " rows, " << c.heads << " heads " << Name(format)
                                      << (fp8_cache ? " to a cache in FP8" : ""));
      const int64_t head = c.nope + 128, slots = c.rows + 7;
      const AlignedWeight w(rng_, format, c.heads * head, c.latents);
      const PaddedRows<bf16> q(rng_, c.rows, c.heads * (c.nope + c.rotated));
      const PaddedRows<bf16> kv(rng_, c.rows, c.latents + c.rotated);
      const PaddedRows<float> gain(rng_, 1, c.latents), cos(rng_, c.rows, c.rotated / 2),
          sin(rng_, c.rows, c.rotated / 2);
      OperandVector<int64_t> slot(static_cast<size_t>(c.rows));
      for (int64_t r = 0; r < c.rows; ++r) slot[static_cast<size_t>(r)] = (r * 5 + 3) % slots;
      if (slots % 5 == 0) {
        for (int64_t r = 0; r < c.rows; ++r) slot[static_cast<size_t>(r)] = slots - 1 - r;
      }
      struct Outputs {
        Outputs(const Case& c, int64_t slots)
            : cache(slots, c.latents + c.rotated), query(c.rows, c.heads * (c.latents + c.rotated)) {}
        PaddedRows<bf16> cache, query;
      };
      Outputs outputs[] = {{c, slots}, {c, slots}, {c, slots}};
      LatentQueryArgs last;
      RunThrice(backend(), outputs, [&](const ExecContext& context, const Outputs& to) {
        LatentQueryArgs args;
        const View<const int64_t, 1> slot_view = View<const int64_t, 1>::Contiguous(slot.data(), {c.rows});
        args.latent.x = FloatInput<2>(View<const bf16, 2>(kv.view.Slice(1, 0, c.latents)));
        args.latent.weight = View<const float, 1>{gain.view.data, {c.latents}, {1}};
        args.latent.eps = 1e-6f;
        if (fp8_cache) {
          args.latent.quantized = codes_of(to.cache, c.latents);
        } else {
          args.latent.out = FloatOutput<2>(to.cache.view.Slice(1, 0, c.latents));
        }
        args.latent.out_index = slot_view;
        args.key.x = FloatInput<3>(View<const bf16, 3>(kv.view.Slice(1, c.latents, c.rotated).Split(1, 1, c.rotated)));
        args.key.cos = cos.view, args.key.sin = sin.view;
        args.key.out = FloatOutput<3>(to.cache.view.Slice(1, c.latents, c.rotated).Split(1, 1, c.rotated));
        args.key.out_index = slot_view;
        const View<bf16, 3> heads = q.view.Split(1, c.heads, c.nope + c.rotated);
        const View<bf16, 3> query = to.query.view.Split(1, c.heads, c.latents + c.rotated);
        args.absorb.q_nope = Activation<3>(View<const bf16, 3>(heads.Slice(2, 0, c.nope)));
        args.absorb.w_kc = {w.view, c.heads, head, 0, c.nope};
        args.absorb.out = FloatOutput<3>(query.Slice(2, 0, c.latents));
        args.query.x = FloatInput<3>(View<const bf16, 3>(heads.Slice(2, c.nope, c.rotated)));
        args.query.cos = cos.view, args.query.sin = sin.view;
        args.query.out = FloatOutput<3>(query.Slice(2, c.latents, c.rotated));
        LatentQuery(context, args);
        last = args;
      });
      for (const Kernel<LatentQueryArgs>& kernel : backend().kernels->latent_query) EXPECT_TRUE(Holds(kernel, last));
      EXPECT_TRUE(SameBits(outputs[0].cache, outputs[1].cache));
      EXPECT_TRUE(SameBits(outputs[0].query, outputs[1].query));
      EXPECT_TRUE(outputs[0].cache.PaddingUntouched());
      EXPECT_TRUE(outputs[0].query.PaddingUntouched());
      EXPECT_TRUE(Close(outputs[2].query.Values(), outputs[0].query.Values(), Twice(backend())));
      for (int64_t r = 0; r < c.rows; ++r) {
        const auto row = [&](const Outputs& of) {
          std::vector<double> values;
          const int64_t at = slot[static_cast<size_t>(r)];
          for (int64_t j = fp8_cache ? c.latents : 0; j < c.latents + c.rotated; ++j) {
            values.push_back(Bf16Value(of.cache.view(at, j)));
          }
          return values;
        };
        EXPECT_TRUE(Close(row(outputs[2]), row(outputs[0]), Twice(backend())));
        if (!fp8_cache) continue;
        // A code may be ref's neighbour where a sum's last bit decides.
        const auto latents = [&](const Outputs& of) {
          const Fp8Group<e4m3, 2> codes = codes_of(of.cache, c.latents);
          const int64_t at = slot[static_cast<size_t>(r)];
          std::vector<double> values;
          for (int64_t j = 0; j < c.latents; ++j) {
            values.push_back(static_cast<double>(codes.values(at, j).ToFloat() * codes.scales(at, j / 128)));
          }
          return values;
        };
        EXPECT_TRUE(Close(latents(outputs[2]), latents(outputs[0]), {0.13, 1e-3, 1e-3}));
      }
    }
  }
}

TEST_P(FusedTest, NormRouter) {
  struct Case {
    int64_t rows, hidden, experts, shared;
    RouterOptions options;
  };
  using enum RouterMethod;
  struct Norm {
    std::optional<Format> quantized;  // beside bf16
    ScaleMode mode;
    bool half, residual;  // the router's weights in bf16; a residual stream
  };
  constexpr ScaleMode kEven = ScaleMode::kEven, kCeil = ScaleMode::kCeil;
  for (const Case& c :
       {Case{1, 2048, 64, 2, {kGreedy, 1, 1, 6, false, 1.0f}}, Case{4, 1024, 256, 1, {kNoauxTc, 8, 4, 8, true, 2.5f}},
        Case{2, 1536, 384, 0, {kNoauxTc, 1, 1, 8, true, 2.827f}},
        Case{3, 64, 40, 0, {kGroupLimitedGreedy, 8, 3, 6, false, 16.0f}}}) {
    for (const Norm& of : {Norm{{}, kEven, false, false}, Norm{{}, kEven, false, true}, Norm{{}, kEven, true, false},
                           Norm{{}, kEven, true, true}, Norm{Format::kMxfp4, kEven, true, true},
                           Norm{Format::kMxfp4, kCeil, false, true}, Norm{Format::kFp8, kEven, true, false},
                           Norm{Format::kFp8, kCeil, false, true}}) {
      SCOPED_TRACE(testing::Message() << c.rows << " rows, " << c.experts << " experts, "
                                      << (of.quantized ? Name(*of.quantized) : "bf16 alone"));
      const int64_t slots = c.options.top_k + c.shared, all = c.experts + c.shared, pairs = c.rows * slots;
      const PaddedRows<float> x(rng_, c.rows, c.hidden), before(rng_, c.rows, c.hidden), gain(rng_, 1, c.hidden),
          bias(rng_, 1, c.experts, 0.1f), w(rng_, c.experts, c.hidden, 0.02f);
      const PaddedRows<bf16> w_half(rng_, c.experts, c.hidden, 0.02f);
      for (int64_t j = 0; j < 32; ++j) gain.view(0, j) = 0;  // blocks of zeros
      const bool poisoned = of.quantized && c.rows == 4;
      if (poisoned) x.view(3, 70) = std::nanf("");
      OperandVector<int32_t> lengths(static_cast<size_t>(c.rows), 5);
      if (c.rows > 1) lengths[1] = 0;  // padding
      struct Outputs {
        Outputs(const Case& c, int64_t slots, int64_t all)
            : normed(c.rows, c.hidden),
              residual(c.rows, c.hidden),
              mx_codes(c.rows, c.hidden / 2),
              mx_scales(c.rows, c.hidden / kMxBlock),
              fp8_codes(c.rows, c.hidden),
              fp8_scales(c.rows, (c.hidden + kFp8Group - 1) / kFp8Group),
              logits(c.rows, c.experts),
              weights(c.rows, slots),
              ids(static_cast<size_t>(c.rows * slots)),
              begin(static_cast<size_t>(all + 1), -7),
              pairs(static_cast<size_t>(c.rows * slots), -7) {
          for (int64_t i = 0; i < c.rows * slots; ++i) {
            const int64_t slot = i % slots;
            ids[static_cast<size_t>(i)] =
                slot < c.options.top_k ? -9 : static_cast<int32_t>(c.experts + slot - c.options.top_k);
          }
        }
        QuantizedOutput<2> Quantized(Format format) const {
          if (format == Format::kFp8) return Fp8Group<e4m3, 2>{fp8_codes.view, fp8_scales.view};
          return Mxfp4<e2m1x2, 2>{mx_codes.view, mx_scales.view};
        }
        PaddedRows<bf16> normed;
        PaddedRows<float> residual;
        PaddedRows<e2m1x2> mx_codes;
        PaddedRows<e8m0> mx_scales;
        PaddedRows<e4m3> fp8_codes;
        PaddedRows<float> fp8_scales, logits, weights;
        OperandVector<int32_t> ids, begin, pairs;
      };
      Outputs outputs[] = {{c, slots, all}, {c, slots, all}, {c, slots, all}};
      NormRouterArgs last;
      RunThrice(backend(), outputs, [&](const ExecContext& context, Outputs& to) {
        NormRouterArgs args;
        args.norm.x = FloatInput<2>(View<const float, 2>(x.view));
        if (of.residual) args.norm.residual = before.view, args.norm.residual_out = to.residual.view;
        args.norm.weight = View<const float, 1>{gain.view.data, {c.hidden}, {1}};
        args.norm.eps = 1e-6f;
        args.norm.out = FloatOutput<2>(to.normed.view);
        if (of.quantized) args.norm.quantized = to.Quantized(*of.quantized);
        args.norm.scale_mode = of.mode;
        args.router.x = FloatInput<2>(View<const bf16, 2>(to.normed.view));
        args.router.weight =
            of.half ? LinearWeight(View<const bf16, 2>(w_half.view)) : LinearWeight(View<const float, 2>(w.view));
        if (c.options.method == kNoauxTc) args.router.bias = View<const float, 1>{bias.view.data, {c.experts}, {1}};
        args.router.options = c.options;
        args.router.logits = to.logits.view;
        const View<int32_t, 2> ids = View<int32_t, 2>::Contiguous(to.ids.data(), {c.rows, slots});
        args.router.expert_ids = ids.Slice(1, 0, c.options.top_k);
        args.router.expert_weights = to.weights.view.Slice(1, 0, c.options.top_k);
        args.router.row_length = View<const int32_t, 1>::Contiguous(lengths.data(), {c.rows});
        args.group = {View<const int32_t, 2>(ids), View<int32_t, 1>::Contiguous(to.begin.data(), {all + 1}),
                      View<int32_t, 1>::Contiguous(to.pairs.data(), {pairs})};
        NormRouter(context, args);
        last = args;
      });
      const KernelTable<NormRouterArgs>& kernels = backend().kernels->norm_router;
      EXPECT_TRUE(kernels.empty() || std::ranges::any_of(kernels, [&](const auto& k) { return Holds(k, last); }));
      const auto grouped = [](const Outputs& run) {
        return std::vector<int32_t>(run.pairs.begin(), run.pairs.begin() + run.begin.back());
      };
      const auto same_quantized = [](const Outputs& a, const Outputs& b) {
        return SameBits(a.mx_codes, b.mx_codes) && SameBits(a.mx_scales, b.mx_scales) &&
               SameBits(a.fp8_codes, b.fp8_codes) && SameBits(a.fp8_scales, b.fp8_scales);
      };
      EXPECT_TRUE(SameBits(outputs[0].normed, outputs[1].normed));
      EXPECT_TRUE(SameBits(outputs[0].residual, outputs[1].residual));
      EXPECT_TRUE(SameBits(outputs[0].weights, outputs[1].weights));
      EXPECT_EQ(outputs[0].ids, outputs[1].ids);
      EXPECT_EQ(outputs[0].begin, outputs[1].begin);
      EXPECT_EQ(grouped(outputs[0]), grouped(outputs[1]));
      EXPECT_TRUE(outputs[0].normed.PaddingUntouched());
      EXPECT_TRUE(outputs[0].residual.PaddingUntouched());
      EXPECT_TRUE(same_quantized(outputs[0], outputs[1]));  // padding included, in all four
      if (of.quantized && backend().name != "ref") {        // ref quantises what is not rounded to bf16
        const Outputs by_ref(c, slots, all);
        Machine ref(RefBackend());
        ref.Run([&](const ExecContext& context) {
          const View<const bf16, 2> normed = outputs[0].normed.view;
          Quantize(context, {FloatInput<3>(normed.Split(0, c.rows, 1)),
                             SplitRows(by_ref.Quantized(*of.quantized), c.rows, 1), of.mode});
        });
        EXPECT_TRUE(same_quantized(outputs[0], by_ref));
      }
      // Ids may differ from ref's where scores all but tie; the logits may not.
      if (poisoned) continue;  // compared bit for bit above
      EXPECT_TRUE(Close(outputs[2].normed.Values(), outputs[0].normed.Values(), Twice(backend())));
    }
  }
}

MXMLA_INSTANTIATE_BACKENDS(FusedTest);

}  // namespace
}  // namespace mxmla::test
