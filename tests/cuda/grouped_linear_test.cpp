// The experts' products on the GPU against ref on the same bytes.
#include "cuda/grouped_linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "core/thread_pool.h"
#include "expert_pairs.h"
#include "ref/kernels.h"

namespace mxmla {
namespace {

using testing::ExpertPairs;
using testing::Format;
using testing::kFormats;
using testing::MappedMemory;
using testing::RandomWeight;

class CudaGroupedLinearTest : public testing::GpuTest {};

// All pairs streamed, or all in tiles of the tensor cores.
constexpr int64_t kStreamed = 1 << 20, kTiled = 0;

struct Size {
  int64_t experts, n, k, rows, top_k;
  bool crowded;  // every row chooses expert 0 too
};
constexpr Size kSizes[] = {{8, 192, 7168, 1, 4, false}, {8, 200, 7168, 7, 2, true},   {40, 88, 2048, 8, 6, true},
                           {5, 256, 1408, 40, 2, true}, {70, 40, 512, 100, 3, false}, {3, 2048, 256, 64, 3, true},
                           {4, 200, 512, 300, 2, true}};

TEST_F(CudaGroupedLinearTest, AgreesWithRefAndWritesNothingElse) {
  for (const Size& s : kSizes) {
    for (Format format : kFormats) {
      for (const auto& [programmatic, most_streamed] : {std::pair{false, kStreamed},
                                                        {true, kStreamed},
                                                        {false, kTiled},
                                                        {true, kTiled},
                                                        {false, cuda::kMostStreamedPairs}}) {
        SCOPED_TRACE(::testing::Message() << s.experts << " experts, " << s.n << " x " << s.k << ", rows " << s.rows
                                          << ", format " << static_cast<int>(format));
        ExpertPairs c(rng_, format, s.experts, s.n, s.k, s.rows, s.top_k, s.crowded);
        const int64_t pairs = s.rows * s.top_k, stride = s.n + 4;
        std::vector<float> expected(static_cast<size_t>(pairs * s.n), std::nanf(""));
        ThreadPool pool(16);
        ExecContext context;
        context.pool = &pool;
        c.args.out = View<float, 2>::Contiguous(expected.data(), {pairs, s.n});
        ref::GroupedLinear(context, c.args);

        MappedMemory found(static_cast<size_t>(pairs * stride) * 4);
        const View<float, 2> out{found.As<float>(), {pairs, s.n}, {stride, 1}};
        c.args.out = out;
        const cuda::ExpertTable table(c.weights);
        const MappedMemory workspace(static_cast<size_t>(cuda::GroupedLinearWorkspaceBytes(c.args, most_streamed)));
        cuda::GroupedLinear(c.args, table, {nullptr, programmatic, workspace.As<void>()}, most_streamed);
        ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);

        // The tensor cores add all of k to one sum, of which they keep fewer bits.
        const double absolute = most_streamed == kStreamed ? 2e-5 : 1e-4;
        double squares = 0;
        int64_t written = 0;
        for (float e : expected) {
          if (!std::isnan(e)) squares += static_cast<double>(e) * e, ++written;
        }
        ASSERT_GT(written, 0);
        const double rms = std::sqrt(squares / static_cast<double>(written));
        for (int64_t p = 0; p < pairs; ++p) {
          for (int64_t j = 0; j < s.n; ++j) {
            const float e = expected[static_cast<size_t>(p * s.n + j)];
            if (std::isnan(e)) continue;  // a padding row's: must still be canary
            ASSERT_NEAR(out(p, j), e, absolute * rms) << p << " " << j;
            std::memset(static_cast<void*>(&out(p, j)), 0xff, 4);
          }
        }
        for (uint8_t byte : found.Bytes()) ASSERT_EQ(byte, 0xff);
      }
    }
  }
}

// A model's memory is planned for its largest step.
TEST(CudaGroupedLinearWorkspaceTest, MoreRowsNeverTakeLess) {
  const std::vector<LinearWeight> weights(8, Fp8Block{View<const e4m3, 2>::Contiguous(nullptr, {256, 512}),
                                                      View<const float, 2>::Contiguous(nullptr, {2, 4})});
  int64_t before = 0;
  for (int64_t rows = 1; rows <= 1024; ++rows) {
    GroupedLinearArgs args;
    args.x = View<const bf16, 2>::Contiguous(nullptr, {rows, 512});
    args.weights = weights;
    args.pairs = View<const int32_t, 1>::Contiguous(nullptr, {rows * 3});
    args.pairs_per_row = 3;
    const int64_t bytes = cuda::GroupedLinearWorkspaceBytes(args);
    ASSERT_GE(bytes, before) << rows;
    ASSERT_TRUE(rows * 3 > 16 * 8 ? bytes > 0 : bytes == 0) << rows;
    before = bytes;
  }
}

TEST_F(CudaGroupedLinearTest, APairDoesNotDependOnTheOthers) {
  for (const auto& [format, most_streamed] : {std::pair{Format::kBf16, kStreamed},
                                              {Format::kMxfp4, kStreamed},
                                              {Format::kFp8, kStreamed},
                                              {Format::kBf16, kTiled},
                                              {Format::kMxfp4, kTiled},
                                              {Format::kFp8, kTiled}}) {
    ExpertPairs c(rng_, format, 6, 304, 7168, 40, 3, true);
    const cuda::ExpertTable table(c.weights);
    MappedMemory all(120 * 304 * 4), one(3 * 304 * 4);
    const MappedMemory workspace(static_cast<size_t>(cuda::GroupedLinearWorkspaceBytes(c.args, most_streamed)));
    const cuda::LaunchOptions options{nullptr, false, workspace.As<void>()};
    c.args.out = View<float, 2>::Contiguous(all.As<float>(), {120, 304});
    cuda::GroupedLinear(c.args, table, options, most_streamed);
    // The last row alone that is no padding.
    const int32_t row = 38;
    std::vector<int32_t> begin{0};
    std::vector<int32_t> pairs;
    for (int64_t e = 0; e < 6; ++e) {
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      for (int32_t i = c.args.expert_begin(e); i < c.args.expert_begin(e + 1); ++i) {
        if (c.args.pairs(i) / 3 == row) pairs.push_back(c.args.pairs(i) % 3);
      }
      begin.push_back(static_cast<int32_t>(pairs.size()));
    }
    std::copy(begin.begin(), begin.end(), c.begin_memory.As<int32_t>());
    std::copy(pairs.begin(), pairs.end(), c.pairs_memory.As<int32_t>());
    c.args.x = View<const bf16, 2>(c.x.view.Rows(row, 1));
    c.args.pairs.shape[0] = 3;
    c.args.out = View<float, 2>::Contiguous(one.As<float>(), {3, 304});
    cuda::GroupedLinear(c.args, table, options, most_streamed);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    ASSERT_EQ(std::memcmp(one.As<float>(), all.As<float>() + row * 3 * 304, 3 * 304 * 4), 0);
  }
}

TEST_F(CudaGroupedLinearTest, Refusals) {
  ExpertPairs c(rng_, Format::kMxfp4, 4, 64, 256, 2, 2, false);
  const auto code_of = [&](auto&& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code() == ErrorCode::kLayout;
    }
    return false;
  };
  const RandomWeight other(rng_, Format::kBf16, 64, 256), shorter(rng_, Format::kMxfp4, 32, 256);
  EXPECT_TRUE(code_of([&] { cuda::ExpertTable table(std::vector<LinearWeight>{c.weights[0], other.weight}); }));
  EXPECT_TRUE(code_of([&] { cuda::ExpertTable table(std::vector<LinearWeight>{c.weights[0], shorter.weight}); }));
  EXPECT_TRUE(code_of([&] { cuda::ExpertTable table(std::span<const LinearWeight>{}); }));
  const cuda::ExpertTable table(c.weights);
  MappedMemory out(4 * 64 * 4);
  const GroupedLinearArgs good = [&] {
    GroupedLinearArgs args = c.args;
    args.out = View<float, 2>::Contiguous(out.As<float>(), {4, 64});
    return args;
  }();
  const auto refused = [&](auto&& change) {
    GroupedLinearArgs args = good;
    change(args);
    return code_of([&] { cuda::GroupedLinear(args, table, {}); });
  };
  EXPECT_TRUE(refused([](GroupedLinearArgs& a) { a.x_quantized = a.x; }));
  EXPECT_TRUE(refused([](GroupedLinearArgs& a) { a.pairs_per_row = 3; }));
  EXPECT_TRUE(refused([](GroupedLinearArgs& a) { a.expert_begin.shape[0] = 4; }));
  EXPECT_TRUE(refused([](GroupedLinearArgs& a) { a.pairs.stride[0] = 2; }));
  EXPECT_TRUE(refused([](GroupedLinearArgs& a) { a.weights = a.weights.first(3); }));
  EXPECT_TRUE(refused([&](GroupedLinearArgs& a) { a.out = View<float, 2>{out.As<float>(), {4, 64}, {64, 2}}; }));
  for (uint8_t byte : out.Bytes()) ASSERT_EQ(byte, 0xff);
}

}  // namespace
}  // namespace mxmla
