// The experts of one row in one launch, bit for bit against the launches that it stands for.
#include "cuda/row_experts.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "cuda/fused_experts.h"
#include "cuda/placed_experts.h"
#include "expert_pairs.h"
#include "gpu/row_kernels.h"

namespace mxmla {
namespace {

using testing::ExpertPairs;
using testing::Format;
using testing::ManagedMemory;
using testing::MappedMemory;

struct Size {
  int64_t experts, hidden, width, n, slots;
};

// The calls of one row: x (1, hidden), gated products to (slots, width), second products to (1, n).
class Row {
 public:
  Row(std::mt19937_64& rng, Format format, const Size& s, int64_t chosen)
      : first_(rng, format, s.experts, 2 * s.width, s.hidden, 1, s.slots, false),
        second_(rng, format, s.experts, s.n, s.width, 1, s.slots, false),
        placed_first_(first_.weights),
        placed_second_(second_.weights),
        weights_(static_cast<size_t>(s.slots * 2) * 4),
        gate_up_(static_cast<size_t>(s.slots * 2 * s.width) * 2),
        pairs_out_(static_cast<size_t>(s.slots * s.n) * 4, 0),
        size_(s) {
    // A padding row's experts are those alone that every row has.
    for (int64_t e = 0; e <= s.experts; ++e) {
      int32_t& begin = first_.begin_memory.As<int32_t>()[e];
      begin = std::min(begin, static_cast<int32_t>(chosen));
    }
    weight_ = View<float, 2>{weights_.As<float>(), {1, s.slots}, {2 * s.slots, 2}};
    for (int64_t i = 0; i < s.slots; ++i) weight_(0, i) = std::uniform_real_distribution<float>(0, 1)(rng);
  }

  GatedExpertsArgs Gated(const MappedMemory& hidden) const {
    const View<bf16, 2> gate_up = View<bf16, 2>::Contiguous(gate_up_.As<bf16>(), {size_.slots, 2 * size_.width});
    GatedExpertsArgs args{first_.args, {}};
    args.product.placed = &placed_first_;
    args.product.out = gate_up;
    args.gating.gate = View<const bf16, 2>(gate_up.Slice(1, 0, size_.width));
    args.gating.up = View<const bf16, 2>(gate_up.Slice(1, size_.width, size_.width));
    args.gating.out = HiddenView(hidden);
    return args;
  }
  CombinedExpertsArgs Combined(const MappedMemory& hidden, const MappedMemory& out) const {
    CombinedExpertsArgs args{first_.args, {}};
    args.product.weights = second_.weights;
    args.product.placed = &placed_second_;
    args.product.x = View<const bf16, 2>(HiddenView(hidden));
    args.product.pairs_per_row = 1;
    args.product.out = View<float, 2>::Contiguous(pairs_out_.As<float>(), {size_.slots, size_.n});
    args.combine.pairs = View<const float, 2>::Contiguous(pairs_out_.As<float>(), {size_.slots, size_.n});
    args.combine.expert_weights = weight_;
    args.combine.out = View<float, 2>{out.As<float>(), {1, size_.n}, {size_.n + 4, 1}};
    return args;
  }
  void LaunchApart(const MappedMemory& hidden, const MappedMemory& out) const {
    const CombinedExpertsArgs combined = Combined(hidden, out);
    cuda::GatedExperts(Gated(hidden), *placed_first_.table(), {});
    cuda::GroupedLinear(combined.product, *placed_second_.table(), {});
    gpu::CombineExperts({}, combined.combine);
  }
  size_t HiddenBytes() const { return static_cast<size_t>(size_.slots * (size_.width + 8)) * 2; }
  size_t OutBytes() const { return static_cast<size_t>(size_.n + 4) * 4; }

 private:
  View<bf16, 2> HiddenView(const MappedMemory& hidden) const {
    return {hidden.As<bf16>(), {size_.slots, size_.width}, {size_.width + 8, 1}};
  }

  ExpertPairs first_, second_;
  cuda::PlacedExperts placed_first_, placed_second_;
  MappedMemory weights_, gate_up_, pairs_out_;
  View<float, 2> weight_;
  Size size_;
};

class CudaRowExpertsTest : public testing::GpuTest {
 protected:
  void SetUp() override {
    testing::GpuTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_EQ(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, 0), cudaSuccess);
  }
  int multiprocessors_ = 0;
};

TEST_F(CudaRowExpertsTest, AgreesWithTheLaunchesApart) {
  for (const Size& s : {Size{66, 2048, 1408, 2048, 8}, Size{20, 2048, 256, 1000, 9}, Size{12, 7168, 512, 7168, 4},
                        Size{9, 512, 256, 512, 8}, Size{40, 256, 768, 48, 1}, Size{300, 512, 128, 4096, 32}}) {
    for (const Format format : {Format::kMxfp4, Format::kFp8}) {
      if (format == Format::kFp8 && s.width % 256 != 0) continue;
      for (const int64_t chosen : {s.slots, s.slots / 2, int64_t{0}}) {
        SCOPED_TRACE(::testing::Message()
                     << s.experts << " experts, " << s.hidden << " to " << s.width << " to " << s.n << ", format "
                     << static_cast<int>(format) << ", " << chosen << " of " << s.slots);
        const Row row(rng_, format, s, chosen);
        const MappedMemory hidden(row.HiddenBytes()), out(row.OutBytes()), hidden_apart(row.HiddenBytes()),
            out_apart(row.OutBytes());
        const ManagedMemory counters(8, 0);
        const GatedExpertsArgs gated = row.Gated(hidden);
        const CombinedExpertsArgs combined = row.Combined(hidden, out);
        ASSERT_TRUE(cuda::HonoursRowExperts(gated, combined, multiprocessors_));
        row.LaunchApart(hidden_apart, out_apart);
        for (int again = 0; again < 2; ++again) {
          cuda::LaunchRowExperts(gated, combined, multiprocessors_, counters.As<int>(), nullptr);
          ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
          // The padding between rows included: nobody writes it.
          ASSERT_EQ(hidden.Bytes(), hidden_apart.Bytes());
          ASSERT_EQ(out.Bytes(), out_apart.Bytes());
          ASSERT_EQ(counters.Bytes(), std::vector<uint8_t>(8, 0));
        }
        if (chosen > 0) {
          ASSERT_NE(out.Bytes(), std::vector<uint8_t>(row.OutBytes(), 0xff));
        }
      }
    }
  }
}

TEST_F(CudaRowExpertsTest, OtherCallsAreNotHonoured) {
  const Size s{12, 512, 256, 512, 4};
  const Row row(rng_, Format::kMxfp4, s, s.slots), bf16_row(rng_, Format::kBf16, s, s.slots),
      tail(rng_, Format::kFp8, {12, 512, 384, 512, 4}, 4);
  const MappedMemory hidden(row.HiddenBytes()), other(row.HiddenBytes()), out(row.OutBytes()),
      tail_hidden(tail.HiddenBytes());
  const GatedExpertsArgs gated = row.Gated(hidden);
  EXPECT_TRUE(cuda::HonoursRowExperts(gated, row.Combined(hidden, out), multiprocessors_));
  EXPECT_FALSE(cuda::HonoursRowExperts(gated, row.Combined(other, out), multiprocessors_));
  EXPECT_FALSE(cuda::HonoursRowExperts(bf16_row.Gated(hidden), bf16_row.Combined(hidden, out), multiprocessors_));
  EXPECT_FALSE(cuda::HonoursRowExperts(tail.Gated(tail_hidden), tail.Combined(tail_hidden, out), multiprocessors_));
  CombinedExpertsArgs shared = row.Combined(hidden, out);
  shared.combine.shared = View<const float, 2>{out.As<float>(), {1, s.n}, {s.n, 1}};
  EXPECT_FALSE(cuda::HonoursRowExperts(gated, shared, multiprocessors_));
}

int launched_alone = 0;

TEST_F(CudaRowExpertsTest, NotesACallUntilItsCounterpartOrAnotherComes) {
  const Size s{12, 512, 256, 512, 4};
  const Row row(rng_, Format::kMxfp4, s, s.slots);
  const MappedMemory hidden(row.HiddenBytes()), other(row.HiddenBytes()), out(row.OutBytes()),
      hidden_apart(row.HiddenBytes()), out_apart(row.OutBytes());
  row.LaunchApart(hidden_apart, out_apart);
  const auto alone = [](const ExecContext&, const GatedExpertsArgs&) { ++launched_alone; };
  cuda::RowExperts experts(nullptr);
  EXPECT_EQ(cuda::RowExperts::Current(), nullptr);
  experts.Begin();
  EXPECT_EQ(cuda::RowExperts::Current(), &experts);
  launched_alone = 0;
  ASSERT_TRUE(experts.Take({}, row.Gated(hidden), alone));
  ASSERT_TRUE(experts.Take(row.Combined(hidden, out)));
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(out.Bytes(), out_apart.Bytes());
  experts.LaunchNoted();
  EXPECT_EQ(launched_alone, 0);
  EXPECT_FALSE(experts.Take(row.Combined(hidden, out)));  // nothing is noted
  ASSERT_TRUE(experts.Take({}, row.Gated(hidden), alone));
  EXPECT_FALSE(experts.Take({}, row.Gated(hidden), alone));
  EXPECT_FALSE(experts.Take(row.Combined(other, out)));
  experts.LaunchNoted();
  EXPECT_EQ(launched_alone, 1);
  experts.LaunchNoted();
  EXPECT_EQ(launched_alone, 1);
  experts.End();
  EXPECT_EQ(cuda::RowExperts::Current(), nullptr);
}

}  // namespace
}  // namespace mxmla
