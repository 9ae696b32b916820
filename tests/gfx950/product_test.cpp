// The products on the matrix units against `ref` on the same bytes: every pair of formats, ragged extents, extreme
// scales, poison, strided outputs among canaries; the three layouts of the V projection bit for bit; and what the
// emulator counted against formulas.
#include "expert_case.h"
#include "hip/linear.h"
#include "hip/query_absorb.h"
#include "hip/value_project.h"
#include "ops/quantize.h"

namespace mxmla {
namespace {

TEST_F(HipProducts, LinearOfEveryPairOfFormats) {
  struct Size {
    int64_t rows, n, k;
  };
  for (const Size size :
       {Size{1, 16, 128}, {1, 5, 32}, {3, 33, 160}, {16, 48, 544}, {17, 70, 256}, {33, 16, 384}, {67, 20, 1056}}) {
    for (const Pair pair : kPairs) {
      SCOPED_TRACE(testing::Message() << size.rows << " x " << size.n << " x " << size.k << " " << Name(pair.x) << " * "
                                      << Name(pair.w));
      const Tensor x(rng_, pair.x, size.rows, size.k), w(rng_, pair.w, size.n, size.k);
      Matrix<float> expected(size.rows, size.n, 0), found(size.rows, size.n, 3);
      Matrix<bf16> half(size.rows, size.n, 5);
      const LinearArgs args{x.Input(), w.Weights(), FloatOutput<2>(found.view)};
      ASSERT_TRUE(hip::HonoursLinear(args));
      Linear(on_host_, {x.Input(), w.Weights(), FloatOutput<2>(expected.view)});
      hip::Linear(on_device_, args);
      hip::Linear(on_device_, {x.Input(), w.Weights(), FloatOutput<2>(half.view)});
      ExpectNear(found.view, expected.view, 3e-6f);
      EXPECT_TRUE(found.UntouchedOutside());
      EXPECT_TRUE(half.UntouchedOutside());
      for (int64_t r = 0; r < size.rows; ++r) {
        for (int64_t c = 0; c < size.n; ++c) {
          ASSERT_EQ(half.view(r, c).bits, bf16::FromFloat(found.view(r, c)).bits);
        }
      }
    }
  }
}

TEST_F(HipProducts, ARowsBitsDependOnNothingBesideIt) {
  const int64_t rows = 70, n = 40, k = 416;
  for (const Pair pair : kPairs) {
    SCOPED_TRACE(testing::Message() << Name(pair.x) << " * " << Name(pair.w));
    const Tensor x(rng_, pair.x, rows, k), w(rng_, pair.w, n, k);
    Matrix<float> together(rows, n, 0), alone(rows, n, 0);
    hip::Linear(on_device_, {x.Input(), w.Weights(), FloatOutput<2>(together.view)});
    for (int64_t r = 0; r < rows;) {
      const int64_t count = std::min<int64_t>(rows - r, r < 6 ? 1 : 23);
      const auto in = std::visit([&](const auto& v) -> Activation<2> { return v.Rows(r, count); }, x.Input());
      hip::Linear(on_device_, {in, w.Weights(), FloatOutput<2>(alone.view.Rows(r, count))});
      r += count;
    }
    EXPECT_EQ(together.bytes.Copy(), alone.bytes.Copy());
  }
}

TEST_F(HipProducts, ExtremeScalesAndPoison) {
  const int64_t rows = 5, n = 20, k = 256;
  for (const Kind of_x : {Kind::kBf16, Kind::kMxfp4}) {
    SCOPED_TRACE(Name(of_x));
    Tensor x(rng_, of_x, rows, k), w(rng_, Kind::kMxfp4, n, k);
    for (int64_t block = 0; block < k / 32; ++block) {
      w.Scale(0, block).bits = 0;    // 2^-127
      w.Scale(1, block).bits = 200;  // large, but finite in sums
    }
    w.Scale(2, 3).bits = e8m0::kNan;
    w.Scale(17, 0).bits = e8m0::kNan;
    if (of_x == Kind::kMxfp4) {
      x.Scale(1, 7).bits = e8m0::kNan;
      x.Scale(3, 0).bits = 1;
    } else {
      x.Half(1, 200) = bf16::FromFloat(std::nanf(""));
      x.Half(2, 3) = {0x0001};  // subnormal
    }
    Matrix<float> expected(rows, n, 0), found(rows, n, 0);
    Linear(on_host_, {x.Input(), w.Weights(), FloatOutput<2>(expected.view)});
    hip::Linear(on_device_, {x.Input(), w.Weights(), FloatOutput<2>(found.view)});
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < n; ++c) {
        const bool poisoned = r == 1 || c == 2 || c == 17;
        ASSERT_EQ(std::isnan(expected.view(r, c)), poisoned);
        ASSERT_EQ(std::isnan(found.view(r, c)), poisoned) << r << ", " << c;
        if (poisoned) continue;
        const float bound = c == 1 ? 0x1p60f : c == 0 ? 0x1p-125f : 1e-3f;
        ASSERT_NEAR(found.view(r, c), expected.view(r, c), std::max(bound, 1e-5f * std::fabs(expected.view(r, c))));
      }
    }
    for (int64_t r = 0; r < rows; ++r) {  // not lost among the large
      if (r != 1) {
        ASSERT_NE(found.view(r, 0), 0.0f);
      }
    }
  }
}

TEST_F(HipProducts, LayoutsThatAreNotHonouredAreRefused) {
  const Tensor x(rng_, Kind::kBf16, 2, 64), w(rng_, Kind::kMxfp4, 16, 64);
  Matrix<float> out(2, 16, 0);
  const auto odd = std::get<View<const bf16, 2>>(x.Input()).Slice(1, 4, 32);
  const auto weights = std::visit(
      [](const auto& v) -> LinearWeight {
        if constexpr (requires { v.values; })
          return v.Rows(0, 16);
        else
          return v;
      },
      w.Weights());
  EXPECT_FALSE(hip::HonoursLinear({Activation<2>(odd), weights, FloatOutput<2>(out.view)}));
  const Tensor fp8(rng_, Kind::kFp8, 2, 64);
  EXPECT_FALSE(hip::HonoursLinear({fp8.Input(), weights, FloatOutput<2>(out.view)}));
}

// --- the V projection ---

struct Flat {
  Matrix<bf16> half;
  Matrix<e2m1x2> codes;
  Matrix<e8m0> block_scales;
  Matrix<e4m3> fp8;
  Matrix<float> group_scales;

  Flat(int64_t rows, int64_t columns)
      : half(rows, columns, 6),
        codes(rows, columns / 2, 7),
        block_scales(rows, columns / 32, 3),
        fp8(rows, columns, 9),
        group_scales(rows, columns / 128, 1) {}

  Mxfp4<e2m1x2, 2> Mx() const { return {codes.view, block_scales.view}; }
  Fp8Group<e4m3, 2> Fp8() const { return {fp8.view, group_scales.view}; }
  std::vector<std::vector<uint8_t>> Bits() const {
    return {half.bytes.Copy(), codes.bytes.Copy(), block_scales.bytes.Copy(), fp8.bytes.Copy(),
            group_scales.bytes.Copy()};
  }
};

TEST_F(HipProducts, TheThreeLayoutsOfTheVProjectionAreTheSameBits) {
  const int64_t heads = 3, v = 128, nope = 64, latents = 512;
  for (const int64_t rows : {1, 5, 16, 35}) {
    for (const Pair pair : kPairs) {
      for (const ScaleMode mode : {ScaleMode::kEven, ScaleMode::kFloor, ScaleMode::kCeil}) {
        if (mode != ScaleMode::kEven && (rows != 5 || pair.w != Kind::kMxfp4)) continue;
        SCOPED_TRACE(testing::Message() << rows << " rows, " << Name(pair.x) << " * " << Name(pair.w));
        const Tensor attn(rng_, pair.x, rows * heads, latents), w(rng_, pair.w, heads * (nope + v), latents);
        const HeadWeight w_vc{w.Weights(), heads, nope + v, nope, v};
        const auto project = [&](auto out) {
          const ValueProjectArgs args{attn.Heads(heads), w_vc, {out}, mode};
          EXPECT_TRUE(hip::HonoursValueProject(args));
          hip::ValueProject(on_device_, args);
        };
        // Strided: token-major, then the row kernel that flattens and quantises.
        Flat strided(rows, heads * v), copied(rows, heads * v), fused(rows, heads * v);
        project(FloatOutput<3>(strided.half.view.Split(1, heads, v)));
        const auto quantise = [&](Flat& flat, const FloatInput<3>& in) {
          FlattenQuantize(on_device_, {in, QuantizedOutput<2>(flat.Mx()), mode});
          FlattenQuantize(on_device_, {in, QuantizedOutput<2>(flat.Fp8()), mode});
        };
        quantise(strided, View<const bf16, 3>(strided.half.view.Split(1, heads, v)));
        // Copy: head-major, copied to token-major, then the same.
        Matrix<bf16> head_major(heads * rows, v, 0);
        const View<bf16, 3> by_head = head_major.view.Split(0, heads, rows).Permute({1, 0, 2});
        project(FloatOutput<3>(by_head));
        Copy(on_device_,
             {FloatInput<3>(View<const bf16, 3>(by_head)), FloatOutput<3>(copied.half.view.Split(1, heads, v))});
        quantise(copied, View<const bf16, 3>(copied.half.view.Split(1, heads, v)));
        // Fused: o_proj's input.
        project(ActivationOutput<2>(fused.half.view));
        project(ActivationOutput<2>(fused.Mx()));
        project(ActivationOutput<2>(fused.Fp8()));
        ASSERT_EQ(strided.Bits(), copied.Bits());
        ASSERT_EQ(strided.Bits(), fused.Bits());
        // And near ref.
        Matrix<float> expected(rows, heads * v, 0), found(rows, heads * v, 0);
        ValueProject(on_host_, {attn.Heads(heads), w_vc, {FloatOutput<3>(expected.view.Split(1, heads, v))}, mode});
        project(FloatOutput<3>(found.view.Split(1, heads, v)));
        ExpectNear(found.view, expected.view, 3e-6f);
      }
    }
  }
}

TEST_F(HipProducts, TheFusedQuantiserIsRefsOnTheSameValues) {
  const int64_t rows = 4, heads = 2, v = 128, latents = 512;
  Tensor attn(rng_, Kind::kBf16, rows * heads, latents);
  const Tensor w(rng_, Kind::kBf16, heads * v, latents);
  for (int64_t k = 0; k < latents; ++k) {
    attn.Half(2, k) = bf16::FromFloat(0);  // row 1, head 0: zeros
    attn.Half(5, k) = bf16::FromFloat(k % 2 ? 1e30f : -1e30f);
  }
  attn.Half(7, 9) = bf16::FromFloat(std::nanf(""));  // row 3, head 1: poison
  const HeadWeight w_vc{w.Weights(), heads, v, 0, v};
  for (const ScaleMode mode : {ScaleMode::kEven, ScaleMode::kFloor, ScaleMode::kCeil}) {
    Flat fused(rows, heads * v), expected(rows, heads * v);
    for (const ActivationOutput<2>& out :
         {ActivationOutput<2>(fused.half.view), ActivationOutput<2>(fused.Mx()), ActivationOutput<2>(fused.Fp8())}) {
      hip::ValueProject(on_device_, {attn.Heads(heads), w_vc, {out}, mode});
    }
    const FloatInput<3> values = View<const bf16, 3>(fused.half.view.Split(1, heads, v));
    FlattenQuantize(on_host_, {values, QuantizedOutput<2>(expected.Mx()), mode});
    FlattenQuantize(on_host_, {values, QuantizedOutput<2>(expected.Fp8()), mode});
    EXPECT_EQ(fused.codes.bytes.Copy(), expected.codes.bytes.Copy());
    EXPECT_EQ(fused.block_scales.bytes.Copy(), expected.block_scales.bytes.Copy());
    EXPECT_EQ(fused.fp8.bytes.Copy(), expected.fp8.bytes.Copy());
    EXPECT_EQ(fused.group_scales.bytes.Copy(), expected.group_scales.bytes.Copy());
    EXPECT_EQ(fused.block_scales.view(3, 7).bits, e8m0::kNan);
    EXPECT_EQ(fused.block_scales.view(1, 0).bits, 0);
  }
}

// --- the query's move into the latent space ---

TEST_F(HipProducts, QueryAbsorbFromTheCheckpointsOwnBlocks) {
  const int64_t heads = 3, v = 64, latents = 256;
  for (const int64_t nope : {128, 192}) {
    for (const int64_t rows : {1, 7, 33}) {
      for (const Kind kind : {Kind::kBf16, Kind::kMxfp4}) {
        SCOPED_TRACE(testing::Message() << rows << " rows of " << nope << ", " << Name(kind));
        const Tensor query(rng_, Kind::kBf16, rows * heads, nope);
        Tensor w(rng_, kind, heads * (nope + v), latents);
        if (kind == Kind::kMxfp4) w.Scale(nope + v + 5, 1).bits = e8m0::kNan;  // head 1: latents 32 .. 63
        const HeadWeight w_kc{w.Weights(), heads, nope + v, 0, nope};
        Matrix<float> expected(rows, heads * latents, 0), found(rows, heads * latents, 4);
        const QueryAbsorbArgs args{query.Heads(heads), w_kc, false,
                                   FloatOutput<3>(found.view.Split(1, heads, latents))};
        ASSERT_TRUE(hip::HonoursQueryAbsorb(args));
        QueryAbsorb(on_host_,
                    {query.Heads(heads), w_kc, false, FloatOutput<3>(expected.view.Split(1, heads, latents))});
        hip::QueryAbsorb(on_device_, args);
        ExpectNear(found.view, expected.view, 3e-6f);
        EXPECT_TRUE(found.UntouchedOutside());
        EXPECT_EQ(std::isnan(found.view(0, latents + 40)), kind == Kind::kMxfp4);
      }
    }
  }
}

// --- experts ---

TEST_F(HipProducts, ExpertsOfEveryPairOfFormats) {
  const int64_t n = 40, k = 288;
  constexpr int64_t kExperts = 70;  // more than a wave has lanes
  for (const Pair pair : kPairs) {
    for (const int64_t pairs_per_row : {1, 3}) {
      for (const int64_t rows : {1, 50, 200}) {
        SCOPED_TRACE(testing::Message() << Name(pair.x) << " * " << Name(pair.w) << ", " << rows << " rows");
        const ExpertCase c(rng_, pair, kExperts, n, k, rows, pairs_per_row);
        const int64_t pairs = rows * pairs_per_row, padding = c.padding;
        Matrix<float> expected(pairs, n, 0), found(pairs, n, 2);
        GroupedLinearArgs args = c.Args(FloatOutput<2>(expected.view));
        GroupedLinear(on_host_, args);
        args.out = FloatOutput<2>(found.view);
        ASSERT_TRUE(hip::HonoursGroupedLinear(args));
        hip::GroupedLinear(on_device_, args);
        ExpectNear(found.view.Rows(0, pairs - padding), expected.view.Rows(0, pairs - padding), 3e-6f);
        EXPECT_TRUE(found.UntouchedOutside());
        const auto* rest = reinterpret_cast<const uint8_t*>(found.view.Rows(pairs - padding, padding).data);
        for (int64_t i = 0; i < padding * (n + 2) * 4; ++i) ASSERT_EQ(rest[i], kCanary);  // padding stays as it was
      }
    }
  }
}

// --- what the emulator counts ---

TEST_F(HipProducts, TheFusedLayoutStoresCodesAndScalesAlone) {
  if (!Emulated()) GTEST_SKIP() << "a GPU counts nothing";
  const int64_t rows = 20, heads = 2, v = 128, latents = 512;
  const Tensor attn(rng_, Kind::kBf16, rows * heads, latents), w(rng_, Kind::kMxfp4, heads * v, latents);
  const HeadWeight w_vc{w.Weights(), heads, v, 0, v};
  const Flat flat(rows, heads * v);
  Counted("");
  ValueProject(on_device_, {attn.Heads(heads), w_vc, {ActivationOutput<2>(flat.Mx())}});
  const nlohmann::json counted = Counted("");
  EXPECT_EQ(counted["launches"], 1);
  EXPECT_EQ(counted["global_store_bytes"], rows * heads * (v / 2 + v / 32));
}

TEST_F(HipProducts, WorkIsWhatTheFormulaSays) {
  if (!Emulated()) GTEST_SKIP() << "a GPU counts nothing";
  const int64_t n = 64, k = 512;
  for (const int64_t rows : {1, 16, 33}) {
    const int64_t tiles = rows <= 16 ? 1 : rows <= 32 ? 2 : 4;
    for (const Pair pair : kPairs) {
      SCOPED_TRACE(testing::Message() << rows << " rows, " << Name(pair.x) << " * " << Name(pair.w));
      const Tensor x(rng_, pair.x, rows, k), w(rng_, pair.w, n, k);
      Matrix<bf16> out(rows, n, 0);
      Counted("");
      hip::Linear(on_device_, {x.Input(), w.Weights(), FloatOutput<2>(out.view)});
      const nlohmann::json counted = Counted("LinearKernel");
      const bool wide = pair.x != Kind::kBf16;  // 128 elements an instruction, else 32
      EXPECT_EQ(counted["mfma"], n / 16 * tiles * k / (wide ? 128 : 32));
      EXPECT_EQ(counted["global_store_bytes"], rows * n * 2);
      // Every weight and scale once for each 16 features; a lane's scales: one byte a block, or four floats a step.
      const auto lane_bytes = [&](Kind kind, bool weight) -> int64_t {
        const int64_t values = 64 * 32 * (kind == Kind::kBf16 ? 4 : kind == Kind::kFp8 ? 2 : 1) / 2;
        const int64_t scales = kind == Kind::kMxfp4 ? 64 : kind == Kind::kFp8 ? (weight ? 64 * 16 : 64 * 4) : 0;
        return values + scales;
      };
      const int64_t steps = n / 16 * k / 128;
      EXPECT_EQ(counted["global_load_bytes"], steps * (lane_bytes(pair.w, true) + tiles * lane_bytes(pair.x, false)));
      EXPECT_EQ(counted["scratch_bytes"], 0);
    }
  }
}

TEST_F(HipProducts, OrdersOfWavesGiveTheSameBits) {
  if (!Emulated()) GTEST_SKIP() << "a GPU has an order of its own";
  const Tensor x(rng_, Kind::kBf16, 19, 640), w(rng_, Kind::kMxfp4, 40, 640);
  Matrix<bf16> first(19, 40, 0);
  hip::Linear(on_device_, {x.Input(), w.Weights(), FloatOutput<2>(first.view)});
  for (uint64_t seed = 100; seed < 105; ++seed) {
    SetSeed(seed);
    Matrix<bf16> again(19, 40, 0);
    hip::Linear(on_device_, {x.Input(), w.Weights(), FloatOutput<2>(again.view)});
    EXPECT_EQ(first.bytes.Copy(), again.bytes.Copy());
  }
}

}  // namespace
}  // namespace mxmla
