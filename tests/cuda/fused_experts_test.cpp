// The experts' products with what stands behind them, against ref on the same bytes and bit for bit against the
// separate kernels.
#include "cuda/fused_experts.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/thread_pool.h"
#include "expert_pairs.h"
#include "gpu/row_kernels.h"
#include "ref/kernels.h"

namespace mxmla {
namespace {

using testing::ExpertPairs;
using testing::kFormats;
using testing::MappedMemory;

class CudaFusedExpertsTest : public testing::GpuTest {
 protected:
  CudaFusedExpertsTest() : pool_(4) { on_host_.pool = &pool_; }

  ThreadPool pool_;
  ExecContext on_host_, on_device_;  // the default stream
};

struct Size {
  int64_t experts, width, k, rows, top_k;
};

// Finite values must agree to `absolute` of their root mean square.
void ExpectNear(const std::vector<double>& expected, const std::vector<double>& found, double relative,
                double absolute) {
  double squares = 0;
  for (double e : expected) squares += e * e;
  const double rms = std::sqrt(squares / static_cast<double>(expected.size()));
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], relative * std::abs(expected[i]) + absolute * rms) << i;
  }
}

TEST_F(CudaFusedExpertsTest, GatedAgreesWithItsParts) {
  for (const Size& s : {Size{66, 96, 2048, 1, 8}, Size{20, 1408, 2048, 1, 8}, Size{9, 64, 7168, 2, 4},
                        Size{12, 48, 512, 8, 5}, Size{5, 160, 1536, 7, 2}}) {
    for (const auto format : kFormats) {
      for (const bool programmatic : {false, true}) {
        SCOPED_TRACE(::testing::Message() << s.experts << " experts, 2 x " << s.width << " x " << s.k << ", rows "
                                          << s.rows << ", format " << static_cast<int>(format));
        const int64_t pairs = s.rows * s.top_k, n = 2 * s.width, stride = s.width + 8;
        ExpertPairs c(rng_, format, s.experts, n, s.k, s.rows, s.top_k, true);
        const cuda::ExpertTable table(c.weights);
        MappedMemory between(static_cast<size_t>(pairs * n) * 2), found(static_cast<size_t>(pairs * stride) * 2),
            by_parts(static_cast<size_t>(pairs * stride) * 2), by_ref(static_cast<size_t>(pairs * stride) * 2);
        const View<bf16, 2> gate_up = View<bf16, 2>::Contiguous(between.As<bf16>(), {pairs, n});
        const auto args_to = [&](const MappedMemory& memory) {
          GatedExpertsArgs args{c.args, {}};
          args.product.out = gate_up;
          args.gating.gate = View<const bf16, 2>(gate_up.Slice(1, 0, s.width));
          args.gating.up = View<const bf16, 2>(gate_up.Slice(1, s.width, s.width));
          args.gating.out = View<bf16, 2>{memory.As<bf16>(), {pairs, s.width}, {stride, 1}};
          return args;
        };
        const GatedExpertsArgs args = args_to(found), parts = args_to(by_parts), ref = args_to(by_ref);
        ASSERT_TRUE(cuda::HonoursGatedExperts(args, table));
        cuda::GatedExperts(args, table, {nullptr, programmatic});
        ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
        cuda::GroupedLinear(parts.product, table, {});
        gpu::SiluMul(on_device_, parts.gating);
        ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
        ref::GroupedLinear(on_host_, ref.product);
        ref::SiluMul(on_host_, ref.gating);
        std::vector<double> expected, values;
        int64_t compared = 0;
        for (int64_t p = 0; p < pairs; ++p) {
          if (p / s.top_k % 5 == 4) continue;  // a padding row's: not written
          for (int64_t j = 0; j < s.width; ++j) {
            const int64_t at = p * stride + j;
            ASSERT_EQ(found.As<uint16_t>()[at], by_parts.As<uint16_t>()[at]) << p << " " << j;
            values.push_back(found.As<bf16>()[at].ToFloat());
            expected.push_back(by_ref.As<bf16>()[at].ToFloat());
            found.As<uint16_t>()[at] = 0xffff;
            ++compared;
          }
        }
        ASSERT_GT(compared, 0);
        ExpectNear(expected, values, 0.02, 0.01);
        for (uint8_t byte : found.Bytes()) ASSERT_EQ(byte, 0xff);
      }
    }
  }
}

TEST_F(CudaFusedExpertsTest, CombinedAgreesWithItsParts) {
  for (const Size& s : {Size{66, 256, 1408, 1, 8}, Size{12, 2048, 1408, 2, 8}, Size{20, 200, 2048, 1, 9},
                        Size{6, 7168, 512, 1, 3}, Size{8, 1600, 1408, 7, 2}}) {
    for (const auto format : kFormats) {
      for (const bool programmatic : {false, true}) {
        SCOPED_TRACE(::testing::Message() << s.experts << " experts, " << s.width << " x " << s.k << ", rows " << s.rows
                                          << ", format " << static_cast<int>(format));
        const int64_t pairs = s.rows * s.top_k, n = s.width, stride = n + 4;
        // As many rows as pairs: the second product's.
        ExpertPairs c(rng_, format, s.experts, n, s.k, s.rows, s.top_k, true);
        const testing::RandomRows x(rng_, pairs, s.k);
        const cuda::ExpertTable table(c.weights);
        MappedMemory between(static_cast<size_t>(pairs * n) * 4, 0), weights(static_cast<size_t>(pairs + s.rows) * 4),
            found(static_cast<size_t>(s.rows * stride) * 4), by_parts(static_cast<size_t>(s.rows * stride) * 4),
            by_ref(static_cast<size_t>(s.rows * stride) * 4);
        const View<float, 2> weight{weights.As<float>(), {s.rows, s.top_k}, {s.top_k + 1, 1}};
        for (int64_t r = 0; r < s.rows; ++r) {
          for (int64_t i = 0; i < s.top_k; ++i) weight(r, i) = std::uniform_real_distribution<float>(0, 1)(rng_);
        }
        const auto args_to = [&](const MappedMemory& memory) {
          CombinedExpertsArgs args{c.args, {}};
          args.product.x = View<const bf16, 2>(x.view);
          args.product.pairs_per_row = 1;
          args.product.out = View<float, 2>::Contiguous(between.As<float>(), {pairs, n});
          args.combine.pairs = View<const float, 2>::Contiguous(between.As<float>(), {pairs, n});
          args.combine.expert_weights = weight;
          args.combine.out = View<float, 2>{memory.As<float>(), {s.rows, n}, {stride, 1}};
          return args;
        };
        const CombinedExpertsArgs args = args_to(found), parts = args_to(by_parts), ref = args_to(by_ref);
        ASSERT_TRUE(cuda::HonoursCombinedExperts(args, table));
        cuda::CombinedExperts(args, table, {nullptr, programmatic});
        ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
        cuda::GroupedLinear(parts.product, table, {});
        gpu::CombineExperts(on_device_, parts.combine);
        ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
        ref::GroupedLinear(on_host_, ref.product);
        ref::CombineExperts(on_host_, ref.combine);
        std::vector<double> expected, values;
        for (int64_t r = 0; r < s.rows; ++r) {
          for (int64_t j = 0; j < n; ++j) {
            const int64_t at = r * stride + j;
            if (r % 5 != 4) {
              ASSERT_EQ(found.As<uint32_t>()[at], by_parts.As<uint32_t>()[at]) << r << " " << j;
              values.push_back(found.As<float>()[at]);
              expected.push_back(by_ref.As<float>()[at]);
            }
            found.As<uint32_t>()[at] = 0xffffffff;
          }
        }
        ExpectNear(expected, values, 1e-5, 4e-5);
        for (uint8_t byte : found.Bytes()) ASSERT_EQ(byte, 0xff);
      }
    }
  }
}

// A set of an expert's pairs has 8 columns.
TEST_F(CudaFusedExpertsTest, MoreThanEightRowsAreNotHonoured) {
  for (const int64_t rows : {8, 9}) {
    ExpertPairs c(rng_, testing::Format::kMxfp4, 6, 1600, 1408, rows, 2, true);
    const cuda::ExpertTable table(c.weights);
    const int64_t pairs = rows * 2;
    MappedMemory memory(static_cast<size_t>(pairs * 1600) * 4);
    GatedExpertsArgs gated{c.args, {}};
    const View<bf16, 2> gate_up = View<bf16, 2>::Contiguous(memory.As<bf16>(), {pairs, 1600});
    gated.product.out = gate_up;
    gated.gating.gate = View<const bf16, 2>(gate_up.Slice(1, 0, 800));
    gated.gating.up = View<const bf16, 2>(gate_up.Slice(1, 800, 800));
    gated.gating.out = View<bf16, 2>::Contiguous(memory.As<bf16>(), {pairs, 800});
    EXPECT_EQ(cuda::HonoursGatedExperts(gated, table), rows == 8);
    CombinedExpertsArgs combined{c.args, {}};
    combined.product.pairs_per_row = 1;
    combined.product.out = View<float, 2>::Contiguous(memory.As<float>(), {pairs, 1600});
    combined.combine.pairs = View<const float, 2>::Contiguous(memory.As<float>(), {pairs, 1600});
    combined.combine.expert_weights = View<const float, 2>::Contiguous(memory.As<float>(), {rows, 2});
    EXPECT_EQ(cuda::HonoursCombinedExperts(combined, table), rows == 8);
  }
}

}  // namespace
}  // namespace mxmla
