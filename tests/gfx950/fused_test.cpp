// Ops that run in one launch against their parts, bit for bit (tests/ops/fused_test.cpp has those that need no experts
// and no cache), and in how many launches.
#include "hip/fused_experts.h"

#include "expert_case.h"

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
