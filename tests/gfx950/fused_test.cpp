// Ops that run in one launch against their parts, bit for bit (tests/ops/fused_test.cpp has those that need no experts
// and no cache), and in how many launches.
#include "hip/fused_experts.h"

#include "core/float_view.h"
#include "expert_case.h"
#include "hip/norm_linear.h"
#include "hip/query_absorb.h"

namespace mxmla {
namespace {

class HipFused : public HipProducts {
 protected:
  static int64_t Launches() {
    int64_t launches = 0;
    for (const auto& kernel : CountedAll()) launches += kernel["launches"].get<int64_t>();
    return launches;
  }
};

// Quantised rows between two parts, (rows, k).
struct Between {
  Matrix<e4m3> fp8;
  Matrix<float> groups;
  Matrix<e2m1x2> codes;
  Matrix<e8m0> scales;

  Between(int64_t rows, int64_t k)
      : fp8(rows, k, 16), groups(rows, (k + 127) / 128, 1), codes(rows, k / 2, 16), scales(rows, k / 32, 1) {}

  QuantizedOutput<2> Out(Kind kind) const {
    if (kind == Kind::kFp8) return Fp8Group<e4m3, 2>{fp8.view, groups.view};
    return Mxfp4<e2m1x2, 2>{codes.view, scales.view};
  }
};

TEST_F(HipFused, NormLinearOfQuantisedRowsIsItsParts) {
  struct Size {
    int64_t rows, n, k;
    bool residual;
  };
  for (const Size s : {Size{1, 40, 2080, true}, {3, 21, 288, false}, {4, 16, 5120, true}}) {
    for (const Kind kind : {Kind::kFp8, Kind::kMxfp4}) {
      for (const ScaleMode mode : {ScaleMode::kEven, ScaleMode::kCeil}) {
        SCOPED_TRACE(testing::Message() << s.rows << " x " << s.n << " x " << s.k << " " << Name(kind));
        const Tensor w(rng_, kind, s.n, s.k);
        const Between between(s.rows, s.k);
        const Matrix<float> x(s.rows, s.k, 4), residual(s.rows, s.k, 8), gain(1, s.k, 0);
        std::normal_distribution<float> normal;
        for (const Matrix<float>* m : {&x, &residual, &gain}) {
          for (int64_t r = 0; r < m->view.shape[0]; ++r) {
            for (int64_t j = 0; j < s.k; ++j) m->view(r, j) = normal(rng_);
          }
        }
        for (int64_t j = 32; j < 96; ++j) gain.view(0, j) = 0;  // blocks of zeros
        if (s.rows > 1) x.view(s.rows - 1, s.k - 3) = std::nanf("");
        Matrix<float> found(s.rows, s.n, 4), parts(s.rows, s.n, 4), found_sum(s.rows, s.k, 4),
            parts_sum(s.rows, s.k, 4);
        const auto args_to = [&](const Matrix<float>& out, const Matrix<float>& sum) {
          NormLinearArgs args;
          args.norm.x = FloatInput<2>(View<const float, 2>(x.view));
          if (s.residual) args.norm.residual = residual.view, args.norm.residual_out = sum.view;
          args.norm.weight = View<const float, 1>{gain.view.data, {s.k}, {1}};
          args.norm.eps = 1e-6f;
          args.norm.quantized = between.Out(kind);
          args.norm.scale_mode = mode;
          args.linear = {AsActivation(between.Out(kind)), w.Weights(), FloatOutput<2>(out.view)};
          return args;
        };
        ASSERT_TRUE(hip::HonoursNormLinear(args_to(found, found_sum)));
        Launches();
        NormLinear(on_device_, args_to(found, found_sum), "linear");
        EXPECT_EQ(Launches(), 1);
        RmsNorm(on_device_, args_to(parts, parts_sum).norm);
        Linear(on_device_, args_to(parts, parts_sum).linear);
        EXPECT_EQ(found.bytes.Copy(), parts.bytes.Copy());
        EXPECT_EQ(found_sum.bytes.Copy(), parts_sum.bytes.Copy());
        NormLinearArgs of_prompt = args_to(found, found_sum);
        of_prompt.linear.prompt_begin = 0;
        EXPECT_FALSE(hip::HonoursNormLinear(of_prompt));
      }
    }
  }
}

TEST_F(HipFused, LatentQueryOfQuantisedHeadsIsItsParts) {
  const int64_t heads = 3, latents = 512, rotated = 64, v = 64;
  for (const int64_t nope : {128, 192}) {
    for (const int64_t rows : {1, 9, 40}) {
      for (const Kind kind : {Kind::kFp8, Kind::kMxfp4}) {
        SCOPED_TRACE(testing::Message() << rows << " rows of " << nope << ", " << Name(kind));
        const Tensor tensor(rng_, kind, heads * (nope + v), latents);
        LinearWeight weights = tensor.Weights();
        if (auto* fp8 = std::get_if<Fp8Block>(&weights)) fp8->first_row = 0;  // heads begin inside no step
        const Between between(rows * heads, nope);
        Tensor q(rng_, Kind::kBf16, rows * heads, nope + rotated);
        const Tensor kv(rng_, Kind::kBf16, rows, latents + rotated);
        for (int64_t k = 32; k < 64; ++k) q.Half(0, k) = bf16::FromFloat(0);
        if (rows > 1) q.Half(heads + 1, 5) = bf16::FromFloat(std::nanf(""));
        const Matrix<float> gain(1, latents, 0), cos(rows, rotated / 2, 0), sin(rows, rotated / 2, 0);
        for (int64_t j = 0; j < latents; ++j) gain.view(0, j) = 1 + 0.01f * static_cast<float>(j % 7);
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t j = 0; j < rotated / 2; ++j) {
            cos.view(r, j) = std::cos(static_cast<float>(r + j));
            sin.view(r, j) = std::sin(static_cast<float>(r + j));
          }
        }
        struct Outputs {
          Matrix<bf16> cache, query;
        };
        const auto outputs = [&] {
          return Outputs{Matrix<bf16>(rows, latents + rotated, 0), Matrix<bf16>(rows, heads * (latents + rotated), 0)};
        };
        const Outputs found = outputs(), parts = outputs();
        const auto by_heads = [&](const QuantizedOutput<2>& of_rows) { return SplitRows(of_rows, rows, heads); };
        const auto q_heads = std::get<View<const bf16, 3>>(q.Heads(heads));
        const auto rows_of_kv = std::get<View<const bf16, 2>>(kv.Input());
        const auto args_to = [&](const Outputs& to) {
          LatentQueryArgs args;
          args.latent.x = FloatInput<2>(rows_of_kv.Slice(1, 0, latents));
          args.latent.weight = View<const float, 1>{gain.view.data, {latents}, {1}};
          args.latent.eps = 1e-6f;
          args.latent.out = FloatOutput<2>(to.cache.view.Slice(1, 0, latents));
          args.key.x = FloatInput<3>(rows_of_kv.Slice(1, latents, rotated).Split(1, 1, rotated));
          args.key.out = FloatOutput<3>(to.cache.view.Slice(1, latents, rotated).Split(1, 1, rotated));
          args.key.cos = args.query.cos = cos.view, args.key.sin = args.query.sin = sin.view;
          args.quantize = QuantizeArgs{FloatInput<3>(q_heads.Slice(2, 0, nope)), by_heads(between.Out(kind))};
          args.absorb.q_nope = AsActivation(args.quantize->out);
          args.absorb.w_kc = {weights, heads, nope + v, 0, nope};
          const View<bf16, 3> query = to.query.view.Split(1, heads, latents + rotated);
          args.absorb.out = FloatOutput<3>(query.Slice(2, 0, latents));
          args.query.x = FloatInput<3>(q_heads.Slice(2, nope, rotated));
          args.query.out = FloatOutput<3>(query.Slice(2, latents, rotated));
          return args;
        };
        ASSERT_TRUE(hip::HonoursLatentQuery(args_to(found)));
        Launches();
        LatentQuery(on_device_, args_to(found));
        EXPECT_EQ(Launches(), 1);
        const LatentQueryArgs one_by_one = args_to(parts);
        RmsNorm(on_device_, one_by_one.latent);
        Rope(on_device_, one_by_one.key);
        Quantize(on_device_, *one_by_one.quantize);
        ASSERT_TRUE(hip::HonoursQueryAbsorb(one_by_one.absorb));
        QueryAbsorb(on_device_, one_by_one.absorb);
        Rope(on_device_, one_by_one.query);
        EXPECT_EQ(found.cache.bytes.Copy(), parts.cache.bytes.Copy());
        EXPECT_EQ(found.query.bytes.Copy(), parts.query.bytes.Copy());
        // And the product of the quantised rows is ref's.
        Matrix<float> expected(rows, heads * latents, 0), absorbed(rows, heads * latents, 0);
        QueryAbsorbArgs absorb = one_by_one.absorb;
        absorb.out = FloatOutput<3>(expected.view.Split(1, heads, latents));
        QueryAbsorb(on_host_, absorb);
        absorb.out = FloatOutput<3>(absorbed.view.Split(1, heads, latents));
        QueryAbsorb(on_device_, absorb);
        ExpectNear(absorbed.view, expected.view, 3e-6f);
      }
    }
  }
}

TEST_F(HipFused, GatedExpertsAreTheirParts) {
  struct Size {
    int64_t experts, width, k, rows, of_row;
  };
  for (const Size s : {Size{70, 40, 288, 1, 3}, {9, 33, 160, 20, 4}, {6, 16, 256, 130, 2}}) {
    for (const Pair pair : kPairs) {
      SCOPED_TRACE(testing::Message() << Name(pair.x) << " * " << Name(pair.w) << ", " << s.rows << " rows");
      const ExpertCase c(rng_, pair, s.experts, 2 * s.width, s.k, s.rows, s.of_row);
      Matrix<bf16> between(c.pairs, 2 * s.width, 0), found(c.pairs, s.width, 8), parts(c.pairs, s.width, 8);
      const auto args_to = [&](const Matrix<bf16>& to) {
        GatedExpertsArgs args{c.Args(FloatOutput<2>(between.view)), {}};
        args.gating.gate = View<const bf16, 2>(between.view.Slice(1, 0, s.width));
        args.gating.up = View<const bf16, 2>(between.view.Slice(1, s.width, s.width));
        args.gating.out = ActivationOutput<2>(to.view);
        return args;
      };
      ASSERT_TRUE(hip::HonoursGatedExperts(args_to(found)));
      Launches();
      GatedExperts(on_device_, args_to(found));
      EXPECT_EQ(Launches(), 1);
      GroupedLinear(on_device_, args_to(parts).product);
      SiluMul(on_device_, args_to(parts).gating);
      for (int64_t p = 0; p < c.pairs - c.padding; ++p) {
        for (int64_t j = 0; j < s.width; ++j) {
          ASSERT_EQ(found.view(p, j).bits, parts.view(p, j).bits) << p << ", " << j;
        }
      }
      EXPECT_TRUE(found.UntouchedOutside());
    }
  }
}

TEST_F(HipFused, GatedExpertsQuantiseAsTheirParts) {
  struct Size {
    int64_t experts, width, k, rows, of_row;
  };
  for (const Size s : {Size{70, 128, 288, 1, 3}, {9, 256, 160, 20, 4}, {6, 128, 256, 130, 2}}) {
    for (const Kind kind : {Kind::kFp8, Kind::kMxfp4}) {
      SCOPED_TRACE(testing::Message() << Name(kind) << ", " << s.rows << " rows");
      const ExpertCase c(rng_, {kind, kind}, s.experts, 2 * s.width, s.k, s.rows, s.of_row);
      const Matrix<bf16> half(c.pairs, 2 * s.width, 0);
      const Between found(c.pairs, s.width), parts(c.pairs, s.width);
      const auto args_to = [&](const Between& to) {
        GatedExpertsArgs args{c.Args(FloatOutput<2>(half.view)), {}};
        args.gating.gate = View<const bf16, 2>(half.view.Slice(1, 0, s.width));
        args.gating.up = View<const bf16, 2>(half.view.Slice(1, s.width, s.width));
        args.gating.out = AsDestination(to.Out(kind));
        return args;
      };
      ASSERT_TRUE(hip::HonoursGatedExperts(args_to(found)));
      Launches();
      GatedExperts(on_device_, args_to(found));
      EXPECT_EQ(Launches(), 1);
      GroupedLinear(on_device_, args_to(parts).product);
      SiluMul(on_device_, args_to(parts).gating);
      const int64_t whole = c.pairs - c.padding;
      const auto same = [&](const auto& a, const auto& b) {
        for (int64_t r = 0; r < whole; ++r) {
          const auto bytes = static_cast<size_t>(a.view.shape[1]) * sizeof(*a.view.data);
          EXPECT_EQ(0, std::memcmp(&a.view(r, 0), &b.view(r, 0), bytes)) << r;
        }
        EXPECT_TRUE(a.UntouchedOutside());
      };
      same(found.fp8, parts.fp8);
      same(found.groups, parts.groups);
      same(found.codes, parts.codes);
      same(found.scales, parts.scales);
    }
  }
}

TEST_F(HipFused, CombinedExpertsAreTheirParts) {
  struct Size {
    int64_t experts, n, k, rows, slots;
    bool shared;
  };
  for (const Size s : {Size{70, 40, 288, 1, 3, false}, {9, 33, 640, 5, 8, true}, {6, 16, 1056, 16, 8, false}}) {
    for (const Pair pair : kPairs) {
      SCOPED_TRACE(testing::Message() << Name(pair.x) << " * " << Name(pair.w) << ", " << s.rows << " rows");
      // A pair has its own row of activations; all pairs of the last row are padding.
      ExpertCase c(rng_, pair, s.experts, s.n, s.k, s.rows * s.slots, 1);
      Matrix<float> between(c.pairs, s.n, 0), weights(s.rows, s.slots, 2), found(s.rows, s.n, 3), parts(s.rows, s.n, 3),
          expected(s.rows, s.n, 3), beside(s.rows, s.n, 1);
      std::uniform_real_distribution<float> uniform(0, 1);
      for (int64_t r = 0; r < s.rows; ++r) {
        for (int64_t slot = 0; slot < s.slots; ++slot) weights.view(r, slot) = uniform(rng_);
        for (int64_t j = 0; j < s.n; ++j) beside.view(r, j) = uniform(rng_);
      }
      const auto args_to = [&](const Matrix<float>& to) {
        CombinedExpertsArgs args{c.Args(FloatOutput<2>(between.view)), {}};
        args.combine.pairs = View<const float, 2>(between.view);
        args.combine.expert_weights = View<const float, 2>(weights.view);
        if (s.shared) args.combine.shared = FloatInput<2>(View<const float, 2>(beside.view));
        args.combine.out = FloatOutput<2>(to.view);
        return args;
      };
      ASSERT_TRUE(hip::HonoursCombinedExperts(args_to(found)));
      Launches();
      CombinedExperts(on_device_, args_to(found));
      EXPECT_EQ(Launches(), 1);
      GroupedLinear(on_device_, args_to(parts).product);
      CombineExperts(on_device_, args_to(parts).combine);
      CombinedExperts(on_host_, args_to(expected));
      const int64_t whole = s.rows - (c.padding + s.slots - 1) / s.slots;  // rows without padding
      for (int64_t r = 0; r < whole; ++r) {
        EXPECT_EQ(0, std::memcmp(&found.view(r, 0), &parts.view(r, 0), static_cast<size_t>(s.n) * sizeof(float))) << r;
      }
      if (whole > 0) ExpectNear(found.view.Rows(0, whole), expected.view.Rows(0, whole), 3e-6f);
      EXPECT_TRUE(found.UntouchedOutside());
    }
  }
}

}  // namespace
}  // namespace mxmla
